"""The gateway's own telemetry: metrics and sampled spans, sent as OTLP like everybody else's.

It does not feed on itself without end: metrics are a fixed set of series sent once an interval, whatever they count;
and what is sent is marked as a hub's own, here and by a header elsewhere: commits of such batches make no spans.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBasedTraceIdRatio
from opentelemetry.trace import NoOpTracer, Tracer

from gateway import __version__
from gateway.component import Signal
from gateway.config import TelemetrySettings
from gateway.job_logs import JobLogs
from gateway.net.destination import OWN_TELEMETRY_HEADER, Destination, EmitterSettings, destination, names_endpoint
from gateway.net.handover import Handover
from gateway.net.sdk_exporters import make_exporter
from gateway.operations import SCOPE as OPERATIONS_SCOPE
from gateway.operations import Operations

_SCOPE = "obs_hub"
JOBS_SCOPE = "obs_hub.jobs"


Where = Callable[[Signal], Destination | Handover | None]
"""Returns where a signal is sent: None as long as there is nowhere (the exporters may still be starting), and where the
gateway has no pipeline that would take it."""


class _Metrics(MetricExporter):
    """Sends metrics once it is known where to."""

    def __init__(self, where: Where) -> None:
        super().__init__()
        self._where = where
        self._exporter: MetricExporter | None = None

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: object) -> MetricExportResult:
        if self._exporter is None:
            to = self._where(Signal.METRICS)
            if to is None:
                return MetricExportResult.SUCCESS
            self._exporter = make_exporter(Signal.METRICS, to)
        return self._exporter.export(metrics_data, timeout_millis)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: object) -> None:
        if self._exporter is not None:
            self._exporter.shutdown(timeout_millis)


class _Spans(SpanExporter):
    """Sends spans once it is known where to."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._exporter: SpanExporter | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._exporter is None:
            to = self._where(Signal.TRACES)
            if to is None:
                return SpanExportResult.SUCCESS
            self._exporter = make_exporter(Signal.TRACES, to)
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        if self._exporter is not None:
            self._exporter.shutdown()


class _Events(LogRecordExporter):
    """Sends log records once it is known where to."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._exporter: Any = None  # a LogRecordExporter, whose `shutdown` the SDK leaves untyped

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        if self._exporter is None:
            to = self._where(Signal.LOGS)
            if to is None:
                return LogRecordExportResult.SUCCESS
            self._exporter = make_exporter(Signal.LOGS, to)
        result: LogRecordExportResult = self._exporter.export(batch)
        return result

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        return True

    def shutdown(self) -> None:
        if self._exporter is not None:
            self._exporter.shutdown()


class SelfTelemetry:
    """Owns the providers behind the gateway's meter and tracer.

    ``own`` is where it goes unless the settings or the standard ``OTEL_EXPORTER_OTLP_*`` variables name an endpoint:
    into this gateway's own pipelines, or for a command to those of the hub that runs.
    """

    def __init__(self, settings: TelemetrySettings, own: Where) -> None:
        def where(signal: Signal) -> Destination | Handover | None:
            return _marked(elsewhere(settings, signal) or own(signal))

        resource = Resource.create(
            {
                "service.name": "obs-hub",
                "service.version": __version__,
                "service.instance.id": str(uuid.uuid4()),
                "host.name": socket.gethostname(),
                "process.pid": os.getpid(),
            }
        )
        self._where, self._resource, self._with_traces = where, resource, settings.traces.enabled
        self._operations: Operations | None = None
        self._operation_tracers: TracerProvider | None = None
        self._loggers: LoggerProvider | None = None
        self._job_logs: JobLogs | None = None
        self._meters: MeterProvider | None = None
        self._tracers: TracerProvider | None = None
        self.meter: Meter = NoOpMeter(_SCOPE)
        self.tracer: Tracer = NoOpTracer()
        if settings.metrics.enabled:
            milliseconds = settings.metrics.interval / timedelta(milliseconds=1)
            reader = PeriodicExportingMetricReader(_Metrics(where), milliseconds, min(milliseconds, 10_000))
            self._meters = MeterProvider([reader], resource, shutdown_on_exit=False)
            self.meter = self._meters.get_meter(_SCOPE, __version__)
        if settings.traces.enabled:
            sampler = ParentBasedTraceIdRatio(settings.traces.sampling_ratio)
            self._tracers = TracerProvider(sampler, resource, shutdown_on_exit=False)
            self._tracers.add_span_processor(BatchSpanProcessor(_Spans(where)))
            self.tracer = self._tracers.get_tracer(_SCOPE, __version__)

    @property
    def operations(self) -> Operations:
        """What runs and webhooks are given to tell about themselves; from then on, what they log is sent, too.

        Their spans are all kept; see `Operations`.
        """
        if self._operations is None:
            tracer = None
            if self._with_traces:
                self._operation_tracers = TracerProvider(ALWAYS_ON, self._resource, shutdown_on_exit=False)
                self._operation_tracers.add_span_processor(BatchSpanProcessor(_Spans(self._where)))
                tracer = self._operation_tracers.get_tracer(OPERATIONS_SCOPE, __version__)
            self._loggers = LoggerProvider(self._resource, shutdown_on_exit=False)
            self._loggers.add_log_record_processor(BatchLogRecordProcessor(_Events(self._where)))
            logger = self._loggers.get_logger(OPERATIONS_SCOPE, __version__)
            self._operations = Operations(tracer, self.meter, logger)
            self._job_logs = JobLogs(self._loggers.get_logger(JOBS_SCOPE, __version__))
            self._job_logs.attach()
        return self._operations

    def flush_and_stop(self, seconds: float) -> None:
        """Send what there is and end. Blocks, for ``seconds`` at most."""
        # The SDK's own time limits do not hold while an export waits for an answer; what waits then ends with the
        # process.
        work = threading.Thread(target=self._flush_and_stop, args=(seconds,), name="telemetry-flush", daemon=True)
        work.start()
        work.join(seconds)

    def _flush_and_stop(self, seconds: float) -> None:
        if self._job_logs is not None:
            self._job_logs.detach()
        for provider in (self._tracers, self._operation_tracers, self._loggers):
            if provider is not None:
                provider.force_flush(round(seconds * 300))
                provider.shutdown()
        if self._meters is not None:
            self._meters.shutdown(round(seconds * 500))


def elsewhere(settings: TelemetrySettings, signal: Signal) -> Destination | None:
    """Return where the settings or the standard variables say that a signal goes; None where they do not.

    Raises `gateway.net.destination.DestinationError` for what cannot be used.
    """
    to = EmitterSettings(endpoint=settings.endpoint, headers=settings.headers)
    return destination(to, signal) if names_endpoint(to, signal) else None


def _marked(to: Destination | Handover | None) -> Destination | Handover | None:
    if isinstance(to, Destination):
        return replace(to, headers={**to.headers, OWN_TELEMETRY_HEADER: "true"})
    return to
