"""The loop: read a batch, send it, and mark its documents once it is acknowledged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from gateway.pipeline.client import OtlpClient
from gateway.pipeline.crashpoints import crashpoint
from receivers.mongodb.batches import Batch, Batches
from receivers.mongodb.collection import Collection, Mark
from receivers.mongodb.config import MongoPipeline
from receivers.mongodb.sender import Sender
from receivers.mongodb.threads import in_daemon_thread
from receivers.mongodb.transform import Transform

_log = logging.getLogger(__name__)

_TELL_SECONDS = 2.0
_FIRST_FAILURES = 5
_LONGEST_FAILURE = 500


@dataclass(slots=True)
class Counts:
    """How far a pass is: documents that were ``read``, and what became of them.

    ``found`` is how many there were at its start, None where nobody could tell.
    """

    found: int | None = None
    read: int = 0
    processed: int = 0
    skipped: int = 0
    failed: int = 0
    first_failures: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, int]:
        """Return the numbers by name."""
        found = {} if self.found is None else {"found": self.found}
        return {
            **found,
            "read": self.read,
            "processed": self.processed,
            "skipped": self.skipped,
            "failed": self.failed,
        }

    def __str__(self) -> str:
        of = f" of {self.found:,}" if self.found is not None else ""
        skipped = f", {self.skipped:,} of them without an event" if self.skipped else ""
        return f"{self.read:,}{of} documents read, {self.processed:,} processed{skipped}, {self.failed:,} failed"


class Reading:
    """One pass over what is ingested."""

    def __init__(
        self,
        pipeline: str,
        settings: MongoPipeline,
        source: Collection,
        client: OtlpClient,
        tracer: Tracer,
        transform: Transform | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._source = source
        self._tracer = tracer
        self._transform = transform
        self._sender = Sender(pipeline, client, settings.retry_on_failure, settings.patience.total_seconds())
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
        try:
            while (batch := await self._read(batches, context)) is not None:
                await self._deliver(batch, context)
                changed(self.counts)
                if time.monotonic() - told_at >= _TELL_SECONDS:
                    told_at = time.monotonic()
                    tell(str(self.counts))
        finally:
            changed(self.counts)
            tell(str(self.counts))
            for reason in self.counts.first_failures:
                tell(f"failed: {reason}")

    async def _read(self, batches: Batches, context: Context) -> Batch | None:
        with self._span("pipeline.read", context, SpanKind.CLIENT, self._database("find")) as span:
            batch = await in_daemon_thread(batches.next)
            span.set_attribute("obs_hub.pipeline.documents", 0 if batch is None else batch.documents)
            return batch

    async def _deliver(self, batch: Batch, context: Context) -> None:
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
        with self._span("pipeline.mark", context, SpanKind.CLIENT, self._database("bulkWrite")):
            await in_daemon_thread(lambda: self._source.mark(marks))
        crashpoint("pipeline after marking")
        self._count(marks, skipped=len(batch.done))

    def _count(self, marks: list[Mark], skipped: int) -> None:
        failed = [mark for mark in marks if mark.reason is not None]
        self.counts.failed += len(failed)
        self.counts.processed += len(marks) - len(failed)
        self.counts.skipped += skipped
        for mark in failed[: _FIRST_FAILURES - len(self.counts.first_failures)]:
            reason = f"{mark.id}: {mark.reason}"[:_LONGEST_FAILURE]
            self.counts.first_failures.append(reason)
            _log.warning("pipeline %s: a document failed: %s", self._pipeline, reason)

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
