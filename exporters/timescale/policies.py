"""TimescaleDB's own policies (chunks, columnstore, retention, rollups), kept equal to the settings.

Applied on start and only when the settings changed since the last time, so that jobs keep their schedule and what an
administrator changed by hand stays.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from psycopg import sql

from exporters.timescale import layout
from exporters.timescale.config import TimescaleConfig
from exporters.timescale.schema import MIGRATION_LOCK
from gateway.pipeline.settings import format_duration

# What rows are grouped by in the columnstore, so that a query for one series or resource reads only its own.
_SEGMENT_BY = {table: "resource_id" if table in ("log", "span") else "series_id" for table in layout.FACTS}


def retention_of(config: TimescaleConfig) -> dict[str, timedelta | None]:
    """Return how long each table's rows are kept, by table; None for ever."""
    kept = config.retention
    metrics = dict.fromkeys(layout.FACTS[:5], kept.metrics)
    return {
        **metrics,
        "log": kept.logs,
        "span": kept.traces,
        "sample_1m": kept.rollup_1m,
        "sample_1h": kept.rollup_1h,
    }


def apply(connection: layout.Connection, present: layout.Layout, config: TimescaleConfig) -> bool:
    """Apply the settings to a store with hypertables. Returns whether anything had to be changed."""
    wanted = _wanted(config, present)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        if layout.read_setting(connection, "policies") == wanted:
            return False
        for table in layout.FACTS:
            connection.execute("SELECT set_chunk_time_interval(%s::regclass, %s)", (table, config.chunk_interval))
        if present.community:
            _columnstore(connection, config)
            _retention(connection, config)
            _rollups(connection, config)
        layout.write_setting(connection, "policies", json.dumps(wanted))
        return True


def _wanted(config: TimescaleConfig, present: layout.Layout) -> dict[str, Any]:
    settings = config.model_dump(mode="json", include={"chunk_interval", "retention", "columnstore", "rollups"})
    return {**settings, "community": present.community}


def _columnstore(connection: layout.Connection, config: TimescaleConfig) -> None:
    for table in layout.FACTS:
        name = sql.Identifier(table)
        connection.execute(
            sql.SQL(
                "ALTER TABLE {} SET (timescaledb.enable_columnstore,"
                " timescaledb.segmentby = {}, timescaledb.orderby = 'time DESC')"
            ).format(name, sql.Literal(_SEGMENT_BY[table]))
        )
        connection.execute("CALL remove_columnstore_policy(%s::regclass, if_exists => true)", (table,))
        if config.columnstore.enabled:
            connection.execute(
                "CALL add_columnstore_policy(%s::regclass, after => %s::interval)", (table, config.columnstore.after)
            )


def _retention(connection: layout.Connection, config: TimescaleConfig) -> None:
    for table, kept in retention_of(config).items():
        connection.execute("SELECT remove_retention_policy(%s::regclass, if_exists => true)", (table,))
        if kept is not None:
            connection.execute("SELECT add_retention_policy(%s::regclass, drop_after => %s::interval)", (table, kept))


def _rollups(connection: layout.Connection, config: TimescaleConfig) -> None:
    for view, bucket in (("sample_1m", timedelta(minutes=1)), ("sample_1h", timedelta(hours=1))):
        connection.execute("SELECT remove_continuous_aggregate_policy(%s::regclass, if_exists => true)", (view,))
        if not config.rollups:
            continue
        # A refresh further back than the raw points are kept would replace rollups by nothing.
        kept = config.retention.metrics if view == "sample_1m" else config.retention.rollup_1m
        start = None if kept is None else max(kept - config.chunk_interval, 3 * bucket)
        connection.execute(
            "SELECT add_continuous_aggregate_policy(%s::regclass, start_offset => %s::interval,"
            " end_offset => %s::interval, schedule_interval => %s::interval)",
            (view, start, bucket, bucket),
        )


def summary(config: TimescaleConfig) -> str:
    """Say the retention of each signal, for people."""

    def kept(value: timedelta | None) -> str:
        return "for ever" if value is None else format_duration(value)

    its = config.retention
    return f"metrics kept {kept(its.metrics)}, logs {kept(its.logs)}, traces {kept(its.traces)}"
