"""How many records a serialized request carries, without decoding any of them, and whether they carry a time."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from gateway.component.batch import Batch, Signal
from gateway.component.errors import MalformedPayloadError
from gateway.otlp import requests, shadow

_TIMED = shadow.messages("""
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
    try:
        request: Any = requests.REQUESTS[batch.signal].FromString(batch.payload)
    except DecodeError as error:
        raise MalformedPayloadError(f"the body is not a valid request of {batch.signal.value}: {error}") from error
    field = requests.LEVELS[batch.signal].records
    records = (getattr(scope, field) for scope in requests.scopes_of(request, batch.signal))
    if batch.signal is Signal.METRICS:
        return sum(_points(metric) for metrics in records for metric in metrics)
    return sum(map(len, records))


def count_readable(batch: Batch) -> int:
    """Return how many records a batch carries, as far as can be seen: none when it is no request of its signal."""
    try:
        return count_records(batch)
    except MalformedPayloadError:
        return 0


def _points(metric: Any) -> int:
    kind = metric.WhichOneof("data")
    return len(getattr(metric, kind).data_points) if kind else 0


def has_timestamp(batch: Batch) -> bool:
    """Tell whether any record of a batch carries a timestamp: without one, two equal batches may be two batches.

    Only log records can do without: a data point or a span has a time.
    """
    if batch.signal is not Signal.LOGS:
        return True
    try:
        request: Any = _TIMED["TimedLogsRequest"].FromString(batch.payload)
    except DecodeError:
        return True
    return any(
        record.time or record.observed
        for resource in request.resources
        for scope in resource.scopes
        for record in scope.records
    )
