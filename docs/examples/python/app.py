"""A shop that takes three orders, and tells by OpenTelemetry how that went."""

import time

from opentelemetry import metrics, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

# Who is speaking. OTEL_RESOURCE_ATTRIBUTES adds to it, such as deployment.environment.name=test.
resource = Resource.create({"service.name": "shop", "service.version": "1.0"})

# Three signals, each batched in the background and sent to OTEL_EXPORTER_OTLP_ENDPOINT, or http://localhost:4317.
traces = TracerProvider(resource=resource)
traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(traces)

meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource=resource)
metrics.set_meter_provider(meters)

logs = LoggerProvider(resource=resource)
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))

# What the program itself uses.
log = logs.get_logger("shop")
tracer = trace.get_tracer("shop")
meter = metrics.get_meter("shop")
orders = meter.create_counter("orders", unit="{order}", description="Orders taken")
duration = meter.create_histogram("order.duration", unit="s", description="How long an order takes")


def take_order(number: int) -> None:
    """Take one order: a span with a step in it, an event that belongs to them, a count and a duration."""
    began = time.monotonic()
    with tracer.start_as_current_span("take order", attributes={"order.number": number}):
        with tracer.start_as_current_span("charge"):
            time.sleep(0.05)
        orders.add(1, {"order.kind": "book"})
        log.emit(
            LogRecord(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.INFO,
                severity_text="INFO",
                body=f"took order {number}",
                event_name="order.taken",  # with a name, it is an event
                attributes={"order.number": number},
            )
        )
    duration.record(time.monotonic() - began)


def main() -> None:
    """Take some orders, and send what is still waiting before the end."""
    try:
        for number in range(1, 4):
            take_order(number)
    finally:
        for provider in (traces, meters, logs):
            provider.shutdown()


if __name__ == "__main__":
    main()
