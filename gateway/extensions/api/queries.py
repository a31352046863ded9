"""The query APIs of other systems on the front: requests in, answers out, and nothing that hinders the rest of the hub.

What is asked is worked out in threads, of which there are few; whoever is one too many waits. It ends when its time is
over, and when the client goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs

import structlog
from litestar.datastructures import Headers

from gateway.component import MalformedPayloadError
from gateway.query.errors import BadQueryError, QueryCanceledError, QueryError, QueryTimeoutError
from gateway.query.limits import Usage
from gateway.query.prometheus.parameters import Parameters
from gateway.query.service import QueryService

if TYPE_CHECKING:
    from litestar.types import Receive, Scope, Send

_T = TypeVar("_T")

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_MAX_BODY = 2**20
_MOST_FIELDS = 10_000
_FORM = "application/x-www-form-urlencoded"
_AT_ONCE = 2**16
"""Bytes of a body from which on what is left of it is made while they are sent."""
_CLIENT_WENT = 499
"""As Prometheus and others count requests whose client did not wait."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out: pieces of a body, made while they are sent."""

    pieces: Iterable[bytes]
    status: int = HTTPStatus.OK
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = field(default=())


Work = Callable[[Parameters, Usage], Answer]
Failure = Callable[[QueryError], Answer]


class Queries:
    """Answers requests with the store of a service."""

    def __init__(self, service: QueryService) -> None:
        self.service = service
        self._threads = ThreadPoolExecutor(service.settings.max_concurrent, thread_name_prefix="query")
        self._slots = asyncio.Semaphore(service.settings.max_concurrent)
        self._running: set[Usage] = set()

    def close(self) -> None:
        """End what runs, and the threads."""
        for usage in tuple(self._running):
            usage.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.service.close()

    async def serve(self, scope: Scope, receive: Receive, send: Send, work: Work, failed: Failure) -> None:
        """Answer one request. ``failed`` makes the answer for an error."""
        headers = Headers.from_scope(scope)
        response = _Response(headers, send)
        try:
            parameters = await _parameters(scope, headers, receive)
            usage = self.service.usage(_seconds(parameters))
        except QueryError as error:
            await response.whole(failed(error))
            return
        self._running.add(usage)
        gone = asyncio.create_task(_gone(receive))
        try:
            async with self._slot(usage, gone):
                begun = await self._ended_with_client(
                    self._worked(work, parameters, usage, failed, response), usage, gone
                )
                if begun.is_whole:
                    await response.begin(begun.answer, len(begun.first))
                    await response.end(begun.first)
                else:
                    await response.begin(begun.answer)
                    await response.more(begun.first)
                    async for piece in self._rest(begun.rest):
                        await response.more(piece)
                    await response.end()
        except _ClientWentError:
            await response.whole(Answer((), _CLIENT_WENT))
        except QueryError as error:
            await response.whole(failed(error))
        finally:
            usage.cancel()
            self._running.discard(usage)
            gone.cancel()

    async def run(self, work: Callable[[Usage], _T], seconds: float, receive: Receive | None = None) -> _T:
        """Work something out in a thread, within so many seconds. Raises `QueryError`, and whatever ``work`` raises.

        With ``receive``, of a request whose body was read, it ends when the client goes away, and raises
        `QueryCanceledError`.
        """
        usage = self.service.usage(seconds)
        gone = asyncio.create_task(_gone(receive)) if receive else asyncio.create_task(asyncio.Event().wait())
        self._running.add(usage)
        try:
            async with self._slot(usage, gone):
                working = asyncio.get_running_loop().run_in_executor(self._threads, work, usage)
                return await self._ended_with_client(working, usage, gone)
        except _ClientWentError:
            raise QueryCanceledError("whoever asked has gone") from None
        finally:
            usage.cancel()
            self._running.discard(usage)
            gone.cancel()

    def _worked(
        self, work: Work, parameters: Parameters, usage: Usage, failed: Failure, response: _Response
    ) -> asyncio.Future[_Begun]:
        """Work an answer out in a thread, and make as much of its body there as is sent at once."""

        def run() -> _Begun:
            try:
                answer = work(parameters, usage)
            except QueryError as error:
                answer = failed(error)
            made = response.compressed(answer.pieces) if response.compresses else iter(answer.pieces)
            some: list[bytes] = []
            size = 0
            for piece in made:
                some.append(piece)
                size += len(piece)
                if size >= _AT_ONCE:
                    return _Begun(answer, b"".join(some), made, is_whole=False)
            return _Begun(answer, b"".join(some), made, is_whole=True)

        return asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def _ended_with_client(self, work: Awaitable[_T], usage: Usage, gone: asyncio.Task[Any]) -> _T:
        working = asyncio.ensure_future(work)
        try:
            await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            usage.cancel()
            working.add_done_callback(_expected)
            raise
        if not working.done():
            usage.cancel()
            await asyncio.wait((working,))  # until then its thread and its connection are in use
            with contextlib.suppress(QueryError, asyncio.CancelledError):
                working.result()
            raise _ClientWentError
        return working.result()

    @contextlib.asynccontextmanager
    async def _slot(self, usage: Usage, gone: asyncio.Task[Any]) -> AsyncIterator[None]:
        if not self._slots.locked():
            async with self._slots:
                yield
            return
        waiting = asyncio.ensure_future(self._slots.acquire())
        try:
            await asyncio.wait((waiting, gone), timeout=usage.seconds_left, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                if gone.done():
                    raise _ClientWentError
                raise QueryTimeoutError(
                    "other queries took all of the time; ask again, or raise query.max_concurrent or query.timeout"
                )
            yield
        finally:
            if waiting.done() and not waiting.cancelled():
                self._slots.release()
            else:
                waiting.cancel()

    async def _rest(self, made: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the rest of a body, each piece made in a thread when the one before is on its way.

        To take the answer, a client has as long as the query could have taken: others wait for its place.
        """
        ends = time.monotonic() + self.service.settings.timeout.total_seconds()
        while True:
            piece = await asyncio.get_running_loop().run_in_executor(self._threads, next, made, None)
            if piece is None:
                return
            if time.monotonic() > ends:
                raise QueryTimeoutError("the answer was not taken in time")
            yield piece


def _expected(working: asyncio.Future[Any]) -> None:
    """Hear how work ended that nobody waits for: by its being cancelled, which asyncio would log as unheard."""
    if not working.cancelled() and (error := working.exception()) and not isinstance(error, QueryError):
        _log.error("a query that nobody waits for any more failed", exc_info=error)


@dataclass(frozen=True, slots=True)
class _Begun:
    """An answer with the beginning of its body, which is most often all of it: to change threads costs more."""

    answer: Answer
    first: bytes
    rest: Iterator[bytes]
    is_whole: bool


class _ClientWentError(Exception):
    """Nobody waits for the answer any more."""


class _Response:
    """The answer to one request, as it goes out."""

    def __init__(self, headers: Headers, send: Send) -> None:
        self._send = send
        self._begun = False
        self.compresses = "gzip" in headers.get("accept-encoding", "")

    async def whole(self, answer: Answer) -> None:
        """Send a short answer, unless one has begun: that one is broken off, so that nobody takes it for whole."""
        if self._begun:
            raise ConnectionAbortedError("an answer could not be sent whole")
        self.compresses = False
        body = b"".join(answer.pieces)
        await self.begin(answer, len(body))
        await self.end(body)

    async def begin(self, answer: Answer, length: int | None = None) -> None:
        """Send the status and the headers. ``length``: bytes of the body, where that is known."""
        self._begun = True
        headers = [(b"content-type", answer.content_type.encode()), (b"vary", b"accept-encoding")]
        headers += [(name.encode(), value.encode()) for name, value in answer.headers]
        if self.compresses:
            headers.append((b"content-encoding", b"gzip"))
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        await self._send({"type": "http.response.start", "status": int(answer.status), "headers": headers})

    async def more(self, piece: bytes) -> None:
        """Send a piece of the body."""
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, last: bytes = b"") -> None:
        """Send the last piece of the body, and say that it is whole."""
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    @staticmethod
    def compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield a body in gzip."""
        compressor = zlib.compressobj(1, wbits=31)
        for piece in pieces:
            if found := compressor.compress(piece):
                yield found
        yield compressor.flush()


async def _parameters(scope: Scope, headers: Headers, receive: Receive) -> Parameters:
    """Return the parameters of the URL, and those of the body before them."""
    body = await _body(receive)
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    texts = [body] if content_type == _FORM else []
    found: dict[str, list[str]] = {}
    for text in (*texts, scope["query_string"]):
        try:
            parsed = parse_qs(text.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
        except (ValueError, UnicodeDecodeError) as error:
            raise BadQueryError(f"error parsing form values: {error}") from error
        for name, values in parsed.items():
            found.setdefault(name, []).extend(values)
    return Parameters(found)


async def _body(receive: Receive) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        size += len(message["body"])
        if size > _MAX_BODY:
            raise BadQueryError(f"the body of the request is longer than {_MAX_BODY:,} bytes")
        pieces.append(message["body"])
        if not message.get("more_body", False):
            return b"".join(pieces)


def _seconds(parameters: Parameters) -> float | None:
    milliseconds = parameters.duration("timeout")
    return None if milliseconds is None else max(milliseconds / 1000, 0.001)


async def _gone(receive: Receive) -> None:
    """Return when the client has gone away."""
    with contextlib.suppress(MalformedPayloadError):
        while (await receive())["type"] != "http.disconnect":
            pass
