"""Arbitrary valid OTLP requests, for property tests of whatever stores or forwards them.

Everything a message of the published schema can say is generated, except what the store documents as not kept: NUL
characters, counts above 2^63-1, fields of the profiles signal, containers without any record, attributes that come
twice, the bits of a NaN inside an attribute; and two points of one series at the same nanosecond.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    EntityRef,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Exemplar,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
    Summary,
    SummaryDataPoint,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tests.support.canonical import normal_attributes

Strategy = st.SearchStrategy

DAYS_BACK = 2
"""How far back the timestamps of records reach; an exporter under test must accept that."""

_DAY = 86_400 * 10**9
_NOW = time.time_ns()
_MAX_U32, _MAX_U64 = 2**32 - 1, 2**64 - 1
_MAX_I32, _MAX_I64 = 2**31 - 1, 2**63 - 1

# -- scalars -----------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
int32 = st.integers(-_MAX_I32 - 1, _MAX_I32)
int64 = (
    st.integers(-5, 5) | st.sampled_from([-_MAX_I64 - 1, _MAX_I64, 2**53 + 1]) | st.integers(-_MAX_I64 - 1, _MAX_I64)
)
uint32 = st.just(0) | st.integers(0, 3) | st.just(_MAX_U32) | st.integers(0, _MAX_U32)
counts = st.integers(0, 10) | st.integers(0, _MAX_I64) | st.just(_MAX_I64)
doubles = (
    st.sampled_from([0.0, -0.0, 5.0, 1e16, 1e22, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf")])
    | st.floats(allow_nan=False)
    | st.just(float("nan"))
)
record_times = st.integers(_NOW - DAYS_BACK * _DAY, _NOW)
any_times = st.just(0) | record_times | st.sampled_from([1, 999, 1_000, _MAX_U64]) | st.integers(0, _MAX_U64)


def _not_zero(size: int) -> Strategy[bytes]:
    return st.binary(min_size=size, max_size=size).filter(any)


# An id of zeros, or of another length, is none: it is left out.
trace_ids = st.just(b"") | _not_zero(16)
span_ids = st.just(b"") | _not_zero(8)
enums = st.integers(0, 6) | int32
"""Numbers of an enumeration; those that no version defines yet must pass as well."""


def optional(strategy: Strategy[Any]) -> Strategy[Any]:
    """Generate None, which leaves a field unset, or a value."""
    return st.none() | strategy


# -- attributes and values ---------------------------------------------------------------------------------------------

keys = st.sampled_from(["", "$", "$bytes", "$double", "$kvlist", "a", "host.name", "service.name"]) | texts


def key_values(values: Strategy[AnyValue], max_size: int) -> Strategy[list[KeyValue]]:
    pairs = st.builds(KeyValue, key=keys, value=values)
    return st.lists(pairs, max_size=max_size, unique_by=lambda pair: pair.key)


_scalars = (
    st.just(AnyValue())
    | st.builds(AnyValue, string_value=texts)
    | st.builds(AnyValue, bool_value=st.booleans())
    | st.builds(AnyValue, int_value=int64)
    | st.builds(AnyValue, double_value=doubles)
    | st.builds(AnyValue, bytes_value=st.binary(max_size=20))
)


def _containers(values: Strategy[AnyValue]) -> Strategy[AnyValue]:
    arrays = st.builds(ArrayValue, values=st.lists(values, max_size=3))
    maps = st.builds(KeyValueList, values=key_values(values, 3))
    return st.builds(AnyValue, array_value=arrays) | st.builds(AnyValue, kvlist_value=maps)


any_values: Strategy[AnyValue] = st.recursive(_scalars, _containers, max_leaves=6)
attributes = key_values(any_values, 4)

# -- resources and scopes ----------------------------------------------------------------------------------------------

_entity_refs = st.builds(
    EntityRef,
    schema_url=texts,
    type=texts,
    id_keys=st.lists(texts, max_size=2),
    description_keys=st.lists(texts, max_size=2),
)
resources = st.builds(
    Resource,
    attributes=attributes,
    dropped_attributes_count=uint32,
    entity_refs=st.just([]) | st.lists(_entity_refs, max_size=2),
)
scopes = st.builds(
    InstrumentationScope, name=texts, version=texts, attributes=attributes, dropped_attributes_count=uint32
)


def _some(strategy: Strategy[Any], most: int) -> Strategy[list[Any]]:
    return st.lists(strategy, min_size=1, max_size=most)


def _request(request: type[Any], resource_type: type[Any], scope_type: type[Any], **records: Strategy[Any]) -> Any:
    """Put records into scopes, and scopes into resources, each of which may be absent or present but empty."""
    signal = request.DESCRIPTOR.fields[0].name
    its_scopes = scope_type.DESCRIPTOR.name
    scope_field = {"ScopeMetrics": "scope_metrics", "ScopeLogs": "scope_logs", "ScopeSpans": "scope_spans"}[its_scopes]
    scoped = st.builds(
        scope_type, scope=optional(st.just(InstrumentationScope()) | scopes), schema_url=texts, **records
    )
    owned = st.builds(
        resource_type,
        resource=optional(st.just(Resource()) | resources),
        schema_url=texts,
        **{scope_field: _some(scoped, 2)},
    )
    return st.builds(request, **{signal: _some(owned, 2)})


# -- metrics -----------------------------------------------------------------------------------------------------------


def _with_value(message: type[Any], no_value: bool, **fields: Strategy[Any]) -> Strategy[Any]:
    values = st.builds(message, as_double=doubles, **fields) | st.builds(message, as_int=int64, **fields)
    return values | st.builds(message, **fields) if no_value else values


exemplars = _with_value(
    Exemplar,
    True,
    filtered_attributes=attributes,
    time_unix_nano=any_times,
    span_id=span_ids,
    trace_id=trace_ids,
)
_some_exemplars: Strategy[list[Exemplar]] = st.just([]) | st.lists(exemplars, max_size=2)
_point: dict[str, Strategy[Any]] = {
    "attributes": attributes,
    "start_time_unix_nano": any_times,
    "time_unix_nano": record_times,
    "flags": st.just(0) | uint32,
}
_range = {name: optional(st.just(0.0) | doubles) for name in ("sum", "min", "max")}

number_points = (
    # What nearly every sender sends, and what therefore has a path of its own through the exporter.
    _with_value(NumberDataPoint, False, attributes=attributes, time_unix_nano=record_times)
    | _with_value(
        NumberDataPoint, False, attributes=attributes, start_time_unix_nano=record_times, time_unix_nano=record_times
    )
    | _with_value(NumberDataPoint, True, exemplars=_some_exemplars, **_point)
)
histogram_points = st.builds(
    HistogramDataPoint,
    count=counts,
    bucket_counts=st.lists(counts, max_size=4),
    explicit_bounds=st.lists(doubles, max_size=4),
    exemplars=_some_exemplars,
    **_point,
    **_range,
)
_buckets = st.builds(
    ExponentialHistogramDataPoint.Buckets, offset=st.just(0) | int32, bucket_counts=st.lists(counts, max_size=4)
)
exponential_histogram_points = st.builds(
    ExponentialHistogramDataPoint,
    count=counts,
    scale=int32,
    zero_count=counts,
    zero_threshold=st.just(0.0) | doubles,
    positive=optional(_buckets),
    negative=optional(_buckets),
    exemplars=_some_exemplars,
    **_point,
    **_range,
)
summary_points = st.builds(
    SummaryDataPoint,
    count=counts,
    sum=doubles,
    quantile_values=st.lists(st.builds(SummaryDataPoint.ValueAtQuantile, quantile=doubles, value=doubles), max_size=3),
    **_point,
)
_data = st.one_of(
    st.builds(Gauge, data_points=_some(number_points, 4)),
    st.builds(Sum, data_points=_some(number_points, 4), aggregation_temporality=enums, is_monotonic=st.booleans()),
    st.builds(Histogram, data_points=_some(histogram_points, 2), aggregation_temporality=enums),
    st.builds(ExponentialHistogram, data_points=_some(exponential_histogram_points, 2), aggregation_temporality=enums),
    st.builds(Summary, data_points=_some(summary_points, 2)),
)
_DATA_FIELDS = {
    Gauge: "gauge",
    Sum: "sum",
    Histogram: "histogram",
    ExponentialHistogram: "exponential_histogram",
    Summary: "summary",
}
metrics = st.builds(
    # A description does not identify a metric: one that differed from that of an earlier request would not be kept.
    lambda data, name, **fields: Metric(name=name, description=name, **fields, **{_DATA_FIELDS[type(data)]: data}),
    _data,
    name=st.sampled_from(["", "system.cpu.utilization"]) | texts,
    unit=texts,
    metadata=st.just([]) | attributes,
)


def points_of(request: ExportMetricsServiceRequest) -> Iterable[tuple[Metric, Any]]:
    """Yield every data point of a request with its metric."""
    for resource_metrics in request.resource_metrics:
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                for point in getattr(metric, metric.WhichOneof("data") or "").data_points:
                    yield metric, point


def _set_apart(request: ExportMetricsServiceRequest) -> ExportMetricsServiceRequest:
    """Give points that might be of one series at one time different times."""
    seen: set[Hashable] = set()
    for metric, point in points_of(request):
        series = (metric.name, normal_attributes(point.attributes))
        while (series, point.time_unix_nano) in seen:
            point.time_unix_nano -= 1
        seen.add((series, point.time_unix_nano))
    return request


metrics_requests: Strategy[ExportMetricsServiceRequest] = _request(
    ExportMetricsServiceRequest, ResourceMetrics, ScopeMetrics, metrics=_some(metrics, 3)
).map(_set_apart)

# -- logs --------------------------------------------------------------------------------------------------------------

_log: dict[str, Strategy[Any]] = {
    "severity_number": enums,
    "severity_text": texts,
    "body": optional(any_values),
    "attributes": attributes,
    "dropped_attributes_count": uint32,
    "flags": uint32,
    "trace_id": trace_ids,
    "span_id": span_ids,
    "event_name": st.just("") | texts,
}
log_records = (
    st.builds(LogRecord, time_unix_nano=record_times, observed_time_unix_nano=any_times, **_log)
    | st.builds(LogRecord, observed_time_unix_nano=record_times, **_log)
    | st.builds(LogRecord, **_log)
)
logs_requests: Strategy[ExportLogsServiceRequest] = _request(
    ExportLogsServiceRequest, ResourceLogs, ScopeLogs, log_records=_some(log_records, 3)
)

# -- traces ------------------------------------------------------------------------------------------------------------


_events = st.builds(
    Span.Event, time_unix_nano=any_times, name=texts, attributes=attributes, dropped_attributes_count=uint32
)
_links = st.builds(
    Span.Link,
    trace_id=trace_ids,
    span_id=span_ids,
    trace_state=texts,
    attributes=attributes,
    dropped_attributes_count=uint32,
    flags=uint32,
)
spans = st.builds(
    Span,
    trace_id=_not_zero(16),
    span_id=_not_zero(8),
    trace_state=texts,
    parent_span_id=span_ids,
    flags=uint32,
    name=texts,
    kind=enums,
    start_time_unix_nano=record_times,
    end_time_unix_nano=any_times,
    attributes=attributes,
    dropped_attributes_count=uint32,
    events=st.just([]) | st.lists(_events, max_size=2),
    dropped_events_count=uint32,
    links=st.just([]) | st.lists(_links, max_size=2),
    dropped_links_count=uint32,
    status=optional(st.builds(Status, code=enums, message=texts)),
)
trace_requests: Strategy[ExportTraceServiceRequest] = _request(
    ExportTraceServiceRequest, ResourceSpans, ScopeSpans, spans=_some(spans, 3)
)

REQUESTS: dict[str, Callable[[], Strategy[Any]]] = {
    "metrics": lambda: metrics_requests,
    "logs": lambda: logs_requests,
    "traces": lambda: trace_requests,
}
"""The strategy of each signal's requests, by the signal's name."""
