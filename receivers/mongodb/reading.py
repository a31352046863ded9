"""The loop: read a batch, send it, and mark its documents once it is acknowledged.

Where documents have an order, the next batch is read while one is sent, and the one before is marked meanwhile: at most
three batches are in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import structlog
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from gateway.base.crashpoints import crashpoint
from gateway.component import Consumer
from gateway.component.documents import Counts, SourceError
from receivers.mongodb.batches import Batch, Batches
from receivers.mongodb.collection import Collection, Mark
from receivers.mongodb.config import MongoPipeline
from receivers.mongodb.sender import Sender
from receivers.mongodb.threads import in_daemon_thread
from receivers.mongodb.transform import Transform

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
_T = TypeVar("_T")

_TELL_SECONDS = 2.0
_FIRST_FAILURES = 5
_LONGEST_FAILURE = 500


class _Marking:
    """The marking of one batch, in the background."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def begin(self, marking: Coroutine[Any, Any, None]) -> None:
        """Begin to mark. The one before has to be at its end."""
        self._task = asyncio.create_task(marking)

    async def end(self) -> None:
        """Wait for what has begun. Raises what went wrong with it."""
        if self._task is not None:
            await self._task
            self._task = None

    async def settle(self) -> None:
        """Wait for what has begun, whatever comes of it: what was acknowledged is done with, though the pass failed."""
        if self._task is not None:
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.exception()  # seen: what is not marked is read by the next pass

    def cancel(self) -> None:
        """Wait no longer: a server that hangs must not hold up a stop."""
        if self._task is not None:
            self._task.cancel()


@asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, _T]) -> AsyncIterator[asyncio.Task[_T]]:
    """Do something during a block. When the block fails, what comes of it is of no interest any more."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, SourceError):
            await task


class Reading:
    """One pass over what is ingested."""

    def __init__(
        self,
        pipeline: str,
        settings: MongoPipeline,
        source: Collection,
        consumer: Consumer,
        tracer: Tracer,
        transform: Transform | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._source = source
        self._tracer = tracer
        self._transform = transform
        self._sender = Sender(pipeline, consumer, settings.retry_on_failure, settings.patience.total_seconds())
        self.counts = Counts()

    async def run(self, context: Context, tell: Callable[[str], None], changed: Callable[[Counts], None]) -> None:
        """Send all there is. ``tell`` is given a line for people now and then, ``changed`` the counts of each batch.

        Spans belong to ``context``. It may be broken off at any await: what was not marked is read by the next pass,
        and the store knows what it has. Raises `SourceError` and `DestinationError`.
        """
        self.counts.found = await in_daemon_thread(self._source.count)
        tell(f"{'?' if self.counts.found is None else f'{self.counts.found:,}'} documents to read")
        batches = Batches(self._pipeline, self._settings, self._source, self._transform)
        told_at = time.monotonic()
        marking = _Marking()
        try:
            batch = await self._read(batches.next, context)
            while batch is not None:
                async with _meanwhile(self._read(batches.ahead, context)) as reading:
                    marks = await self._send(batch, context)
                    await marking.end()
                    marking.begin(self._mark(marks, len(batch.done), context))
                    batch = await reading
                if batch is None:
                    await marking.end()
                    batch = await self._read(batches.next, context)
                changed(self.counts)
                if time.monotonic() - told_at >= _TELL_SECONDS:
                    told_at = time.monotonic()
                    tell(str(self.counts))
        except asyncio.CancelledError:
            marking.cancel()
            raise
        except Exception:
            await marking.settle()
            raise
        finally:
            changed(self.counts)
            tell(str(self.counts))
            for reason in self.counts.first_failures:
                tell(f"failed: {reason}")

    async def _read(self, read: Callable[[], Batch | None], context: Context) -> Batch | None:
        with self._span("pipeline.read", context, SpanKind.CLIENT, self._database("find")) as span:
            batch = await in_daemon_thread(read)
            span.set_attribute("obs_hub.pipeline.documents", 0 if batch is None else batch.documents)
            return batch

    async def _send(self, batch: Batch, context: Context) -> list[Mark]:
        """Send a batch; return what is to be marked."""
        self.counts.read += batch.documents
        marks = [*batch.done, *batch.failed]
        crashpoint("pipeline before sending")
        if batch.entries:
            sizes = {"obs_hub.pipeline.documents": len(batch.entries), "obs_hub.pipeline.size": batch.size}
            with self._span("pipeline.send", context, SpanKind.PRODUCER, sizes) as span:
                retries = self._sender.retries
                marks += await self._sender.send(batch.entries)
                span.set_attribute("obs_hub.pipeline.retries", self._sender.retries - retries)
        crashpoint("pipeline after acknowledgement")
        return marks

    async def _mark(self, marks: list[Mark], skipped: int, context: Context) -> None:
        with self._span("pipeline.mark", context, SpanKind.CLIENT, self._database("bulkWrite")):
            await in_daemon_thread(lambda: self._source.mark(marks))
        crashpoint("pipeline after marking")
        self._count(marks, skipped)

    def _count(self, marks: list[Mark], skipped: int) -> None:
        failed = [mark for mark in marks if mark.reason is not None]
        self.counts.failed += len(failed)
        self.counts.processed += len(marks) - len(failed)
        self.counts.skipped += skipped
        for mark in failed[: _FIRST_FAILURES - len(self.counts.first_failures)]:
            reason = f"{mark.id}: {mark.reason}"[:_LONGEST_FAILURE]
            self.counts.first_failures.append(reason)
            _log.warning("a document failed", pipeline=self._pipeline, reason=reason)

    def _database(self, operation: str) -> dict[str, str | int]:
        """Return the attributes of a span of a database's client (OpenTelemetry semantic conventions, "MongoDB")."""
        mongodb = self._settings.mongodb
        return {
            "db.system.name": "mongodb",
            "db.namespace": mongodb.database,
            "db.collection.name": mongodb.collection,
            "db.operation.name": operation,
        }

    @contextmanager
    def _span(
        self, name: str, context: Context, kind: SpanKind, attributes: dict[str, str | int] | dict[str, int]
    ) -> Iterator[Span]:
        span = self._tracer.start_span(name, context, kind, {"obs_hub.run.name": self._pipeline, **attributes})
        try:
            yield span
        except BaseException as error:
            span.set_status(StatusCode.ERROR, str(error) or type(error).__name__)
            raise
        finally:
            span.end()
