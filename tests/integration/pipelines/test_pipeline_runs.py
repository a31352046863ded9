"""Documents become events: each sent, acknowledged, then marked; in the store once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo.errors
import pytest
from bson import Binary, Decimal128, ObjectId, Timestamp

from gateway.runs import RunState
from receivers.mongodb import Event
from tests.integration.cli.processes import free_port
from tests.support.databases import Database
from tests.support.mongo import Mongo, document
from tests.support.pipelines import OURS, ended, pipeline, pipelines, run_once, stored
from tests.support.waiting import PATIENCE


async def test_documents_become_events_and_are_processed(mongo: Mongo, database: Database) -> None:
    at = datetime.now(UTC).replace(microsecond=123_000) - timedelta(hours=1)
    (identity,) = mongo.write(document(timestamp=at))
    async with pipelines(database, {"reading": pipeline(mongo)}) as service:
        run = await run_once(service)
    assert (run.state, run.error) == (RunState.SUCCEEDED, None)
    assert run.counts == {"found": 1, "read": 1, "processed": 1, "skipped": 0, "failed": 0}
    ((name, service_name, time, body, attributes, severity),) = database.run(
        f"SELECT name, service_name, time, body, attributes, severity_number FROM events WHERE {OURS}"
    )
    assert (name, service_name, time, severity) == ("reading.session_finished", "reading", at, 9)
    assert body == {"title": "Book 0", "author": "George Eliot", "duration_minutes": 25, "pages_read": 18}
    assert attributes == {"device": "tablet", "app_version": "3.1", "log.record.uid": str(identity)}
    (kept,) = mongo.events.find()
    assert kept["status"] == "processed"
    assert kept["processed_at"] is not None


async def test_other_documents_are_left_alone(mongo: Mongo, database: Database) -> None:
    mongo.write(document(source="reading"), document(source="shop"), document(status="draft"))
    async with pipelines(database, {"reading": pipeline(mongo, query={"source": {"$in": ["reading"]}})}) as service:
        run = await run_once(service)
    assert run.counts["processed"] == 1
    assert mongo.states() == {"processed": 1, "ingested": 1, "draft": 1}


async def test_there_may_be_nothing_to_do(mongo: Mongo, database: Database) -> None:
    async with pipelines(database, {"reading": pipeline(mongo)}) as service:
        run = await run_once(service)
    assert (run.state, run.counts["read"]) == (RunState.SUCCEEDED, 0)


async def test_what_is_sent_again_is_stored_once(mongo: Mongo, database: Database) -> None:
    mongo.write(*map(document, range(25)))
    async with pipelines(database, {"reading": pipeline(mongo, batch={"max_documents": 10})}) as service:
        assert (await run_once(service)).counts["processed"] == 25
        mongo.events.update_many({}, {"$set": {"status": "ingested"}})
    # Other batches of the same documents, by another hub: their events are known all the same.
    async with pipelines(database, {"reading": pipeline(mongo, batch={"max_documents": 7})}) as service:
        assert (await run_once(service)).counts["processed"] == 25
    assert stored(database) == 25


async def test_hostile_documents_fail_alone_with_the_reason(mongo: Mongo, database: Database) -> None:
    nested: Any = "deep"
    for _ in range(90):
        nested = {"in": nested}
    bad = {
        "no name": {"event_type": None},
        "a number as name": {"event_type": 7},
        "a name that is too long": {"event_type": "x" * 300},
        "a word as time": {"timestamp": "yesterday"},
        "true as time": {"timestamp": True},
        "infinite time": {"timestamp": math.inf},
        "before 1970": {"timestamp": datetime(1969, 1, 1, tzinfo=UTC)},
        "meta is a text": {"meta": "tablet"},
        "nested": {"payload": nested},
        "far future": {"timestamp": datetime.now(UTC) + timedelta(days=900)},
        "long ago": {"timestamp": datetime.now(UTC) - timedelta(days=900)},
    }
    good = {
        "an ISO time": {"timestamp": (datetime.now(UTC) - timedelta(hours=1)).isoformat()},
        "milliseconds": {"timestamp": round((datetime.now(UTC).timestamp() - 60) * 1000)},
        "no time but an ObjectId": {"timestamp": None},
        "no meta, no payload, no source": {"meta": None, "payload": None, "source": None},
        "numbers": {"payload": {"big": 2**63 - 1, "small": 5e-324}},
        "infinity": {"payload": {"inf": math.inf}},
        "minus zero": {"payload": {"zero": -0.0}},
        "not a number": {"payload": {"pages_read": math.nan}},
        "decimal": {"payload": {"price": Decimal128("12.50")}},
        "types": {
            "payload": {"id": ObjectId(), "bytes": Binary(b"\0\xff"), "when": datetime.now(UTC), "list": [1, "a"]}
        },
        "an empty payload": {"payload": {}},
        "a payload that is a text": {"payload": "finished"},
        "a timestamp type": {"timestamp": Timestamp(int(datetime.now(UTC).timestamp()) - 60, 1)},
        "a NUL": {"payload": {"title": "a\0b"}},
    }
    for note, changes in list({**bad, **good}.items()):
        try:
            mongo.write(document(note=note, **changes))
        except pymongo.errors.PyMongoError:  # a server that speaks MongoDB's protocol and takes not all of its values
            assert mongo.real
            assert note in ("infinite time", "infinity", "minus zero", "not a number", "decimal", "nested")
            bad.pop(note, None)
            good.pop(note, None)
    async with pipelines(database, {"reading": pipeline(mongo)}) as service:
        run = await run_once(service)
    assert run.state is RunState.SUCCEEDED
    kept = {each["note"]: each for each in mongo.events.find()}
    assert {note for note, each in kept.items() if each["status"] == "failed"} == set(bad)
    assert {note for note, each in kept.items() if each["status"] == "processed"} == set(good)
    assert kept["no name"]["error"] == "event_type: expected the event's name, found null"
    assert "nested" not in bad or kept["nested"]["error"] == "body.in.in.in…: nested more than 30 deep"
    assert "accept.past" in kept["long ago"]["error"]
    assert "accept.future" in kept["far future"]["error"]
    assert (run.counts["processed"], run.counts["failed"]) == (len(good), len(bad))
    assert stored(database) == len(good)
    assert "failed: " in run.output


async def test_a_failed_document_can_be_tried_again(mongo: Mongo, database: Database) -> None:
    (identity,) = mongo.write(document(event_type=""))
    async with pipelines(database, {"reading": pipeline(mongo)}) as service:
        assert (await run_once(service)).counts["failed"] == 1
        mongo.events.update_one({"_id": identity}, {"$set": {"event_type": "book.opened", "status": "ingested"}})
        assert (await run_once(service)).counts["processed"] == 1
    (kept,) = mongo.events.find()
    assert "error" not in kept
    assert "failed_at" not in kept


async def test_ids_of_any_kind_are_told_apart(mongo: Mongo, database: Database) -> None:
    ids = [1, "1", 1.5, ObjectId(), {"a": 1, "b": [2]}, datetime(2026, 1, 1, tzinfo=UTC), Binary(b"1", 128)]
    mongo.write(*(document(number, _id=each) for number, each in enumerate(ids)))
    async with pipelines(database, {"reading": pipeline(mongo)}) as service:
        assert (await run_once(service)).counts["processed"] == len(ids)
    assert mongo.states() == {"processed": len(ids)}
    assert database.value(f"SELECT count(DISTINCT attributes ->> 'log.record.uid') FROM events WHERE {OURS}") == len(
        ids
    )


async def test_the_mapping_says_which_field_is_what(mongo: Mongo, database: Database) -> None:
    at = int(datetime.now(UTC).timestamp()) - 60
    mongo.write({"app": "cover-craft", "what": "made", "at": at, "data": {"style": "woodcut"}, "status": "ingested"})
    mapping = {
        "event_name": "what",
        "event_names": {"made": "cover.created"},
        "timestamp": "at",
        "timestamp_unit": "s",
        "body": "data",
        "attributes_from": None,
        "attributes": {"cover.style": "data.style", "missing": "data.nothing"},
        "service_name": "app",
        "resource": {"deployment.environment.name": "home"},
        "severity_number": 5,
    }
    async with pipelines(database, {"covers": pipeline(mongo, mapping=mapping)}) as service:
        assert (await run_once(service, "covers")).counts["processed"] == 1
    ((name, body, attributes, resource),) = database.run(
        f"SELECT name, body, attributes, resource FROM events WHERE {OURS}"
    )
    assert (name, body, attributes["cover.style"]) == ("cover.created", {"style": "woodcut"}, "woodcut")
    assert "missing" not in attributes
    assert resource == {"service.name": "cover-craft", "deployment.environment.name": "home"}


def shorten(event: Event, document: dict[str, Any]) -> Event | None:
    """A transform as somebody may write it."""
    if document["payload"]["pages_read"] == 0:
        return None
    event.name = event.name.upper()
    event.body = {"minutes": document["payload"]["duration_minutes"] / document["payload"]["pages_read"]}
    return event


async def test_a_function_may_change_an_event_or_send_none(mongo: Mongo, database: Database) -> None:
    mongo.write(
        *(document(note=pages, payload={"duration_minutes": 36, "pages_read": pages}) for pages in (18, 0, "many"))
    )
    settings = pipeline(mongo, transform=f"{__name__}:shorten")
    async with pipelines(database, {"reading": settings}) as service:
        run = await run_once(service)
    assert run.counts == {"found": 3, "read": 3, "processed": 2, "skipped": 1, "failed": 1}
    assert database.run(f"SELECT name, body FROM events WHERE {OURS}") == [
        ("READING.SESSION_FINISHED", {"minutes": 2.0})
    ]
    (failed,) = mongo.events.find({"status": "failed"})
    assert failed["error"].startswith("the transform failed: TypeError: unsupported operand")


async def test_a_function_that_is_not_there_fails_the_run(mongo: Mongo, database: Database) -> None:
    mongo.write(document())
    async with pipelines(database, {"reading": pipeline(mongo, transform="no.such:function")}) as service:
        run = await run_once(service)
    assert run.state is RunState.FAILED
    assert "add its folder to PYTHONPATH" in (run.error or "")
    assert mongo.states() == {"ingested": 1}


async def test_a_gateway_that_is_away_leaves_everything_ingested(mongo: Mongo, database: Database) -> None:
    mongo.write(*map(document, range(3)))
    settings = pipeline(mongo, patience="100ms")
    async with pipelines(database, {"reading": settings}, endpoint="http://127.0.0.1:9") as service:
        run = await run_once(service)
    assert run.state is RunState.FAILED
    assert (run.error or "").startswith("the gateway is away: ")
    assert mongo.states() == {"ingested": 3}


async def test_a_gateway_that_comes_back_within_the_patience_is_waited_for(mongo: Mongo, database: Database) -> None:
    mongo.write(*map(document, range(3)))
    port = free_port()
    async with pipelines(database, {"reading": pipeline(mongo)}, endpoint=f"http://127.0.0.1:{port}") as service:
        identity = await service.ask("reading", {"source": "test"})
        async with asyncio.timeout(PATIENCE):
            while (run := await service.runs.get(identity)) and "documents to read" not in run.output:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert mongo.states() == {"ingested": 3}
        async with pipelines(database, {"other": pipeline(mongo)}, port=port):
            run = await ended(service, identity)
    assert run.counts["processed"] == 3
    assert stored(database) == 3


async def test_a_mongodb_that_is_away_fails_the_run_without_its_password(
    database: Database, mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not mongo.real:
        pytest.skip("the stand-in is never away")
    uri = "mongodb://apps:pa%24%24word@127.0.0.1:9/?serverSelectionTimeoutMS=200"
    settings = pipeline(mongo, mongodb={**mongo.settings, "uri": uri})
    async with pipelines(database, {"reading": settings}) as service:
        run = await run_once(service)
    assert run.state is RunState.FAILED
    assert (run.error or "").startswith("MongoDB: 127.0.0.1:9: ")
    assert "word" not in f"{run.error}{run.output}"


async def test_many_documents_go_in_many_batches(mongo: Mongo, database: Database) -> None:
    mongo.write(*(document(number, payload={"text": "x" * 300}) for number in range(500)))
    settings = pipeline(mongo, batch={"max_documents": 100, "max_size": "16KiB"})
    async with pipelines(database, {"reading": settings}) as service:
        run = await run_once(service)
    assert run.counts["processed"] == 500
    assert stored(database) == 500
    assert database.count("receipt") > 5


async def test_several_hubs_run_a_pipeline_once(mongo: Mongo, database: Database) -> None:
    mongo.write(*map(document, range(50)))
    settings = {"reading": pipeline(mongo, batch={"max_documents": 5})}
    async with pipelines(database, settings) as first, pipelines(database, settings) as second:
        found = await asyncio.gather(*(run_once(service) for service in (first, second) * 3))
    assert sum({run.id: run.counts["processed"] for run in found}.values()) == 50
    assert stored(database) == 50


Until = Callable[[], bool]


async def eventually(condition: Until) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def test_documents_are_found_by_looking_now_and_then(mongo: Mongo, database: Database) -> None:
    schedule = {"every": "1s", "watch": False, "at_most_every": "0s"}
    async with pipelines(database, {"reading": pipeline(mongo, schedule=schedule)}) as service:
        mongo.write(document())
        await eventually(lambda: mongo.states() == {"processed": 1})
        mongo.write(document(1))
        await eventually(lambda: mongo.states() == {"processed": 2})
        runs = [await ended(service, run.id) for run in await service.runs.history("pipeline", "reading")]
    assert {run.trigger["source"] for run in runs} == {"schedule"}
    assert all(run.counts.get("read") for run in runs), "nothing is run for nothing"
    assert stored(database) == 2


async def test_a_document_larger_than_the_gateway_takes_fails_alone(mongo: Mongo, database: Database) -> None:
    if mongo.real:
        pytest.skip("a server takes no document that is so large")
    sizes = {"too large": 17 * 2**20, "small": 10, "nearly too large": 16 * 2**20 - 1000, "after": 10}
    mongo.write(*(document(note=note, payload={"text": "x" * size}) for note, size in sizes.items()))
    port = free_port()  # over the wire, where a listener has its limit
    elsewhere = {"endpoint": f"http://127.0.0.1:{port}"}
    async with pipelines(database, {"reading": pipeline(mongo)}, port=port, **elsewhere) as service:
        run = await run_once(service)
    kept = {each["note"]: each["status"] for each in mongo.events.find()}
    assert kept == {**dict.fromkeys(sizes, "processed"), "too large": "failed"}
    assert "is larger than" in mongo.events.find_one({"note": "too large"})["error"]
    assert (run.state, stored(database)) == (RunState.SUCCEEDED, 3)
