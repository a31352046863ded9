"""The store: dimensions, facts, rollups and views."""

from __future__ import annotations

from gateway.store import layout
from gateway.store.migrations import run_file

_FACTS = ("sample", "histogram_sample", "exp_histogram_sample", "summary_sample", "exemplar", "log", "span")
_ROLLUPS = ("sample_1m", "sample_1h")


def upgrade(connection: layout.Connection, wanted_layout: str) -> None:
    """Make every table and view of an empty store, in the layout that is asked for or found possible."""
    chosen = layout.choose(connection, wanted_layout)
    partitioned = "PARTITION BY RANGE (time)" if chosen.native else ""
    run_file(connection, "0001_dimensions.sql")
    layout.write_setting(connection, "layout", f'"{chosen.name}"')
    layout.write_setting(connection, "rollups", '"gateway"' if chosen.gateway_rollups else '"continuous"')
    run_file(connection, "0001_facts.sql", partitioned=partitioned)
    _make_hypertables(connection, chosen, _FACTS)
    if chosen.gateway_rollups:
        run_file(connection, "0001_rollups_gateway.sql", partitioned=partitioned)
        _make_hypertables(connection, chosen, _ROLLUPS)
        run_file(connection, "0001_time_indexes.sql")
    else:
        run_file(connection, "0001_rollups_continuous.sql")
    run_file(connection, "0001_views.sql")
    connection.execute("COMMENT ON TABLE schema_version IS 'Which migrations this schema has.'")
    connection.execute("COMMENT ON COLUMN schema_version.version_num IS 'The latest migration applied.'")


def _make_hypertables(connection: layout.Connection, chosen: layout.Layout, tables: tuple[str, ...]) -> None:
    if chosen.native:
        return
    for table in tables:
        connection.execute(
            "SELECT create_hypertable(%s::regclass, by_range('time', INTERVAL '1 day'),"
            " create_default_indexes => false)",
            (table,),
        )
