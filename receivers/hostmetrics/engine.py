"""A client of the Docker Engine API, which Podman speaks as well: JSON over HTTP over a Unix socket, reading only."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

_MOST = 8 * 2**20
"""Bytes of one answer. A list of hundreds of containers has a few."""

TIMEOUT = 2.0
"""Seconds that one answer may take."""


class EngineError(Exception):
    """An answer that is not what was asked for. Its text says what came."""


class GoneError(EngineError):
    """What was asked about is not there any more."""


def find_socket(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the first socket of Docker or Podman that may be used; None when there is none."""
    return next((path for path in _usual_sockets(environ) if os.access(path, os.R_OK | os.W_OK)), None)


def _usual_sockets(environ: Mapping[str, str]) -> Iterable[Path]:
    host = environ.get("DOCKER_HOST", "")
    if host.startswith("unix://"):
        yield Path(host.removeprefix("unix://"))
    yield Path("/run/docker.sock")
    yield Path("/var/run/docker.sock")
    yield Path("/run/podman/podman.sock")
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, "podman", "podman.sock")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise


class Engine:
    """Asks one engine. Its connection stays open between questions. Belongs to one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runtime = "docker"
        """``docker`` or ``podman``, as the last answer said."""
        self._connection = _Connection(path)

    def get(self, path: str) -> Any:
        """Return the JSON at a path. Raises `EngineError`, and `OSError` when nobody answers in time."""
        try:
            status, body = self._get(path)
        except (http.client.HTTPException, ConnectionError):
            # An engine that was started anew, or has closed what was idle: once more, on a connection of its own.
            self.close()
            try:
                status, body = self._get(path)
            except http.client.HTTPException as error:
                self.close()
                raise EngineError(f"{self.path} does not answer as Docker or Podman do: {error!r}") from error
            except OSError:
                self.close()
                raise
        except OSError:
            self.close()
            raise
        if status == http.client.NOT_FOUND:
            raise GoneError(f"{path}: not found")
        if status != http.client.OK:
            raise EngineError(f"{self.path} answers {path} with {status}")
        try:
            return msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise EngineError(f"{self.path} answers {path} with what is no JSON: {error}") from error

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        self._connection.close()

    def _get(self, path: str) -> tuple[int, bytes]:
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        body = answer.read(_MOST + 1)
        if len(body) > _MOST:
            self.close()
            raise EngineError(f"{self.path} answers {path} with more than {_MOST} bytes")
        self.runtime = "podman" if answer.headers.get("Server", "").startswith("Libpod") else "docker"
        return answer.status, body
