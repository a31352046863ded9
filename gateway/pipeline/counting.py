"""How many records a serialized request carries, without decoding any of them."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from gateway.pipeline import shadow
from gateway.pipeline.batch import Batch, Signal
from gateway.pipeline.errors import MalformedPayloadError

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
