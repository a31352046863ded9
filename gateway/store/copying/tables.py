"""What of a store there is to copy: its tables, and the slices of them that are copied and compared at once.

A slice is what one partition or chunk of the source spans, so that each is read once, in one go; a table that is not
laid out by time is one slice. It is told by times alone: the target may have other partitions, or chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg import sql

from gateway.store import layout, partitions
from gateway.store.locks import Lock
from gateway.store.restore_mark import TABLE as MARK

PROGRESS = "store_copied"
"""The table of a target that has the slices copied so far."""

_NOT_COPIED = {"schema_version", "store_setting", MARK, PROGRESS, *Lock}
"""What each store has of its own. What is to go along of the settings, the work sees to."""

_TABLES = """
SELECT c.relname, c.relkind = 'p', (
    SELECT array_agg(a.attname::text ORDER BY a.attname)
    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'store_setting'::regclass)
    AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relname
"""
_HYPERTABLES = """
SELECT hypertable_name FROM timescaledb_information.hypertables
WHERE format('%I.%I', hypertable_schema, hypertable_name)::regclass = to_regclass(hypertable_name)
"""
_CHUNKS = """
SELECT range_start, range_end FROM timescaledb_information.chunks
WHERE format('%%I.%%I', hypertable_schema, hypertable_name)::regclass = %s::regclass
ORDER BY 1
"""

_CONTINUOUS = {
    "sample_1m": (f"rollup_1m{layout.CONTINUOUS}", timedelta(days=1)),
    "sample_1h": (f"rollup_1h{layout.CONTINUOUS}", timedelta(days=30)),
}
"""Rollups that TimescaleDB made for an earlier version, by the table that they are copied into; and how much of them is
a slice."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows from ``lower`` on and before ``upper``; both None for a whole table."""

    lower: datetime | None = None
    upper: datetime | None = None

    def __str__(self) -> str:
        if self.lower is None or self.upper is None:
            return "all of it"
        return f"{self.lower:%Y-%m-%d %H:%M} to {self.upper:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is copied. ``by_time``: it is laid out by its column ``time``."""

    name: str
    columns: tuple[str, ...]
    by_time: bool
    continuous: str | None = None
    """A view of rollups that TimescaleDB made, where the source has one, and those before ``since`` count."""
    since: datetime | None = None

    @property
    def listed(self) -> sql.Composed:
        """Its columns, for a statement."""
        return sql.SQL(", ").join(map(sql.Identifier, self.columns))

    def rows(self, part: Slice, *, of_source: bool) -> sql.Composed:
        """Return the query of the rows of a slice, in the source or in the target."""
        named = sql.Identifier(self.name)
        query = sql.SQL("SELECT {} FROM {}").format(self.listed, named) + self.where(part)
        if not of_source or self.continuous is None:
            return query
        earlier = sql.SQL("SELECT {} FROM {}").format(self.listed, sql.Identifier(self.continuous))
        before = sql.SQL(" AND time < {}").format(sql.Literal(self.since))
        return query + sql.SQL(" UNION ALL ") + earlier + self.where(part) + before

    def where(self, part: Slice) -> sql.Composed:
        """Return the condition of a slice."""
        if part.lower is None or part.upper is None:
            return sql.SQL(" WHERE true").format()
        return sql.SQL(" WHERE time >= {} AND time < {}").format(sql.Literal(part.lower), sql.Literal(part.upper))


def find(connection: layout.Connection, present: layout.Layout) -> list[Table]:
    """Return the tables of a store, those that are not laid out by time first."""
    hypertables = set() if present.native else {row[0] for row in connection.execute(_HYPERTABLES)}
    noted = layout.read_setting(connection, "rolled_up_since")
    since = None if noted is None else datetime.fromisoformat(noted)
    found = [
        Table(name, tuple(columns), partitioned or name in hypertables)
        if since is None or name not in _CONTINUOUS
        else Table(name, tuple(columns), by_time=True, continuous=_CONTINUOUS[name][0], since=since)
        for name, partitioned, columns in connection.execute(_TABLES)
        if name not in _NOT_COPIED
    ]
    return sorted(found, key=lambda table: table.by_time)


def slices(connection: layout.Connection, present: layout.Layout, table: Table) -> list[Slice]:
    """Return the slices of a table in the source, the oldest first. They do not overlap."""
    if not table.by_time:
        return [Slice()]
    if present.native:
        found = [Slice(each.lower, each.upper) for each in partitions.existing(connection, table.name)]
    else:
        found = [Slice(*row) for row in connection.execute(_CHUNKS, (table.name,))]
    if table.continuous is not None:
        found += list(_earlier(connection, table, found))
    return sorted(found, key=lambda part: part.lower or datetime.min.replace(tzinfo=UTC))


def _earlier(connection: layout.Connection, table: Table, found: list[Slice]) -> Iterator[Slice]:
    """Yield slices of what TimescaleDB rolled up, outside of those that were found."""
    assert table.continuous is not None
    query = sql.SQL("SELECT min(time) FROM {}").format(sql.Identifier(table.continuous))
    row = connection.execute(query).fetchone()
    if row is None or row[0] is None or table.since is None:
        return
    step = _CONTINUOUS[table.name][1]
    for number in range(partitions.interval_of(row[0], step), partitions.interval_of(table.since, step) + 1):
        lower = partitions.EPOCH + number * step
        taken = [(part.lower, part.upper) for part in found if part.lower is not None and part.upper is not None]
        yield from (Slice(*gap) for gap in partitions.gaps(lower, lower + step, sorted(taken)))
