"""How many records a serialized request carries, without decoding any of them, and whether they carry a time."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from gateway.component.batch import Batch, Signal
from gateway.component.errors import MalformedPayloadError
from gateway.otlp import shadow

_MESSAGES = shadow.messages("""
LogsRequest
  resources = 1 ResourceLogs*
ResourceLogs
  resource = 1 bytes
  scopes = 2 ScopeLogs*
ScopeLogs
  scope = 1 bytes
  records = 2 bytes*
TracesRequest
  resources = 1 ResourceSpans*
ResourceSpans
  resource = 1 bytes
  scopes = 2 ScopeSpans*
ScopeSpans
  scope = 1 bytes
  records = 2 bytes*
MetricsRequest
  resources = 1 ResourceMetrics*
ResourceMetrics
  resource = 1 bytes
  scopes = 2 ScopeMetrics*
ScopeMetrics
  scope = 1 bytes
  metrics = 2 Metric*
Metric
  gauge = 5 Points|data
  sum = 7 Points|data
  histogram = 9 Points|data
  exponential_histogram = 10 Points|data
  summary = 11 Points|data
Points
  points = 1 bytes*
TimedLogsRequest
  resources = 1 TimedResourceLogs*
TimedResourceLogs
  scopes = 2 TimedScopeLogs*
TimedScopeLogs
  records = 2 TimedRecord*
TimedRecord
  time = 1 fixed64
  observed = 11 fixed64
""")


def count_records(batch: Batch) -> int:
    """Return how many data points, log records or spans a batch carries.

    Raises `MalformedPayloadError` when it is no request of its signal.
    """
    name = f"{batch.signal.value.capitalize()}Request"
    try:
        request: Any = _MESSAGES[name].FromString(batch.payload)
    except DecodeError as error:
        raise MalformedPayloadError(f"the body is not a valid request of {batch.signal.value}: {error}") from error
    scopes = (scope for resource in request.resources for scope in resource.scopes)
    if batch.signal is Signal.METRICS:
        return sum(_points(metric) for scope in scopes for metric in scope.metrics)
    return sum(len(scope.records) for scope in scopes)


def _points(metric: Any) -> int:
    kind = metric.WhichOneof("data")
    return len(getattr(metric, kind).points) if kind else 0


def has_timestamp(batch: Batch) -> bool:
    """Tell whether any record of a batch carries a timestamp: without one, two equal batches may be two batches.

    Only log records can do without: a data point or a span has a time.
    """
    if batch.signal is not Signal.LOGS:
        return True
    try:
        request: Any = _MESSAGES["TimedLogsRequest"].FromString(batch.payload)
    except DecodeError:
        return True
    return any(
        record.time or record.observed
        for resource in request.resources
        for scope in resource.scopes
        for record in scope.records
    )
