"""The gateway's access to itself.

What the gateway says of itself, and of its machine, it sends as OTLP like everybody else. Where its listeners ask for
a token or speak TLS, it would need a token, a CA and perhaps a client certificate to reach them. Instead it then
listens for itself alone: on a loopback port that the kernel chooses, for a token that exists in memory only.
"""

from __future__ import annotations

import hmac
import secrets
import socket
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from gateway.net.access import NOTHING_HELD, Grant, Held, PermissionDeniedError, Scope, UnauthenticatedError


class OwnAccess:
    """A reserved loopback port and the token for it. May be handed to worker processes, which share the port."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(32)
        # Bound and never listening: it keeps the port for those of this user that listen on it with SO_REUSEPORT.
        self._reserved: socket.socket | None = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._reserved.getsockname()[1]}"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reserved": None}

    @property
    def headers(self) -> dict[str, str]:
        """What to send along, to `endpoint` and nowhere else. A secret."""
        return {"authorization": f"Bearer {self._token}"}

    def close(self) -> None:
        """Give the port back."""
        if self._reserved is not None:
            self._reserved.close()

    def authenticate(self, authorization: str | None, peer: str, scope: Scope) -> Grant:
        """Allow requests with this token; it may send telemetry and do nothing else."""
        if not hmac.compare_digest((authorization or "").encode(), self.headers["authorization"].encode()):
            raise UnauthenticatedError("this port is for the hub itself", presented=authorization is not None)
        if scope is not Scope.INGEST:
            raise PermissionDeniedError("the hub itself only sends telemetry")
        return _Unlimited()


class _Unlimited:
    def hold(self, size: int) -> AbstractContextManager[Held]:
        return nullcontext(NOTHING_HELD)
