"""How far a store has come from how earlier versions kept points: what is left of those, which ages out.

An earlier version kept each number point as a row, and the bounds of histograms and the quantiles of summaries in each.
They are read by the same views as what is stored now, and go when `retention` drops them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway.store import layout

TABLES = ("sample", "histogram_sample", "exp_histogram_sample", "summary_sample")
"""The tables in which there may be points of before that are larger than they would be now."""

_CHUNKS = """
SELECT count(*), coalesce(sum(d.total_bytes), 0)::bigint, coalesce(sum(greatest(p.reltuples, 0)), 0)::bigint,
    max(c.range_end)
FROM timescaledb_information.chunks c
JOIN chunks_detailed_size(%(table)s::regclass) d USING (chunk_schema, chunk_name)
JOIN pg_class p ON p.oid = format('%%I.%%I', c.chunk_schema, c.chunk_name)::regclass
WHERE format('%%I.%%I', c.hypertable_schema, c.hypertable_name)::regclass = %(table)s::regclass
    AND c.range_start < %(since)s
"""
_PARTITIONS = """
SELECT count(*), coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint,
    coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint, max(b.upper)
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
CROSS JOIN LATERAL (
    SELECT
        substring(pg_get_expr(c.relpartbound, c.oid) FROM $$FROM \\('([^']+)'\\)$$)::timestamptz AS lower,
        substring(pg_get_expr(c.relpartbound, c.oid) FROM $$TO \\('([^']+)'\\)$$)::timestamptz AS upper
) b
WHERE i.inhparent = %(table)s::regclass AND b.lower < %(since)s AND pg_relation_size(c.oid) > 0
"""


@dataclass(slots=True, frozen=True)
class Left:
    """What a table has of before: in how many partitions or chunks, bytes with their indexes, and about how many rows.

    ``rows`` is 0 where the server has no estimate. ``until`` is when the last of them ends.
    """

    table: str
    parts: int
    size: int
    rows: int
    until: datetime


@dataclass(slots=True, frozen=True)
class Progress:
    """What is left of how an earlier version kept points, since when they are kept as now, and what is looked for.

    ``unseen`` are the metrics of which it is still to be found when they were first and last observed.
    """

    since: datetime | None
    left: list[Left]
    unseen: int


def progress(connection: layout.Connection, present: layout.Layout) -> Progress:
    """Look how far a store has come, whose schema is up to date."""
    (unseen,) = connection.execute("SELECT count(*) FROM metric_seen WHERE NOT is_whole").fetchone() or (0,)
    noted = layout.read_setting(connection, "compact_since")
    if noted is None:
        return Progress(None, [], unseen)
    since = datetime.fromisoformat(noted)
    left = []
    for table in TABLES:
        query = _PARTITIONS if present.native else _CHUNKS
        for parts, size, rows, until in connection.execute(query.encode(), {"table": table, "since": since}):
            if parts:
                left.append(Left(table, parts, size, rows, until))
    return Progress(since, left, unseen)
