"""HTTP/1.1 by uvicorn, with bounds on what it leaves to its clients: the size of a request's head, and time.

Without them a stranger who never ends a header, or never goes on with a body, is listened to for ever. And a request is
read as it was meant: one that offers another protocol is answered in this one, and keeps its body.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.net.handshakes import Handshakes, begins_tls, peer_of
from gateway.net.http_bodies import Bodies, Body, body_of

_MAX_HEAD = 64 * 1024
"""Bytes of a request that lead neither to the end of its headers nor to any of its body."""

_MAX_PIPELINED = 256
"""Requests that may wait behind the one being answered. What arrives at once can hold very many, and each costs more
memory than it has bytes."""

_PATIENCE = 60.0
"""Seconds for which nothing may come of a request that was begun, or of a connection; or an answer is not taken."""

_PACE = 8 * 1024
"""How many bytes give a client another second: over a slow line, a large request takes its time."""

_LOOK = 5.0
"""Seconds between two looks: by so much a client may take longer."""

_HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""How a client begins that speaks HTTP/2 without having asked (RFC 9113, 3.4)."""

_OF_ONE_HOP = (b"upgrade", b"http2-settings")
"""Headers of an upgrade, which `Connection` names besides."""


_HTTP_1_1_REQUIRED = 13


def _goodbye_in_http_2() -> bytes:
    """Return a SETTINGS frame that is empty, and a GOAWAY frame (RFC 9113, 6.5 and 6.8)."""
    why = b"this port speaks HTTP/1.1; OTLP over HTTP/2 is gRPC, on a port of its own"
    content = struct.pack(">LL", 0, _HTTP_1_1_REQUIRED) + why
    settings, goaway = 4, 7
    return b"".join(
        struct.pack(">BHBBL", 0, len(each), kind, 0, 0) + each for kind, each in ((settings, b""), (goaway, content))
    )


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection of a client. Idle ones, between two requests, are closed by uvicorn.

    ``bodies`` counts what it keeps of requests that have not been answered. ``handshakes`` hears of TLS where there is
    none.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        bodies: Bodies | None = None,
        handshakes: Handshakes | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bodies = Bodies() if bodies is None else bodies
        self._body = Body(self._bodies)
        self._handshakes = handshakes
        self._first: bytes | None = b""
        self._offer: bytes | None = None
        self._reads_headers = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look after the client."""
        super().connection_made(transport)
        self._head = 0
        self._came_on = False
        self._since = self.loop.time()
        self._tick = self.loop.call_later(_LOOK, self._look_after)

    def connection_lost(self, exc: Exception | None) -> None:
        """End with the connection."""
        self._tick.cancel()
        self._body.release()
        for cycle, _ in self.pipeline:  # no application was given these
            body_of(cycle.scope).release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Work off what arrived, unless it leads to nothing."""
        self._since = min(self.loop.time(), self._since + len(data) / _PACE)
        self._came_on = False
        self._unset_keepalive_if_required()
        if self._first is not None:
            self._first += data
            if self._may_be_http_2(self._first):
                return
            data, self._first = self._first, None
            if self._handshakes is not None and begins_tls(data):
                self._handshakes.unexpected(peer_of(self.transport))
        self._feed(data)
        self._head = 0 if self._came_on else self._head + len(data)
        if self._head > _MAX_HEAD and not self.transport.is_closing():
            self.send_400_response(f"the headers are longer than {_MAX_HEAD} bytes")

    def on_message_begin(self) -> None:
        """Begin to read a request."""
        super().on_message_begin()
        self._reads_headers = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. A trailer is none, and must not be taken for one (RFC 9110, 6.5.1)."""
        if self._reads_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._came_on = True
        self._reads_headers = False
        version = self.parser.get_http_version()
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("there is nothing to connect to")  # 400, as below
            # The parser takes what follows for another protocol, and tells `_feed`.
            self._offer = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, version.encode())
            return
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise ValueError("too many requests at once")  # uvicorn answers 400 and closes
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and (version == "1.0" or codings != [b"chunked"]):
            # RFC 9112, 6.1: HTTP/1.0 has no chunks, so where the body ends is in doubt; and we know no other coding.
            raise ValueError("a Transfer-Encoding that is not understood")
        super().on_headers_complete()
        self._body = Body(self._bodies)
        self._body.bind(self.scope)

    def on_body(self, body: bytes) -> None:
        """Take a piece of a request's body."""
        self._came_on = True
        if self.cycle.response_complete:
            return  # it was answered early; the rest is read and dropped
        if self._body.take(len(body)):
            super().on_body(body)
        elif self._body.refused:
            self.cycle.body = bytearray()
            self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        """End a request, unless that is an offer, which is still to be read."""
        if self._offer is None:
            super().on_message_complete()

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # RFC 9110, 7.8: a server may ignore it. The parser does not, and would drop the body; so it is given
                # the request once more, without the offer.
                assert self._offer is not None
                head, self._offer = self._offer, None
                head += b"".join(b"%s: %s\r\n" % header for header in _of_this_protocol(self.headers)) + b"\r\n"
                data = head + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's first one has it
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return
            else:
                return

    def _may_be_http_2(self, first: bytes) -> bool:
        """Tell a client that speaks HTTP/2 from the start to speak HTTP/1.1. Returns whether it is one, or may be."""
        if not _HTTP_2.startswith(first[: len(_HTTP_2)]):
            return False
        if len(first) >= len(_HTTP_2) and not self.transport.is_closing():
            self.transport.write(_goodbye_in_http_2())
            self.transport.close()
        return True

    def _look_after(self) -> None:
        """Break off a connection whose client has kept us waiting for too long. Runs every few seconds."""
        now = self.loop.time()
        self._tick = self.loop.call_later(_LOOK, self._look_after)
        if not self._waits_for_client():
            self._since = now
        elif now - self._since > _PATIENCE:
            self.transport.abort()

    def _waits_for_client(self) -> bool:
        if self.flow.write_paused or self.transport.is_closing():
            return True
        if self.pipeline or self.timeout_keep_alive_task is not None:
            return False
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body


def _of_this_protocol(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers of a request that offers another protocol, without the offer."""
    for name, value in headers:
        if name == b"connection":
            tokens = [token.strip() for token in value.split(b",")]
            yield name, b", ".join(token for token in tokens if token.lower() not in _OF_ONE_HOP)
        elif name not in _OF_ONE_HOP:
            yield name, value
