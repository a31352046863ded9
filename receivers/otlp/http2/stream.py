"""One request of an HTTP/2 connection, and what answers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from receivers.otlp.http2.request_head import Head

Headers = tuple[tuple[bytes, bytes], ...]
"""Names, in lower case, and values."""

MAX_HEADERS = 16 * 1024
"""Bytes of headers, as RFC 9113, 6.5.2 counts them, that clients are told to keep to; as gRPC's own library has it."""


def size_of(headers: Headers) -> int:
    """Return how much headers count in terms of `MAX_HEADERS`."""
    return sum(len(name) + len(value) + 32 for name, value in headers)


class Handler(Protocol):
    """Takes one request and answers it by the stream it was given. Nothing is called once the stream has ended."""

    def received(self, data: bytes) -> None:
        """Take a piece of the request's body."""
        ...

    def ended(self) -> None:
        """The request is complete."""
        ...

    def too_slow(self) -> None:
        """The request has not arrived in time; answer it."""
        ...

    def shut_down(self) -> None:
        """The server stops now; answer what is still to be answered."""
        ...

    def lost(self) -> None:
        """The client has given up, or is gone."""
        ...


class Carrier(Protocol):
    """What a stream needs of its connection."""

    peer: str

    def now(self) -> float:
        """Return the time, in seconds."""
        ...

    def send_headers(self, stream: Stream, headers: Headers, end: bool) -> None:
        """Send the headers of an answer."""
        ...

    def pump(self, stream: Stream) -> None:
        """Send as much of an answer as the client has room for."""
        ...


class Stream:
    """One request, and the way to answer it.

    For its connection: ``since`` is when the client was last seen to owe something, the rest of its request or room for
    the answer; ``window`` how many bytes of the answer it has room for, ``room`` how many of the request we have;
    ``missing`` how many there are still to be, where that was said.
    """

    __slots__ = (
        "_connection",
        "complete",
        "handler",
        "missing",
        "number",
        "room",
        "since",
        "trailers",
        "unsent",
        "window",
    )

    def __init__(
        self, connection: Carrier, number: int, now: float, window: int, room: int, missing: int | None
    ) -> None:
        self._connection = connection
        self.number = number
        self.since = now
        self.window = window
        self.room = room
        self.missing = missing
        self.complete = False
        self.handler: Handler
        self.unsent = bytearray()
        self.trailers: Headers | None = None

    @property
    def peer(self) -> str:
        """The address that the connection comes from."""
        return self._connection.peer

    @property
    def connection(self) -> object:
        """What streams of one connection have in common."""
        return self._connection

    def send_headers(self, headers: Headers, *, end: bool = False) -> None:
        """Begin the answer; with ``end`` that is all of it."""
        self._connection.send_headers(self, headers, end)

    def send(self, data: bytes) -> None:
        """Send a piece of the answer's body, once the client has room for it."""
        if not self.unsent:
            self.since = self._connection.now()
        self.unsent += data
        self._connection.pump(self)

    def end(self, trailers: Headers) -> None:
        """End the answer once its body is sent."""
        self.trailers = trailers
        self._connection.pump(self)


Open = Callable[["Stream", "Head"], Handler]
"""Makes the handler of a request from its head. It may answer at once."""
