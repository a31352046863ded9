"""For how long requests that are large, or odd, hold the event loop at a time.

    python -m tests.bench.stalls [--only NAME]

Each request goes through a pipeline with the exporters that look inside: one that hands on what it checked, and the
Timescale exporter, which encodes and commits nowhere; once as it is and once with a record that is to be mended. What
is told is the CPU time of the longest callback that the event loop ran: how long everybody else waited on a core that
has nothing else to do. ``wall`` is the same by the clock, with what waiting for threads and other processes adds.
"""

from __future__ import annotations

import argparse
import asyncio
import asyncio.events
import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.metrics import NoOpMeter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import NoOpTracer

from exporters.otlp.config import OtlpExporterConfig
from exporters.otlp.exporter import OtlpExporter
from exporters.timescale.config import TimescaleConfig
from exporters.timescale.exporter import TimescaleExporter
from gateway.component import Batch, DeliveryError, Signal
from gateway.pipeline.delivery import Delivery
from gateway.pipeline.instruments import Instruments
from gateway.pipeline.pipeline import Pipeline


def _logs(records: int, attributes: int = 0, *, nested: int = 0, body: int = 90, identities: bool = False) -> bytes:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for number in range(records):
        record = scope.log_records.add(time_unix_nano=time.time_ns(), event_name="e")
        record.body.string_value = "x" * body
        for index in range(attributes):
            record.attributes.add(key=f"attribute.{index}").value.string_value = f"value {number} {index}"
        if identities:
            record.attributes.add(key="log.record.uid").value.string_value = f"{number:024}"
        for index in range(nested):
            record.body.kvlist_value.values.add(key=f"member.{index}").value.string_value = f"value {index}"
    return request.SerializeToString()


def _resource(attributes: int) -> bytes:
    request = ExportLogsServiceRequest()
    owner = request.resource_logs.add()
    for index in range(attributes):
        owner.resource.attributes.add(key=f"attribute.{index}").value.string_value = f"value {index}"
    owner.scope_logs.add().log_records.add(time_unix_nano=time.time_ns())
    return request.SerializeToString()


def _spans(spans: int, events: int, attributes: int = 0) -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(1, spans + 1):
        span = scope.spans.add(name="s", trace_id=number.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"))
        span.start_time_unix_nano = time.time_ns()
        for index in range(events):
            event = span.events.add(name="event", time_unix_nano=time.time_ns())
            event.attributes.add(key="number").value.int_value = index
        for index in range(attributes):
            span.attributes.add(key=f"attribute.{index}").value.string_value = f"value {number} {index}"
    return request.SerializeToString()


def _histogram(points: int, buckets: int) -> bytes:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="h")
    metric.histogram.aggregation_temporality = 2
    for number in range(points):
        point = metric.histogram.data_points.add(time_unix_nano=time.time_ns(), count=buckets)
        point.attributes.add(key="number").value.int_value = number
        point.bucket_counts.extend([1] * buckets)
        point.explicit_bounds.extend(range(buckets - 1))
    return request.SerializeToString()


def _points(metrics: int, points: int, attributes: int = 4) -> bytes:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    for number in range(metrics):
        metric = scope.metrics.add(name=f"m.{number}")
        for index in range(points):
            point = metric.gauge.data_points.add(time_unix_nano=time.time_ns(), as_double=index)
            for each in range(attributes):
                point.attributes.add(key=f"attribute.{each}").value.string_value = f"value {index} {each}"
    return request.SerializeToString()


def _resources(signal: Signal, count: int) -> bytes:
    requests: dict[Signal, Any] = {
        Signal.LOGS: ExportLogsServiceRequest,
        Signal.METRICS: ExportMetricsServiceRequest,
        Signal.TRACES: ExportTraceServiceRequest,
    }
    request = requests[signal]()
    for number in range(count):
        owner = getattr(request, request.DESCRIPTOR.fields[0].name).add()
        owner.resource.attributes.add(key="n").value.int_value = number
        getattr(owner, owner.DESCRIPTOR.fields_by_number[2].name).add()
    return request.SerializeToString()


REQUESTS: dict[str, tuple[Signal, Callable[[], bytes]]] = {
    "logs: 12,000 of 300 bytes": (Signal.LOGS, lambda: _logs(12_000, 8)),
    "logs: 60,000 events with an identity": (Signal.LOGS, lambda: _logs(60_000, 1, identities=True)),
    "logs: 200 with bodies of 20 kB": (Signal.LOGS, lambda: _logs(200, 8, body=20_000)),
    "logs: one with 12,000 attributes": (Signal.LOGS, lambda: _logs(1, 12_000)),
    "logs: one whose body has 12,000 members": (Signal.LOGS, lambda: _logs(1, nested=12_000)),
    "logs: a resource of 12,000 attributes": (Signal.LOGS, lambda: _resource(12_000)),
    "logs: 20 with 2,000 attributes each": (Signal.LOGS, lambda: _logs(20, 2_000)),
    "logs: 30,000 resources without any": (Signal.LOGS, lambda: _resources(Signal.LOGS, 30_000)),
    "spans: 10,000 of 400 bytes": (Signal.TRACES, lambda: _spans(10_000, 1, 8)),
    "spans: one with 7,000 events": (Signal.TRACES, lambda: _spans(1, 7_000)),
    "spans: one with 20,000 events": (Signal.TRACES, lambda: _spans(1, 20_000)),
    "points: 40,000 of new series": (Signal.METRICS, lambda: _points(4, 10_000)),
    "points: 1,000 with 100 attributes each": (Signal.METRICS, lambda: _points(1, 1_000, 100)),
    "metrics: 60,000 of a point each": (Signal.METRICS, lambda: _points(60_000, 1, 0)),
    "metrics: 30,000 resources without any": (Signal.METRICS, lambda: _resources(Signal.METRICS, 30_000)),
    "histograms: one of 40,000 buckets": (Signal.METRICS, lambda: _histogram(1, 40_000)),
    "histograms: one of 100,000 buckets": (Signal.METRICS, lambda: _histogram(1, 100_000)),
    "histograms: 200 of 1,000 buckets": (Signal.METRICS, lambda: _histogram(200, 1_000)),
}


class _Longest:
    """Measures each callback of the event loop. Seconds."""

    def __init__(self) -> None:
        self.cpu = self.wall = self.total = 0.0

    def __enter__(self) -> _Longest:
        self._run = run = asyncio.events.Handle._run

        def measured(handle: Any) -> None:
            cpu, wall = time.thread_time(), time.perf_counter()
            run(handle)
            used = time.thread_time() - cpu
            self.total += used
            self.cpu, self.wall = max(self.cpu, used), max(self.wall, time.perf_counter() - wall)

        asyncio.events.Handle._run = measured  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.events.Handle._run = self._run  # type: ignore[method-assign]


class _Nowhere(TimescaleExporter):
    """Encodes, and commits nowhere."""

    async def start(self) -> None:
        pass

    async def commit(self, prepared: Sequence[Any]) -> list[bool]:
        return [True] * len(prepared)


class _Handing(OtlpExporter):
    """Checks, and hands on to nobody."""

    async def start(self) -> None:
        pass

    async def commit(self, prepared: Sequence[Any]) -> list[bool]:
        return [True]


async def _measure(signal: Signal, payload: bytes) -> tuple[_Longest, str]:
    instruments, tracer = Instruments(NoOpMeter("stalls")), NoOpTracer()
    config = TimescaleConfig.model_validate({"dsn": "host=nowhere.invalid"})
    handing = _Handing("otlp", OtlpExporterConfig.model_validate({"endpoint": "http://nowhere.invalid:4317"}))
    deliveries = [Delivery(exporter, instruments, tracer) for exporter in (_Nowhere("timescale", config, ""), handing)]
    pipeline = Pipeline(dict.fromkeys(Signal, deliveries), 2**30, instruments)
    for delivery in deliveries:
        await delivery.start()
    outcome = ""
    gc.collect()
    gc.freeze()  # as the hub does once it has started
    with _Longest() as longest:
        # In a task of its own, so that its first steps are measured as well.
        try:
            told = await asyncio.create_task(pipeline.accept(await Batch.received(signal, payload)))
            outcome = told.message
        except DeliveryError as error:
            outcome = f"{type(error).__name__}: {error}"
    for delivery in deliveries:
        await delivery.stop()
    return longest, outcome


def _to_be_mended(payload: bytes) -> bytes:
    """Add a resource whose schema URL is no text."""
    return payload + b"\x0a\x04\x1a\x02\xff\xfe"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="Requests whose name begins so.")
    arguments = parser.parse_args()
    for name, (signal, make) in REQUESTS.items():
        if not name.startswith(arguments.only):
            continue
        payload = make()
        for how, sent in (("", payload), (", mended", _to_be_mended(payload))):
            longest, outcome = asyncio.run(_measure(signal, sent))
            print(
                f"{name + how:50} {len(sent) / 2**20:5.1f} MiB  longest {longest.cpu * 1000:5.0f} ms"
                f" (wall {longest.wall * 1000:5.0f}), {longest.total * 1000:6.0f} in all  {outcome[:60]}",
                flush=True,
            )


if __name__ == "__main__":
    main()
