"""An event that says who it is is stored once, in whatever company it is sent again."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from gateway.component import Batch, Signal
from tests.support.databases import Database
from tests.support.stores import maintain, running_exporter, running_pipeline, store
from tests.support.telemetry import now

HOUR, DAY = 3600 * 10**9, 86_400 * 10**9


def events(*uids: str | None, name: str = "book.opened", at: int | None = None, padding: str = "") -> Batch:
    """Events with these identities; None: without one. ``padding`` makes it another batch."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for uid in uids:
        record = scope.log_records.add(time_unix_nano=now() if at is None else at, event_name=name)
        record.body.string_value = f"{uid}{padding}"
        if uid is not None:
            record.attributes.add(key="device").value.string_value = "tablet"
            record.attributes.add(key="log.record.uid").value.string_value = uid
    return Batch.of(Signal.LOGS, request.SerializeToString())


async def test_an_event_sent_again_in_another_batch_is_recognized(database: Database) -> None:
    async with running_exporter(database) as exporter:
        assert await store(exporter, events("a", "b", "c")) == [True]
        assert await store(exporter, events("b", "c", "d")) == [True]
        assert await store(exporter, events("a", padding=" again")) == [False]
    found = database.run("SELECT body, attributes ->> 'log.record.uid' FROM events ORDER BY 1")
    assert found == [("a", "a"), ("b", "b"), ("c", "c"), ("d", "d")]


async def test_within_one_commit_and_one_batch_it_is_stored_once(database: Database) -> None:
    async with running_exporter(database) as exporter:
        assert await store(exporter, events("a", "a", "b"), events("b", padding="!"), events("c")) == [
            True,
            False,
            True,
        ]
    assert database.run("SELECT body FROM events ORDER BY 1") == [("a",), ("b",), ("c",)]


@pytest.mark.parametrize("uid", ["a", "é" * 53, "x" * 107, "x" * 108, "x" * 300])
async def test_an_identity_is_the_same_however_it_is_encoded(database: Database, uid: str) -> None:
    """An encoder may write the value of an attribute before its key."""
    batch = events(uid)
    key, value = KeyValue(key="log.record.uid"), KeyValue(value=AnyValue(string_value=uid))
    written = key.SerializeToString() + value.SerializeToString()
    assert batch.payload.count(written) == 1
    otherwise = batch.payload.replace(written, value.SerializeToString() + key.SerializeToString())
    async with running_exporter(database) as exporter:
        assert await store(exporter, batch, Batch.of(Signal.LOGS, otherwise)) == [True, False]
    assert database.run("SELECT attributes ->> 'log.record.uid' FROM events") == [(uid,)]


async def test_events_without_identity_and_log_records_are_kept_each_time(database: Database) -> None:
    async with running_exporter(database) as exporter:
        assert await store(exporter, events(None, None), events(None, padding="!")) == [True, True]
        assert await store(exporter, events("a", name=""), events("a", name="", padding="!")) == [True, True]
    assert database.count("log") == 5
    assert database.count("event_identity") == 0


async def test_it_is_recognized_after_a_restart_and_by_other_writers(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, events("a"))
    async with running_pipeline(database, connections=4) as pipeline:
        batches = [events(*uids, padding=str(n)) for n, uids in enumerate([("a", "b"), ("b", "a"), ("c", "b")] * 5)]
        await asyncio.gather(*(pipeline.accept(batch) for batch in batches))
    assert database.run("SELECT attributes ->> 'log.record.uid' FROM events ORDER BY 1") == [("a",), ("b",), ("c",)]


async def test_what_was_rejected_is_not_known(database: Database) -> None:
    old = now() - 40 * DAY
    async with running_exporter(database) as exporter:
        await store(exporter, events("a", at=old))
        assert database.count("event_identity") == 0
        assert await store(exporter, events("a")) == [True]
    assert database.count("events") == 1


async def test_identities_are_kept_as_long_as_their_events_would_be_accepted(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, events("a", at=now() - 29 * DAY), events("b"))
        maintain(database)
        assert database.count("event_identity") == 2
        database.run("UPDATE event_identity SET time = time - interval '3 days'")
        maintain(database)
    assert database.count("event_identity") == 1


async def test_a_future_event_beside_known_ones_is_rejected_alone(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, events("a"))
        prepared = await exporter.prepare(events("late", at=now() + 2 * HOUR))
        assert prepared.outcome.rejected == 1
        assert await exporter.commit([prepared, await exporter.prepare(events("a", "b"))]) == [True, True]
    assert database.count("events") == 2


async def test_an_event_is_found_by_its_identity_through_an_index(database: Database) -> None:
    async with running_exporter(database) as exporter:
        await store(exporter, events("a", "b"))
    with database.connect() as connection:
        connection.execute("SET enable_seqscan = off")
        query = "SELECT body FROM events WHERE attributes ->> 'log.record.uid' = %s"
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {query}".encode(), ["b"]))
        assert "Seq Scan on log" not in plan
        assert "Index Cond: ((attributes ->> 'log.record.uid'::text) = 'b'::text)" in plan
        assert len(connection.execute(query.encode(), ["b"]).fetchall()) == 1
