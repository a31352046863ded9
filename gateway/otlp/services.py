"""The three OTLP services, one for each signal: their names on the wire and their messages.

Source: ``opentelemetry/proto/collector/{trace,metrics,logs}/v1/*_service.proto`` and the OTLP specification,
"OTLP/HTTP Request".
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from gateway.component.batch import Signal
from gateway.component.interfaces import Outcome


@dataclass(slots=True, frozen=True)
class Service:
    """One signal's OTLP service."""

    signal: Signal
    grpc_name: str
    http_path: str
    request: type[Message]
    response: type[Message]
    rejected_field: str
    """The field of ``partial_success`` that counts rejected records."""

    def answer(self, outcome: Outcome) -> Message:
        """Make the response to an accepted batch; ``partial_success`` is set only when there is something to say."""
        if not outcome.rejected and not outcome.message:
            return self.response()
        partial_success = {self.rejected_field: outcome.rejected, "error_message": outcome.message}
        return self.response(partial_success=partial_success)


SERVICES = {
    service.signal: service
    for service in (
        Service(
            Signal.TRACES,
            "opentelemetry.proto.collector.trace.v1.TraceService",
            "/v1/traces",
            ExportTraceServiceRequest,
            ExportTraceServiceResponse,
            "rejected_spans",
        ),
        Service(
            Signal.METRICS,
            "opentelemetry.proto.collector.metrics.v1.MetricsService",
            "/v1/metrics",
            ExportMetricsServiceRequest,
            ExportMetricsServiceResponse,
            "rejected_data_points",
        ),
        Service(
            Signal.LOGS,
            "opentelemetry.proto.collector.logs.v1.LogsService",
            "/v1/logs",
            ExportLogsServiceRequest,
            ExportLogsServiceResponse,
            "rejected_log_records",
        ),
    )
}
"""Every service, by signal."""
