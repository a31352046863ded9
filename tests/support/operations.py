"""What runs and webhooks tell about themselves, kept in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.operations import Operations
from tests.support.instruments import metrics_of


class Told:
    """Operations whose spans, events and metrics can be looked at."""

    def __init__(self) -> None:
        self._spans, self._events, self._metrics = (
            *(InMemorySpanExporter(), InMemoryLogRecordExporter(), InMemoryMetricReader()),
        )
        tracers, loggers = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        loggers.add_log_record_processor(SimpleLogRecordProcessor(self._events))
        meters = MeterProvider([self._metrics], shutdown_on_exit=False)
        self.operations = Operations(tracers.get_tracer("test"), meters.get_meter("test"), loggers.get_logger("test"))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        """The one span of that name."""
        (span,) = [each for each in self.spans if each.name == name]
        return span

    @property
    def events(self) -> list[Any]:
        return [data.log_record for data in self._events.get_finished_logs()]

    def event(self, name: str) -> Any:
        """The last event of that name."""
        return [each for each in self.events if each.event_name == name][-1]

    def points(self, name: str) -> list[Any]:
        """The points of a metric."""
        return [point for metric in metrics_of(self._metrics, name) for point in metric.data.data_points]

    def metric(self, name: str) -> dict[tuple[Any, ...], float]:
        """The points of a metric, by the values of their attributes in the order of the attributes' names."""
        points: dict[tuple[Any, ...], float] = {}
        for point in self.points(name):
            key = tuple(value for _, value in sorted(point.attributes.items()))
            assert key not in points, f"two points of one series: {name} {key}"
            points[key] = point.value if hasattr(point, "value") else point.count
        return points


def hexadecimal(context: Any) -> tuple[str, str]:
    """The ids of a span or of its parent."""
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"
