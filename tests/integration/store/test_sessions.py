"""Whatever server, database, role and environment have set: the store is made, written, kept and read all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from exporters.timescale.backup.dump import backup
from exporters.timescale.backup.restore import restore
from exporters.timescale.connections import Connections
from exporters.timescale.schema import READER_ROLE, SchemaError
from gateway.embedded import binaries
from gateway.explore.store import Store
from gateway.pipeline.postgres import UnusableServerError, connect, connect_async
from tests.integration.cli.processes import obs_hub
from tests.support.databases import Database, Server, fresh
from tests.support.stores import maintain, running_exporter, settings, store
from tests.support.telemetry import DAY, SECOND, gauge, logs, now, spans

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
ENVIRONMENTS = {
    "PGCLIENTENCODING": "LATIN1",
    "PGTZ": "Asia/Kolkata",
    "PGDATESTYLE": "German",
    "PGOPTIONS": "-c timezone=Asia/Kathmandu -c default_transaction_read_only=on -c search_path=nowhere",
}
LOCALES = ["LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST'"]

HOUR = 3600 * SECOND
NAME, BODY = "日本.温度", "café \N{SNOWMAN}"


def set_for(database: Database, name: str, value: str, role: str | None = None) -> None:
    """Set something for all sessions of a database, or those of one role in it."""
    whose = sql.SQL("DATABASE {}").format(sql.Identifier(database.name))
    if role is not None:
        whose = sql.SQL("ROLE {} IN {}").format(sql.Identifier(role), whose)
    values = sql.SQL(", ").join(map(sql.Literal, value.split(", ")))
    with psycopg.connect(database.server.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER {} SET {} = {}").format(whose, sql.Identifier(name), values))


async def assert_all_works(database: Database, folder: Path) -> None:
    """Make a store, write all signals over hours, maintain it, read it, and do so again with what a backup holds."""
    first = now() // HOUR * HOUR - 3 * HOUR
    points = {first + minute * 60 * SECOND + 7: 0.1 * minute for minute in range(0, 150, 5)}
    batches = [
        gauge(points, name=NAME, attributes={"room": BODY}),
        gauge([1.0], name="old", at=now() - 20 * DAY),
        logs(BODY),
        logs(BODY, event="order.placed"),
        spans(BODY),
    ]
    async with running_exporter(database) as exporter:
        assert await store(exporter, *batches) == [True] * len(batches)
        assert await store(exporter, *batches) == [False] * len(batches)
        for _ in range(2):  # the second finds the partitions of the first
            await asyncio.to_thread(maintain, database)
        await store(exporter, gauge({first + 1: 9.0}, name=NAME))  # another series, of hours that are rolled up
        await asyncio.to_thread(maintain, database, retention={"metrics": "10d"}, accept={"past": "10d"})
    expected = read(database)
    hours = [datetime.fromtimestamp((first + n * HOUR) / SECOND, UTC) for n in range(3)]
    assert [(row["time"], row["count"]) for row in expected["hours"]] == list(zip(hours, (12, 12, 6), strict=True))
    assert [row["value"] for row in expected["points"]] == list(points.values())
    assert {row["room"] for row in expected["points"]} == {BODY}
    assert [row["body"] for row in expected["logs"]] == [BODY, BODY]
    assert [row["name"] for row in expected["events"]] == ["order.placed"]
    assert [(row["name"], row["duration_ms"]) for row in expected["spans"]] == [(BODY, 1.5)]
    assert expected["old"] == [{"count": 0}] or not database.native

    made = backup(database.dsn, folder, keep=None, bin_dirs=[binaries()], progress=lambda _: None)
    with as_odd(database) as other:
        restore(other.dsn, made.path, bin_dirs=[binaries()], say=lambda _: None)
        assert read(other) == expected
        async with running_exporter(other) as exporter:
            assert await store(exporter, batches[0], gauge([2.0])) == [False, True]


def read(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Read through the views, as the commands do."""
    named = {"name": NAME}
    with Store(database.dsn, READER_ROLE) as reader:
        return {
            "points": reader.rows(
                "SELECT time, value, attributes ->> 'room' AS room FROM metrics"
                ' WHERE name = %(name)s AND attributes @> \'{"room": "café ☃"}\' ORDER BY time',
                named,
            ),
            "hours": reader.rows(
                "SELECT time, count, sum, last FROM metrics_1h WHERE name = %(name)s AND attributes ? 'room'"
                " ORDER BY time",
                named,
            ),
            "old": reader.rows("SELECT count(*) FROM metrics WHERE name = 'old'"),
            "logs": reader.rows("SELECT time, body FROM logs ORDER BY time"),
            "events": reader.rows("SELECT time, name FROM events"),
            "spans": reader.rows("SELECT time, name, duration_ms, trace_id FROM spans"),
        }


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


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_setting_changes_nothing(name: str, native_database: Database, tmp_path: Path) -> None:
    native_database.run("CREATE SCHEMA odd")
    for setting, value in ODD[name].items():
        set_for(native_database, setting, value)
    await assert_all_works(native_database, tmp_path)
    if name == "a schema":
        assert native_database.value("SELECT count(*) > 0 FROM odd.sample")


@pytest.mark.parametrize("name", ENVIRONMENTS)
async def test_an_odd_environment_changes_nothing(
    name: str, native_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, ENVIRONMENTS[name])
    await assert_all_works(native_database, tmp_path)


@pytest.mark.parametrize("locale", LOCALES)
async def test_an_odd_locale_changes_nothing(locale: str, embedded_server: Server, tmp_path: Path) -> None:
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
    with fresh(server) as database:
        name = sql.Identifier(database.name)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {}").format(name))
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 {}").format(name, sql.SQL(how)))
        yield database


# -- what a session is ------------------------------------------------------------------------------------------------


def current(connection: psycopg.Connection[Any], *names: str) -> list[str]:
    return [connection.execute("SELECT current_setting(%s)", (name,)).fetchone()[0] for name in names]


def test_a_role_can_no_more_than_a_database_change_a_session(native_database: Database) -> None:
    with native_database.connect() as connection:
        role = connection.info.user
    bounds = (
        "statement_timeout",
        "transaction_timeout",
        "idle_session_timeout",
        "idle_in_transaction_session_timeout",
    )
    for name in bounds:
        set_for(native_database, name, "5min", role)
    set_for(native_database, "timezone", "Asia/Kolkata", role)
    set_for(native_database, "work_mem", "5MB", role)
    with Connections(native_database.dsn).open() as connection:
        assert current(connection, *bounds, "TimeZone", "lock_timeout") == ["0"] * 4 + ["UTC", "10s"]
        assert current(connection, "work_mem") == ["5MB"], "what is for the administrator to choose stays"
    with connect(native_database.dsn, reading=True) as connection:
        assert current(connection, *bounds, "TimeZone") == ["5min"] * 4 + ["UTC"], "who reads is bounded"


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
        if encoding == "LATIN1":
            for command in ("query\nSELECT 1", "db\nstatus"):
                refused = obs_hub(*command.split("\n"), "--dsn", database.dsn, "--data-dir", tmp_path)
                assert refused.returncode == 1
                assert "has the encoding LATIN1" in refused.stderr
