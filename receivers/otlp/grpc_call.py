"""One gRPC call: from its headers to its status.

Source: gRPC's ``doc/PROTOCOL-HTTP2.md``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import grpc
import structlog

from receivers.otlp import compression
from receivers.otlp.grpc_messages import OK, Bounds, Messages, Request, StatusError, encoding_of, framed
from receivers.otlp.http2.request_head import Head
from receivers.otlp.http2.stream import MAX_HEADERS, Headers, Stream
from receivers.otlp.refusal import overloaded, unavailable

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_RESPONSE: Headers = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", f"{compression.IDENTITY}, {compression.SUPPORTED}".encode()),
)


DEADLINE = b"grpc-timeout"
"""The header that says how long a client waits; it counts down from call to call."""

_MOST_SAID = 8
"""Messages that wait for their answer, of a call that has many."""


class Admitted(Protocol):
    """A call that was let in."""

    @property
    def most(self) -> int | None:
        """How many bytes its message may be, decompressed; None: the listener's limit is all."""
        ...

    @property
    def reply(self) -> Callable[[bytes], bytes] | None:
        """What answers each message of a call that has many, or raises `StatusError`; None where `answer` has one."""
        ...

    def resize(self, size: int) -> None:
        """Hear how long the message is, or is said to be. Raises `StatusError` when that is more than it may."""
        ...

    async def answer(self, message: bytes) -> None:
        """Answer the message by `Call.send` and return, which means OK, or raise `StatusError`."""
        ...

    def release(self) -> None:
        """The call has ended. Harmless when repeated."""
        ...


class Method(Protocol):
    """An RPC that takes one message, or answers each of many as it comes."""

    def admit(self, call: Call) -> Admitted:
        """Let a call in, before its message is taken, or raise `StatusError`.

        What is to be known of its metadata is asked now: it is not kept.
        """
        ...

    def refused(self, reason: str) -> None:
        """Hear of a call that was let in and refused before it was answered."""
        ...


@dataclass(slots=True)
class Services:
    """What a server's calls have in common. ``methods`` goes by path, such as ``/grpc.health.v1.Health/Check``."""

    methods: Mapping[str, Method]
    bounds: Bounds
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def open(self, stream: Stream, head: Head) -> Call:
        """Begin a call."""
        return Call(self, stream, head)


class _Route:
    """What a call's headers say of it."""

    __slots__ = ("encoding", "is_grpc", "method", "path")

    def __init__(self, methods: Mapping[str, Method], head: Head) -> None:
        fields = head.fields
        self.is_grpc = fields.get(b":method") == b"POST" and _is_grpc(fields.get(b"content-type", b""))
        self.path = fields.get(b":path", b"").decode("latin-1")
        self.method = methods.get(self.path)
        self.encoding = fields.get(b"grpc-encoding", b"").decode("latin-1")


class Call:
    """One call, as `receivers.otlp.http2.stream.Handler` describes it.

    A deadline (``grpc-timeout``) is left to the client, which gives up by a reset when it is over.
    """

    def __init__(self, services: Services, stream: Stream, head: Head) -> None:
        self._services = services
        self._stream = stream
        self._head: Head | None = head
        self._request = Request(services.bounds)
        self._encoding = compression.IDENTITY
        self._method: Method | None = None
        self._admitted: Admitted | None = None
        self._messages: Messages | None = None
        self._said: asyncio.Queue[bytes | None]
        self._task: asyncio.Task[None] | None = None
        self._answering = False
        try:
            self._begin()
        except StatusError as error:
            self._fail(error)
        self._head = None  # many calls that never end must not keep what each came with

    @property
    def peer(self) -> str:
        """The address that the call comes from."""
        return self._stream.peer

    @property
    def connection(self) -> object:
        """What calls of one connection have in common."""
        return self._stream.connection

    def metadata(self, key: str) -> list[str]:
        """Return the values that the client sent under a key, which is given in lower case."""
        assert self._head is not None, "metadata is asked for as the call begins"
        return [value.decode("latin-1") for value in self._head.values(key.encode())]

    def send(self, message: bytes) -> None:
        """Send a message of the answer."""
        if not self._answering:
            self._answering = True
            self._stream.send_headers(_RESPONSE)
        self._stream.send(framed(message))

    def hand_on(self) -> None:
        """Say that somebody else counts the message from here on. Harmless when repeated."""
        self._request.release()

    def received(self, data: bytes) -> None:
        """Take a piece of the message."""
        try:
            if self._messages is not None:
                for message in self._messages.add(data):
                    if self._said.qsize() >= _MOST_SAID:
                        raise StatusError.of(overloaded("too many messages at once; wait for their answers"))
                    self._said.put_nowait(message)
                return
            if self._request.add(data) and self._admitted is not None:
                self._admitted.resize(self._request.length)
        except StatusError as error:
            self._fail(error)

    @property
    def unsent(self) -> int:
        """Bytes of the answer that the client has no room for yet."""
        return len(self._stream.unsent)

    def ended(self) -> None:
        """Answer the message, in a task of its own; of a call that has many, those that are left."""
        if self._messages is None:
            self._begin_task(self._run())
            return
        try:
            self._messages.end()
        except StatusError as error:
            self._fail(error)
        else:
            self.finish()

    def finish(self) -> None:
        """End a call that has many messages once those that came are answered."""
        self._said.put_nowait(None)

    def too_slow(self) -> None:
        """Have the client try again."""
        refusal = unavailable("the request did not arrive in time; please retry")
        self._fail(StatusError.of(refusal, "too_slow"))

    def shut_down(self) -> None:
        """Have the client try again."""
        self._fail(StatusError.of(unavailable("the gateway is shutting down; please retry")))

    def lost(self) -> None:
        """Work no longer for a client that has given up."""
        if self._task is None and self._method is not None:
            self._method.refused("disconnected")
        self._end()

    def _begin(self) -> None:
        head = self._head
        assert head is not None
        route: _Route = head.meaning or _Route(self._services.methods, head)
        head.meaning = route
        if not route.is_grpc:
            self._stream.send_headers(((b":status", b"415"), (b"accept-post", b"application/grpc")), end=True)
            return
        if head.size > MAX_HEADERS:
            message = f"the call's metadata is larger than {MAX_HEADERS} bytes"
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        if route.method is None:
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"no such method: {route.path[:200]}")
        self._admitted = route.method.admit(self)
        self._method = route.method
        self._encoding = encoding_of(route.encoding)
        if (reply := self._admitted.reply) is not None:
            assert self._admitted.most is not None, "a call that has many messages bounds each"
            self._messages = Messages(self._admitted.most, self._encoding)
            self._said = asyncio.Queue()
            self._begin_task(self._converse(reply))

    def _begin_task(self, work: Coroutine[None, None, None]) -> None:
        task = self._task = asyncio.get_running_loop().create_task(work)
        self._services.tasks.add(task)
        task.add_done_callback(self._services.tasks.discard)

    async def _converse(self, reply: Callable[[bytes], bytes]) -> None:
        """Answer one message after the other; others have their turn in between."""
        assert self._admitted is not None
        try:
            while (message := await self._said.get()) is not None:
                self.send(reply(message))
                await asyncio.sleep(0)
        except Exception as error:
            self._fail(_told(error))
        else:
            if not self._answering:
                self._stream.send_headers(_RESPONSE)
            self._stream.end(OK)
        finally:
            self._admitted.release()

    async def _run(self) -> None:
        admitted = self._admitted
        assert admitted is not None
        try:
            try:
                message = await self._request.message(self._encoding, admitted.most)
            except compression.DecompressedTooLargeError:
                assert admitted.most is not None
                admitted.resize(admitted.most + 1)
                raise
            admitted.resize(len(message))
            await admitted.answer(message)
        except Exception as error:
            self._fail(_told(error))
        else:
            self._stream.end(OK)
        finally:
            self.hand_on()
            admitted.release()

    def _fail(self, error: StatusError) -> None:
        if error.reason is not None and self._method is not None:
            self._method.refused(error.reason)
        self._end()
        if self._answering:
            self._stream.end(error.trailers())
        else:
            self._stream.send_headers((*_RESPONSE, *error.trailers()), end=True)

    def _end(self) -> None:
        self._request.release()
        if self._admitted is not None:
            self._admitted.release()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


def _told(error: Exception) -> StatusError:
    """Return an error as the client is told of it."""
    if isinstance(error, StatusError):
        return error
    _log.error("unexpected error in a gRPC call; the client is asked to retry", exc_info=error)
    return StatusError.of(unavailable("the gateway could not process this request; please retry"))


def _is_grpc(content_type: bytes) -> bool:
    kind = content_type.lower()
    return kind.startswith(b"application/grpc") and kind[16:17] in (b"", b"+", b";")
