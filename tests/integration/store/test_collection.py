"""Dimensions that nothing refers to are removed, and no fact is ever left without its dimensions."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import pytest

from exporters.timescale.exporter import TimescaleExporter
from gateway.component import Batch, UnavailableError
from gateway.store.collection import collect_dimensions
from gateway.store.locks import Lock, hold
from tests.support.databases import Database
from tests.support.stores import ORPHANS, maintain, migrate, running_exporter, settings, store
from tests.support.telemetry import collection, gauge, logs, now, spans
from tests.support.waiting import PATIENCE

# The exporter begins with a round of maintenance, at a time of its own. It must not make rollups that refer to series.
WITHOUT_ROLLUPS = {"rollups": False}


def collect(database: Database) -> dict[str, int]:
    with database.connect() as connection:
        return collect_dimensions(connection)


def forget_facts(database: Database, *tables: str) -> None:
    """What retention does, at once."""
    for table in tables:
        database.run(f"DELETE FROM {table}")


async def test_what_is_used_is_kept(database: Database) -> None:
    async with running_exporter(database, **WITHOUT_ROLLUPS) as exporter:
        await store(exporter, gauge(), logs("a", resource={"a": "1"}), spans("b", resource={"b": "2"}))
    assert collect(database) == {"series_set": 0, "series": 0, "metric": 0, "resource": 0, "scope": 0, "bounds": 0}
    assert database.count("metrics") == database.count("logs") == database.count("spans") == 1


async def test_what_is_not_used_any_more_is_removed(database: Database) -> None:
    async with running_exporter(database, **WITHOUT_ROLLUPS) as exporter:
        await store(exporter, gauge(name="gone", resource={"host.name": "gone"}), logs("stays"))
        forget_facts(database, "sample")
    assert collect(database) == {"series_set": 0, "series": 1, "metric": 1, "resource": 1, "scope": 1, "bounds": 0}
    assert database.count("series") == database.count("metric") == 0
    assert database.run("SELECT host_name FROM resource") == [("nas",)]
    assert database.count("logs") == 1


async def test_what_only_a_rollup_refers_to_is_kept(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, gauge(at=now() - 3 * 3600 * 10**9))
        maintain(database)
        forget_facts(database, "sample")
        assert database.count("sample") == 0
    assert collect(database)["series"] == 0
    assert database.count("metrics_1m") == 1


async def test_a_writer_that_knew_a_removed_series_declares_it_again(database: Database) -> None:
    async with running_exporter(database, **WITHOUT_ROLLUPS) as exporter:
        await store(exporter, gauge([1.0]))
        forget_facts(database, "sample")
        assert collect(database)["series"] == 1
        assert await store(exporter, gauge([2.0])) == [True]
    assert database.run("SELECT value FROM metrics") == [(2.0,)]
    assert database.run(ORPHANS) == []


async def test_a_batch_encoded_before_a_collection_and_committed_after_it_is_whole(database: Database) -> None:
    async with running_exporter(database, **WITHOUT_ROLLUPS) as exporter:
        await store(exporter, gauge([1.0]), logs("a"), spans("a"))
        prepared = [await exporter.prepare(batch) for batch in (gauge([2.0]), logs("b"), spans("b"))]
        forget_facts(database, "sample", "log", "span")
        assert collect(database) == {"series_set": 0, "series": 1, "metric": 1, "resource": 2, "scope": 2, "bounds": 0}
        assert await exporter.commit(prepared) == [True] * 3
    assert database.run(ORPHANS) == []
    assert database.run("SELECT value FROM metrics") == [(2.0,)]
    assert database.run("SELECT body FROM logs") == [("b",)]
    assert database.run("SELECT name FROM spans") == [("b",)]


async def test_a_series_declared_after_the_search_for_unused_ones_began_is_kept(database: Database) -> None:
    """Between the search and the removal a writer may use a series again, on another connection."""
    async with running_exporter(database, **WITHOUT_ROLLUPS) as exporter:
        await store(exporter, gauge([1.0]))
        forget_facts(database, "sample")
        resume = asyncio.Event()
        loop = asyncio.get_running_loop()
        removed: list[dict[str, int]] = []

        def collector() -> None:
            with database.connect() as connection:
                original = connection.execute

                def execute(query: Any, *arguments: Any) -> Any:
                    if "DELETE" in str(query) and not resume.is_set():
                        loop.call_soon_threadsafe(resume.set)
                        assert written.wait(PATIENCE)
                    return original(query, *arguments)

                connection.execute = execute  # type: ignore[assignment, method-assign]
                removed.append(collect_dimensions(connection))

        written = threading.Event()
        thread = threading.Thread(target=collector)
        thread.start()
        await asyncio.wait_for(resume.wait(), PATIENCE)
        await store(exporter, gauge([2.0]))
        written.set()
        await asyncio.to_thread(thread.join, 60)
    assert removed == [{"series_set": 0, "series": 0, "metric": 0, "resource": 0, "scope": 0, "bounds": 0}]
    assert database.run(ORPHANS) == []
    assert database.run("SELECT value FROM metrics") == [(2.0,)]


async def test_a_collection_waits_for_the_commits_under_way(database: Database) -> None:
    """The epoch is raised between commits: a commit that read the old one has its facts seen by the search."""
    migrate(database)
    with database.connect() as writer:
        collector = threading.Thread(target=collect, args=(database,))
        with writer.transaction():
            hold(writer, Lock.DIMENSIONS, shared=True)
            collector.start()
            await database.until(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = %s::regclass", [Lock.DIMENSIONS]
            )
            assert database.value("SELECT epoch FROM dimension_epoch") == 0
        await asyncio.to_thread(collector.join, 60)
    assert database.value("SELECT epoch FROM dimension_epoch") == 1


async def test_a_collection_and_a_writer_do_not_deadlock(database: Database) -> None:
    """Both lock rows in the order of their keys, however the rows lie in the table."""
    migrate(database)
    insert = "INSERT INTO resource (id, attributes, epoch) VALUES (%s, '{}', 0)"
    declare = "UPDATE resource SET epoch = 1 WHERE id = %s"
    with database.connect() as writer:
        for key in (2, 1):
            writer.execute(insert.encode(), [key])
        with writer.transaction():
            writer.execute(declare.encode(), [1])
            collection = asyncio.create_task(asyncio.to_thread(collect, database))
            await database.until(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            await asyncio.to_thread(writer.execute, declare.encode(), [2])
        removed = await collection
    assert removed["resource"] == 0
    assert database.run("SELECT id FROM resource ORDER BY 1") == [(1,), (2,)]


async def test_two_collections_at_once_do_no_harm(database: Database) -> None:
    async with running_exporter(database, **WITHOUT_ROLLUPS) as exporter:
        await store(exporter, *(gauge(name=f"metric {n}") for n in range(20)))
        forget_facts(database, "sample")
        removed = await asyncio.gather(*(asyncio.to_thread(collect, database) for _ in range(3)))
        assert sum(each["series"] for each in removed) == 20
        await store(exporter, *(gauge(name=f"metric {n}") for n in range(20)))
    assert database.count("metrics") == 20


@pytest.mark.parametrize("seed", range(2))
async def test_no_fact_is_without_its_dimensions_whatever_runs_at_once(database: Database, seed: int) -> None:
    """Two gateways write few series over and over, while facts and dimensions are removed under them."""
    dice = random.Random(seed)
    exporters = [
        TimescaleExporter("timescale", settings(connections=2, **WITHOUT_ROLLUPS), database.dsn) for _ in range(2)
    ]
    for exporter in exporters:
        await exporter.start()
    done = threading.Event()
    collections = []

    def remove() -> None:
        while not done.is_set():
            forget_facts(database, "sample", "frame", "log")
            collections.append(collect(database))

    async def write(exporter: TimescaleExporter, lane: int) -> None:
        for n in range(40):
            name, at = f"metric {dice.randrange(4)}", now()
            prepared = [await exporter.prepare(batch) for batch in _batches(name, at, lane, n)]
            if dice.random() < 0.3:
                await asyncio.sleep(dice.random() / 100)
            for _ in range(20):
                try:
                    await exporter.commit(prepared)
                    break
                except UnavailableError:  # collected over and over: the sender sends it again
                    continue

    remover = asyncio.create_task(asyncio.to_thread(remove))
    try:
        await asyncio.gather(*(write(exporter, lane) for exporter in exporters for lane in range(2)))
    finally:
        done.set()
        await remover
        for exporter in exporters:
            await exporter.stop()
    assert len(collections) > 1
    assert sum(each["series"] for each in collections) > 0, "nothing was ever removed, so nothing was tried"
    assert database.run(ORPHANS) == []


def _batches(name: str, at: int, lane: int, number: int) -> list[Batch]:
    return [
        gauge({at: float(number)}, name=name, attributes={"lane": str(lane)}),
        logs(f"{lane} {number}", resource={"host.name": name}),
        collection(at, [float(number)] * 5, host=name),
    ]
