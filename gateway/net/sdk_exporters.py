"""The OpenTelemetry SDK's exporters, made for a destination, or for the hub that they run in.

The certificates of a destination are those of the standard variables, which the SDK reads by itself. For the hub itself
requests are encoded as the SDK's exporters encode them, and handed to its pipeline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, overload

from gateway.component.batch import Signal
from gateway.net.destination import Destination, Protocol
from gateway.net.handover import Handover
from gateway.net.proxies import channel_options, is_local

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

    _Make = Callable[..., MetricExporter | LogRecordExporter | SpanExporter]


_SDK_LOGGERS: dict[Protocol, str] = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.metric_exporter",
}


def logger_of(to: Destination) -> str:
    """Return the logger by which the SDK's exporter of metrics says why an export failed."""
    return _SDK_LOGGERS[to.protocol]


@overload
def make_exporter(signal: Literal[Signal.METRICS], to: Destination | Handover) -> MetricExporter: ...
@overload
def make_exporter(signal: Literal[Signal.LOGS], to: Destination | Handover) -> LogRecordExporter: ...
@overload
def make_exporter(signal: Literal[Signal.TRACES], to: Destination | Handover) -> SpanExporter: ...


def make_exporter(signal: Signal, to: Destination | Handover) -> MetricExporter | LogRecordExporter | SpanExporter:
    """Make an exporter, which connects when it first sends."""
    if isinstance(to, Handover):
        return _handing_over(signal)(to)
    headers = dict(to.headers)
    if to.protocol == "grpc":
        insecure = to.endpoint.startswith("http://")
        options: Any = channel_options(to.endpoint)  # the SDK's type allows for text only, gRPC wants a number here
        exporter = _grpc(signal)
        return exporter(to.endpoint, insecure=insecure, headers=headers, timeout=to.timeout, channel_options=options)
    import requests

    session = requests.Session()
    session.trust_env = not is_local(to.endpoint)  # else it would ask the proxy that the environment names
    return _http(signal)(to.endpoint, headers=headers, timeout=to.timeout, session=session)


# Imported only when needed: each of them brings a network stack along.
def _grpc(signal: Signal) -> _Make:
    match signal:
        case Signal.METRICS:
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

            return OTLPMetricExporter
        case Signal.LOGS:
            from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

            return OTLPLogExporter
        case Signal.TRACES:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            return OTLPSpanExporter


def _http(signal: Signal) -> _Make:
    match signal:
        case Signal.METRICS:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

            return OTLPMetricExporter
        case Signal.LOGS:
            from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

            return OTLPLogExporter
        case Signal.TRACES:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            return OTLPSpanExporter


def _handing_over(signal: Signal) -> Callable[[Handover], MetricExporter | LogRecordExporter | SpanExporter]:
    from gateway.net.handover_exporters import HandoverLogs, HandoverMetrics, HandoverSpans

    match signal:
        case Signal.METRICS:
            return HandoverMetrics
        case Signal.LOGS:
            return HandoverLogs
        case Signal.TRACES:
            return HandoverSpans
