"""The store behind PgBouncer: everything in transaction and session mode, and a refusal in statement mode."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from gateway.cli import main
from gateway.embedded import binaries
from gateway.runs import Request, Runs, RunState
from gateway.store.backup import BackupError
from gateway.store.backup.dump import backup
from gateway.store.connections import Connections
from gateway.store.postgres import connect, connect_async, with_pooler
from gateway.store.schema import SchemaError
from tests.integration.cli.processes import config_text
from tests.support.databases import Database, Server, fresh
from tests.support.poolers import bouncing, need_program
from tests.support.scenarios import assert_works, set_for
from tests.support.stores import migrate, running_exporter, store
from tests.support.telemetry import gauge, logs, spans

pytestmark = pytest.mark.empty_database  # a store is made under what is tried

VARIABLE = "OBSHUB_TEST_PGBOUNCER_DSN"


@pytest.fixture(scope="module", params=["transaction", "session", VARIABLE])
def pooled_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A PgBouncer in front of a server: ours in two modes, and one that is named."""
    if request.param == VARIABLE:
        if not (dsn := os.environ.get(VARIABLE)):
            pytest.skip(f"{VARIABLE} names no PgBouncer in transaction mode, with access to all databases")
        yield Server("native", dsn)
        return
    need_program()
    # In session mode each connection keeps one of the pool's.
    size = {"transaction": 4, "session": 20}[request.param]
    with bouncing(request.getfixturevalue("embedded_server"), request.param, default_pool_size=size) as server:
        yield server


@pytest.fixture(scope="module")
def sharing_timescale(timescale_server: Server) -> Iterator[Server]:
    """A pooler in transaction mode, in front of a server with TimescaleDB."""
    need_program()
    with bouncing(timescale_server, "transaction") as server:
        yield server


@pytest.fixture
def pooled(pooled_server: Server) -> Iterator[Database]:
    """An empty database, reached through a pooler."""
    with fresh(pooled_server) as database:
        yield database


@pytest.fixture(scope="module")
def sharing_server(embedded_server: Server) -> Iterator[Server]:
    """A pooler in transaction mode."""
    need_program()
    with bouncing(embedded_server, "transaction") as server:
        yield server


def behind(server: Server, database: Database) -> Database:
    return Database(server, database.name)


async def test_a_store_works_behind_a_pooler(pooled: Database) -> None:
    await assert_works(pooled)
    async with running_exporter(pooled) as first, running_exporter(pooled, connections=3) as second:
        for n in range(8):  # more than after how many psycopg prepares a statement
            assert await store(first, gauge([n])) == [True]
        stored = await asyncio.gather(*(store(second, gauge([n])) for n in range(9)))
        assert stored == [[True]] * 9
    assert pooled.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


ODD = {
    "timezone": "Asia/Kathmandu",
    "datestyle": "German, DMY",
    "client_encoding": "LATIN1",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "synchronous_commit": "off",
    "bytea_output": "escape",
    "array_nulls": "off",
    "restrict_nonsystem_relation_kind": "view",
}


async def test_odd_settings_change_nothing_behind_a_pooler(sharing_server: Server, native_database: Database) -> None:
    for name, value in ODD.items():
        set_for(native_database, name, value)
    await assert_works(behind(sharing_server, native_database))


async def test_hypertables_behind_a_pooler(sharing_timescale: Server, timescale_database: Database) -> None:
    await assert_works(behind(sharing_timescale, timescale_database))


async def test_odd_settings_change_nothing_with_hypertables_behind_a_pooler(
    sharing_timescale: Server, timescale_database: Database
) -> None:
    for name, value in ODD.items():
        set_for(timescale_database, name, value)
    await assert_works(behind(sharing_timescale, timescale_database))


def test_gateways_that_start_at_once_share_one_connection(embedded_server: Server, native_database: Database) -> None:
    """A lock of a session would stay behind on it, and nobody would get it any more."""
    need_program()
    with bouncing(embedded_server, "transaction", default_pool_size=1) as server:
        target = behind(server, native_database)
        for _ in range(3):
            assert migrate(target).native


async def test_what_others_leave_in_a_shared_session_changes_nothing(
    sharing_server: Server, native_database: Database
) -> None:
    target = behind(sharing_server, native_database)
    native_database.run("CREATE ROLE obs_hub_test_powerless")
    try:
        left = ["search_path TO pg_catalog", "timezone TO 'Asia/Kolkata'", "synchronous_commit TO off"]
        left += ["default_transaction_read_only TO on", "ROLE obs_hub_test_powerless"]
        others = [psycopg.connect(target.dsn) for _ in range(4)]
        for other in others:  # each has a session of its own as long as its transaction lasts
            for setting in left:
                other.execute(f"SET {setting}".encode())
        for other in others:
            other.commit()
            other.close()
        await assert_works(target)
    finally:
        native_database.run("DROP ROLE obs_hub_test_powerless")


def test_no_transaction_leaves_anything_behind(sharing_server: Server, native_database: Database) -> None:
    target = behind(sharing_server, native_database)
    with Connections(target.dsn).open({"statement_timeout": "7s"}) as connection:
        for _ in range(10):
            row = connection.execute("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
            assert row.fetchone() == ("7s", "10s")
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    for _ in range(5):
        with psycopg.connect(target.dsn) as other:
            assert other.execute("SHOW statement_timeout").fetchone() == ("0",)


async def test_options_that_a_pooler_refuses_or_ignores_count(
    embedded_server: Server, native_database: Database
) -> None:
    native_database.run("CREATE SCHEMA tele")
    need_program()
    for settings in ({}, {"ignore_startup_parameters": "options"}):
        with bouncing(embedded_server, "transaction", **settings) as server:
            dsn = make_conninfo(behind(server, native_database).dsn, options="-c search_path=tele,public")
            connection = await connect_async(dsn, autocommit=True)
            async with connection:
                shown = await connection.execute("SHOW search_path")
                assert await shown.fetchone() == ("tele,public",)


async def test_statement_mode_is_refused_with_the_reason(embedded_server: Server, native_database: Database) -> None:
    need_program()
    with bouncing(embedded_server, "statement") as server:
        target = behind(server, native_database)
        with pytest.raises(SchemaError, match=r"statement mode.*pool_mode = transaction"):
            async with running_exporter(target):
                pass
        with pytest.raises(psycopg.Error, match="statement mode"):
            await connect_async(target.dsn)


async def test_runs_behind_a_pooler(pooled: Database) -> None:
    migrate(pooled)
    runs = Runs(pooled.dsn)
    try:
        for _ in range(8):
            wanted = await runs.enqueue(Request("test", "one", {}))
            run = await runs.claim("test", ["one"])
            assert run is not None
            assert run.id == wanted
            await runs.heartbeat(run, output="half")
            await runs.finish(run, RunState.SUCCEEDED)
        assert len(await runs.history("test")) == 8
        assert await runs.prune(timedelta(0)) == 7
    finally:
        await runs.close()


def test_a_connection_string_says_whether_a_pooler_is_in_between(
    sharing_server: Server, native_database: Database
) -> None:
    through = behind(sharing_server, native_database).dsn
    for dsn, pooler, expected in (
        (native_database.dsn, "auto", False),
        (native_database.dsn, "transaction", True),
        (through, "auto", True),
        (through, "none", False),
    ):
        with connect(with_pooler(dsn, pooler)) as connection:
            assert (connection.pooled is not None) is expected
    with pytest.raises(psycopg.Error, match="expected auto, transaction, none"):
        connect(make_conninfo(through, options="-c obs_hub.pooler=perhaps"))


def test_a_backup_through_a_pooler_is_refused_with_what_to_do(
    sharing_server: Server, native_database: Database, tmp_path: Path
) -> None:
    target = behind(sharing_server, native_database)
    migrate(target)
    with pytest.raises(BackupError, match="--dsn of the server itself"):
        backup(target.dsn, tmp_path, keep=None, bin_dirs=[binaries()], progress=lambda _: None)
    assert not list(tmp_path.iterdir())


async def test_commands_behind_a_pooler(sharing_server: Server, native_database: Database, tmp_path: Path) -> None:
    target = behind(sharing_server, native_database)
    config = tmp_path / "hub.yaml"
    config.write_text(config_text(timescale={"dsn": target.dsn}))

    def run(command: str, *more: str) -> str:
        done = CliRunner().invoke(main, [*command.split(), *more, "--config", str(config), "--data-dir", str(tmp_path)])
        assert isinstance(done.exception, SystemExit | None), done.exception
        return done.output

    async with running_exporter(target) as exporter:
        await store(exporter, logs("café", event="order.placed"), gauge(), spans("GET /"))
    assert run("query --csv", "SELECT body FROM events").splitlines() == ["body", "café"]
    assert "The schema is up to date" in run("db migrate")
    assert "pending" not in run("db status")
    assert "café" in run("logs --since 1h")
    assert "system.cpu.utilization" in run("metrics")
    assert "GET /" in run("traces")
    looked = run("doctor")
    assert "through a pooler such as PgBouncer" in looked
    assert "schema: up to date" in looked
