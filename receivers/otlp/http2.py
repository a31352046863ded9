"""HTTP/2 connections of a server: frames become requests, answers become frames.

The `h2` library keeps the protocol's state. What it leaves to its user is here: when to read on, how much a client may
leave undone and for how long, and how a connection ends.

Source: RFC 9113.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import structlog
from h2.config import H2Configuration
from h2.connection import H2Connection
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
from h2.settings import SettingCodes, Settings
from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, GoAwayFrame

from receivers.otlp.http2_watch import MAX_FRAME_SIZE, MAX_HEADER_BLOCK, AttackError, FrameWatch

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Headers = Sequence[tuple[bytes, bytes]]
"""Names, in lower case, and values."""

_STREAM_WINDOW = 2**20
_CONNECTION_WINDOW = 4 * 2**20
"""Bytes that a client may have on their way to us: enough for 40 MB/s at 100 ms. What has arrived is bounded by whoever
keeps it, not by these."""

MAX_HEADERS = 16 * 1024
"""Bytes of headers, as RFC 9113, 6.5.2 counts them, that clients are told to keep to; as gRPC's own library has it."""

_HEADER_TABLE = 4096
_INITIAL = 65_535


@dataclass(slots=True, frozen=True)
class Patience:
    """How long a client may take, in seconds."""

    begin: float = 20.0
    """From the connection to the client's settings."""
    request: float = 60.0
    """From a request's headers to its end."""
    answer: float = 60.0
    """Until it takes an answer: until it opens its window, or reads."""
    idle: float = 120.0
    """Until it is asked whether it is still there."""
    ping: float = 20.0
    """Until it says that it is."""
    look: float = 5.0
    """How often it is looked after: by so much all these may last longer."""


def size_of(headers: Headers) -> int:
    """Return how much headers count in terms of `MAX_HEADERS`."""
    return sum(len(name) + len(value) + 32 for name, value in headers)


class Handler(Protocol):
    """Takes one request and answers it by the stream it was given. Nothing is called once the stream has ended."""

    def received(self, data: bytes) -> None:
        """Take a piece of the request's body."""

    def ended(self) -> None:
        """The request is complete."""

    def too_slow(self) -> None:
        """The request has not arrived in time; answer it."""

    def shut_down(self) -> None:
        """The server stops now; answer what is still to be answered."""

    def lost(self) -> None:
        """The client has given up, or is gone."""


class Stream:
    """One request, and the way to answer it."""

    def __init__(self, connection: Http2Connection, number: int, now: float) -> None:
        self._connection = connection
        self.number = number
        self.since = now
        """When the client was last seen to owe something: the rest of its request, or room for the answer."""
        self.complete = False
        self.handler: Handler
        self.unsent = bytearray()
        self.trailers: Headers | None = None

    @property
    def peer(self) -> str:
        """The address that the connection comes from."""
        return self._connection.peer

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


Open = Callable[[Stream, Headers], Handler]
"""Makes the handler of a request from its headers. It may answer at once."""


@dataclass(slots=True)
class Connections:
    """The connections of a server that are open. When ``draining``, no more are taken."""

    open: set[Http2Connection] = field(default_factory=set)
    draining: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def remove(self, connection: Http2Connection) -> None:
        """Strike out one that is closed."""
        self.open.discard(connection)
        self._changed.set()

    async def gone(self, seconds: float) -> bool:
        """Wait until all are closed, at most for so long. Return whether they are."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.open:
                    self._changed.clear()
                    await self._changed.wait()
        return not self.open


class Http2Connection(asyncio.Protocol):
    """One client's connection. ``connections`` lists it as long as it is open."""

    def __init__(
        self, open_: Open, connections: Connections, max_streams: int, patience: Patience | None = None
    ) -> None:
        self._open = open_
        self._connections = connections
        self._max_streams = max_streams
        self._patience = patience or Patience()
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._watch = FrameWatch(self.now)
        self._h2 = _server_side()
        self._streams: dict[int, Stream] = {}
        self._transport: asyncio.Transport | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._flush_planned = False
        self._begun = False
        self._ending = False
        self._opened = self._heard = self.now()
        self._pinged: float | None = None
        self._write_stalled: float | None = None
        self.peer = ""

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client."""
        self._transport = cast("asyncio.Transport", transport)
        self.peer = str((transport.get_extra_info("peername") or ("",))[0])
        self._connections.open.add(self)
        self._h2.local_settings = _settings(self._max_streams)
        self._h2.initiate_connection()
        # The library ends the connection over a stream too many; here only that stream is refused.
        self._h2.local_settings = _settings(2**31 - 1)
        self._h2.increment_flow_control_window(_CONNECTION_WINDOW - _INITIAL)
        self._flush()
        self._tick = self._loop.call_later(self._patience.look, self._look_after)
        if self._connections.draining:  # it was let in while the TLS handshake lasted
            self.drain()

    def data_received(self, data: bytes) -> None:
        """Work off what arrived."""
        self._heard, self._pinged = self.now(), None
        try:
            self._watch.see(data)
            events = self._h2.receive_data(data)
        except AttackError as error:
            self._break_off(error.code, str(error))
            return
        except H2Error as error:
            self._flush()  # the library has said what was wrong
            self._break_off(None, str(error))
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

    def send_headers(self, stream: Stream, headers: Headers, end: bool) -> None:
        """Send the headers of an answer."""
        if stream.number in self._streams:
            self._h2.send_headers(stream.number, headers, end_stream=end)
            if end:
                self._finish(stream)
            self._plan_flush()

    def pump(self, stream: Stream) -> None:
        """Send as much of an answer as the client has room for."""
        number, unsent = stream.number, stream.unsent
        if number not in self._streams:
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
        known = self._h2.streams.get(number)
        if known is not None and not known.closed:
            self._h2.reset_stream(number, code)
            self._plan_flush()

    def _look_after(self) -> None:
        """Find what has lasted too long. Runs every few seconds."""
        self._tick = self._loop.call_later(self._patience.look, self._look_after)
        now, patience = self.now(), self._patience
        if self._write_stalled is not None:
            if now - self._write_stalled > patience.answer:
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

    def _break_off(self, code: ErrorCodes | None, why: str) -> None:
        _log.info("a gRPC client's connection is closed, for it breaks the rules", peer=self.peer, reason=why)
        if code is not None:
            self._say_goodbye(code)
        self._ending = True
        for stream in self._take_streams():
            stream.handler.lost()
        self._close()

    def _take_streams(self) -> list[Stream]:
        streams = list(self._streams.values())
        self._streams.clear()
        return streams

    def _say_goodbye(self, code: ErrorCodes) -> None:
        # Not by the library, which takes a GOAWAY for the end of everything and would send no answer after it.
        self._flush()
        frame = GoAwayFrame(0, last_stream_id=self._h2.highest_inbound_stream_id, error_code=code)
        if self._transport is not None:
            self._transport.write(frame.serialize())

    def _close_when_done(self) -> None:
        if self._ending and not self._streams:
            self._loop.call_soon(self._close)

    def _close(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._flush()
            self._transport.close()

    def _plan_flush(self) -> None:
        # One commit answers many requests; their answers go out together.
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        if (data := self._h2.data_to_send()) and self._transport is not None:
            self._transport.write(data)


class _Library(H2Connection):
    MAX_CLOSED_STREAMS = 2048  # what it remembers of each costs memory on connections that last for weeks

    def _receive_frame(self, frame: Frame) -> list[Event]:
        # The library writes each frame down for its log, in hexadecimal, whether or not anybody logs. With telemetry
        # that is half of all its work.
        if type(frame) is not DataFrame:
            return super()._receive_frame(frame)
        frames, events = self._receive_data_frame(frame)
        self._prepare_for_sending(frames)
        return events

    def _receive_goaway_frame(self, frame: Frame) -> tuple[list[Frame], list[Event]]:
        # RFC 9113, 6.8: a client that goes away may wait for its answers. The library would send none any more.
        return [], [ConnectionTerminated()]


class _SmallTableEncoder(Encoder):
    """Remembers no more than it has to, whatever the client allows: the client decides what we put into it."""

    @property
    def header_table_size(self) -> int:
        return self.header_table.maxsize

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        self.header_table.maxsize = min(value, _HEADER_TABLE)
        if self.header_table.resized:
            self.table_size_changes.append(self.header_table.maxsize)


def _server_side() -> H2Connection:
    config = H2Configuration(
        client_side=False,
        header_encoding=None,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    connection = _Library(config)
    connection.encoder = _SmallTableEncoder()
    connection.decoder.max_header_list_size = 2 * MAX_HEADER_BLOCK
    return connection


def _settings(max_streams: int) -> Settings:
    return Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: max_streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
            SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
            SettingCodes.MAX_FRAME_SIZE: MAX_FRAME_SIZE,
        },
    )
