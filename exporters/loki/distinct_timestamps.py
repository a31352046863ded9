"""Records that are equal in timestamp and body, set apart from each other: Loki keeps one of such."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from gateway.component import Signal
from gateway.otlp import shadow
from gateway.otlp.requests import LogsRequest, scopes_of

_MESSAGES = shadow.messages("""
LogRecord
  time_unix_nano = 1 fixed64
  body = 5 bytes
  observed_time_unix_nano = 11 fixed64
""")
_LogRecord: Any = _MESSAGES["LogRecord"]

_LAST = 2**64 - 1
"""The last nanosecond that a record can have."""


def with_distinct_timestamps(payload: bytes) -> bytes:
    """Return a request in which no two records are equal in timestamp and body.

    Where some are, all but the first are moved to the next nanosecond that is free. The same request is changed in the
    same way each time. Records without a timestamp, which Loki gives its own, stay as they are, and so do those that
    cannot be read: Loki says what it makes of them.
    """
    request = LogsRequest.FromString(payload)
    taken: dict[tuple[int, bytes], int] = {}
    changed = False
    for scope_logs in scopes_of(request, Signal.LOGS):
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
