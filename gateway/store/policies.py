"""TimescaleDB's own policies (chunks, columnstore, retention, rollups), kept equal to the settings.

Applied on start and only when the settings changed since the last time, so that jobs keep their schedule and what an
administrator changed by hand stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import sql

from gateway.base.settings import format_duration, parse_duration
from gateway.store import layout
from gateway.store.dropped_before import dropped_before, note_dropped
from gateway.store.locks import Lock, hold
from gateway.store.schema import may_maintain
from gateway.store.settings import StoreSettings

_MARGIN = timedelta(hours=1)
"""How much less than points are kept is refreshed: a chunk may be dropped while a refresh is under way."""

_IN_COLUMNSTORE = (*layout.FACTS, "frame_1m", "frame_1h")
# What rows are grouped by in the columnstore, so that a query for one series or resource reads only its own.
_SEGMENT_BY = dict.fromkeys(layout.FACTS, "series_id") | {"log": "resource_id", "span": "resource_id"}
_SEGMENT_BY |= dict.fromkeys(("frame", "frame_1m", "frame_1h"), "set_id")


def retention_of(settings: StoreSettings) -> dict[str, timedelta | None]:
    """Return how long each table's rows are kept, by table; None for ever."""
    kept = settings.retention
    metrics = dict.fromkeys(layout.METRIC_FACTS, kept.metrics)
    return {
        **metrics,
        "log": kept.logs,
        "span": kept.traces,
        "sample_1m": kept.rollup_1m,
        "frame_1m": kept.rollup_1m,
        "sample_1h": kept.rollup_1h,
        "frame_1h": kept.rollup_1h,
    }


def apply(connection: layout.Connection, present: layout.Layout, settings: StoreSettings) -> bool:
    """Apply the settings to a store with hypertables. Returns whether anything had to be changed.

    What a later version keeps there is left alone.
    """
    if not may_maintain(connection):
        return False
    with connection.transaction():
        hold(connection, Lock.MIGRATION)
        applied = layout.read_setting(connection, "policies")
        if present.community and applied is not None:
            _note_retention_of(connection, applied, settings)
        wanted = _wanted(connection, settings, present)
        if applied == wanted:
            return False
        for table in (*layout.FACTS, *layout.ROLLUPS):
            connection.execute("SELECT set_chunk_time_interval(%s::regclass, %s)", (table, settings.chunk_interval))
        if present.community:
            _columnstore(connection, settings)
            _retention(connection, settings)
            _rollups(connection, settings)
        layout.write_setting(connection, "policies", json.dumps(wanted))
        return True


def _wanted(connection: layout.Connection, settings: StoreSettings, present: layout.Layout) -> dict[str, Any]:
    its = settings.model_dump(mode="json", include={"chunk_interval", "retention", "columnstore", "rollups"})
    reach = {view: reach and format_duration(reach) for view, _, reach in _refreshed(connection, settings)}
    return {**its, "community": present.community, "refreshed": reach}


def _note_retention_of(connection: layout.Connection, applied: dict[str, Any], settings: StoreSettings) -> None:
    """Note what the policies that were in force until now may have dropped, where they are to change."""
    for table, name in (("sample", "metrics"), ("sample_1m", "rollup_1m")):
        kept = (applied.get("retention") or {}).get(name)
        if kept is not None and parse_duration(kept) != getattr(settings.retention, name):
            note_dropped(connection, table, datetime.now(UTC) - parse_duration(kept))


def _columnstore(connection: layout.Connection, settings: StoreSettings) -> None:
    for table in _IN_COLUMNSTORE:
        name = sql.Identifier(table)
        connection.execute(
            sql.SQL(
                "ALTER TABLE {} SET (timescaledb.enable_columnstore,"
                " timescaledb.segmentby = {}, timescaledb.orderby = 'time DESC')"
            ).format(name, sql.Literal(_SEGMENT_BY[table]))
        )
        connection.execute("CALL remove_columnstore_policy(%s::regclass, if_exists => true)", (table,))
        if settings.columnstore.enabled:
            connection.execute(
                "CALL add_columnstore_policy(%s::regclass, after => %s::interval)", (table, settings.columnstore.after)
            )


def _retention(connection: layout.Connection, settings: StoreSettings) -> None:
    kept_for = retention_of(settings)
    kept_for |= {earlier: kept_for[table] for table, earlier in _earlier_rollups(connection)}
    for table, kept in kept_for.items():
        connection.execute("SELECT remove_retention_policy(%s::regclass, if_exists => true)", (table,))
        if kept is not None:
            connection.execute("SELECT add_retention_policy(%s::regclass, drop_after => %s::interval)", (table, kept))


def _earlier_rollups(connection: layout.Connection) -> Iterator[tuple[str, str]]:
    """Yield the rollups of which there is one of an earlier version, and its name."""
    for table in ("sample_1m", "sample_1h"):
        for earlier in (table + layout.EARLIER, table + layout.CONTINUOUS):
            if _exists(connection, earlier):
                yield table, earlier


def _exists(connection: layout.Connection, table: str) -> bool:
    return connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() != (None,)


_OLDEST_FIRST = """
SELECT 1 FROM pg_proc WHERE proname = 'add_continuous_aggregate_policy' AND 'refresh_newest_first' = ANY (proargnames)
"""


def _rollups(connection: layout.Connection, settings: StoreSettings) -> None:
    # A view computes what lies after the last interval that is materialized. Were that the newest one from the start of
    # a long refresh, what that has yet to get to would not be shown. Older versions refresh in one transaction.
    order = ", refresh_newest_first => false" if connection.execute(_OLDEST_FIRST).fetchone() else ""
    for view, bucket, reach in _refreshed(connection, settings):
        connection.execute("SELECT remove_continuous_aggregate_policy(%s::regclass, if_exists => true)", (view,))
        if settings.rollups:
            add = (
                "SELECT add_continuous_aggregate_policy(%s::regclass, start_offset => %s::interval,"
                f" end_offset => %s::interval, schedule_interval => %s::interval{order})"
            )
            connection.execute(add.encode(), (view, reach, bucket, bucket))


def _refreshed(
    connection: layout.Connection, settings: StoreSettings
) -> Iterator[tuple[str, timedelta, timedelta | None]]:
    """Yield each continuous aggregate with its bucket, and how far back it is refreshed; None for ever.

    There are some in stores of an earlier version, which are read up to when gateways began to roll up.

    Never to where its points may have been dropped: what is left there, or came late, would take the place of what was.
    After retention was made longer, what was dropped before stays away; the reach grows with each start, by whole days.
    """
    for view, source, kept, bucket in (
        ("sample_1m", "sample", settings.retention.metrics, timedelta(minutes=1)),
        ("sample_1h", "sample_1m", settings.retention.rollup_1m, timedelta(hours=1)),
    ):
        if not _exists(connection, view + layout.CONTINUOUS):
            continue
        taken = dropped_before(connection, source)
        limits = [] if kept is None else [kept - _MARGIN]
        if taken is not None:
            age = datetime.now(UTC) - taken
            limits.append(timedelta(days=age.days) if age.days else age)
        yield view + layout.CONTINUOUS, bucket, max(min(limits), 3 * bucket) if limits else None


def summary(settings: StoreSettings) -> str:
    """Say the retention of each signal, for people."""

    def kept(value: timedelta | None) -> str:
        return "for ever" if value is None else format_duration(value)

    its = settings.retention
    return f"metrics kept {kept(its.metrics)}, logs {kept(its.logs)}, traces {kept(its.traces)}"
