"""HTTP/2 connections of a server: frames become requests, answers become frames.

No library does this: what telemetry needs of HTTP/2 is little, comes in thousands of small requests a second, and has
to be defended here anyway (``docs/decisions/0087-http2-without-a-library.md``).

Source: RFC 9113.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import cast

import structlog

from gateway.base.rate_limited_log import LogRateLimit
from gateway.net.handshakes import Handshakes, begins_tls, peer_of
from receivers.otlp.http2 import frames
from receivers.otlp.http2.flood_guard import MAX_FRAME_SIZE, AttackError, FloodGuard
from receivers.otlp.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    INITIAL_WINDOW,
    MOST_WINDOW,
    ErrorCodes,
    Frame,
    ViolationError,
)
from receivers.otlp.http2.header_blocks import NO_TABLE, Decoder, encode
from receivers.otlp.http2.request_head import Heads, check_trailers
from receivers.otlp.http2.stream import MAX_HEADERS, Headers, Open, Stream

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_STREAM_WINDOW = 2**20
_CONNECTION_WINDOW = 4 * 2**20
"""Bytes that a client may have on their way to us: enough for 40 MB/s at 100 ms. What has arrived is bounded by whoever
keeps it, not by these."""

_TURN = 0.005
"""Seconds after which others have their turn. One read brings thousands of small frames, and a client that sends
without end would have the event loop for itself."""

_NOT_HTTP_2 = b"this port speaks gRPC, which is HTTP/2; OTLP over HTTP/1.1 has a port of its own, by default 4318\n"
_GOODBYE_IN_HTTP_1 = b"\r\n".join(
    (
        b"HTTP/1.1 505 HTTP Version Not Supported",
        b"Content-Type: text/plain",
        b"Content-Length: %d" % len(_NOT_HTTP_2),
        b"Connection: close",
        b"",
        _NOT_HTTP_2,
    )
)

_MOST_BROKEN_OFF = 2048
"""Requests whose numbers are remembered, for something of them may still be on its way."""


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

    heads: Heads = field(default_factory=Heads)
    open: set[Http2Connection] = field(default_factory=set)
    draining: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _warnings: LogRateLimit = field(default_factory=LogRateLimit)
    _strangers: LogRateLimit = field(default_factory=LogRateLimit)

    def remove(self, connection: Http2Connection) -> None:
        """Strike out one that is closed."""
        self.open.discard(connection)
        self._changed.set()

    def warn(self, peer: str, why: str) -> None:
        """Log that a client was cut off; of many at once, only the first, for they must not fill the log."""
        if clients := self._warnings.count():
            _log.warning("a gRPC client was cut off", peer=peer, reason=why, clients=clients)

    def warn_of_stranger(self, peer: str) -> None:
        """Log that a client does not speak HTTP/2, which whoever set it up has to know."""
        if clients := self._strangers.count():
            _log.warning(
                "a client of the gRPC port speaks HTTP/1.1",
                peer=peer,
                clients=clients,
                what_to_do="send OTLP over HTTP/1.1 to the HTTP port, by default 4318",
            )

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
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()
        """What has arrived and waits for its turn."""
        self._turn_planned = False
        self._reads = True
        self._streams: dict[int, Stream] = {}
        self._newest = 0
        self._broken_off: dict[int, None] = {}  # the oldest first
        self._block: tuple[int, int, list[bytes]] | None = None
        """Stream, flags and pieces of a header block that is not complete."""
        self._room = _CONNECTION_WINDOW
        self._window = self._stream_window = INITIAL_WINDOW
        self._longest_frame = frames.INITIAL_SIZE
        self._out: list[bytes] = []
        self._before_headers = NO_TABLE
        self._transport: asyncio.Transport | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._flush_planned = False
        self._greeted = self._begun = False
        self._ending = False
        self._opened = self._heard = self.now()
        self._pinged: float | None = None
        self._write_stalled: float | None = None
        self._closed: float | None = None
        self.peer = ""

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to look after the client."""
        self._transport = cast("asyncio.Transport", transport)
        self.peer = peer_of(transport)
        self._connections.open.add(self)
        self._tick = self._loop.call_later(self._patience.look, self._look_after)
        if self._connections.draining:  # it was let in while the TLS handshake lasted
            self.drain()

    def data_received(self, data: bytes) -> None:
        """Work off what arrived."""
        self._heard, self._pinged = self.now(), None
        if not self._begun and begins_tls(data):
            if self._handshakes is not None:
                self._handshakes.unexpected(self.peer)
            self._write(_GOODBYE_IN_HTTP_1)  # what is no TLS at all is what clients say the most about
            self._break_off()
            return
        self._work_off(data)

    def pause_writing(self) -> None:
        """The client does not read; then it is not read from, either."""
        self._write_stalled = self.now()
        self._read_or_wait()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._write_stalled = None
        self._read_or_wait()

    def connection_lost(self, error: Exception | None) -> None:
        """Give up everything."""
        self._ending = True
        self._frames.clear()
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
        if stream.number in self._streams:
            self._write_headers(stream.number, headers, end)
            if end:
                self._finish(stream)
            self._plan_flush()

    def pump(self, stream: Stream) -> None:
        """Send as much of an answer as the client has room for."""
        number, unsent = stream.number, stream.unsent
        if number not in self._streams:
            return
        while unsent and (room := min(stream.window, self._window, self._longest_frame)) > 0:
            piece = bytes(unsent[:room])
            del unsent[:room]
            stream.window -= len(piece)
            self._window -= len(piece)
            self._out.append(frames.frame(frames.DATA, 0, number, piece))
        if not unsent and stream.trailers is not None:
            self._write_headers(number, stream.trailers, end=True)
            self._finish(stream)
        self._plan_flush()

    # -- frames that come

    def _work_off(self, data: bytes = b"") -> None:
        """Work off what arrived, as far as that can be done in one turn."""
        try:
            if data:
                self._watch.arrived(len(data))
                self._frames.extend(self._watch.see(data))
            if not self._greeted and self._watch.has_begun:
                self._greet()
            waiting, now, until = self._frames, self._loop.time, self.now() + _TURN
            while waiting:
                self._take(waiting.popleft())
                if now() > until:
                    break
        except AttackError as error:
            self._connections.warn(self.peer, str(error))
            self._say_goodbye(error.code, str(error))
            self._break_off()
        except ViolationError as error:
            _log.debug("a gRPC client's connection breaks the rules and is closed", peer=self.peer, reason=str(error))
            if not self._greeted and b" HTTP/1." in data:
                self._connections.warn_of_stranger(self.peer)
                self._write(_GOODBYE_IN_HTTP_1)  # RFC 9113, 3.4: it would not know what a GOAWAY is
            else:
                self._say_goodbye(error.code, str(error))
            self._break_off()
        else:
            self._flush()
            self._read_or_wait()

    def _read_or_wait(self) -> None:
        """Read on, once what was read is worked off and the client takes its answers."""
        if self._frames and self._write_stalled is None and not self._turn_planned:
            self._turn_planned = True
            self._loop.call_soon(self._take_turn)
        reads = not self._frames and self._write_stalled is None
        if reads is not self._reads and self._transport is not None:
            self._reads = reads
            if reads:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _take_turn(self) -> None:
        self._turn_planned = False
        if self._frames and self._write_stalled is None:
            try:
                self._work_off()
            except BaseException:  # as the event loop does with what `data_received` raises
                self.abort()
                raise

    def _take(self, each: Frame) -> None:
        """Work off a frame. Raises `ViolationError` and `AttackError`."""
        kind, flags, number, content = each
        if self._block is not None and (kind != frames.CONTINUATION or number != self._block[0]):
            raise _violation("headers that do not go on")
        if not self._begun and kind != frames.SETTINGS:
            raise _violation("it does not begin with its settings")
        match kind:
            case frames.DATA:
                self._take_data(each)
            case frames.HEADERS:
                self._take_headers(number, flags, frames.unpadded(each))
            case frames.CONTINUATION:
                if self._block is None:
                    raise _violation("headers go on that did not begin")
                _, begun_with, pieces = self._block
                self._block = None
                self._take_headers(number, begun_with | flags & END_HEADERS, content, pieces)
            case frames.WINDOW_UPDATE:
                self._take_window_update(number, frames.number_in(content, "a window update"))
            case frames.PING:
                frames.check_whole(each, size=8)
                if not flags & ACK:
                    self._out.append(frames.frame(frames.PING, ACK, 0, content))
            case frames.SETTINGS:
                frames.check_whole(each, size=0 if flags & ACK else None)
                if not flags & ACK:
                    self._take_settings(content)
            case frames.RST_STREAM:
                frames.number_in(content, "a reset")
                self._check_begun(number)
                if (stream := self._streams.pop(number, None)) is not None:
                    self._remember(number)
                    stream.handler.lost()
                    self._close_when_done()
            case frames.GOAWAY:
                # RFC 9113, 6.8: a client that goes away may wait for its answers.
                frames.check_whole(each, size=None)
                self._ending = True
                self._close_when_done()
            case frames.PRIORITY:
                frames.check_priority(number, content)
            case frames.PUSH_PROMISE:
                raise _violation("a client pushes")
            case _:  # RFC 9113, 4.1: what is unknown is ignored
                pass

    def _take_data(self, each: Frame) -> None:
        _, flags, number, content = each
        self._check_begun(number)
        size = len(content)
        self._room -= size
        if self._room < 0:
            raise _overflow()
        if self._room < _CONNECTION_WINDOW // 2:
            self._out.append(frames.window_update(0, _CONNECTION_WINDOW - self._room))
            self._room = _CONNECTION_WINDOW
        stream = self._streams.get(number)
        if stream is None:
            self._watch.pay(1)
            if number not in self._broken_off:
                self._reset(number, ErrorCodes.STREAM_CLOSED)
            return
        if stream.complete:
            self._break_off_stream(stream, ErrorCodes.STREAM_CLOSED)
            return
        stream.room -= size
        if stream.room < 0:
            raise _overflow()
        if flags & frames.PADDED:
            content = frames.unpadded(each)
        ends = flags & END_STREAM
        if stream.missing is not None:
            stream.missing -= len(content)
            _check_length(stream, ends=bool(ends))
        if stream.room < _STREAM_WINDOW // 2 and not ends:
            self._out.append(frames.window_update(number, _STREAM_WINDOW - stream.room))
            stream.room = _STREAM_WINDOW
        stream.since = min(self._heard, stream.since + len(content) / self._patience.pace)
        stream.complete = bool(ends)  # it may be answered at once
        stream.handler.received(content)
        if ends:
            self._complete(stream)

    def _take_headers(self, number: int, flags: int, content: bytes, before: list[bytes] | None = None) -> None:
        """Take a piece of a header block, which goes on where others came before."""
        if before is not None:
            before.append(content)
        if not flags & END_HEADERS:
            self._block = number, flags, before or [content]
            return
        # A block that nobody wants is read, too, for those behind it depend on it.
        headers = self._decoder.decode(content if before is None else b"".join(before))
        if not number & 1:
            raise _violation("a request of a number that is not odd")
        if number > self._newest:
            self._begin(number, headers, ends=bool(flags & END_STREAM))
            return
        stream = self._streams.get(number)
        if stream is None:
            if number not in self._broken_off:
                raise ViolationError(ErrorCodes.STREAM_CLOSED, "headers for a request that is over")
        elif stream.complete:
            self._break_off_stream(stream, ErrorCodes.STREAM_CLOSED)
        else:
            if not flags & END_STREAM:
                raise _violation("headers within a request that do not end it")
            check_trailers(headers)
            _check_length(stream, ends=True)
            self._complete(stream)

    def _begin(self, number: int, headers: Headers, *, ends: bool) -> None:
        self._newest = number
        head = self._connections.heads.read(headers)
        if self._ending or len(self._streams) >= self._max_streams:
            self._reset(number, ErrorCodes.REFUSED_STREAM)  # which clients repeat without asking anybody
            return
        stream = Stream(self, number, self.now(), self._stream_window, _STREAM_WINDOW, head.length)
        _check_length(stream, ends=ends)
        stream.complete = ends  # it may be answered at once
        self._streams[number] = stream
        stream.handler = self._open(stream, head)
        if ends:
            self._complete(stream)

    def _complete(self, stream: Stream) -> None:
        """Note that a request has ended."""
        if stream.number in self._streams:  # not answered before
            stream.complete = True
            stream.handler.ended()

    def _take_window_update(self, number: int, increment: int) -> None:
        if not increment:
            raise _violation("a window that grows by nothing")
        if number == 0:
            self._window += increment
            if self._window > MOST_WINDOW:
                raise _overflow()
            self._pump_waiting()
            return
        self._check_begun(number)
        if (stream := self._streams.get(number)) is not None:
            stream.window += increment
            if stream.window > MOST_WINDOW:
                self._break_off_stream(stream, ErrorCodes.FLOW_CONTROL_ERROR)
            elif stream.unsent:
                self.pump(stream)

    def _take_settings(self, content: bytes) -> None:
        for setting, value in frames.read_settings(content).items():
            if setting == frames.INITIAL_WINDOW_SIZE:
                growth, self._stream_window = value - self._stream_window, value
                for stream in self._streams.values():
                    stream.window += growth
                    if stream.window > MOST_WINDOW:
                        raise _overflow()
            elif setting == frames.MAX_FRAME_SIZE:
                self._longest_frame = value
        self._begun = True
        self._out.append(frames.frame(frames.SETTINGS, ACK, 0))
        self._pump_waiting()

    def _check_begun(self, number: int) -> None:
        """Raise `ViolationError` where a frame is for a request that has not begun."""
        if number > self._newest or not number & 1:
            raise _violation("a frame of a request that has not begun")

    # -- frames that go

    def _greet(self) -> None:
        self._greeted = True
        ours = {
            frames.MAX_CONCURRENT_STREAMS: self._max_streams,
            frames.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
            frames.MAX_FRAME_SIZE: MAX_FRAME_SIZE,
            frames.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
        }
        self._out += [frames.settings(ours), frames.window_update(0, _CONNECTION_WINDOW - INITIAL_WINDOW)]

    def _write_headers(self, number: int, headers: Headers, end: bool) -> None:
        block = encode(headers)
        if self._before_headers:
            block, self._before_headers = self._before_headers + block, b""
        self._out.append(frames.headers(number, block, end=end, most=self._longest_frame))

    def _pump_waiting(self) -> None:
        for stream in tuple(self._streams.values()):
            if stream.unsent:
                self.pump(stream)

    def _finish(self, stream: Stream) -> None:
        del self._streams[stream.number]
        if not stream.complete:
            # RFC 9113, 8.1: an answer may end before its request; the rest of that is not wanted then.
            self._reset(stream.number, ErrorCodes.NO_ERROR)
        self._watch.answered()
        self._close_when_done()

    def _reset(self, number: int, code: ErrorCodes) -> None:
        self._remember(number)
        self._out.append(frames.reset(number, code))
        self._plan_flush()

    def _remember(self, number: int) -> None:
        """Know that a request was broken off, of which something may still be on its way."""
        self._broken_off[number] = None
        if len(self._broken_off) > _MOST_BROKEN_OFF:
            del self._broken_off[next(iter(self._broken_off))]

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
                self._break_off_stream(stream, ErrorCodes.CANCEL)
        if self._pinged is not None:
            if now - self._pinged > patience.ping:
                self.abort()
        elif now - self._heard > patience.idle:
            self._pinged = now
            self._write(frames.frame(frames.PING, 0, 0, b"alive?\0\0"))

    def _break_off_stream(self, stream: Stream, code: ErrorCodes) -> None:
        del self._streams[stream.number]
        self._reset(stream.number, code)
        stream.handler.lost()
        self._close_when_done()

    def _break_off(self) -> None:
        self._ending = True
        self._frames.clear()
        for stream in self._take_streams():
            stream.handler.lost()
        self._close()

    def _take_streams(self) -> list[Stream]:
        streams = list(self._streams.values())
        self._streams.clear()
        return streams

    def _say_goodbye(self, code: ErrorCodes, why: str = "") -> None:
        if not self._greeted:
            self._greet()
        self._out.append(frames.goaway(self._newest, code, why))
        self._flush()

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
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _check_length(stream: Stream, *, ends: bool) -> None:
    """Raise `ViolationError` where the body is not as long as it was said to be."""
    missing = stream.missing
    if missing is not None and (missing < 0 or (missing and ends)):
        raise _violation("a body that is not as long as it was said to be")


def _violation(why: str) -> ViolationError:
    return ViolationError(ErrorCodes.PROTOCOL_ERROR, why)


def _overflow() -> ViolationError:
    return ViolationError(ErrorCodes.FLOW_CONTROL_ERROR, "more than there is room for")
