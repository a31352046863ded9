"""Traces of the store."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypedDict

from gateway.base.instants import iso_time
from gateway.query.backwards import Backwards
from gateway.query.store import Store

_LONGEST = timedelta(days=1)
MOST_SPANS = 10_000
"""How many spans of one trace are read."""


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """A trace in a list, named as its root, or as its first span where the root is missing."""

    trace_id: str
    start: int
    duration: int
    name: str
    service_name: str | None
    services: Sequence[str]
    spans: int
    errors: int

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**dataclasses.asdict(self), "start": iso_time(self.start), "duration_ms": self.duration / 1e6} | {
            "services": list(self.services)
        }


@dataclass(frozen=True, slots=True)
class Span:
    """A span. Times are nanoseconds since the Unix epoch; `end` is None when it is not known."""

    span_id: str
    parent_span_id: str | None
    name: str
    kind: str
    status: str
    status_message: str | None
    service_name: str | None
    host_name: str | None
    start: int
    end: int | None
    attributes: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]
    links: Sequence[Mapping[str, Any]]

    @property
    def duration(self) -> int | None:
        """Nanoseconds; None when the end is not known, or before the start."""
        return None if self.end is None or self.end < self.start else self.end - self.start

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        end = None if self.end is None else iso_time(self.end)
        duration = None if self.duration is None else self.duration / 1e6
        return dataclasses.asdict(self) | {"start": iso_time(self.start), "end": end, "duration_ms": duration}


class _Found(TypedDict):
    trace_id: str
    began: datetime


def recent_traces(
    store: Store,
    start: datetime,
    end: datetime | None,
    limit: int,
    services: Sequence[str] = (),
    shortest: int | None = None,
    errors_only: bool = False,
) -> list[TraceSummary]:
    """Return the traces that have spans in a time range, newest first, at most `limit`.

    `shortest` is the least duration in nanoseconds. A trace is of a service when any of its spans is. What it has more
    than a day before or after what is of the range is not counted.
    """
    found = store.rows(
        """
        SELECT trace_id, min(time) AS began
        FROM spans
        WHERE time >= %(start)s AND (%(end)s::timestamptz IS NULL OR time < %(end)s)
        GROUP BY trace_id
        HAVING (%(services)s::text[] IS NULL OR bool_or(service_name = ANY(%(services)s::text[])))
            AND (%(shortest)s::double precision IS NULL
                OR extract(epoch FROM max(greatest(end_time, time)) - min(time)) * 1e9 >= %(shortest)s)
            AND (NOT %(errors_only)s OR bool_or(status = 'error'))
        ORDER BY began DESC
        LIMIT %(limit)s
        """,
        {
            "start": start,
            "end": end,
            "services": list(services) or None,
            "shortest": shortest,
            "errors_only": errors_only,
            "limit": limit,
        },
        _Found,
    )
    if not found:
        return []
    # By a time range of its own, so that no more than its partitions and chunks are looked into for each trace.
    return store.rows(
        """
        SELECT
            trace_id,
            min(start_time_unix_nano)::bigint AS start,
            (max(greatest(end_time_unix_nano, start_time_unix_nano)) - min(start_time_unix_nano))::bigint AS duration,
            (array_agg(name ORDER BY parent_span_id IS NOT NULL, start_time_unix_nano))[1] AS name,
            (array_agg(service_name ORDER BY parent_span_id IS NOT NULL, start_time_unix_nano))[1] AS service_name,
            coalesce(array_agg(DISTINCT service_name) FILTER (WHERE service_name IS NOT NULL), '{}') AS services,
            count(*) AS spans,
            count(*) FILTER (WHERE status = 'error') AS errors
        FROM spans
        WHERE trace_id = ANY(%(found)s::text[]) AND time >= %(first)s AND time < %(last)s
        GROUP BY trace_id
        ORDER BY start DESC
        """,
        {
            "found": [row["trace_id"] for row in found],
            "first": min(row["began"] for row in found) - _LONGEST,
            "last": max(row["began"] for row in found) + _LONGEST,
        },
        TraceSummary,
    )


def trace_ids(store: Store, prefix: str, limit: int) -> list[str]:
    """Return the ids of traces that begin with a prefix of hexadecimal digits, at most `limit`."""
    rows = store.rows(
        "SELECT DISTINCT trace_id FROM span WHERE trace_id BETWEEN %(first)s AND %(last)s ORDER BY 1 LIMIT %(limit)s",
        {"first": prefix.ljust(32, "0"), "last": prefix.ljust(32, "f"), "limit": limit},
    )
    return [row["trace_id"] for row in rows]


def spans_of(store: Store, trace_id: str) -> list[Span]:
    """Return the spans of a trace by their start, at most `MOST_SPANS` and one."""
    return store.rows(
        """
        SELECT
            span_id, parent_span_id, name, kind, status, status_message, service_name, host_name,
            start_time_unix_nano::bigint AS start, end_time_unix_nano::bigint AS end,
            attributes, coalesce(events, '[]') AS events, coalesce(links, '[]') AS links
        FROM spans WHERE trace_id = %(trace_id)s
        ORDER BY start_time_unix_nano LIMIT %(limit)s
        """,
        {"trace_id": trace_id, "limit": MOST_SPANS + 1},
        Span,
    )


def newest_traces(
    store: Store,
    start: datetime,
    end: datetime,
    most: int,
    ahead: timedelta,
    services: Sequence[str] = (),
    shortest: int | None = None,
    errors_only: bool = False,
) -> tuple[list[TraceSummary], datetime | None]:
    """Return the newest traces as `recent_traces` does, quickly, and how far back was looked if there may be more.

    The range is read backwards as far as time allows (see `Backwards`). What clocks that are ``ahead`` have stamped is
    found as well.
    """
    found: dict[str, TraceSummary] = {}
    pieces = Backwards(start, end)
    for begins, ends in pieces:
        later = ends + ahead if ends == end else ends
        for trace in recent_traces(store, begins, later, most, services, shortest, errors_only):
            found.setdefault(trace.trace_id, trace)
        if len(found) >= most:
            return list(found.values())[:most], None
    return list(found.values()), None if pieces.is_whole else pieces.reached


class _Count(TypedDict):
    span_id: str
    count: int


def logs_of_spans(store: Store, trace_id: str) -> dict[str, int]:
    """Return how many log records the store has of each span of a trace."""
    rows = store.rows(
        "SELECT span_id, count(*) FROM log WHERE trace_id = %(trace_id)s AND span_id IS NOT NULL GROUP BY 1",
        {"trace_id": trace_id},
        _Count,
    )
    return {row["span_id"]: row["count"] for row in rows}
