"""The shadow schemas that processors read by: as deep as any of them looks, and not deeper.

Records are bytes in their request, and so stay as they came where nobody changes them. One that is changed is read by
the schema of its kind, which knows its attributes and what conditions ask for; all else is carried along.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from gateway.component.batch import Signal
from gateway.otlp import shadow

_MESSAGES = shadow.messages("""
RecordsRequest
  resources = 1 ResourceRecords*
ResourceRecords
  resource = 1 bytes?
  scopes = 2 ScopeRecords*
ScopeRecords
  scope = 1 bytes?
  records = 2 bytes*
MetricsRequest
  resources = 1 ResourceMetrics*
ResourceMetrics
  resource = 1 bytes?
  scopes = 2 ScopeMetrics*
ScopeMetrics
  scope = 1 bytes?
  records = 2 Metric*
Metric
  name = 1 string
  description = 2 string
  unit = 3 string
  gauge = 5 Points|data
  sum = 7 Points|data
  histogram = 9 Points|data
  exponential_histogram = 10 Points|data
  summary = 11 Points|data
  metadata = 12 KeyValue*
Points
  points = 1 bytes*
KeyValue
  key = 1 string
  value = 2 bytes?
Resource
  attributes = 1 KeyValue*
  dropped_attributes_count = 2 uint32
Scope
  name = 1 string
  version = 2 string
  attributes = 3 KeyValue*
  dropped_attributes_count = 4 uint32
LogRecord
  time = 1 fixed64
  severity_number = 2 int32
  severity_text = 3 string
  body = 5 bytes?
  attributes = 6 KeyValue*
  dropped_attributes_count = 7 uint32
  flags = 8 fixed32
  trace_id = 9 bytes
  span_id = 10 bytes
  observed_time = 11 fixed64
  event_name = 12 string
Span
  trace_id = 1 bytes
  span_id = 2 bytes
  trace_state = 3 string
  parent_span_id = 4 bytes
  name = 5 string
  kind = 6 int32
  start_time = 7 fixed64
  end_time = 8 fixed64
  attributes = 9 KeyValue*
  dropped_attributes_count = 10 uint32
  events = 11 Event*
  dropped_events_count = 12 uint32
  links = 13 Link*
  dropped_links_count = 14 uint32
  status = 15 Status
  flags = 16 fixed32
Event
  time = 1 fixed64
  name = 2 string
  attributes = 3 KeyValue*
  dropped_attributes_count = 4 uint32
Link
  trace_id = 1 bytes
  span_id = 2 bytes
  trace_state = 3 string
  attributes = 4 KeyValue*
  dropped_attributes_count = 5 uint32
  flags = 6 fixed32
Status
  message = 2 string
  code = 3 int32
NumberPoint
  start_time = 2 fixed64
  time = 3 fixed64
  as_double = 4 fixed64|value
  exemplars = 5 Exemplar*
  as_int = 6 fixed64|value
  attributes = 7 KeyValue*
  flags = 8 uint32
HistogramPoint
  start_time = 2 fixed64
  time = 3 fixed64
  exemplars = 8 Exemplar*
  attributes = 9 KeyValue*
ExponentialHistogramPoint
  attributes = 1 KeyValue*
  start_time = 2 fixed64
  time = 3 fixed64
  exemplars = 11 Exemplar*
SummaryPoint
  start_time = 2 fixed64
  time = 3 fixed64
  attributes = 7 KeyValue*
Exemplar
  time = 2 fixed64
  as_double = 3 fixed64|value
  span_id = 4 bytes
  trace_id = 5 bytes
  as_int = 6 fixed64|value
  filtered_attributes = 7 KeyValue*
AnyValue
  string_value = 1 string|value
  bool_value = 2 bool|value
  int_value = 3 int64|value
  double_value = 4 double|value
  array_value = 5 ArrayValue|value
  kvlist_value = 6 KeyValueList|value
  bytes_value = 7 bytes|value
ArrayValue
  values = 1 bytes*
KeyValueList
  values = 1 KeyValue*
""")
# Every field of a number point has its place, so that one that is changed is written in the order of the SDKs, which
# the store reads quickest.

REQUESTS: dict[Signal, Any] = {
    Signal.LOGS: _MESSAGES["RecordsRequest"],
    Signal.TRACES: _MESSAGES["RecordsRequest"],
    Signal.METRICS: _MESSAGES["MetricsRequest"],
}
RESOURCE: Any = _MESSAGES["Resource"]
SCOPE: Any = _MESSAGES["Scope"]
LOG_RECORD: Any = _MESSAGES["LogRecord"]
SPAN: Any = _MESSAGES["Span"]
ANY_VALUE: Any = _MESSAGES["AnyValue"]
KEY_VALUE: Any = _MESSAGES["KeyValue"]

POINTS: dict[str, Any] = {
    "gauge": _MESSAGES["NumberPoint"],
    "sum": _MESSAGES["NumberPoint"],
    "histogram": _MESSAGES["HistogramPoint"],
    "exponential_histogram": _MESSAGES["ExponentialHistogramPoint"],
    "summary": _MESSAGES["SummaryPoint"],
}
"""The data points of a metric, by the field of the metric that holds them."""

PUBLISHED: dict[Any, Any] = {
    RESOURCE: resource_pb2.Resource.DESCRIPTOR,
    SCOPE: common_pb2.InstrumentationScope.DESCRIPTOR,
    LOG_RECORD: logs_pb2.LogRecord.DESCRIPTOR,
    SPAN: trace_pb2.Span.DESCRIPTOR,
    _MESSAGES["NumberPoint"]: metrics_pb2.NumberDataPoint.DESCRIPTOR,
    _MESSAGES["HistogramPoint"]: metrics_pb2.HistogramDataPoint.DESCRIPTOR,
    _MESSAGES["ExponentialHistogramPoint"]: metrics_pb2.ExponentialHistogramDataPoint.DESCRIPTOR,
    _MESSAGES["SummaryPoint"]: metrics_pb2.SummaryDataPoint.DESCRIPTOR,
}
"""The published message that each stands for, by which its parts are counted."""
