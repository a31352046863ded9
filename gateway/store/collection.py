"""Removal of dimensions that no retained fact refers to any more.

It must be safe against a writer that uses a key at this moment, and writers remember keys without asking. So, in turn:

1. The epoch of the store is raised while no commit is under way: writers hold the dimension lock shared for the length
   of their transaction, this takes it exclusively for a moment. A writer reads the epoch after it has the lock; on
   seeing a new one it forgets all keys, so from here on it declares (inserts again) each dimension it uses, which
   marks the row with the new epoch.
2. The facts are searched for references, however long it takes and without any lock. Facts from before the new epoch
   are all visible to that search.
3. A dimension without references is deleted if its row is still marked with an older epoch. One that was declared
   meanwhile is not; and if that happens at this very moment, the row lock makes one of the two wait and look again.
"""

from __future__ import annotations

from psycopg import sql

from gateway.store import layout
from gateway.store.locks import Lock, hold

_AT_ONCE = 1_000

_SERIES_FACTS = (*(table for table in layout.METRIC_FACTS if table != "frame"), "rollup_1m", "rollup_1h", "member")
_FRAMES = ("frame", "frame_1m", "frame_1h")
_WITH_IT = {
    "series_set": sql.SQL(", members AS (DELETE FROM member m USING unused WHERE m.set_id = unused.id)"),
    "metric": sql.SQL(", seen AS (DELETE FROM metric_seen s USING unused WHERE s.metric_id = unused.id)"),
}
"""What is removed with a dimension, in the same statement."""

_REFERRERS: dict[str, tuple[tuple[str, str], ...]] = {
    "series_set": tuple((table, "set_id") for table in _FRAMES),
    "series": tuple((table, "series_id") for table in _SERIES_FACTS),
    "metric": (("series", "metric_id"),),
    "resource": (("series", "resource_id"), ("log", "resource_id"), ("span", "resource_id")),
    "scope": (("series", "scope_id"), ("log", "scope_id"), ("span", "scope_id")),
    "bounds": (("histogram_sample", "bounds_id"), ("summary_sample", "quantiles_id")),
}


def collect_dimensions(connection: layout.Connection) -> dict[str, int]:
    """Remove unused dimensions; return how many of each table. Commits on its own."""
    with connection.transaction():
        hold(connection, Lock.DIMENSIONS)
        row = connection.execute("UPDATE dimension_epoch SET epoch = epoch + 1 RETURNING epoch").fetchone()
    assert row is not None, "dimension_epoch has one row"
    return {table: _collect(connection, table, row[0]) for table in _REFERRERS}


def _collect(connection: layout.Connection, table: str, epoch: int) -> int:
    unused = sql.SQL(" AND ").join(
        sql.SQL("NOT EXISTS (SELECT FROM {} f WHERE f.{} = d.id)").format(sql.Identifier(name), sql.Identifier(column))
        for name, column in _REFERRERS[table]
    )
    dimension = sql.Identifier(table)
    find = sql.SQL("SELECT d.id FROM {} d WHERE d.epoch < %s AND {} ORDER BY d.id").format(dimension, unused)
    # Rows are locked in the order of their keys, as writers do, so that nobody deadlocks.
    delete = sql.SQL(
        "WITH unused AS MATERIALIZED (SELECT id FROM {0} WHERE id = ANY(%s) AND epoch < %s ORDER BY id FOR UPDATE)"
        "{1} DELETE FROM {0} d USING unused WHERE d.id = unused.id"
    ).format(dimension, _WITH_IT.get(table, sql.SQL("")))
    found = [row[0] for row in connection.execute(find, (epoch,))]
    return sum(
        connection.execute(delete, (found[first : first + _AT_ONCE], epoch)).rowcount
        for first in range(0, len(found), _AT_ONCE)
    )
