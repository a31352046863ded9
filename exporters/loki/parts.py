"""Requests taken apart by their log records, which themselves are not decoded.

Whatever a request carries besides records goes with each part. Parts put one after the other are a request again, for
such is a protobuf message whose fields are all repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError

from gateway.pipeline import shadow

_MESSAGES = shadow.messages("""
Request
  resource_logs = 1 ResourceLogs*
ResourceLogs
  resource = 1 bytes?
  scope_logs = 2 ScopeLogs*
  schema_url = 3 string
ScopeLogs
  scope = 1 bytes?
  log_records = 2 bytes*
  schema_url = 3 string
LogRecord
  time_unix_nano = 1 fixed64
  body = 5 bytes
  observed_time_unix_nano = 11 fixed64
""")
_Request: Any = _MESSAGES["Request"]
_LogRecord: Any = _MESSAGES["LogRecord"]

_LAST = 2**64 - 1
"""The last nanosecond that a record can have."""


def count(payload: bytes) -> int:
    """Return how many log records a request carries."""
    return sum(len(scope.log_records) for scope in _scopes(_Request.FromString(payload)))


def halves(payload: bytes) -> tuple[bytes, bytes] | None:
    """Return two requests with half of the records each, in order; ``None`` when there are not two records."""
    request = _Request.FromString(payload)
    records = sum(len(scope.log_records) for scope in _scopes(request))
    if records < 2:
        return None
    return _part(request, 0, records // 2), _part(request, records // 2, records)


def _part(request: Any, start: int, end: int) -> bytes:
    """Return the request of the records from ``start`` to before ``end``, counted over all scopes."""
    part = _Request()
    at = 0
    for resource_logs in request.resource_logs:
        of_resource = None
        for scope_logs in resource_logs.scope_logs:
            size = len(scope_logs.log_records)
            records = scope_logs.log_records[max(start - at, 0) : max(end - at, 0)]
            at += size
            if not records:
                continue
            if of_resource is None:
                of_resource = part.resource_logs.add(schema_url=resource_logs.schema_url)
                if resource_logs.HasField("resource"):
                    of_resource.resource = resource_logs.resource
            of_scope = of_resource.scope_logs.add(schema_url=scope_logs.schema_url, log_records=records)
            if scope_logs.HasField("scope"):
                of_scope.scope = scope_logs.scope
    return bytes(part.SerializeToString())


def set_apart(payload: bytes) -> bytes:
    """Return a request in which no two records are equal in timestamp and body.

    Where some are, all but the first are moved to the next nanosecond that is free. The same request is changed in the
    same way each time. Records without a timestamp, which Loki gives its own, stay as they are, and so do those that
    cannot be read: Loki says what it makes of them.
    """
    request = _Request.FromString(payload)
    taken: dict[tuple[int, bytes], int] = {}
    changed = False
    for scope_logs in _scopes(request):
        for index, raw in enumerate(scope_logs.log_records):
            try:
                record = _LogRecord.FromString(raw)
            except DecodeError:
                continue
            field = "time_unix_nano" if record.time_unix_nano else "observed_time_unix_nano"
            own = getattr(record, field)
            if not own:
                continue
            at = _take(taken, own, record.body)
            if own < at <= _LAST:
                setattr(record, field, at)
                scope_logs.log_records[index] = record.SerializeToString()
                changed = True
    return bytes(request.SerializeToString()) if changed else payload


def _take(taken: dict[tuple[int, bytes], int], at: int, body: bytes) -> int:
    """Take the first nanosecond from ``at`` on that is free for a body, and return it.

    ``taken`` leads from each that is not free towards one that may be. What was gone through leads straight there
    afterwards: a batch may consist of one record a hundred thousand times.
    """
    through = []
    while (further := taken.get((at, body))) is not None:
        through.append(at)
        at = further
    for each in (*through, at):
        taken[each, body] = at + 1
    return at


def _scopes(request: Any) -> Iterator[Any]:
    return (scope for resource in request.resource_logs for scope in resource.scope_logs)
