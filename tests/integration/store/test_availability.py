"""A database that is down, restarts or does not answer costs time and nothing else."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from exporters.timescale.exporter import TimescaleExporter
from gateway.component import Batch, UnavailableError
from gateway.embedded import EmbeddedPostgres
from gateway.pipeline import Pipeline
from gateway.store import Connections, connections
from tests.support.databases import Database, Server
from tests.support.poolers import bouncing, need_program
from tests.support.stores import running_exporter, running_pipeline, settings, store
from tests.support.telemetry import gauge
from tests.support.waiting import PATIENCE, until
from tests.support.wires import Wire, wired


async def test_a_batch_is_refused_as_unavailable_while_the_database_is_down(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, gauge())
        database.allow_connections(False)
        with pytest.raises(UnavailableError, match="PostgreSQL is not available"):
            await store(exporter, gauge(name="second"))
        database.allow_connections(True)
        assert await store(exporter, gauge(name="second")) == [True]
    assert database.count("metrics") == 2


async def test_an_exporter_starts_before_its_database(database: Database) -> None:
    database.allow_connections(False)
    async with running_exporter(database) as exporter:
        with pytest.raises(UnavailableError, match="PostgreSQL is not available"):
            await store(exporter, gauge())
        database.allow_connections(True)
        assert await store(exporter, gauge()) == [True]
    assert database.count("metrics") == 1


async def test_a_connection_that_broke_is_opened_again(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, gauge())
        database.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'obs-hub'"
        )
        with pytest.raises(UnavailableError):
            await store(exporter, gauge(name="second"))
        assert await store(exporter, gauge(name="second")) == [True]
    assert database.count("metrics") == 2


_BLOCKED = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


async def _until_blocked(database: Database) -> None:
    await database.until(f"SELECT count(*) {_BLOCKED}")


async def until_stored(exporter: TimescaleExporter, batch: Batch) -> None:
    """Try again until a batch is stored: what was broken off may hold a lock for another moment."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(UnavailableError):
                await store(exporter, batch)
                return
            await asyncio.sleep(0.05)


async def test_a_commit_that_is_cancelled_stores_nothing(database: Database) -> None:
    """Whoever waits for a commit may lose patience. What is sent again then is stored once."""
    batch = gauge()
    async with running_exporter(database) as exporter:
        with database.connect() as blocker, blocker.transaction():
            blocker.execute("LOCK TABLE receipt")
            commit = asyncio.create_task(store(exporter, batch))
            await _until_blocked(database)
            commit.cancel()
            with pytest.raises(asyncio.CancelledError):
                await commit
        assert database.count("sample") == 0
        assert await store(exporter, batch) == [True]
    assert database.count("sample") == 1


async def test_a_commit_that_is_cancelled_while_it_connects_does_not_go_on(native_database: Database) -> None:
    """Else nobody would break it off any more, should its answers get lost once it is connected."""
    batch = gauge()
    with through_a_wire(native_database) as (wire, database):
        async with running_exporter(database) as exporter:
            wire.swallow("all")
            commit = asyncio.create_task(store(exporter, batch))
            await until(lambda: wire.waiting)
            commit.cancel()
            await asyncio.sleep(0)  # the cancellation arrives
            wire.swallow("answers to receipts")
            with pytest.raises(asyncio.CancelledError):
                await commit
            wire.mend()
            assert await store(exporter, batch) == [True]


async def test_a_store_that_takes_longer_to_set_up_than_a_commit_may_is_set_up_once(database: Database) -> None:
    """Were it begun anew with each commit, none would ever be ready on a machine with much else to do."""
    database.allow_connections(False)
    async with running_exporter(database) as exporter:
        database.allow_connections(True)
        with database.connect() as blocker, blocker.transaction():
            blocker.execute("LOCK TABLE lock_migration")
            for _ in range(2):
                commit = asyncio.create_task(store(exporter, gauge()))
                await _until_blocked(database)
                commit.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await commit
            commit = asyncio.create_task(store(exporter, gauge()))
            await asyncio.sleep(0.2)  # in which another one would have begun
            assert database.value(f"SELECT count(*) {_BLOCKED}") == 1
        assert await commit == [True]


@pytest.mark.parametrize("pooled", [False, True])
async def test_a_store_is_set_up_though_an_answer_got_lost(
    native_database: Database, monkeypatch: pytest.MonkeyPatch, pooled: bool
) -> None:
    monkeypatch.setattr(connections, "_LOOK_SECONDS", 0.3)
    with through_a_wire(native_database, pooled=pooled) as (wire, database):
        exporter = TimescaleExporter("timescale", settings(), database.dsn)
        starting = asyncio.create_task(exporter.start())
        await lose_an_answer(wire)
        await starting
        try:
            await until_stored(exporter, gauge())
        finally:
            await exporter.stop()
    assert native_database.count("sample") == 1


@pytest.mark.parametrize("pooled", [False, True])
async def test_maintenance_goes_on_though_an_answer_got_lost(
    native_database: Database, monkeypatch: pytest.MonkeyPatch, pooled: bool
) -> None:
    monkeypatch.setattr(connections, "_LOOK_SECONDS", 0.3)
    with through_a_wire(native_database, pooled=pooled) as (wire, database):
        async with running_exporter(database, maintenance_interval="1s"):
            await lose_an_answer(wire)
            turn = "SELECT value #>> '{}' FROM store_setting WHERE key = 'turn_maintenance'"
            last = native_database.value(turn)
            await native_database.until(f"SELECT ({turn}) > %s", [last])


@pytest.mark.parametrize("pooled", [False, True])
async def test_a_statement_may_take_as_long_as_it_needs(
    native_database: Database, monkeypatch: pytest.MonkeyPatch, pooled: bool
) -> None:
    """Waiting for a lock, working, and computing in between are no lost answers."""
    monkeypatch.setattr(connections, "_LOOK_SECONDS", 0.05)
    with (
        through_a_wire(native_database, pooled=pooled) as (_, database),
        Connections(database.dsn).lasting() as connection,
    ):
        with native_database.connect() as blocker, blocker.transaction():
            blocker.execute("LOCK TABLE receipt")
            waiting = asyncio.to_thread(connection.execute, "SELECT count(*) FROM receipt")
            task = asyncio.create_task(waiting)
            await _until_blocked(native_database)
            await asyncio.sleep(0.5)
        await task
        await asyncio.to_thread(connection.execute, "SELECT pg_sleep(0.5)")
        with connection.transaction():
            connection.execute("SELECT 1")
            await asyncio.sleep(0.5)
            assert connection.execute("SELECT 2").fetchone() == (2,)


async def test_stopping_does_not_wait_for_a_database_that_does_not_answer(database: Database) -> None:
    with database.connect() as blocker, blocker.transaction():
        async with running_exporter(database) as exporter:
            blocker.execute("LOCK TABLE receipt")
            commit = asyncio.create_task(store(exporter, gauge()))
            await _until_blocked(database)
        with pytest.raises(UnavailableError):
            await commit
    assert database.count("sample") == 0


async def lose_an_answer(wire: Wire) -> None:
    """Have the next answer get lost that tells that a lock is held."""
    wire.swallow("answers to locking")
    await until(lambda: wire.swallowed)
    wire.mend()


@contextmanager
def through_a_wire(database: Database, *, pooled: bool = False) -> Iterator[tuple[Wire, Database]]:
    """A wire that can fail, and the database at its end; with patience with a server that cannot be connected to."""
    its = conninfo_to_dict(database.dsn)
    with ExitStack() as stack:
        behind: str | tuple[str, int] = f"{its['host']}/.s.PGSQL.{its['port']}"
        if pooled:
            need_program()
            pool = stack.enter_context(bouncing(database.server, "transaction"))
            behind = ("127.0.0.1", int(conninfo_to_dict(pool.dsn)["port"]))
        wire = stack.enter_context(wired(behind))
        dsn = make_conninfo(
            "", host="127.0.0.1", port=wire.port, user=its["user"], connect_timeout=int(PATIENCE), gssencmode="disable"
        )
        yield wire, Database(Server("native", dsn), database.name)


@pytest.fixture
def own_server() -> Iterator[tuple[EmbeddedPostgres, Database]]:
    """A server that a test may stop."""
    directory = Path(tempfile.mkdtemp(prefix="obs-hub-test-"))
    try:
        with EmbeddedPostgres(directory / "postgres") as postgres:
            yield postgres, Database(Server("native", postgres.dsn), str(conninfo_to_dict(postgres.dsn)["dbname"]))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def test_a_restart_under_load_loses_nothing_and_doubles_nothing(
    own_server: tuple[EmbeddedPostgres, Database],
) -> None:
    postgres, database = own_server
    per_lane, lanes = 60, 4
    refused = 0
    restarted = asyncio.Event()

    async def client(pipeline: Pipeline, lane: int) -> None:
        nonlocal refused
        for number in range(per_lane):
            if number == per_lane // 2:
                restarting.set()
            if number == per_lane - 1:
                await restarted.wait()
            batch = gauge([float(number)], name=f"lane {lane}")
            while True:
                try:
                    await pipeline.accept(batch)
                    break
                except UnavailableError:
                    refused += 1
                    await asyncio.sleep(0.02)

    async def restart() -> None:
        await restarting.wait()
        await asyncio.to_thread(postgres.stop)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(postgres.start)
        restarted.set()

    restarting = asyncio.Event()
    async with running_pipeline(database) as pipeline:
        await asyncio.gather(restart(), *(client(pipeline, lane) for lane in range(lanes)))
    assert refused > 0, "the restart was not noticed, so nothing was tried"
    assert database.run("SELECT name, count(*), count(DISTINCT value) FROM metrics GROUP BY 1 ORDER BY 1") == [
        (f"lane {lane}", per_lane, per_lane) for lane in range(lanes)
    ]
