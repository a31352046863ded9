"""An exporter that stores in a list, and what tests of the pipeline need around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from gateway.base.settings import ExporterSettings, RetrySettings
from gateway.component import ACCEPTED, Batch, MalformedPayloadError, Outcome, Prepared, RefusedError, Signal
from gateway.pipeline import Delivery, Instruments
from tests.support.instruments import metrics_of
from tests.support.waiting import PATIENCE


def batch(text: str, signal: Signal = Signal.LOGS, *, own_telemetry: bool = False) -> Batch:
    """A batch of as many records as the text has words."""
    return Batch.of(signal, text.encode(), own_telemetry=own_telemetry)


class FakeExporter:
    """Takes every word of a payload for a record.

    While it is ``prompt`` it prepares batches at once. Each commit waits until the test opens the gate. A commit raises
    ``error`` while there is one, and refuses for good whatever holds a word that it ``refuses``; a payload that begins
    with ``malformed`` cannot be prepared.
    """

    def __init__(self, name: str = "fake", concurrency: int = 1, batches_per_commit: int | None = None) -> None:
        self.name = name
        self.prompt = True
        self.concurrency = concurrency
        self.batches_per_commit = batches_per_commit
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.refuses = frozenset({"bad"})
        self.outcomes: dict[str, Outcome] = {}
        self.commits: list[list[str]] = []
        self.stored: list[str] = []
        self.running = 0
        self.events: list[str] = []

    async def start(self) -> None:
        self.events.append("started")

    async def stop(self) -> None:
        assert self.running == 0, "an exporter is stopped after its last commit has returned"
        self.events.append("stopped")

    async def prepare(self, batch: Batch) -> Prepared:
        return self._prepared(batch)

    def prepare_at_once(self, batch: Batch) -> Prepared | None:
        return self._prepared(batch) if self.prompt else None

    def _prepared(self, batch: Batch) -> Prepared:
        text = batch.payload.decode()
        if text.startswith("malformed"):
            raise MalformedPayloadError("not a request")
        return Prepared(batch, len(text.split()), self.outcomes.get(text, ACCEPTED))

    async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
        texts = [each.batch.payload.decode() for each in prepared]
        self.commits.append(texts)
        self.running += 1
        try:
            await self.gate.wait()
            if self.error is not None:
                raise self.error
            if any(self.refuses.intersection(text.split()) for text in texts):
                raise RefusedError(f"{len(texts)} batches with a bad record among them")
            new = []
            for text in texts:
                new.append(text not in self.stored)
                self.stored += [text] if new[-1] else []
            return new
        finally:
            self.running -= 1

    def gauges(self) -> dict[str, float]:
        return {}


class Telemetry:
    """A meter and a tracer whose instruments and spans can be read back."""

    def __init__(self, *, sampled: bool = True) -> None:
        self._reader = InMemoryMetricReader()
        self._spans = InMemorySpanExporter()
        tracers = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF)
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.tracer = tracers.get_tracer("test")
        self.instruments = Instruments(MeterProvider([self._reader]).get_meter("test"))

    def delivery(self, exporter: FakeExporter) -> Delivery:
        """The delivery to an exporter, which is tried again at once when it failed. There is no spool."""
        at_once = RetrySettings(initial_interval=timedelta(), max_interval=timedelta())
        return Delivery(exporter, self.instruments, self.tracer, settings=ExporterSettings(retry_on_failure=at_once))

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._spans.get_finished_spans()

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of an instrument by the values of its attributes; of a histogram, the sums."""
        return {
            tuple(map(str, dict(sorted(attributes.items())).values())): value
            for attributes, value in self._points(name, lambda point: getattr(point, "sum", getattr(point, "value", 0)))
        }

    def counts(self, name: str) -> list[float]:
        """How often a histogram was recorded, for each set of attributes."""
        return [value for _, value in self._points(name, lambda point: point.count)]  # type: ignore[attr-defined]

    def is_histogram(self, name: str) -> bool:
        return any(isinstance(metric.data, Histogram) for metric in metrics_of(self._reader, name))

    def _points(self, name: str, read: Callable[[object], float]) -> list[tuple[Mapping[str, object], float]]:
        return [
            (dict(point.attributes or {}), read(point))
            for metric in metrics_of(self._reader, name)
            for point in metric.data.data_points
        ]


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - every turn of the loop must be looked at
            await asyncio.sleep(0)


async def settle() -> None:
    """Let every task run until it waits for something: what has not happened by then, does not by itself."""
    for _ in range(50):
        await asyncio.sleep(0)
