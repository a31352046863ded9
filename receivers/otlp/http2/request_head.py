"""The headers of requests: whether they keep HTTP/2's rules, and what was found in them.

A client says the same in request after request, so what was checked is remembered, for all clients of a server.

Source: RFC 9113, 8.2 "HTTP Fields" and 8.3 "HTTP Control Data"; RFC 8441 for ``:protocol``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from receivers.otlp.http2.frames import ErrorCodes, ViolationError
from receivers.otlp.http2.stream import MAX_HEADERS, Headers, size_of

_NAME = re.compile(rb":?[\x21-\x39\x3b-\x40\x5b-\x7e]+").fullmatch
_VALUE = re.compile(rb"(?:[^\0\n\r \t](?:[^\0\n\r]*[^\0\n\r \t])?)?").fullmatch
_OF_ONE_CONNECTION = frozenset([b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"])
_PSEUDO = frozenset([b":method", b":scheme", b":authority", b":path", b":protocol"])
_MOST = 128
"""Heads that are remembered, each of at most `MAX_HEADERS` bytes."""


class Head:
    """The headers of a request, which keep the rules. ``size`` counts in terms of `MAX_HEADERS`.

    ``fields`` is what was said last under each name, ``length`` how long the body is said to be. ``meaning`` is for
    whoever answers: what it made of the head, for other requests with the same.
    """

    __slots__ = ("fields", "headers", "length", "meaning", "size")

    def __init__(self, headers: Headers, length: int | None) -> None:
        self.headers = headers
        self.size = size_of(headers)
        self.fields = dict(headers)
        self.length = length
        self.meaning: Any = None

    def values(self, name: bytes) -> list[bytes]:
        """Return all that was said under a name."""
        return [value for found, value in self.headers if found == name] if name in self.fields else []


class Heads:
    """Checks headers, and knows those it has seen.

    ``passing`` names headers that are checked and left out: those that nobody asks for, and that are others in each
    request.
    """

    def __init__(self, passing: Collection[bytes] = ()) -> None:
        self._passing = frozenset(passing)
        self._known: dict[Headers, Head] = {}

    def read(self, headers: Headers) -> Head:
        """Return the head that headers are. Raises `ViolationError` for what no request may have."""
        known = self._known.get(headers)
        if known is not None:
            return known
        passing = self._passing
        lasting = tuple([field for field in headers if field[0] not in passing])
        if len(lasting) < len(headers):
            for field in headers:
                if field[0] in passing:
                    _check_field(*field)
            known = self._known.get(lasting)
            if known is not None:
                return known
        head = Head(lasting, _check(lasting))
        if head.size <= MAX_HEADERS:
            if len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
            self._known[lasting] = head
        return head


def check_trailers(headers: Headers) -> None:
    """Check what ends a request. Raises `ViolationError`."""
    for name, value in headers:
        _check_field(name, value)
        if name.startswith(b":"):
            raise _violation(f"{_shown(name)} at the end of a request")


def _check(headers: Headers) -> int | None:
    """Check the headers of a request. Returns the length of its body where that is said."""
    pseudo: dict[bytes, bytes] = {}
    hosts: set[bytes] = set()
    lengths: set[bytes] = set()
    is_regular = False
    for name, value in headers:
        _check_field(name, value)
        if not name.startswith(b":"):
            is_regular = True
            if name == b"host":
                if hosts:
                    raise _violation("several host headers")
                hosts.add(value)
            elif name == b"content-length":
                lengths.add(value)
            continue
        if is_regular or name in pseudo or name not in _PSEUDO:
            raise _violation(f"{_shown(name)} twice, unknown, or behind other headers")
        pseudo[name] = value
    _check_pseudo(pseudo)
    if b":authority" in pseudo:
        hosts.add(pseudo[b":authority"])
    if len(hosts) != 1:
        raise _violation("no authority, or one that is not the host")
    if not lengths:
        return None
    (length, *others) = lengths
    if others or not length.isdigit():
        raise _violation("a content-length that is no number, or several")
    return int(length[:20])


def _check_pseudo(pseudo: dict[bytes, bytes]) -> None:
    if b":method" not in pseudo:
        raise _violation("no :method")
    is_connect = pseudo[b":method"] == b"CONNECT"
    if b":protocol" in pseudo and not is_connect:
        raise _violation(":protocol without CONNECT")
    if is_connect and b":protocol" not in pseudo:
        if b":scheme" in pseudo or b":path" in pseudo:
            raise _violation("CONNECT with :scheme or :path")
    elif b":scheme" not in pseudo or not pseudo.get(b":path"):
        raise _violation("no :scheme, or no :path")


def _check_field(name: bytes, value: bytes) -> None:
    if not _NAME(name):
        raise _violation(f"a header named {_shown(name)}")
    if not _VALUE(value):
        raise _violation(f"a value of {_shown(name)} with line breaks, or spaces around it")
    if name in _OF_ONE_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
        raise _violation(f"a header of one connection, {_shown(name)}")


def _shown(name: bytes) -> str:
    return repr(name[:50])


def _violation(why: str) -> ViolationError:
    return ViolationError(ErrorCodes.PROTOCOL_ERROR, why)
