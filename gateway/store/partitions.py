"""Native partitions by time: made before rows need them, dropped when their time is over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from psycopg import sql

from gateway.store.layout import Connection
from gateway.store.locks import Lock, hold

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""From when on intervals are numbered."""

_BOUNDS = """
SELECT
    n.nspname,
    c.relname,
    substring(pg_get_expr(c.relpartbound, c.oid) FROM $$FROM \\('([^']+)'\\)$$)::timestamptz,
    substring(pg_get_expr(c.relpartbound, c.oid) FROM $$TO \\('([^']+)'\\)$$)::timestamptz
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = %s::regclass
ORDER BY 3
"""


class Partition(NamedTuple):
    """A partition and the time it spans: ``lower`` included, ``upper`` not."""

    schema: str
    name: str
    lower: datetime
    upper: datetime


def existing(connection: Connection, table: str) -> list[Partition]:
    """Return the partitions of a table, oldest first."""
    rows = connection.execute(_BOUNDS.encode(), (table,))
    # One that is being dropped at this moment is still listed, without bounds.
    return [found for row in rows if (found := Partition(*row)).lower is not None]


def interval_of(at: datetime, interval: timedelta) -> int:
    """Return the number of the interval since the Unix epoch in which an instant lies."""
    return (at - EPOCH) // interval


class Partitions:
    """Makes partitions of one interval, and remembers which are there."""

    def __init__(self, interval: timedelta) -> None:
        self._interval = interval
        self._ready: set[tuple[str, int]] = set()

    def forget(self) -> None:
        """Look again before the next rows: a partition was found missing."""
        self._ready.clear()

    def ensure(self, connection: Connection, table: str, intervals: Iterable[int]) -> None:
        """Make the partitions that rows in these intervals need. Commits on its own; not to be called in a transaction.

        Partitions made under another interval stay as they are; new ones fill what is left between them.
        """
        missing = [number for number in intervals if (table, number) not in self._ready]
        if not missing:
            return
        # Mostly they are there. Whoever holds the lock, and may be waited for a while, holds up nobody then.
        if self._missing(missing, existing(connection, table)):
            with connection.transaction():
                hold(connection, Lock.PARTITIONS)
                for lower, upper in self._missing(missing, existing(connection, table)):
                    _create(connection, table, lower, upper)
        self._ready.update((table, number) for number in missing)

    def _missing(self, numbers: Iterable[int], present: Sequence[Partition]) -> list[tuple[datetime, datetime]]:
        """Return what of some intervals no partition covers."""
        bounds = [each[2:] for each in present]
        lowers = (EPOCH + number * self._interval for number in sorted(numbers))
        return [gap for lower in lowers for gap in gaps(lower, lower + self._interval, bounds)]


def drop_before(connection: Connection, table: str, cutoff: datetime) -> list[str]:
    """Drop the partitions that end before an instant; return their names.

    Does not wait long for readers: what is in use now is dropped the next time.
    """
    dropped = []
    for partition in existing(connection, table):
        if partition.upper > cutoff:
            break
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '2s'")
            connection.execute(
                sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(partition.schema, partition.name))
            )
        dropped.append(partition.name)
    return dropped


def gaps(
    lower: datetime, upper: datetime, present: Iterable[tuple[datetime, datetime]]
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the parts of a time range that none of some others covers, which are sorted: the first is the oldest."""
    for its_lower, its_upper in present:
        if its_upper <= lower or its_lower >= upper:
            continue
        if its_lower > lower:
            yield lower, its_lower
        lower = its_upper
    if lower < upper:
        yield lower, upper


def _create(connection: Connection, table: str, lower: datetime, upper: datetime) -> None:
    """Make one partition: as a table of its own first, because attaching it locks out neither readers nor writers.

    It is made beside its table, wherever the session would make tables: a backup is of the store's schema.
    """
    row = connection.execute(
        "SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s::regclass",
        (table,),
    ).fetchone()
    assert row is not None
    name = sql.Identifier(row[0], f"{table}_p{lower:%Y%m%d_%H%M}")
    parent = sql.Identifier(table)
    connection.execute(
        sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)").format(name, parent)
    )
    connection.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            parent, name, sql.Literal(lower), sql.Literal(upper)
        )
    )
