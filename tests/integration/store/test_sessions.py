"""Whatever server, database, role and environment have set: the store is made, written, kept and read all the same."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql
from psycopg.conninfo import make_conninfo

from gateway.cli import main
from gateway.component import UnavailableError
from gateway.embedded import binaries
from gateway.store import schema
from gateway.store.backup import BackupError
from gateway.store.backup.dump import backup
from gateway.store.backup.restore import restore
from gateway.store.connections import Connections
from gateway.store.postgres import UnusableServerError, connect, connect_async
from gateway.store.schema import SchemaError
from tests.integration.cli.processes import config_text
from tests.support.databases import Database, Server, fresh
from tests.support.scenarios import assert_works, read, set_for
from tests.support.stores import maintain, migrate, running_exporter, settings, store
from tests.support.telemetry import DAY, gauge, now

pytestmark = pytest.mark.empty_database  # a store is made under what is tried

ODD: dict[str, dict[str, str]] = {
    "Asia/Kolkata": {"timezone": "Asia/Kolkata", "timezone_abbreviations": "India"},
    "Asia/Kathmandu": {"timezone": "Asia/Kathmandu"},
    "German dates": {"datestyle": "German, DMY"},
    "SQL dates": {"datestyle": "SQL, DMY", "intervalstyle": "sql_standard"},
    "LATIN1 clients": {"client_encoding": "LATIN1"},
    "old texts": {"bytea_output": "escape", "extra_float_digits": "-15", "quote_all_identifiers": "on"},
    "old strings": {"standard_conforming_strings": "off", "backslash_quote": "off", "xmloption": "document"},
    "old nulls": {"array_nulls": "off", "transform_null_equals": "on"},
    "serializable": {"default_transaction_isolation": "serializable"},
    "repeatable read": {"default_transaction_isolation": "repeatable read", "default_transaction_deferrable": "on"},
    "read only": {"default_transaction_read_only": "on"},
    "quick commits": {"synchronous_commit": "off"},
    "impatient": {"lock_timeout": "1ms", "exit_on_error": "on"},
    "restricted": {"restrict_nonsystem_relation_kind": "view, foreign-table", "row_security": "off"},
    "replica": {"session_replication_role": "replica", "check_function_bodies": "off"},
    "fuzzy": {"gin_fuzzy_search_limit": "1", "default_toast_compression": "pglz"},
    "odd plans": {
        "constraint_exclusion": "on",
        "enable_partition_pruning": "off",
        "enable_seqscan": "off",
        "plan_cache_mode": "force_generic_plan",
        "debug_parallel_query": "on",
    },
    "a schema": {"search_path": "odd, public"},
}
"""Settings of a database, each with a value that something else on the server may need."""
TOGETHER = [
    ["Asia/Kolkata", "German dates", "LATIN1 clients", "old texts", "old strings", "old nulls", "serializable",
     "quick commits", "impatient", "restricted", "fuzzy"],
    ["Asia/Kathmandu", "SQL dates", "repeatable read", "read only", "odd plans"],
    ["replica"],
    ["a schema"],
]  # fmt: skip
"""All of them, as many at once as contradict each other in nothing."""
ENVIRONMENTS = [
    {"PGCLIENTENCODING": "LATIN1", "PGTZ": "Asia/Kolkata", "PGDATESTYLE": "German"},
    {"PGOPTIONS": "-c timezone=Asia/Kathmandu -c datestyle=German -c search_path=nowhere"},
]
LOCALES = ["LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST'"]


async def assert_all_works(database: Database, folder: Path) -> None:
    """Use a store, and go on with what a backup of it holds."""
    expected = await assert_works(database)
    made = backup(database.dsn, folder, keep=None, bin_dirs=[binaries()], progress=lambda _: None)
    with as_odd(database) as other:
        target = other.dsn
        if not other.native and other.value("SHOW session_replication_role") != "origin":
            with pytest.raises(BackupError, match="add options='-c session_replication_role=origin'"):
                restore(target, made.path, bin_dirs=[binaries()], say=lambda _: None)
            target = make_conninfo(target, options="-c session_replication_role=origin")
        restore(target, made.path, bin_dirs=[binaries()], say=lambda _: None)
        assert read(other) == expected
        async with running_exporter(other) as exporter:
            assert await store(exporter, gauge([2.0])) == [True]


@contextmanager
def as_odd(database: Database) -> Iterator[Database]:
    """Make an empty database with all that is set for another one."""
    with fresh(database.server) as other:
        with psycopg.connect(database.server.dsn, autocommit=True) as connection:
            rows = connection.execute(
                "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
                " WHERE datname = %s",
                (database.name,),
            )
            for (setting,) in rows.fetchall():
                set_for(other, *setting.split("=", 1))
        yield other


def knows(database: Database, setting: str) -> bool:
    """Whether the server has a setting: some came with later versions of PostgreSQL."""
    return bool(database.value("SELECT count(*) FROM pg_settings WHERE name = %s", [setting]))


def test_each_odd_setting_is_tried_and_none_hides_another() -> None:
    assert sorted(name for names in TOGETHER for name in names) == sorted(ODD)
    for names in TOGETHER:
        settings = [setting for name in names for setting in ODD[name]]
        assert len(settings) == len(set(settings))


@pytest.mark.parametrize("names", TOGETHER, ids=", ".join)
async def test_odd_settings_change_nothing(names: list[str], database: Database, tmp_path: Path) -> None:
    database.run("CREATE SCHEMA odd")
    for name in names:
        for setting, value in ODD[name].items():
            if knows(database, setting):
                set_for(database, setting, value)
    await assert_all_works(database, tmp_path)
    if "a schema" in names:
        assert database.value("SELECT count(*) > 0 FROM odd.sample")


def test_who_may_not_let_triggers_run_is_told_that_timescale_needs_them(timescale_database: Database) -> None:
    """TimescaleDB would keep in its catalogs what a migration drops."""
    role = f"{timescale_database.name}_powerless"
    timescale_database.run(f"CREATE ROLE {role} LOGIN")
    try:
        timescale_database.run(f"ALTER DATABASE {timescale_database.name} OWNER TO {role}")
        set_for(timescale_database, "session_replication_role", "replica")
        connections = Connections(make_conninfo(timescale_database.dsn, user=role))
        with pytest.raises(UnusableServerError, match="GRANT SET ON PARAMETER session_replication_role"):
            schema.migrate(connections)
        timescale_database.run(f"GRANT SET ON PARAMETER session_replication_role TO {role}")
        assert schema.migrate(connections).name == "timescale"
        assert timescale_database.count("timescaledb_information.continuous_aggregates") == 0
        assert timescale_database.count("pg_tables WHERE starts_with(tablename, '_materialized_hypertable')") == 0
        assert schema.status(connections).pending == []
    finally:
        timescale_database.run(f"REVOKE SET ON PARAMETER session_replication_role FROM {role}")
        timescale_database.run(f"ALTER DATABASE {timescale_database.name} OWNER TO CURRENT_USER")
        timescale_database.run(f"DROP OWNED BY {role} CASCADE")
        timescale_database.run(f"DROP ROLE {role}")


@pytest.mark.parametrize("variables", ENVIRONMENTS, ids=", ".join)
async def test_an_odd_environment_changes_nothing(
    variables: dict[str, str], database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    await assert_all_works(database, tmp_path)


@pytest.mark.parametrize("locale", LOCALES)
async def test_an_odd_locale_changes_nothing(locale: str, embedded_server: Server, tmp_path: Path) -> None:
    with psycopg.connect(embedded_server.dsn) as connection:
        if "builtin" in locale and connection.info.server_version < 180_000:
            pytest.skip("this locale is of PostgreSQL 18 and newer")
    with made_as(embedded_server, f"ENCODING 'UTF8' {locale}") as database:
        await assert_all_works(database, tmp_path)


async def test_tables_are_heaps_whatever_other_tables_are(native_database: Database, tmp_path: Path) -> None:
    native_database.run("CREATE ACCESS METHOD odd TYPE TABLE HANDLER heap_tableam_handler")
    set_for(native_database, "default_table_access_method", "odd")
    async with running_exporter(native_database) as exporter:
        await store(exporter, gauge())
    assert native_database.count("pg_class c JOIN pg_am a ON a.oid = c.relam WHERE amname = 'odd'") == 0


@contextmanager
def made_as(server: Server, how: str) -> Iterator[Database]:
    """Make an empty database in a way of its own."""
    database = Database(server, f"obs_hub_test_{uuid.uuid4().hex[:12]}")
    name = sql.Identifier(database.name)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        try:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 {}").format(name, sql.SQL(how)))
        except psycopg.errors.FeatureNotSupported as error:
            pytest.skip(str(error))
        try:
            yield database
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


async def test_a_search_path_that_changes_later_moves_nothing(native_database: Database, tmp_path: Path) -> None:
    async with running_exporter(native_database) as exporter:
        await store(exporter, gauge())
    native_database.run("CREATE SCHEMA odd")
    set_for(native_database, "search_path", "odd, public")
    async with running_exporter(native_database) as exporter:
        await store(exporter, gauge(at=now() - 20 * DAY))
        await asyncio.to_thread(maintain, native_database, retention={"metrics": "10d"}, accept={"past": "10d"})
    assert native_database.count("pg_class WHERE relnamespace = 'odd'::regnamespace") == 0
    assert native_database.count("sample") == 1, "retention finds partitions wherever they are"
    for table in ("sample", "store_setting"):
        native_database.run(f"ALTER TABLE {table} SET SCHEMA odd")
    with pytest.raises(BackupError, match=r"ALTER TABLE \S*sample_p\d+_0000 SET SCHEMA odd"):
        backup(native_database.dsn, tmp_path, keep=None, bin_dirs=[binaries()], progress=lambda _: None)


async def test_a_search_path_that_leads_past_a_store_makes_no_second_one(native_database: Database) -> None:
    """Set for a role or a database, perhaps by somebody who does not know of the store."""
    async with running_exporter(native_database) as exporter:
        await store(exporter, gauge())
    native_database.run("CREATE SCHEMA odd")
    set_for(native_database, "search_path", "odd")
    connections = Connections(native_database.dsn)
    for look in (schema.migrate, schema.status):
        with pytest.raises(schema.SchemaError, match=r"has a store in schema public.*options=-csearch_path=public"):
            look(connections)
    assert native_database.count("pg_class WHERE relnamespace = 'odd'::regnamespace") == 0
    named = Connections(make_conninfo(native_database.dsn, options="-csearch_path=public"))
    assert schema.migrate(named).native
    beside = Connections(make_conninfo(native_database.dsn, options="-csearch_path=odd"))
    assert schema.status(beside).applied == []
    assert schema.migrate(beside).native, "a schema that the connection string names is meant"
    assert native_database.count("odd.store_setting") > 0


async def test_a_search_path_that_changes_while_a_gateway_runs_does_not_hide_its_store(
    native_database: Database,
) -> None:
    async with running_exporter(native_database) as exporter:
        await store(exporter, gauge())
        set_for(native_database, "search_path", "pg_catalog")
        native_database.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        with pytest.raises(UnavailableError):
            await store(exporter, gauge())
        assert await store(exporter, gauge(at=now() - DAY)) == [True]
    assert native_database.count("public.sample") == 2


# -- what a session is ------------------------------------------------------------------------------------------------


def current(connection: psycopg.Connection[Any], *names: str) -> list[str]:
    return [connection.execute("SELECT current_setting(%s)", (name,)).fetchone()[0] for name in names]


def test_a_role_can_no_more_than_a_database_change_a_session(native_database: Database) -> None:
    with native_database.connect() as connection:
        role = connection.info.user
    all_bounds = (
        "statement_timeout",
        "transaction_timeout",
        "idle_session_timeout",
        "idle_in_transaction_session_timeout",
    )
    bounds = [name for name in all_bounds if knows(native_database, name)]
    for name in bounds:
        set_for(native_database, name, "5min", role)
    set_for(native_database, "timezone", "Asia/Kolkata", role)
    set_for(native_database, "work_mem", "5MB", role)
    with Connections(native_database.dsn).open() as connection:
        assert current(connection, *bounds, "TimeZone", "lock_timeout") == ["0"] * len(bounds) + ["UTC", "10s"]
        assert current(connection, "work_mem") == ["5MB"], "what is for the administrator to choose stays"
    with connect(native_database.dsn, reading=True) as connection:
        assert current(connection, *bounds, "TimeZone") == ["5min"] * len(bounds) + ["UTC"], "who reads is bounded"


def test_a_connection_string_says_what_is_not_relied_on(native_database: Database) -> None:
    said = r"-c statement_timeout=7min --lock-timeout=3s -csearch_path=a\ ,public -c timezone=Asia/Kolkata"
    dsn = make_conninfo(native_database.dsn, options=said, application_name="mine", client_encoding="LATIN1")
    with Connections(dsn).open({"lock_timeout": "0"}) as connection:
        found = current(connection, "statement_timeout", "lock_timeout", "search_path", "TimeZone", "application_name")
        assert found == ["7min", "0", "a ,public", "UTC", "mine"]
        assert connection.info.encoding == "utf-8"
    with pytest.raises(psycopg.OperationalError, match="no_such_setting"):
        connect(make_conninfo(native_database.dsn, options="-c no_such_setting=1"))


@pytest.mark.parametrize(
    ("by_role", "configured", "expected"),
    [
        ("off", "on", "on"),
        ("local", "on", "on"),
        ("remote_apply", "on", "remote_apply"),
        ("on", "off", "off"),
        ("off", "remote_write", "remote_write"),
    ],
)
async def test_commits_are_as_durable_as_configured_or_more(
    by_role: str, configured: str, expected: str, native_database: Database
) -> None:
    set_for(native_database, "synchronous_commit", by_role)
    async with running_exporter(native_database, synchronous_commit=configured) as exporter:
        await store(exporter, gauge())
        with exporter._all_writers[0]._connect() as connection:
            assert current(connection, "synchronous_commit") == [expected]


def test_yaml_may_read_on_and_off_as_true_and_false() -> None:
    assert [settings(synchronous_commit=value).synchronous_commit for value in (True, False)] == ["on", "off"]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_cannot_hold_every_text_is_refused_with_what_to_do(
    encoding: str, embedded_server: Server, tmp_path: Path
) -> None:
    with made_as(embedded_server, f"ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C'") as database:
        advice = f"has the encoding {encoding}.*CREATE DATABASE .* ENCODING 'UTF8'"
        with pytest.raises(SchemaError, match=advice):
            async with running_exporter(database):
                pass
        with pytest.raises(UnusableServerError, match=advice):
            await connect_async(database.dsn)
        for command in (["query", "SELECT 1"], ["db", "status"], ["db", "migrate"], ["db", "backup"], ["logs"]):
            refused = CliRunner().invoke(main, [*command, "--dsn", database.dsn, "--data-dir", str(tmp_path)])
            assert refused.exit_code == 1
            assert f"has the encoding {encoding}" in refused.output


# -- doctor -----------------------------------------------------------------------------------------------------------


def test_the_doctor_finds_what_harms_and_what_is_other_than_sessions_have(
    native_database: Database, tmp_path: Path
) -> None:
    for name, value in {"timezone": "Asia/Kolkata", "synchronous_commit": "off", "zero_damaged_pages": "on"}.items():
        set_for(native_database, name, value)
    migrate(native_database)
    config = tmp_path / "hub.yaml"
    config.write_text(config_text(timescale={"dsn": native_database.dsn, "synchronous_commit": "local"}))
    looked = CliRunner().invoke(main, ["doctor", "--config", str(config), "--data-dir", str(tmp_path / "data")])
    assert looked.exit_code == 1, looked.output
    for finding in (
        "FAIL  server: fsync = off\n      -> a crash of the machine can destroy the database",
        "FAIL  server: zero_damaged_pages = on",
        "  --  server: timezone = Asia/Kolkata, synchronous_commit = off by server, database or role",
        "  --  server: exporters.timescale.synchronous_commit is local\n      -> records that were acknowledged can be",
        "  ok  schema: up to date",
    ):
        assert finding in looked.output


async def test_the_doctor_finds_that_timescales_jobs_do_not_run(timescale_database: Database, tmp_path: Path) -> None:
    config = tmp_path / "hub.yaml"
    config.write_text(config_text(timescale={"dsn": timescale_database.dsn}))

    def look() -> str:
        command = ["doctor", "--config", str(config), "--data-dir", str(tmp_path / "data")]
        return CliRunner().invoke(main, command).output

    finding = "FAIL  jobs: TimescaleDB's scheduler does not run in this database"
    scheduler = "SELECT count(*) = %s FROM pg_stat_activity WHERE datname = current_database()"
    scheduler += " AND application_name = 'TimescaleDB Background Worker Scheduler'"
    set_for(timescale_database, "default_transaction_read_only", "on")
    async with running_exporter(timescale_database):
        pass  # the policies are set, and their jobs are due
    await timescale_database.until(scheduler, (0,))
    assert finding in look()
    set_for(timescale_database, "default_transaction_read_only", "off")
    timescale_database.run("SELECT _timescaledb_functions.start_background_workers()")
    await timescale_database.until(scheduler, (1,))
    assert finding not in look()


def test_the_doctor_finds_an_encoding_that_cannot_hold_every_text(embedded_server: Server, tmp_path: Path) -> None:
    with made_as(embedded_server, "ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'") as database:
        config = tmp_path / "hub.yaml"
        config.write_text(config_text(timescale={"dsn": database.dsn}))
        looked = CliRunner().invoke(main, ["doctor", "--config", str(config), "--data-dir", str(tmp_path / "data")])
    assert "FAIL  store: the database" in looked.output
    assert "ENCODING 'UTF8'" in looked.output
