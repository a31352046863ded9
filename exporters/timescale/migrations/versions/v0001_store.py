"""The store: dimensions, facts, rollups and views."""

from pathlib import Path

from alembic import context, op

from exporters.timescale import layout

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_HERE = Path(__file__).parent


def upgrade() -> None:
    """Make every table and view of an empty store, in the layout that is asked for or found possible."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    chosen = layout.choose(connection, context.config.attributes["layout"])

    def run(name: str) -> None:
        script = (_HERE / name).read_text("utf-8")
        partitioned = "PARTITION BY RANGE (time)" if chosen.native else ""
        connection.execute(script.replace("%(partitioned)s", partitioned).encode())

    run("0001_dimensions.sql")
    layout.write_setting(connection, "layout", f'"{chosen.name}"')
    layout.write_setting(connection, "rollups", '"gateway"' if chosen.gateway_rollups else '"continuous"')
    run("0001_facts.sql")
    _make_hypertables(connection, chosen, layout.FACTS)
    if chosen.gateway_rollups:
        run("0001_rollups_gateway.sql")
        _make_hypertables(connection, chosen, layout.ROLLUPS)
        run("0001_time_indexes.sql")
    else:
        run("0001_rollups_continuous.sql")
    run("0001_views.sql")
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
