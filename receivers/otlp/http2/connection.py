"""HTTP/2 connections of a server: frames become requests, answers become frames.

The `h2` library keeps the protocol's state. What it leaves to its user is here: when to read on, how much a client may
leave undone and for how long, and how a connection ends.

Source: RFC 9113.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import cast

import structlog
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error
from hyperframe.frame import GoAwayFrame

from gateway.base.rate_limited_log import LogRateLimit
from gateway.net.handshakes import Handshakes, begins_tls, peer_of
from receivers.otlp.http2.flood_guard import AttackError, FloodGuard
from receivers.otlp.http2.library import Library
from receivers.otlp.http2.stream import Headers, Open, Stream

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(slots=True, frozen=True)
class Patience:
    """How long a client may take, in seconds."""

    begin: float = 20.0
    """From the connection to the client's settings."""
    request: float = 60.0
    """From a request's headers to its end, if nothing of it arrives."""
    pace: float = 8 * 1024
    """How many bytes of a request give it another second: over a slow line, a large one takes its time."""
    answer: float = 60.0
    """Until it takes an answer: until it opens its window, or reads."""
    idle: float = 120.0
    """Until it is asked whether it is still there."""
    ping: float = 20.0
    """Until it says that it is."""
    look: float = 5.0
    """How often it is looked after: by so much all these may last longer."""


@dataclass(slots=True)
class Connections:
    """The connections of a server that are open. When ``draining``, no more are taken."""

    open: set[Http2Connection] = field(default_factory=set)
    draining: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _warnings: LogRateLimit = field(default_factory=LogRateLimit)

    def remove(self, connection: Http2Connection) -> None:
        """Strike out one that is closed."""
        self.open.discard(connection)
        self._changed.set()

    def warn(self, peer: str, why: str) -> None:
        """Log that a client was cut off; of many at once, only the first, for they must not fill the log."""
        if clients := self._warnings.count():
            _log.warning("a gRPC client was cut off", peer=peer, reason=why, clients=clients)

    async def gone(self, seconds: float) -> bool:
        """Wait until all are closed, at most for so long. Return whether they are."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.open:
                    self._changed.clear()
                    await self._changed.wait()
        return not self.open


class Http2Connection(asyncio.Protocol):
    """One client's connection. ``connections`` lists it as long as it is open.

    ``handshakes`` hears of TLS where there is none.
    """

    def __init__(
        self,
        open_: Open,
        connections: Connections,
        max_streams: int,
        patience: Patience | None = None,
        *,
        handshakes: Handshakes | None = None,
    ) -> None:
        self._open = open_
        self._connections = connections
        self._max_streams = max_streams
        self._patience = patience or Patience()
        self._handshakes = handshakes
        self._loop = asyncio.get_running_loop()
        self._watch = FloodGuard(self._loop.time)
        self._h2 = Library(max_streams, lambda: self._watch.pay(1))
        self._streams: dict[int, Stream] = {}
        self._transport: asyncio.Transport | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._flush_planned = False
        self._begun = False
        self._ending = False
        self._opened = self._heard = self.now()
        self._pinged: float | None = None
        self._write_stalled: float | None = None
        self._closed: float | None = None
        self.peer = ""

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client."""
        self._transport = cast("asyncio.Transport", transport)
        self.peer = peer_of(transport)
        self._connections.open.add(self)
        self._h2.initiate_connection()
        self._flush()
        self._tick = self._loop.call_later(self._patience.look, self._look_after)
        if self._connections.draining:  # it was let in while the TLS handshake lasted
            self.drain()

    def data_received(self, data: bytes) -> None:
        """Work off what arrived."""
        self._heard, self._pinged = self.now(), None
        if not self._begun and begins_tls(data):
            if self._handshakes is not None:
                self._handshakes.unexpected(self.peer)
            self._break_off()
            return
        try:
            self._watch.arrived(len(data))
            self._watch.see(data)
            events = self._h2.receive_data(data)
        except AttackError as error:
            self._connections.warn(self.peer, str(error))
            self._say_goodbye(error.code, str(error))
            self._break_off()
            return
        except H2Error as error:  # the library says what was wrong
            _log.debug("a gRPC client's connection breaks the rules and is closed", peer=self.peer, reason=str(error))
            self._break_off()
            return
        for event in events:
            self._handle(event)
        self._flush()

    def pause_writing(self) -> None:
        """The client does not read; then it is not read from, either."""
        assert self._transport is not None
        self._write_stalled = self.now()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        assert self._transport is not None
        self._write_stalled = None
        self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """Give up everything."""
        self._ending = True
        self._connections.remove(self)
        if self._tick is not None:
            self._tick.cancel()
        for stream in self._take_streams():
            stream.handler.lost()

    # -- what the server calls

    def drain(self) -> None:
        """Take no more requests; close once those in flight are answered."""
        if not self._ending:
            self._ending = True
            self._say_goodbye(ErrorCodes.NO_ERROR)
            self._close_when_done()

    def shut_down(self) -> None:
        """Answer every request now, as not done, and close."""
        self.drain()
        for stream in tuple(self._streams.values()):
            stream.handler.shut_down()
        self._flush()
        self._close()

    def abort(self) -> None:
        """Close without another word."""
        if self._transport is not None:
            self._transport.abort()

    # -- what streams call

    def now(self) -> float:
        """Return the event loop's time, in seconds."""
        return self._loop.time()

    def send_headers(self, stream: Stream, headers: Headers, end: bool) -> None:
        """Send the headers of an answer."""
        if stream.number in self._streams and self._h2.is_open(stream.number):
            self._h2.send_headers(stream.number, headers, end_stream=end)
            if end:
                self._finish(stream)
            self._plan_flush()

    def pump(self, stream: Stream) -> None:
        """Send as much of an answer as the client has room for."""
        number, unsent = stream.number, stream.unsent
        if number not in self._streams or not self._h2.is_open(number):
            return
        while unsent and (room := self._h2.local_flow_control_window(number)) > 0:
            piece = bytes(unsent[: min(room, self._h2.max_outbound_frame_size)])
            del unsent[: len(piece)]
            self._h2.send_data(number, piece)
        if not unsent and stream.trailers is not None:
            self._h2.send_headers(number, stream.trailers, end_stream=True)
            self._finish(stream)
        self._plan_flush()

    # -- inside

    def _handle(self, event: Event) -> None:
        match event:
            case DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if (stream := self._streams.get(event.stream_id)) is not None:
                    stream.since = min(self.now(), stream.since + len(event.data) / self._patience.pace)
                    stream.handler.received(event.data)
            case RequestReceived():
                self._begin(event.stream_id, cast("Headers", event.headers))
            case StreamEnded():
                if (stream := self._streams.get(event.stream_id)) is not None:
                    stream.complete = True
                    stream.handler.ended()
            case StreamReset():
                if (stream := self._streams.pop(event.stream_id, None)) is not None:
                    stream.handler.lost()
                    self._close_when_done()
            case WindowUpdated():
                self._pump_waiting()
            case RemoteSettingsChanged():
                self._begun = True
                self._pump_waiting()  # the windows may have grown
            case ConnectionTerminated():
                self._ending = True
                self._close_when_done()

    def _begin(self, number: int, headers: Headers) -> None:
        if not self._h2.is_open(number):  # reset already, by a frame that came with this one
            return
        if self._ending or len(self._streams) >= self._max_streams:
            self._reset(number, ErrorCodes.REFUSED_STREAM)  # which clients repeat without asking anybody
            return
        stream = self._streams[number] = Stream(self, number, self.now())
        stream.handler = self._open(stream, headers)

    def _pump_waiting(self) -> None:
        for stream in tuple(self._streams.values()):
            if stream.unsent:
                self.pump(stream)

    def _finish(self, stream: Stream) -> None:
        del self._streams[stream.number]
        # RFC 9113, 8.1: an answer may end before its request; the rest of that is not wanted then.
        self._reset(stream.number, ErrorCodes.NO_ERROR)
        self._watch.answered()
        self._close_when_done()

    def _reset(self, number: int, code: ErrorCodes) -> None:
        if self._h2.is_open(number):
            self._h2.reset_stream(number, code)
            self._plan_flush()

    def _look_after(self) -> None:
        """Find what has lasted too long. Runs every few seconds."""
        self._tick = self._loop.call_later(self._patience.look, self._look_after)
        now, patience = self.now(), self._patience
        stalled = self._write_stalled if self._closed is None else self._closed
        if stalled is not None:
            if now - stalled > patience.answer:
                self.abort()
            return
        if not self._begun:
            if now - self._opened > patience.begin:
                self.abort()
            return
        for stream in tuple(self._streams.values()):
            if not stream.complete and now - stream.since > patience.request:
                stream.handler.too_slow()
            elif stream.unsent and now - stream.since > patience.answer:
                self._give_up(stream)
        if self._pinged is not None:
            if now - self._pinged > patience.ping:
                self.abort()
        elif now - self._heard > patience.idle:
            self._pinged = now
            self._h2.ping(b"alive?\0\0")
            self._flush()

    def _give_up(self, stream: Stream) -> None:
        del self._streams[stream.number]
        self._reset(stream.number, ErrorCodes.CANCEL)
        stream.handler.lost()
        self._close_when_done()

    def _break_off(self) -> None:
        self._ending = True
        for stream in self._take_streams():
            stream.handler.lost()
        self._close()

    def _take_streams(self) -> list[Stream]:
        streams = list(self._streams.values())
        self._streams.clear()
        return streams

    def _say_goodbye(self, code: ErrorCodes, why: str = "") -> None:
        # Not by the library, which takes a GOAWAY for the end of everything and would send no answer after it.
        self._flush()
        last = self._h2.highest_inbound_stream_id
        frame = GoAwayFrame(0, last_stream_id=last, error_code=code, additional_data=why.encode())
        self._write(frame.serialize())

    def _close_when_done(self) -> None:
        if self._ending and not self._streams:
            self._loop.call_soon(self._close)

    def _close(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._flush()
            self._closed = self.now()
            self._transport.close()

    def _plan_flush(self) -> None:
        # One commit answers many requests; their answers go out together.
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        if data := self._h2.data_to_send():
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
