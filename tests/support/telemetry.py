"""Small OTLP requests for tests that are about what becomes of them, not about what they say."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from gateway.component import Batch, Signal

SECOND = 10**9
DAY = 86_400 * SECOND

_span_ids = itertools.count(1)


def now() -> int:
    """The present, in nanoseconds since the Unix epoch."""
    return time.time_ns()


def set_attributes(target: Any, attributes: Mapping[str, str]) -> None:
    for key, value in attributes.items():
        target.add(key=key).value.string_value = value


def gauge(
    values: Sequence[float] | Mapping[int, float] = (1.0,),
    *,
    name: str = "system.cpu.utilization",
    at: int | None = None,
    attributes: Mapping[str, str] | None = None,
    resource: Mapping[str, str] | None = None,
) -> Batch:
    """A gauge with one data point for each value; a mapping gives the time of each."""
    request = ExportMetricsServiceRequest()
    owner = request.resource_metrics.add()
    set_attributes(owner.resource.attributes, resource or {"host.name": "nas", "service.name": "test"})
    scope = owner.scope_metrics.add()
    scope.scope.name = "tests"
    metric = scope.metrics.add(name=name, unit="1")
    first = now() if at is None else at
    points = values if isinstance(values, Mapping) else {first + n: value for n, value in enumerate(values)}
    for unix_nano, value in points.items():
        point = metric.gauge.data_points.add(time_unix_nano=unix_nano, as_double=value)
        set_attributes(point.attributes, attributes or {})
    return Batch.of(Signal.METRICS, request.SerializeToString())


Value = int | float
"""A number point's value, sent as what it is."""


def collection(
    at: int,
    values: Sequence[Value],
    *,
    start: Callable[[int], int] = lambda index: 0,
    host: str = "nas",
    metrics: int = 7,
    names: Iterable[int] | None = None,
) -> Batch:
    """One collection of a host: a series for each value, spread over some metrics."""
    request = ExportMetricsServiceRequest()
    owner = request.resource_metrics.add()
    set_attributes(owner.resource.attributes, {"host.name": host})
    scope = owner.scope_metrics.add()
    by_name: dict[str, Any] = {}
    for index, value in zip(range(len(values)) if names is None else names, values, strict=True):
        name = f"m{index % metrics}" + ("" if start(index) else ".now")
        metric = by_name.get(name)
        if metric is None:
            metric = by_name[name] = scope.metrics.add(name=name)
            if start(index):
                metric.sum.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        data = metric.sum if start(index) else metric.gauge
        point = data.data_points.add(time_unix_nano=at, start_time_unix_nano=start(index))
        set_attributes(point.attributes, {"n": str(index)})
        if isinstance(value, int):
            point.as_int = value
        else:
            point.as_double = value
    return Batch.of(Signal.METRICS, request.SerializeToString())


BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
"""Bounds of a histogram of durations in seconds, as SDKs have them."""


def distribution(kind: str, name: str, **fields: Any) -> Batch:
    """A data point of a histogram, exponential histogram or summary; ``fields`` are its own."""
    message = ExportMetricsServiceRequest()
    owner = message.resource_metrics.add()
    owner.resource.attributes.add(key="host.name").value.string_value = "nas"
    data = getattr(owner.scope_metrics.add().metrics.add(name=name, unit="s"), kind)
    data.data_points.add(**fields)
    return Batch.of(Signal.METRICS, message.SerializeToString())


def histogram(
    at: int, bounds: Sequence[float] = BOUNDS, counts: Sequence[int] | None = None, name: str = "latency"
) -> Batch:
    given = list(range(len(bounds) + 1)) if counts is None else counts
    total = sum(given) % 2**63
    return distribution(
        "histogram", name, time_unix_nano=at, count=total, sum=1.5, explicit_bounds=bounds, bucket_counts=given
    )


def summary(at: int, quantiles: Sequence[float], name: str = "gc") -> Batch:
    values = [{"quantile": quantile, "value": quantile * 7} for quantile in quantiles]
    return distribution("summary", name, time_unix_nano=at, count=3, sum=2.0, quantile_values=values)


def exponential_histogram(at: int, counts: Sequence[int]) -> Batch:
    return distribution(
        "exponential_histogram", "sizes", time_unix_nano=at, count=3, scale=2,
        positive={"offset": -1, "bucket_counts": counts}, negative={"offset": 4, "bucket_counts": [1, *counts]},
    )  # fmt: skip


def logs(
    *bodies: str, at: int | None = None, observed: int = 0, resource: Mapping[str, str] | None = None, event: str = ""
) -> Batch:
    """Log records with these bodies."""
    request = ExportLogsServiceRequest()
    owner = request.resource_logs.add()
    set_attributes(owner.resource.attributes, resource or {"host.name": "nas"})
    scope = owner.scope_logs.add()
    for body in bodies:
        record = scope.log_records.add(
            time_unix_nano=now() if at is None else at, observed_time_unix_nano=observed, event_name=event
        )
        record.body.string_value = body
    return Batch.of(Signal.LOGS, request.SerializeToString())


def spans(*names: str, at: int | None = None, resource: Mapping[str, str] | None = None, **fields: Any) -> Batch:
    """Spans with these names."""
    request = ExportTraceServiceRequest()
    owner = request.resource_spans.add()
    set_attributes(owner.resource.attributes, resource or {"host.name": "nas"})
    scope = owner.scope_spans.add()
    for name in names:
        start = now() if at is None else at
        own = {
            "trace_id": bytes(15) + b"\1",
            "span_id": next(_span_ids).to_bytes(8, "big"),
            "start_time_unix_nano": start,
            "end_time_unix_nano": start + 1_500_000,
        }
        scope.spans.add(name=name, **own | fields)
    return Batch.of(Signal.TRACES, request.SerializeToString())
