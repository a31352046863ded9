"""The shadow schema: OTLP's messages with the parts that repeat left as bytes.

It is wire-compatible with the published ``opentelemetry-proto`` messages, with two differences that make the hot path:

* ``resource``, ``scope`` and every ``attributes`` entry are declared ``bytes``. What they serialize to is the key under
  which what they mean is remembered, so a known one costs a dictionary look-up instead of a decoding.
* Records are declared ``bytes`` too: data points, log records, spans and what repeats inside them. So they are counted
  before they are decoded (two bytes of payload can stand for a record of hundreds), and number points, which all start
  alike, are read thousands at a time (see `metrics`).

Strings stay ``string``, so that the parser refuses invalid UTF-8. A singular sub-message that a sender wrote in several
pieces (legal, and done by no known encoder) counts with its last piece only.
"""

from __future__ import annotations

from typing import Any

from gateway.component import MalformedPayloadError
from gateway.otlp import requests, shadow

_SCHEMA = """
Resource
  attributes = 1 bytes*
  dropped_attributes_count = 2 uint32
  entity_refs = 3 bytes*
Scope
  name = 1 string
  version = 2 string
  attributes = 3 bytes*
  dropped_attributes_count = 4 uint32
NumberPoint
  attributes = 7 bytes*
  start_time_unix_nano = 2 fixed64
  time_unix_nano = 3 fixed64
  as_double = 4 double|value
  as_int = 6 sfixed64|value
  exemplars = 5 bytes*
  flags = 8 uint32
HistogramPoint
  attributes = 9 bytes*
  start_time_unix_nano = 2 fixed64
  time_unix_nano = 3 fixed64
  count = 4 fixed64
  sum = 5 double?
  bucket_counts = 6 fixed64*
  explicit_bounds = 7 double*
  exemplars = 8 bytes*
  flags = 10 uint32
  min = 11 double?
  max = 12 double?
ExponentialHistogramPoint
  attributes = 1 bytes*
  start_time_unix_nano = 2 fixed64
  time_unix_nano = 3 fixed64
  count = 4 fixed64
  sum = 5 double?
  scale = 6 sint32
  zero_count = 7 fixed64
  positive = 8 Buckets
  negative = 9 Buckets
  flags = 10 uint32
  exemplars = 11 bytes*
  min = 12 double?
  max = 13 double?
  zero_threshold = 14 double
Buckets
  offset = 1 sint32
  bucket_counts = 2 uint64*
SummaryPoint
  attributes = 7 bytes*
  start_time_unix_nano = 2 fixed64
  time_unix_nano = 3 fixed64
  count = 4 fixed64
  sum = 5 double
  quantile_values = 6 bytes*
  flags = 8 uint32
ValueAtQuantile
  quantile = 1 double
  value = 2 double
Exemplar
  filtered_attributes = 7 bytes*
  time_unix_nano = 2 fixed64
  as_double = 3 double|value
  as_int = 6 sfixed64|value
  span_id = 4 bytes
  trace_id = 5 bytes
AnyValue
  string_value = 1 string|value
  bool_value = 2 bool|value
  int_value = 3 int64|value
  double_value = 4 double|value
  array_value = 5 bytes|value
  kvlist_value = 6 KeyValueList|value
  bytes_value = 7 bytes|value
  string_value_strindex = 8 int32|value
KeyValueList
  values = 1 bytes*
LogRecord
  time_unix_nano = 1 fixed64
  observed_time_unix_nano = 11 fixed64
  severity_number = 2 int32
  severity_text = 3 string
  body = 5 bytes?
  attributes = 6 bytes*
  dropped_attributes_count = 7 uint32
  flags = 8 fixed32
  trace_id = 9 bytes
  span_id = 10 bytes
  event_name = 12 string
LogRecordName
  time_unix_nano = 1 fixed64
  observed_time_unix_nano = 11 fixed64
  event_name = 12 string
Span
  trace_id = 1 bytes
  span_id = 2 bytes
  trace_state = 3 string
  parent_span_id = 4 bytes
  flags = 16 fixed32
  name = 5 string
  kind = 6 int32
  start_time_unix_nano = 7 fixed64
  end_time_unix_nano = 8 fixed64
  attributes = 9 bytes*
  dropped_attributes_count = 10 uint32
  events = 11 bytes*
  dropped_events_count = 12 uint32
  links = 13 bytes*
  dropped_links_count = 14 uint32
  status = 15 Status
Event
  time_unix_nano = 1 fixed64
  name = 2 string
  attributes = 3 bytes*
  dropped_attributes_count = 4 uint32
Link
  trace_id = 1 bytes
  span_id = 2 bytes
  trace_state = 3 string
  attributes = 4 bytes*
  dropped_attributes_count = 5 uint32
  flags = 6 fixed32
Status
  message = 2 string
  code = 3 int32
"""

_MESSAGES = shadow.messages(requests.SCHEMA + _SCHEMA)

Resource: Any = _MESSAGES["Resource"]
Scope: Any = _MESSAGES["Scope"]
MetricsRequest: Any = _MESSAGES["MetricsRequest"]
NumberPoint: Any = _MESSAGES["NumberPoint"]
HistogramPoint: Any = _MESSAGES["HistogramPoint"]
ExponentialHistogramPoint: Any = _MESSAGES["ExponentialHistogramPoint"]
SummaryPoint: Any = _MESSAGES["SummaryPoint"]
ValueAtQuantile: Any = _MESSAGES["ValueAtQuantile"]
Exemplar: Any = _MESSAGES["Exemplar"]
LogsRequest: Any = _MESSAGES["LogsRequest"]
AnyValue: Any = _MESSAGES["AnyValue"]
LogRecord: Any = _MESSAGES["LogRecord"]
LogRecordName: Any = _MESSAGES["LogRecordName"]
TraceRequest: Any = _MESSAGES["TraceRequest"]
Span: Any = _MESSAGES["Span"]
Event: Any = _MESSAGES["Event"]
Link: Any = _MESSAGES["Link"]

MOST_REPEATED = 800_000
"""How often what is inside a record may repeat. What a request holds in all is weighed by `pipeline.bounds`."""


def counted(repeated: Any, what: str) -> Any:
    """Return a repeated field as it is. Raises `MalformedPayloadError` when it repeats too often to be meant well."""
    if len(repeated) > MOST_REPEATED:
        raise MalformedPayloadError(
            f"the request has {len(repeated)} {what} in one place, of at most {MOST_REPEATED}; send smaller batches"
        )
    return repeated
