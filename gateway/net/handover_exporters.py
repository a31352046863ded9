"""The SDK's interface of exporters over a `Handover`: requests as the SDK's OTLP exporters encode them, and no network.

Like those they tell by the log why an export failed, and only return that it did; who would rather have the reason
calls `HandoverMetrics.hand_over`. They end with the handover.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from gateway.base.rate_limited_log import RateLimitedLogger
from gateway.component.batch import Signal
from gateway.component.errors import DeliveryError
from gateway.net.handover import Handover

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class _Taking:
    """Hands on requests of one signal. Says why one is not taken, seldom while none is."""

    def __init__(self, signal: Signal, to: Handover) -> None:
        self._signal = signal
        self._to = to
        self._said = RateLimitedLogger(_log)

    def take(self, request: Any) -> bool:
        """Return whether a request is held durably."""
        try:
            self.hand_over(request)
        except DeliveryError as error:
            self._said.warning("refused", f"{self._signal.value} are not taken", reason=str(error))
            return False
        self._said.forget("refused")
        return True

    def hand_over(self, request: Any) -> None:
        """Return once a request is held durably. Raises `DeliveryError`."""
        outcome = self._to.send(self._signal, request.SerializeToString())
        if outcome.message:
            self._said.warning("partial", f"{self._signal.records} are rejected", reason=outcome.message)


class HandoverMetrics(MetricExporter):
    """Hands on metrics."""

    def __init__(self, to: Handover) -> None:
        super().__init__()
        self._taking = _Taking(Signal.METRICS, to)

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: object) -> MetricExportResult:
        """Export, for as long as the handover takes at most."""
        taken = self._taking.take(encode_metrics(metrics_data))
        return MetricExportResult.SUCCESS if taken else MetricExportResult.FAILURE

    def hand_over(self, metrics_data: MetricsData) -> None:
        """Return once metrics are held durably. Raises `gateway.component.DeliveryError`."""
        self._taking.hand_over(encode_metrics(metrics_data))

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Do nothing: nothing is kept."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: object) -> None:
        """Do nothing: nothing is open."""


class HandoverSpans(SpanExporter):
    """Hands on spans."""

    def __init__(self, to: Handover) -> None:
        self._taking = _Taking(Signal.TRACES, to)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export, for as long as the handover takes at most."""
        return SpanExportResult.SUCCESS if self._taking.take(encode_spans(spans)) else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Do nothing: nothing is open."""


class HandoverLogs(LogRecordExporter):
    """Hands on log records."""

    def __init__(self, to: Handover) -> None:
        self._taking = _Taking(Signal.LOGS, to)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export, for as long as the handover takes at most."""
        taken = self._taking.take(encode_logs(batch))
        return LogRecordExportResult.SUCCESS if taken else LogRecordExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        """Do nothing: nothing is kept."""
        return True

    def shutdown(self) -> None:
        """Do nothing: nothing is open."""
