"""A store that is migrated while gateways of the version before still write to it, and the way back.

What is tried of later versions is the present one with a migration more.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

from gateway.store import locks, migrations, schema
from gateway.store.connections import Connections
from gateway.store.maintenance import Maintenance
from gateway.store.migrations import all_migrations
from tests.integration.cli.processes import obs_hub
from tests.support.databases import Database
from tests.support.stores import maintain, migrate, running_exporter, settings, store
from tests.support.telemetry import gauge
from tests.support.upgrades import NEXT, later_version, migrate_later


async def test_a_gateway_writes_on_while_the_store_becomes_newer_and_starts_on_it_again(
    database: Database, tmp_path: Path
) -> None:
    async with running_exporter(database) as exporter:
        assert await store(exporter, gauge(values=[1])) == [True]
        migrate_later(database, tmp_path)
        assert await store(exporter, gauge(values=[2])) == [True]
    async with running_exporter(database) as exporter:
        assert await store(exporter, gauge(values=[3])) == [True]
    assert database.count("number_point") == 3


async def test_a_store_that_a_gateway_can_no_longer_write_to_is_refused_at_its_start(
    database: Database, tmp_path: Path
) -> None:
    migrate_later(database, tmp_path, writes_from=NEXT)
    with pytest.raises(schema.SchemaError, match=f"version {NEXT}.*upgrade this gateway"):
        async with running_exporter(database):
            pass


def test_what_a_store_said_before_it_was_migrated_does_not_count(database: Database, tmp_path: Path) -> None:
    """A version that says nothing of others is one that does not know of this."""
    migrate(database)
    database.run("UPDATE schema_version SET version_num = %s", [NEXT])
    with pytest.raises(schema.SchemaError, match="upgrade this gateway"):
        migrate(database)


def test_maintenance_is_left_to_those_that_know_of_all_there_is(database: Database, tmp_path: Path) -> None:
    maintenance = Maintenance(settings(), migrate(database))
    database.run("INSERT INTO receipt (digest, received_at) VALUES (gen_random_uuid(), now() - interval '30 days')")
    database.run("INSERT INTO rollup_pending VALUES (date_trunc('minute', now() - interval '1 hour'))")
    migrate_later(database, tmp_path)
    with Connections(database.dsn).open() as connection, capture_logs() as logs:
        assert not maintenance.run(connection)
        assert not maintenance.run(connection)
    assert database.count("rollup_pending") == 1, "struck off without being rolled up from all there is"
    assert [log["what_to_do"] for log in logs] == ["upgrade this gateway"], "once"
    with later_version(tmp_path):
        maintain(database)
    assert database.count("rollup_pending") == 0


def test_maintenance_goes_on_where_the_newer_store_has_nothing_that_it_would_miss(
    database: Database, tmp_path: Path
) -> None:
    migrate(database)
    database.run("INSERT INTO rollup_pending VALUES (date_trunc('minute', now() - interval '1 hour'))")
    migrate_later(database, tmp_path, maintains_from=all_migrations()[-1].revision)
    maintain(database)
    assert database.count("rollup_pending") == 0


async def test_a_gateway_leaves_the_policies_of_a_newer_store_alone(
    timescale_database: Database, tmp_path: Path
) -> None:
    async with running_exporter(timescale_database):
        pass
    migrate_later(timescale_database, tmp_path)
    before = timescale_database.value("SELECT value FROM store_setting WHERE key = 'policies'")
    async with running_exporter(timescale_database, retention={"metrics": "3d"}, accept={"past": "1d"}):
        pass
    assert timescale_database.value("SELECT value FROM store_setting WHERE key = 'policies'") == before


def test_commands_tell_of_a_newer_store(native_database: Database, tmp_path: Path) -> None:
    migrate_later(native_database, tmp_path)
    said = obs_hub("db", "status", "--dsn", native_database.dsn)
    assert said.returncode == 0, said.stderr
    assert f"newer    {NEXT}: a later version migrated the store; this one can write to it" in said.stdout
    assert "The schema is up to date" in obs_hub("db", "migrate", "--dsn", native_database.dsn).stdout


# -- versions before this one knew nothing of that -----------------------------------------------------------------

_LOCK_OF_EARLIER = "lock_maintenance"


@pytest.mark.empty_database
def test_gateways_that_know_no_frames_cannot_maintain_a_store_that_has_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would strike off minutes rolled up without what is in frames. Their starts would make the lock again."""
    known = [migration for migration in all_migrations() if migration.revision < "0007"]
    with monkeypatch.context() as patched:
        patched.setattr(schema, "all_migrations", lambda: known)
        migrate(database)
    database.run(f"CREATE TABLE {_LOCK_OF_EARLIER} ()")
    with database.connect() as earlier, earlier.transaction():
        earlier.execute(f"LOCK TABLE {_LOCK_OF_EARLIER} IN EXCLUSIVE MODE NOWAIT")
    migrate(database)
    require_that_nobody_can_lock(database)
    # A store that got its frames before this was known has the lock still, and nothing that says who may write.
    database.run(f"DROP TYPE {_LOCK_OF_EARLIER}")
    database.run(f"CREATE TABLE {_LOCK_OF_EARLIER} ()")
    database.run("DELETE FROM store_setting WHERE key = 'compatible'")
    migrate(database)
    require_that_nobody_can_lock(database)


def require_that_nobody_can_lock(database: Database) -> None:
    assert database.value("SELECT to_regclass(%s)", [_LOCK_OF_EARLIER]) is not None, "it is made where it is missing"
    with database.connect() as earlier, pytest.raises(psycopg.errors.WrongObjectType), earlier.transaction():
        earlier.execute(f"LOCK TABLE {_LOCK_OF_EARLIER} IN EXCLUSIVE MODE NOWAIT")
    assert _LOCK_OF_EARLIER not in {lock.value for lock in locks.Lock}


_POINT = ("time", "series_id", "time_ns", "start_time", "start_time_ns", "flags")
WRITTEN = {
    "0006": {
        "receipt": ("digest",),
        "event_identity": ("uid", "time"),
        "rollup_pending": ("minute",),
        "resource": ("id", "attributes", "dropped_attributes_count", "entity_refs", "schema_url", "epoch"),
        "scope": ("id", "name", "version", "attributes", "dropped_attributes_count", "schema_url", "epoch"),
        "metric": (*("id", "name", "type", "unit", "description", "temporality", "is_monotonic", "metadata", "epoch"),),
        "series": ("id", "metric_id", "resource_id", "scope_id", "attributes", "epoch"),
        "sample": (*_POINT, "value", "int_value"),
        "histogram_sample": (*_POINT, "count", "sum", "min", "max", "explicit_bounds", "bucket_counts"),
        "exp_histogram_sample": (
            *(*_POINT, "count", "sum", "min", "max", "scale", "zero_count", "zero_threshold"),
            *("positive_offset", "positive_bucket_counts", "negative_offset", "negative_bucket_counts"),
        ),
        "summary_sample": (*_POINT, "count", "sum", "quantiles", "quantile_values"),
        "exemplar": (
            *("time", "series_id", "time_ns", "exemplar_time", "exemplar_time_ns"),
            *("value", "int_value", "trace_id", "span_id", "filtered_attributes"),
        ),
        "log": (
            *("time", "resource_id", "scope_id", "severity_number", "time_ns", "observed_time", "observed_time_ns"),
            *("severity_text", "event_name", "trace_id", "span_id", "flags", "dropped_attributes_count"),
            *("body", "body_json", "attributes"),
        ),
        "span": (
            *("time", "resource_id", "scope_id", "kind", "time_ns", "end_time", "end_time_ns", "trace_id", "span_id"),
            *("parent_span_id", "trace_state", "name", "flags", "status_code", "status_message", "attributes"),
            *("dropped_attributes_count", "events", "dropped_events_count", "links", "dropped_links_count"),
        ),
    }
}
"""What the gateways of a version insert, by table: each column that they name."""


def test_what_gateways_of_the_earliest_version_that_may_write_insert_can_be_inserted(database: Database) -> None:
    """A migration that makes this fail raises `WRITES_FROM`, and what the gateways of that version write goes here."""
    for table, columns in WRITTEN[migrations.WRITES_FROM].items():
        with (
            database.connect() as connection,
            connection.cursor().copy(
                sql.SQL("COPY {} ({}) FROM STDIN").format(
                    sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
                )
            ),
        ):
            pass
        needed = database.run(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
            " AND attnotnull AND NOT atthasdef AND attgenerated = '' AND attidentity = ''",
            [table],
        )
        assert {name for (name,) in needed} <= set(columns), table
        unexpected = database.run(
            "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype NOT IN ('p', 'u', 'n')",
            [table],
        )
        assert not unexpected, f"{table}: rows of earlier versions may break {unexpected}"


@pytest.mark.empty_database
async def test_what_earlier_gateways_stored_after_the_migration_is_rolled_up(
    timescale_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With continuous aggregates they noted no minutes. Whoever takes the place of one sees to it."""
    known = [migration for migration in all_migrations() if migration.revision < "0007"]
    with monkeypatch.context() as patched:
        patched.setattr(schema, "all_migrations", lambda: known)
        migrate(timescale_database)
    timescale_database.run(
        "INSERT INTO sample (time, series_id, value, time_ns) VALUES (now() - '2d'::interval, 1, 5, 0)"
    )
    migrate(timescale_database)
    timescale_database.run(
        "UPDATE store_setting SET value = to_jsonb(now() - interval '1 hour') WHERE key = 'rolled_up_since'"
    )
    maintain(timescale_database)
    late = "INSERT INTO sample (time, series_id, value, time_ns) VALUES (now() - '5min'::interval, 1, 7, 0)"
    timescale_database.run(late)
    assert timescale_database.run("SELECT max FROM sample_1m") == []
    maintain(timescale_database)
    assert timescale_database.run("SELECT max FROM sample_1m") == [(7.0,)]
