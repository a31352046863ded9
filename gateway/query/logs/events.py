"""Events on a timeline: how many of each name there were, and when."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypedDict

from gateway.query.logs.records import LogFilter
from gateway.query.store import Store

MOST_COUNTED = 50_000
"""Events of a range that are counted, the newest."""


@dataclass(slots=True)
class Timeline:
    """``counts`` has for each name how many events there were in each of the intervals that had any."""

    counts: dict[str, dict[int, int]] = field(default_factory=dict)
    """The most frequent names first."""
    reached: datetime | None = None
    """From when on all are counted, where there were too many to count before that."""


class _Count(TypedDict):
    name: str
    n: int
    count: int
    first: datetime


def timeline(
    store: Store, wanted: LogFilter, start: datetime, end: datetime, intervals: int, most: int = MOST_COUNTED
) -> Timeline:
    """Count the events of a range in equal intervals: those of the names, hosts and services that are wanted, at most
    ``most``, the newest."""
    rows = store.rows(
        """
        SELECT event_name AS name, width_bucket(extract(epoch FROM time), %(first)s, %(last)s, %(intervals)s) - 1 AS n,
            count(*), min(time) AS first
        FROM (
            SELECT event_name, time FROM log
            WHERE event_name IS NOT NULL AND time >= %(start)s AND time < %(end)s
                AND (%(names)s::text[] IS NULL OR event_name = ANY(%(names)s::text[]))
                AND (%(anywhere)s OR resource_id IN (
                    SELECT id FROM resource
                    WHERE (%(hosts)s::text[] IS NULL OR host_name = ANY(%(hosts)s::text[]))
                        AND (%(services)s::text[] IS NULL OR service_name = ANY(%(services)s::text[]))))
            ORDER BY time DESC LIMIT %(most)s
        ) AS newest
        GROUP BY 1, 2
        """,
        {
            "start": start,
            "end": end,
            "first": start.timestamp(),
            "last": end.timestamp(),
            "intervals": intervals,
            "names": list(wanted.events) or None,
            "hosts": list(wanted.hosts) or None,
            "services": list(wanted.services) or None,
            "anywhere": not (wanted.hosts or wanted.services),
            "most": most,
        },
        _Count,
    )
    counts: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for row in rows:
        counts[row["name"]][min(max(row["n"], 0), intervals - 1)] = row["count"]
    total = {name: sum(its.values()) for name, its in counts.items()}
    found = Timeline({name: counts[name] for name in sorted(counts, key=lambda name: (-total[name], name))})
    if sum(total.values()) == most:
        found.reached = min(row["first"] for row in rows)
    return found
