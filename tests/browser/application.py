"""An application that tells by the OpenTelemetry SDK what it does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor


class Application:
    """One service on a host. What it says has left when it returns; ``otlp`` is where OTLP over HTTP is taken."""

    def __init__(self, otlp: str, service: str, host: str) -> None:
        resource = Resource({"service.name": service, "host.name": host})
        self._loggers = LoggerProvider(resource)
        self._loggers.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(f"{otlp}/v1/logs")))
        self._tracers = TracerProvider(resource=resource)
        self._tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{otlp}/v1/traces")))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{otlp}/v1/metrics"), 3_600_000)
        self._meters = MeterProvider([reader], resource)

    def say(
        self,
        body: str,
        severity: SeverityNumber = SeverityNumber.INFO,
        *,
        event: str | None = None,
        at: int | None = None,
    ) -> None:
        """Write a log record, within the span that is under way if there is one."""
        now = time.time_ns()
        record = LogRecord(
            timestamp=now if at is None else at,
            observed_timestamp=now,
            severity_number=severity,
            severity_text=severity.name,
            body=body,
            event_name=event,
        )
        self._loggers.get_logger("application").emit(record)

    @contextmanager
    def span(self, name: str) -> Iterator[Span]:
        """Do something that is a span."""
        with self._tracers.get_tracer("application").start_as_current_span(name) as span:
            yield span

    def measure(self, name: str, value: float, attributes: Mapping[str, str] | None = None, unit: str = "") -> None:
        """Record the value of a gauge."""
        self._meters.get_meter("application").create_gauge(name, unit).set(value, attributes or {})
        self._meters.force_flush()

    def close(self) -> None:
        for provider in (self._loggers, self._tracers, self._meters):
            provider.shutdown()
