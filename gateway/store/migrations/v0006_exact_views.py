"""The time of the latest value in rollups, exact times and scopes in the views, and what there is as views."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from psycopg import sql

from gateway.base.settings import parse_duration
from gateway.store import layout
from gateway.store.dropped_before import dropped_before
from gateway.store.migrations import drop_continuous_aggregate, run_file

_ROLLUPS = ("sample_1m", "sample_1h")
_COLUMNS = sql.SQL("time, series_id, count, sum, min, max, last")

_MARGIN = timedelta(days=1)
"""How long the first refresh may take to get to points that retention is about to drop."""


def upgrade(connection: layout.Connection, wanted_layout: str) -> None:
    """Let rollups keep the time of the latest value, and make the views anew.

    A continuous aggregate gets no new column, so new ones are made, which TimescaleDB fills from the points that there
    are. What is older than those stays in the earlier ones, which the views read too.
    """
    present = layout.current(connection)
    assert present is not None, "the first migration records the layout"

    boundary = None
    if present.gateway_rollups:
        run_file(connection, "0006_rollups_gateway.sql")
    else:
        boundary = _boundary(connection)
        for table in _ROLLUPS:
            connection.execute(
                sql.SQL("ALTER MATERIALIZED VIEW {} RENAME TO {}").format(_name(table), _name(table + layout.EARLIER))
            )
        run_file(connection, "0006_rollups_continuous.sql")
    for table, view in (("sample_1m", "rollup_1m"), ("sample_1h", "rollup_1h")):
        connection.execute(sql.SQL("CREATE VIEW {} AS ").format(_name(view)) + _reading(table, boundary))
    run_file(connection, "0006_views.sql")
    if present.gateway_rollups:
        return
    for table in reversed(_ROLLUPS):
        earlier = table + layout.EARLIER
        if boundary is None:
            drop_continuous_aggregate(connection, earlier)
        else:
            connection.execute("SELECT remove_continuous_aggregate_policy(%s::regclass, if_exists => true)", (earlier,))
    # Anything but what it was, so that the policies are applied to the new ones at the next start.
    connection.execute("UPDATE store_setting SET value = value - 'refreshed' WHERE key = 'policies'")


def _name(name: str) -> sql.Identifier:
    return sql.Identifier(name)


def _boundary(connection: layout.Connection) -> datetime | None:
    """Return from when on the rollups can be computed anew from all points; None when that is all there is of them."""
    first, earliest = (
        connection.execute(
            sql.SQL("SELECT date_trunc('hour', min(time), 'UTC') FROM {}").format(_name(table))
        ).fetchone()
        for table in ("sample", "sample_1h")
    )
    assert first is not None
    assert earliest is not None
    now = datetime.now(UTC)
    complete = [now if first[0] is None else first[0]]
    applied = layout.read_setting(connection, "policies") or {}
    kept = (applied.get("retention") or {}).get("metrics")
    if kept is not None:
        complete.append(now - parse_duration(kept) + _MARGIN)
    if (taken := dropped_before(connection, "sample")) is not None:
        complete.append(taken)
    boundary = max(complete).astimezone(UTC)
    if earliest[0] is None or earliest[0] >= boundary:
        return None
    return boundary.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)


def _reading(table: str, boundary: datetime | None) -> sql.Composed:
    """Return the query of all rollups: those before the boundary are an earlier version's."""
    reading = sql.SQL("SELECT {}, last_time FROM {}").format(_COLUMNS, _name(table))
    if boundary is None:
        return reading
    at, earlier = sql.Literal(boundary), _name(table + layout.EARLIER)
    return reading + sql.SQL(" WHERE time >= {} UNION ALL SELECT {}, NULL FROM {} WHERE time < {}").format(
        at, _COLUMNS, earlier, at
    )
