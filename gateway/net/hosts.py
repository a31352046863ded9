"""The names by which an HTTP listener may be called.

A web page elsewhere can have its own name lead to this machine (DNS rebinding), and is then of the same origin as what
listens here, for the browser that shows it. What gives it away is the name in the header ``Host``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from pydantic import Field

from gateway.net.listeners import ListenerSettings, is_loopback, split_endpoint

_HOST = re.compile(
    r"(\[[0-9a-f:.]+\]|[a-z0-9._~%!$&'()*+,;=-]*)"
    r"(:([0-9]{0,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
)
"""As RFC 9110 (7.2) and RFC 3986 (3.2.2) write it, in lower case. None at all is a name that is not known."""

_MOST_SHOWN = 100


class HttpListenerSettings(ListenerSettings):
    """What every listener for HTTP has."""

    allowed_hosts: list[str] = Field(default_factory=list)
    """Names that this listener is called by, such as ``hub.example.com``, besides ``localhost`` and that of
    ``endpoint``.

    A web page elsewhere can have its own name lead to this machine (DNS rebinding); a request for a name that is not
    known is refused. Empty: on loopback its names only, on other addresses any. An address is always taken for a name.
    """


@dataclass(slots=True, frozen=True)
class WrongHost:
    """Why a request is refused by its ``Host``."""

    status: HTTPStatus
    reason: str


class Hosts:
    """The names that requests to one listener may be for. ``setting`` is where its settings stand."""

    def __init__(self, setting: str, settings: HttpListenerSettings) -> None:
        self._setting = setting
        self._names: frozenset[str] = frozenset()
        self._last_right: list[bytes] | None = None
        """What the header was last when it was right: mostly it is the same for all requests."""
        if settings.allowed_hosts or is_loopback(settings.endpoint):
            host, _ = split_endpoint(settings.endpoint)
            self._names = frozenset(name.lower() for name in ("localhost", host, *settings.allowed_hosts)) - {""}

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> WrongHost | None:
        """Look at a request's headers, whose names are in lower case. Returns None when its name is right."""
        named = [value for name, value in headers if name == b"host"]
        if named == self._last_right:
            return None
        presented = [value.decode("latin-1").lower() for value in named]
        host = presented[0] if presented else ""
        if len(presented) > 1 or not _HOST.fullmatch(host):
            return WrongHost(HTTPStatus.BAD_REQUEST, "the header Host is malformed")
        name = _name_of(host)
        if not self._names or name in self._names or name.endswith(".localhost") or _is_address(name):
            self._last_right = named
            return None
        return WrongHost(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"{name[:_MOST_SHOWN]!r} is no name of this server; add it to {self._setting}.allowed_hosts if it is",
        )


def _name_of(host: str) -> str:
    """Return a ``Host`` header without its port, and without the dot that a full name may end with."""
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[")
    return host.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    """Tell whether a name is an address, which nobody can have lead elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
