"""Requests as far as their records, which stay bytes: for who counts, checks, cuts or encodes them.

``resource`` and ``scope`` stay bytes, too; strings are strings, so that the parser refuses invalid UTF-8. Fields have
their names of ``opentelemetry-proto``. What adds messages of its own makes them by ``shadow.messages(SCHEMA + …)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from gateway.component.batch import Signal
from gateway.otlp import shadow

SCHEMA = """
LogsRequest
  resource_logs = 1 ResourceLogs*
ResourceLogs
  resource = 1 bytes?
  scope_logs = 2 ScopeLogs*
  schema_url = 3 string
ScopeLogs
  scope = 1 bytes?
  log_records = 2 bytes*
  schema_url = 3 string
TraceRequest
  resource_spans = 1 ResourceSpans*
ResourceSpans
  resource = 1 bytes?
  scope_spans = 2 ScopeSpans*
  schema_url = 3 string
ScopeSpans
  scope = 1 bytes?
  spans = 2 bytes*
  schema_url = 3 string
MetricsRequest
  resource_metrics = 1 ResourceMetrics*
ResourceMetrics
  resource = 1 bytes?
  scope_metrics = 2 ScopeMetrics*
  schema_url = 3 string
ScopeMetrics
  scope = 1 bytes?
  metrics = 2 Metric*
  schema_url = 3 string
Metric
  name = 1 string
  description = 2 string
  unit = 3 string
  gauge = 5 Points|data
  sum = 7 Points|data
  histogram = 9 Points|data
  exponential_histogram = 10 Points|data
  summary = 11 Points|data
  metadata = 12 bytes*
Points
  data_points = 1 bytes*
  aggregation_temporality = 2 int32
  is_monotonic = 3 bool
"""

_MESSAGES = shadow.messages(SCHEMA)

LogsRequest: Any = _MESSAGES["LogsRequest"]
TraceRequest: Any = _MESSAGES["TraceRequest"]
MetricsRequest: Any = _MESSAGES["MetricsRequest"]

REQUESTS: dict[Signal, Any] = {
    Signal.LOGS: LogsRequest,
    Signal.TRACES: TraceRequest,
    Signal.METRICS: MetricsRequest,
}


class Levels(NamedTuple):
    """The fields that lead from a request to its records, which for metrics are in the data of a metric."""

    resources: str
    scopes: str
    records: str


LEVELS = {
    Signal.LOGS: Levels("resource_logs", "scope_logs", "log_records"),
    Signal.TRACES: Levels("resource_spans", "scope_spans", "spans"),
    Signal.METRICS: Levels("resource_metrics", "scope_metrics", "metrics"),
}


def scopes_of(request: Any, signal: Signal) -> Iterator[Any]:
    """Yield what holds the records of each scope of a request."""
    levels = LEVELS[signal]
    for resource in getattr(request, levels.resources):
        yield from getattr(resource, levels.scopes)
