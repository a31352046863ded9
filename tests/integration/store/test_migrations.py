"""The schema: made once, by whoever is first, and never used when it is not understood."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from exporters.timescale.exporter import TimescaleExporter
from gateway.component import UnavailableError
from gateway.store import locks, migrations, schema
from gateway.store.connections import Connections
from gateway.store.layout import LayoutError
from gateway.store.migrations import Migration, all_migrations
from tests.support.databases import Database
from tests.support.stores import make_earlier, migrate, running_exporter, settings, store
from tests.support.telemetry import gauge
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.empty_database


def test_auto_chooses_what_the_server_offers(database: Database) -> None:
    assert migrate(database).name == database.server.layout


def test_a_store_describes_its_layout_and_server(database: Database) -> None:
    said = migrate(database).describe()
    assert f"layout {database.server.layout}" in said
    assert database.value("SHOW server_version").split()[0] in said


def test_migrating_again_changes_nothing(database: Database) -> None:
    objects = "SELECT array_agg((oid, relname) ORDER BY oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    first = migrate(database)
    before = database.value(objects)
    assert migrate(database) == first
    assert database.value(objects) == before


def test_many_threads_may_migrate_one_empty_database_at_once(database: Database) -> None:
    with ThreadPoolExecutor(6) as threads:
        layouts = list(threads.map(lambda _: migrate(database), range(6)))
    assert {layout.name for layout in layouts} == {database.server.layout}
    assert database.run("SELECT version_num FROM schema_version") == [("0010",)]


def test_many_processes_may_migrate_one_empty_database_at_once(database: Database) -> None:
    program = (
        "import sys; from gateway.store import schema; from gateway.store.connections import Connections;"
        "print(schema.migrate(Connections(sys.argv[1])).name)"
    )
    command = [sys.executable, "-c", program, database.dsn]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=PATIENCE)[0].strip() for process in processes]
    assert said == [database.server.layout] * 3
    assert [process.returncode for process in processes] == [0, 0, 0]


def test_status_lists_what_is_pending_and_changes_nothing(database: Database) -> None:
    status = schema.status(Connections(database.dsn))
    assert status.applied == []
    assert [name.split()[0] for name in status.pending] == [
        "0001",
        "0002",
        "0003",
        "0004",
        "0005",
        "0006",
        "0007",
        "0008",
        "0009",
        "0010",
    ]
    assert status.layout is None
    assert database.value("SELECT to_regclass('schema_version')") is None


def test_migrations_are_numbered_one_after_another_and_say_what_they_are_about() -> None:
    described = [migration.describe() for migration in all_migrations()]
    assert [said[:5] for said in described] == [f"{number:04} " for number in range(1, len(described) + 1)]
    assert all(re.fullmatch(r"\d{4} [A-Z].+\.", said) for said in described), described


def test_a_migration_is_one_file_of_sql_or_one_module() -> None:
    """Of several files with one number, and no module that runs them, all but one would be left out."""
    files = [path.name for path in Path(migrations.__file__).parent.iterdir()]
    modules = [name[1:5] for name in files if re.match(r"v\d{4}_.+\.py", name)]
    alone = [name[:4] for name in files if name.endswith(".sql") and name[:4] not in modules]
    assert sorted(modules + alone) == [migration.revision for migration in all_migrations()]


def test_the_version_is_kept_where_earlier_gateways_look_for_it(database: Database) -> None:
    """Those had Alembic keep it. One of them refuses a store that has become too new for it, and says so."""
    migrate(database)
    columns = database.run(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
        " WHERE attrelid = 'schema_version'::regclass AND attnum > 0"
    )
    assert columns == [("version_num", "character varying(32)", True)]
    keys = database.run("SELECT conname, contype::text FROM pg_constraint WHERE conrelid = 'schema_version'::regclass"
                        " AND contype = 'p'")  # fmt: skip
    assert keys == [("schema_version_pkc", "p")]


def test_a_store_that_alembic_made_is_taken_on(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that has no more than the table of versions, which is made before the first migration."""
    database.run(
        "CREATE TABLE schema_version"
        " (version_num VARCHAR(32) NOT NULL, CONSTRAINT schema_version_pkc PRIMARY KEY (version_num))"
    )
    make_earlier(database, "0003", monkeypatch)
    assert database.run("SELECT version_num FROM schema_version") == [("0003",)]
    migrate(database)
    assert schema.status(Connections(database.dsn)).pending == []


def test_a_migration_that_fails_leaves_nothing_and_those_before_it_stay(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "v9998_broken.sql"
    broken.write_text("-- Broken.\nCREATE TABLE half (id int);\nSELECT 1 / 0;\n")
    last = all_migrations()[-1].revision
    with monkeypatch.context() as patched:
        patched.setattr(schema, "all_migrations", lambda: [*all_migrations(), Migration("9998", broken)])
        with pytest.raises(psycopg.errors.DivisionByZero):
            migrate(database)
    assert database.run("SELECT version_num FROM schema_version") == [(last,)]
    assert database.value("SELECT to_regclass('half')") is None


def test_status_lists_what_is_applied(database: Database) -> None:
    present = migrate(database)
    status = schema.status(Connections(database.dsn))
    assert [name.split()[0] for name in status.applied] == [
        "0001",
        "0002",
        "0003",
        "0004",
        "0005",
        "0006",
        "0007",
        "0008",
        "0009",
        "0010",
    ]
    assert status.pending == []
    assert status.layout == present


def test_a_store_of_a_newer_version_is_refused(database: Database) -> None:
    migrate(database)
    database.run("UPDATE schema_version SET version_num = '9999'")
    for refused in (migrate, lambda database: schema.status(Connections(database.dsn))):
        with pytest.raises(schema.SchemaError, match=r"9999.*made by a newer one; upgrade this gateway"):
            refused(database)
    assert database.value("SELECT version_num FROM schema_version") == "9999"


async def test_an_exporter_does_not_start_on_a_store_of_a_newer_version(database: Database) -> None:
    migrate(database)
    database.run("UPDATE schema_version SET version_num = '9999'")
    with pytest.raises(schema.SchemaError, match="upgrade this gateway"):
        async with running_exporter(database):
            pass


def test_the_timescale_layout_needs_the_extension(native_database: Database) -> None:
    with pytest.raises(LayoutError, match=r"layout timescale is not possible: .*layout: native"):
        migrate(native_database, "timescale")
    assert native_database.value("SELECT to_regclass('sample')") is None


def test_after_a_failed_migration_the_next_succeeds(native_database: Database) -> None:
    with pytest.raises(LayoutError):
        migrate(native_database, "timescale")
    assert migrate(native_database, "native").name == "native"


def test_the_native_layout_works_on_a_server_with_the_extension(timescale_database: Database) -> None:
    assert migrate(timescale_database, "native").native
    assert migrate(timescale_database, "auto").native


def test_a_store_keeps_its_layout(timescale_database: Database) -> None:
    migrate(timescale_database, "native")
    with pytest.raises(
        LayoutError, match="layout: timescale is configured, but this store was made with layout native"
    ):
        migrate(timescale_database, "timescale")


def test_a_store_keeps_its_layout_the_other_way_round(timescale_database: Database) -> None:
    migrate(timescale_database, "timescale")
    with pytest.raises(
        LayoutError, match="layout: native is configured, but this store was made with layout timescale"
    ):
        migrate(timescale_database, "native")


async def test_a_store_is_refused_as_unavailable_when_its_schema_goes_wrong_under_way(database: Database) -> None:
    """A database that comes back as another one must not lose what clients send meanwhile."""
    database.allow_connections(False)
    try:
        async with running_exporter(database) as exporter:
            database.allow_connections(True)
            migrate(database)
            database.run("UPDATE schema_version SET version_num = '9999'")
            with pytest.raises(UnavailableError, match="upgrade this gateway"):
                await store(exporter, gauge())
    finally:
        database.allow_connections(True)


def test_the_default_layout_is_auto() -> None:
    assert settings().layout == "auto"


@contextmanager
def migrating(database: Database) -> Iterator[None]:
    """Hold the lock of another gateway that migrates."""
    with database.connect() as other:
        locks.make(other)
        with other.transaction():
            locks.hold(other, locks.Lock.MIGRATION)
            yield


def test_a_lock_that_somebody_holds_is_not_waited_for_without_end(database: Database) -> None:
    """Neither for another gateway's migration, nor for somebody's table within one's own."""
    impatient = Connections(make_conninfo(database.dsn, options="-c lock_timeout=200ms"))
    with migrating(database), pytest.raises(psycopg.errors.LockNotAvailable):
        schema.migrate(impatient)
    with psycopg.connect(database.dsn) as other:
        other.execute("CREATE TABLE resource (id int)")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            schema.migrate(impatient)
        other.rollback()
    assert schema.migrate(impatient).name == database.server.layout


async def test_an_exporter_that_cannot_have_the_lock_starts_and_migrates_later(database: Database) -> None:
    dsn = make_conninfo(database.dsn, options="-c lock_timeout=200ms")
    exporter = TimescaleExporter("timescale", settings(), dsn)
    with migrating(database):
        await exporter.start()
        with pytest.raises(UnavailableError, match="lock timeout"):
            await store(exporter, gauge())
    try:
        assert await store(exporter, gauge()) == [True]
    finally:
        await exporter.stop()


@pytest.fixture
def earlier(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A store that a version before the times of latest values made, with rollups that reach back beyond its points."""
    make_earlier(database, "0004", monkeypatch)
    return database


def earlier_points(database: Database, *ages: str) -> None:
    for age in ages:
        columns = "(time, series_id, value, time_ns)"
        database.run(f"INSERT INTO sample {columns} VALUES (now() - %s::interval, 1, 5, 0)", [age])


async def test_rollups_of_an_earlier_version_stay(earlier: Database) -> None:
    described = ("INSERT INTO metric VALUES (1, 'm', 'sum', '', '', 2, true, '{}', 0)",
                 "INSERT INTO resource (id, attributes, epoch) VALUES (1, '{}', 0)",
                 "INSERT INTO scope (id, name, epoch) VALUES (1, 's', 0)",
                 "INSERT INTO series VALUES (1, 1, 1, 1, '{}', 0)")  # fmt: skip
    for statement in described:
        earlier.run(statement)
    if earlier.native:
        for age in ("40 days", "3 hours", "1 hour"):
            earlier.run("CREATE TABLE IF NOT EXISTS sample_1m_all PARTITION OF sample_1m DEFAULT")
            minute = "date_trunc('minute', now() - %s::interval)"
            earlier.run(f"INSERT INTO sample_1m VALUES ({minute}, 1, 1, 5, 5, 5, 5)", [age])
    else:
        earlier_points(earlier, "40 days", "3 hours", "1 hour")
        for table in ("sample_1m", "sample_1h"):
            earlier.run(f"CALL refresh_continuous_aggregate('{table}', NULL, NULL)")
        earlier.run("SELECT drop_chunks('sample', older_than => interval '30 days')")
    before = earlier.run("SELECT time, value, last FROM metrics_1m ORDER BY 1")
    assert len(before) == 3

    migrate(earlier)

    assert earlier.run("SELECT time, value, last FROM metrics_1m ORDER BY 1") == before
    timed = [row[0] for row in earlier.run("SELECT last_time IS NOT NULL FROM metrics_1m ORDER BY time")]
    # Of the first hour there are points of, some may be gone; from the next one on it is computed anew.
    assert timed == ([False, False, False] if earlier.native else [False, False, True])
    async with running_exporter(earlier, retention={"rollup_1m": "60d"}):
        pass
    if not earlier.native:
        jobs = earlier.run("SELECT count(*) FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'"
                           " AND config ->> 'drop_after' = '60 days'")  # fmt: skip
        assert jobs == [(4,)]  # of the rollup by minute, as rows and in frames, and of its two predecessors
    assert earlier.run("SELECT time, value, last FROM metrics_1m ORDER BY 1") == before


async def test_rollups_that_can_be_computed_anew_leave_nothing_behind(earlier: Database) -> None:
    if earlier.native:
        return
    earlier_points(earlier, "2 days", "3 hours")
    earlier.run("CALL refresh_continuous_aggregate('sample_1m', NULL, NULL)")
    earlier.run("CALL refresh_continuous_aggregate('sample_1h', NULL, NULL)")

    migrate(earlier)

    assert earlier.value("SELECT to_regclass('sample_1m_earlier')") is None
    assert earlier.value("SELECT count(last_time) FROM rollup_1h") == 2
