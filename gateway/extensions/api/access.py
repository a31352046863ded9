"""Who may call what: each handler says its scope, this guard asks for it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from gateway.component import OverloadedError
from gateway.extensions.api.problems import ProblemError
from gateway.extensions.api.request_span import begin
from gateway.net.access import Authenticator, PermissionDeniedError, Scope, UnauthenticatedError

_Connection = ASGIConnection[Any, Any, Any, Any]

_HOW = (
    "this needs a token, and the API asks nobody for one yet: set extensions.api.auth.authenticator to an extension "
    "such as tokens, name both in service.extensions, and make a token by `obs-hub token create NAME --scope admin`"
)


class Access:
    """Lets callers in. Where reading is open, nobody is asked for a token for it."""

    def __init__(self, authenticator: Authenticator | None, *, reads_are_open: bool) -> None:
        self.authenticator = authenticator
        self.reads_are_open = reads_are_open

    async def guard(self, connection: _Connection, handler: BaseRouteHandler) -> None:
        """Look at a handler's ``opt["scope"]``, which its caller must be allowed; without one, nobody is asked."""
        scope: Scope | None = handler.opt.get("scope")
        if scope is None:
            begin(connection.scope, known=False)
        else:
            self.admit(connection, scope)

    def admit(self, connection: _Connection, scope: Scope, signed_in: str | None = None) -> None:
        """Let one caller do something, or raise.

        ``signed_in`` is the header ``authorization`` of whoever has no way to send one, a browser: it counts where the
        caller sent none.
        """
        if scope is Scope.READ and self.reads_are_open:
            begin(connection.scope, known=False)
            return
        if self.authenticator is None:
            raise ProblemError(HTTPStatus.FORBIDDEN, _HOW)
        self._authenticate(self.authenticator, connection, scope, signed_in)
        begin(connection.scope, known=True)

    def still_admits(self, connection: _Connection, scope: Scope, signed_in: str | None = None) -> bool:
        """Tell whether who was admitted would be now. Who fails too often would not, whatever with."""
        if self.authenticator is None or (scope is Scope.READ and self.reads_are_open):
            return True
        if signed_in is None and "authorization" not in connection.headers:
            return False  # signed out: no attempt that failed, of which an address has so many
        try:
            self._authenticate(self.authenticator, connection, scope, signed_in)
        except (UnauthenticatedError, PermissionDeniedError, OverloadedError):
            return False
        return True

    def _authenticate(
        self, authenticator: Authenticator, connection: _Connection, scope: Scope, signed_in: str | None
    ) -> None:
        values = connection.headers.getall("authorization", [])
        if len(values) > 1:
            raise UnauthenticatedError("the request has several authorization headers; send one", presented=True)
        peer = connection.client.host if connection.client else ""
        authenticator.authenticate(values[0] if values else signed_in, peer, scope)
