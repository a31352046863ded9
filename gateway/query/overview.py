"""What sends telemetry, when it last did, and how services do: bounded in what is looked at, however much there is."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import LiteralString

from psycopg import sql

from gateway.query.reading.connection import Reading

_LOOKED_BACK = timedelta(hours=24)
_NEWEST_POINTS = 20_000
_NEWEST_RECORDS = 100_000
"""How many of the newest spans, and log records, are looked at: more than that say no more about how services do."""
_MOST_SOURCES = 2_000

_BIGINT, _DOUBLE = struct.Struct(">q"), struct.Struct(">d")

# A set is of one resource, for its points came in one request's part: its first member tells which. Points that came
# alone are looked at from the newest on.
_LAST_METRICS: LiteralString = """
SELECT r.host_name, r.service_name, max(extract(epoch FROM seen.time))::float8
FROM resource r
LEFT JOIN (
    SELECT e.resource_id, n.time
    FROM series_set s
    CROSS JOIN LATERAL (SELECT series_id FROM member WHERE set_id = s.id ORDER BY ord LIMIT 1) b
    JOIN series e ON e.id = b.series_id
    CROSS JOIN LATERAL (
        SELECT time FROM frame WHERE set_id = s.id AND time >= {since} ORDER BY time DESC LIMIT 1
    ) n
    UNION ALL
    SELECT e.resource_id, max(p.time)
    FROM (SELECT series_id, time FROM sample WHERE time >= {since} ORDER BY time DESC LIMIT {points}) p
    JOIN series e ON e.id = p.series_id
    GROUP BY 1
) seen ON seen.resource_id = r.id
WHERE r.host_name IS NOT NULL OR r.service_name IS NOT NULL
GROUP BY 1, 2
ORDER BY 3 DESC NULLS LAST
LIMIT {most}
"""
# Entries: what somebody else asked for. Where a service has none, as one that only asks, all of its spans count.
_SPANS: LiteralString = """
SELECT r.host_name, r.service_name, floor(extract(epoch FROM s.time - {start}) / {step})::bigint AS n,
    count(*), count(*) FILTER (WHERE s.entry), count(*) FILTER (WHERE s.failed),
    count(*) FILTER (WHERE s.entry AND s.failed), max(extract(epoch FROM s.time))::float8
FROM (
    SELECT resource_id, time, kind IN (2, 5) OR parent_span_id IS NULL AS entry,
        coalesce(status_code = 2, false) AS failed
    FROM span WHERE time >= {start} AND time < {end} ORDER BY time DESC LIMIT {records}
) s
JOIN resource r ON r.id = s.resource_id
GROUP BY 1, 2, 3
"""
_LOGS: LiteralString = """
SELECT r.host_name, r.service_name, floor(extract(epoch FROM l.time - {start}) / {step})::bigint AS n,
    count(*), count(*) FILTER (WHERE l.severity_number >= 17), max(extract(epoch FROM l.time))::float8
FROM (
    SELECT resource_id, time, severity_number
    FROM log WHERE time >= {start} AND time < {end} ORDER BY time DESC LIMIT {records}
) l
JOIN resource r ON r.id = l.resource_id
GROUP BY 1, 2, 3
"""


@dataclass(slots=True)
class Service:
    """What is known of a service. Counts are of the time that was asked for; ``last`` is when it last sent something,
    in seconds since 1970, None where that was not in the last day."""

    name: str
    last: float | None = None
    hosts: set[str] = field(default_factory=set)
    spans: list[int] = field(default_factory=list)
    """Its spans in each interval."""
    logs: list[int] = field(default_factory=list)
    entries: int = 0
    failed_entries: int = 0
    failed_spans: int = 0
    log_errors: int = 0

    @property
    def requests(self) -> int:
        """How often somebody asked it for something; where nobody did, all that it did."""
        return self.entries or sum(self.spans)

    @property
    def errors(self) -> int:
        """How many of the requests failed."""
        return self.failed_entries if self.entries else self.failed_spans

    @property
    def error_share(self) -> float:
        """The part of the requests that failed."""
        return self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Sources:
    """Hosts, with when each last sent something (None: not in the last day), and services, by their names."""

    hosts: Mapping[str, float | None]
    services: Mapping[str, Service]


def sources(reading: Reading, start: datetime, end: datetime, intervals: int, now: datetime | None = None) -> Sources:
    """Return what there is, and what services did from ``start`` to ``end``, in so many intervals."""
    now = now or datetime.now(UTC)
    hosts: dict[str, float | None] = {}
    services: dict[str, Service] = {}

    def seen(host: bytes | None, service: bytes | None, last: float | None) -> Service | None:
        its_host = None if host is None else host.decode()
        if its_host is not None:
            hosts[its_host] = _later(hosts.get(its_host), last)
        if service is None:
            return None
        name = service.decode()
        found = services.get(name) or services.setdefault(
            name, Service(name, spans=[0] * intervals, logs=[0] * intervals)
        )
        found.last = _later(found.last, last)
        if its_host is not None:
            found.hosts.add(its_host)
        return found

    query = sql.SQL(_LAST_METRICS).format(since=_literal(now - _LOOKED_BACK), points=_NEWEST_POINTS, most=_MOST_SOURCES)
    for host, service, last in reading.texts(query):
        seen(host, service, None if last is None else _double(last))
    during = {
        "start": _literal(start),
        "end": _literal(end),
        "step": sql.Literal(max((end - start).total_seconds(), 1) / intervals),
        "records": sql.Literal(_NEWEST_RECORDS),
    }
    for host, service, n, spans, entries, failed, failed_entries, last in reading.texts(
        sql.SQL(_SPANS).format(**during)
    ):
        if (found := seen(host, service, _double(last))) is not None:
            found.spans[min(_int(n), intervals - 1)] += _int(spans)
            found.entries += _int(entries)
            found.failed_spans += _int(failed)
            found.failed_entries += _int(failed_entries)
    for host, service, n, records, errors, last in reading.texts(sql.SQL(_LOGS).format(**during)):
        if (found := seen(host, service, _double(last))) is not None:
            found.logs[min(_int(n), intervals - 1)] += _int(records)
            found.log_errors += _int(errors)
    return Sources(hosts, services)


def _later(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else max(one, other)


def _literal(at: datetime) -> sql.Composed:
    return sql.SQL("{}::timestamptz").format(sql.Literal(at.isoformat()))


def _int(field: bytes | None) -> int:
    return 0 if field is None else int(_BIGINT.unpack(field)[0])


def _double(field: bytes | None) -> float:
    assert field is not None
    return float(_DOUBLE.unpack(field)[0])
