"""A batch is stored once, however often it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.component import Batch, Signal
from tests.support.databases import Database
from tests.support.stores import maintain, running_exporter, running_pipeline, store
from tests.support.telemetry import gauge, logs, now, spans

BATCHES: dict[str, Callable[[], Batch]] = {"metrics": gauge, "logs": lambda: logs("a"), "traces": lambda: spans("a")}
TABLES = {"metrics": "sample", "logs": "log", "traces": "span"}


@pytest.mark.parametrize("signal", BATCHES)
async def test_a_batch_sent_again_is_recognized(database: Database, signal: str) -> None:
    batch = BATCHES[signal]()
    async with running_exporter(database) as exporter:
        assert await store(exporter, batch) == [True]
        assert await store(exporter, batch) == [False]
    assert database.count(TABLES[signal]) == 1


async def test_a_batch_sent_again_after_a_restart_is_recognized(database: Database) -> None:
    batch = gauge()
    for expected in (True, False):
        async with running_exporter(database) as exporter:
            assert await store(exporter, batch) == [expected]
    assert database.count("sample") == 1


async def test_equal_batches_in_one_commit_are_stored_once(database: Database) -> None:
    batch, other = gauge(), gauge(name="other")
    async with running_exporter(database) as exporter:
        assert await store(exporter, batch, other, batch) == [True, True, False]
    assert database.count("sample") == 2


async def test_a_known_batch_does_not_keep_its_neighbours_from_being_stored(database: Database) -> None:
    known, fresh = gauge(), gauge(name="fresh")
    async with running_exporter(database) as exporter:
        await store(exporter, known)
        assert await store(exporter, known, fresh) == [False, True]
    assert database.count("sample") == 2


async def test_equal_batches_sent_at_once_are_stored_once(database: Database) -> None:
    batch = gauge([1.0, 2.0, 3.0])
    async with running_pipeline(database, connections=4) as pipeline:
        outcomes = await asyncio.gather(*(pipeline.accept(batch) for _ in range(20)))
    assert {outcome.rejected for outcome in outcomes} == {0}
    assert database.count("sample") == 3


async def test_two_gateways_on_one_database_store_a_batch_once(database: Database) -> None:
    batches = [gauge([float(n)], name=f"metric {n}") for n in range(10)]
    async with running_exporter(database) as one, running_exporter(database) as other:
        new = await asyncio.gather(*(store(exporter, batch) for batch in batches for exporter in (one, other)))
    pairs = zip(new[::2], new[1::2], strict=True)
    assert [sorted([*one_is_new, *other_is_new]) for one_is_new, other_is_new in pairs] == [[False, True]] * 10
    assert database.count("sample") == 10


async def test_a_payload_without_any_timestamp_is_exempt(database: Database) -> None:
    """Two equal lines without a time are two lines."""
    batch = logs("a line", at=0)
    async with running_exporter(database) as exporter:
        assert await store(exporter, batch, batch) == [True, True]
        assert await store(exporter, batch) == [True]
    assert database.count("log") == 3
    assert database.count("receipt") == 0


async def test_an_observed_time_is_a_timestamp(database: Database) -> None:
    batch = logs("a line", at=0, observed=now())
    async with running_exporter(database) as exporter:
        await store(exporter, batch)
        assert await store(exporter, batch) == [False]
    assert database.count("log") == 1


async def test_equal_bytes_of_different_signals_are_different_batches(database: Database) -> None:
    """An empty scope reads the same whatever the signal is."""
    payload = logs("a").payload
    assert Batch.of(Signal.LOGS, payload).digest != Batch.of(Signal.TRACES, payload).digest


async def test_receipts_are_removed_after_the_window(database: Database) -> None:
    old, middle, young = gauge(name="old"), gauge(name="middle"), gauge(name="young")
    async with running_exporter(database) as exporter:
        for batch in (old, middle):
            await store(exporter, batch)
            database.run("UPDATE receipt SET received_at = received_at - interval '13 hours'")
        await store(exporter, young)
        maintain(database, receipt_window="24h")
        assert database.count("receipt") == 2
        assert await store(exporter, young) == [False]
        assert await store(exporter, old) == [True]


async def test_what_was_not_stored_leaves_no_receipt(database: Database) -> None:
    batch = gauge()
    async with running_exporter(database) as exporter:
        database.run("ALTER TABLE resource ADD CONSTRAINT never CHECK (id IS NULL)")
        with pytest.raises(Exception, match="never"):
            await store(exporter, batch)
        assert database.count("receipt") == 0
        database.run("ALTER TABLE resource DROP CONSTRAINT never")
        assert await store(exporter, batch) == [True]
