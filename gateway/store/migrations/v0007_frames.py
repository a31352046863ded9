"""Frames: points that are observed together become one row of arrays, and so do their rollups.

What is in the store stays where it is and is read beside the frames, through the same views. Continuous aggregates
cannot look into arrays, so from here on gateways make the rollups in every layout; those that TimescaleDB made are read
up to the hour of this migration, and age out.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from psycopg import sql

from gateway.store import layout, locks
from gateway.store.migrations import drop_continuous_aggregate, run_file

_NEW = ("frame", "frame_1m", "frame_1h")
_PART = 56

_DIMENSIONS = sql.SQL("""
JOIN series e ON e.id = {series_id}
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
JOIN scope c ON c.id = e.scope_id""")

_METRICS = sql.SQL("""
SELECT
    {time} AS time, m.name, {value} AS value, m.unit, r.host_name, r.service_name, e.attributes,
    r.attributes AS resource, c.name AS scope_name, m.type, m.temporality, m.is_monotonic, m.description,
    {int_value} AS int_value, {start_time} AS start_time, {flags} AS flags, e.id AS series_id, {time_ns} AS time_ns,
    unix_nano({time}, {time_ns}) AS time_unix_nano, unix_nano({start_time}, {start_time_ns}) AS start_time_unix_nano,
    c.version AS scope_version, c.attributes AS scope_attributes, c.schema_url AS scope_schema_url,
    r.schema_url AS resource_schema_url""")

_POINT = ("time", "value", "int_value", "start_time", "flags", "time_ns", "start_time_ns")
_FROM_ROWS: dict[str, sql.Composable] = {name: sql.Identifier("s", name) for name in _POINT}
_FROM_FRAMES: dict[str, sql.Composable] = {
    "time": sql.SQL("f.time"),
    "value": sql.SQL("f.vals[b.ord]"),
    "int_value": sql.SQL("CASE WHEN b.is_int THEN coalesce(f.ints[b.ord], f.vals[b.ord]::bigint) END"),
    "start_time": sql.SQL("CASE WHEN b.has_start THEN coalesce(instant(f.starts[b.ord]), f.start_time) END"),
    "flags": sql.SQL("NULL::bigint"),
    "time_ns": sql.SQL("f.time_ns"),
    "start_time_ns": sql.SQL("coalesce((f.starts[b.ord] % 1000)::smallint, f.start_time_ns)"),
}

_ROLLUP = ("time", "count", "sum", "min", "max", "last", "last_time")
_ROLLUP_FROM_ROWS: dict[str, sql.Composable] = {name: sql.Identifier("s", name) for name in _ROLLUP}
_PLACE = sql.SQL("(b.ord - 1) % {} + 1").format(_PART)
_ROLLUP_FROM_FRAMES: dict[str, sql.Composable] = {
    "time": sql.SQL("f.time"),
    "count": sql.SQL("f.count::bigint"),
    "sum": sql.SQL("coalesce(f.sums[{0}], f.count * f.maxs[{0}])").format(_PLACE),
    "min": sql.SQL("coalesce(f.mins[{0}], f.maxs[{0}])").format(_PLACE),
    "max": sql.SQL("f.maxs[{0}]").format(_PLACE),
    "last": sql.SQL("coalesce(f.lasts[{0}], f.maxs[{0}])").format(_PLACE),
    "last_time": sql.SQL("f.last_time"),
}
_IN_FRAMES = sql.SQL("{table} f JOIN member b ON b.set_id = f.set_id AND f.part = (b.ord - 1) / {part}")
_IS_THERE = sql.SQL(" WHERE f.maxs[{}] IS NOT NULL").format(_PLACE)

_ROLLED_UP = sql.SQL("""
SELECT
    {time} AS time, m.name, mean_of({sum}, {count}) AS value, m.unit, r.host_name, r.service_name, e.attributes,
    r.attributes AS resource, c.name AS scope_name, m.type, m.temporality, m.is_monotonic, m.description,
    {count} AS count, {sum} AS sum, {min} AS min, {max} AS max, {last} AS last, e.id AS series_id,
    {last_time} AS last_time, c.version AS scope_version, c.attributes AS scope_attributes,
    c.schema_url AS scope_schema_url, r.schema_url AS resource_schema_url""")


def upgrade(connection: layout.Connection, wanted_layout: str) -> None:
    """Make the tables of frames, and the views that read both."""
    present = layout.current(connection)
    assert present is not None, "the first migration records the layout"
    locks.retire(connection)  # before anything else is waited for, as those that hold it took it first
    partitioned = "PARTITION BY RANGE (time)" if present.native else ""
    since = None
    if not present.gateway_rollups:
        since = _end_continuous(connection)
        run_file(connection, "0001_rollups_gateway.sql", partitioned=partitioned)
        run_file(connection, "0006_rollups_gateway.sql")
        _make_hypertables(connection, ("sample_1m", "sample_1h"))
        layout.write_setting(connection, "rollups", '"gateway"')
    run_file(connection, "0007_frames.sql", partitioned=partitioned)
    if not present.native:
        _make_hypertables(connection, _NEW)
    connection.execute(
        sql.SQL("CREATE OR REPLACE VIEW metrics AS")
        + _METRICS.format(**_FROM_ROWS)
        + sql.SQL(" FROM sample s")
        + _DIMENSIONS.format(series_id=sql.SQL("s.series_id"))
        + sql.SQL(" UNION ALL")
        + _METRICS.format(**_FROM_FRAMES)
        + sql.SQL(" FROM frame f JOIN member b ON b.set_id = f.set_id")
        + _DIMENSIONS.format(series_id=sql.SQL("b.series_id"))
    )
    for interval in ("1m", "1h"):
        _make_rollup_views(connection, interval, since)
    if not present.gateway_rollups and since is None:
        _drop_continuous(connection)
    run_file(connection, "0007_comments.sql")


def _make_rollup_views(connection: layout.Connection, interval: str, since: datetime | None) -> None:
    """Make the views of one rollup; what continuous aggregates hold is read up to the instant ``since``."""
    rows, frames = sql.Identifier(f"sample_{interval}"), sql.Identifier(f"frame_{interval}")
    rolled_up, metrics = sql.Identifier(f"rollup_{interval}"), sql.Identifier(f"metrics_{interval}")
    in_frames = _IN_FRAMES.format(table=frames, part=sql.Literal(_PART))
    columns = sql.SQL("{time} AS time, {key} AS series_id, {count} AS count, {sum} AS sum, {min} AS min,"
                      " {max} AS max, {last} AS last, {last_time} AS last_time")  # fmt: skip
    sources: list[tuple[sql.Composable, dict[str, sql.Composable], sql.Composable, sql.Composable]] = [
        (rows + sql.SQL(" s"), _ROLLUP_FROM_ROWS, sql.SQL("s.series_id"), sql.SQL("")),
        (in_frames, _ROLLUP_FROM_FRAMES, sql.SQL("b.series_id"), _IS_THERE),
    ]
    if since is not None:
        continuous = sql.Identifier(f"rollup_{interval}{layout.CONTINUOUS}")
        until = sql.SQL(" WHERE s.time < {}").format(sql.Literal(since))
        sources.append((continuous + sql.SQL(" s"), _ROLLUP_FROM_ROWS, sql.SQL("s.series_id"), until))
    connection.execute(
        sql.SQL("CREATE OR REPLACE VIEW {} AS ").format(rolled_up)
        + sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT ") + columns.format(key=key, **its) + sql.SQL(" FROM ") + source + where
            for source, its, key, where in sources
        )
    )
    connection.execute(
        sql.SQL("CREATE OR REPLACE VIEW {} AS ").format(metrics)
        + sql.SQL(" UNION ALL ").join(
            _ROLLED_UP.format(**its) + sql.SQL(" FROM ") + source + _DIMENSIONS.format(series_id=key) + where
            for source, its, key, where in sources
        )
    )


def _end_continuous(connection: layout.Connection) -> datetime | None:
    """Put TimescaleDB's rollups aside; return up to which instant they are read, where there is anything in them.

    Their policies stay, for the last of their points is not materialized yet. From that instant on gateways roll up.
    """
    since = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    used = connection.execute("SELECT EXISTS (SELECT FROM rollup_1h) OR EXISTS (SELECT FROM sample)").fetchone()
    for name, kind in (("rollup", sql.SQL("VIEW")), ("sample", sql.SQL("MATERIALIZED VIEW"))):
        for interval in ("1h", "1m"):
            # What reads them goes on reading them, whatever their names.
            old = f"{name}_{interval}"
            connection.execute(
                sql.SQL("ALTER {} {} RENAME TO {}").format(
                    kind, sql.Identifier(old), sql.Identifier(old + layout.CONTINUOUS)
                )
            )
    if used == (False,):
        return None
    connection.execute(
        "INSERT INTO rollup_pending (minute) SELECT DISTINCT date_trunc('minute', time) FROM sample WHERE time >= %s",
        (since,),
    )
    layout.write_setting(connection, "rolled_up_since", json.dumps(since.isoformat()))
    return since


def _drop_continuous(connection: layout.Connection) -> None:
    """Remove TimescaleDB's rollups of a store that holds nothing."""
    for interval in ("1h", "1m"):
        connection.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(f"rollup_{interval}{layout.CONTINUOUS}")))
    for interval in ("1h", "1m"):
        drop_continuous_aggregate(connection, f"sample_{interval}{layout.CONTINUOUS}")


def _make_hypertables(connection: layout.Connection, tables: tuple[str, ...]) -> None:
    for table in tables:
        connection.execute(
            "SELECT create_hypertable(%s::regclass, by_range('time', INTERVAL '1 day'),"
            " create_default_indexes => false)",
            (table,),
        )
