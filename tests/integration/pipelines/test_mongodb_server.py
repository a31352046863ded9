"""What only MongoDB itself has: change streams, validation rules, hints that are followed, and its own error messages.

Where a replica set is named, of one member at least; no stand-in knows these.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from gateway.component.documents import SourceError
from receivers.mongodb.changes import Changes
from receivers.mongodb.collection import Collection, Mark
from receivers.mongodb.config import MongoPipeline
from tests.support import mongo as mongos
from tests.support.databases import Database
from tests.support.mongo import Mongo, document
from tests.support.pipelines import pipeline, pipelines, stored
from tests.support.waiting import PATIENCE

WATCHING = {"every": None, "watch": True, "at_most_every": "0s"}


@pytest.fixture
def mongo() -> Iterator[Mongo]:
    if not os.environ.get(mongos.VARIABLE):
        pytest.skip(f"{mongos.VARIABLE} names no server that speaks MongoDB's protocol")
    with mongos.database(real=True) as database:
        try:
            database.events.watch().close()
        except (OperationFailure, NotImplementedError) as error:
            pytest.skip(f"the server is no replica set of MongoDB: {error}")
        yield database


def make(mongo: Mongo, **mongodb: Any) -> Collection:
    return Collection("reading", MongoPipeline.model_validate({"mongodb": {**mongo.settings, **mongodb}}))


def heard(changes: Changes) -> bool:
    return any(changes.wait() for _ in range(60))


async def processed(mongo: Mongo, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while await asyncio.to_thread(mongo.states) != {"processed": count}:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def test_documents_are_read_when_they_are_written(mongo: Mongo, database: Database) -> None:
    async with pipelines(database, {"reading": pipeline(mongo, schedule=WATCHING)}):
        for number in range(3):
            mongo.write(document(number))
            await processed(mongo, number + 1)
        mongo.events.insert_one(document(7, status="draft", note="draft"))
        mongo.events.update_one({"note": "draft"}, {"$set": {"status": "ingested"}})
        await processed(mongo, 4)
    assert stored(database) == 4


async def test_a_stream_that_ends_is_begun_again(
    mongo: Mongo, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.extensions.document_pipelines.service._AWAY_SECONDS", 0.1)
    async with pipelines(database, {"reading": pipeline(mongo, schedule=WATCHING)}):
        mongo.write(document())
        await processed(mongo, 1)
        mongo.events.drop()
        mongo.write(document(1))
        await processed(mongo, 1)
    assert stored(database) == 2


def test_what_is_heard_of_are_documents_to_read(mongo: Mongo) -> None:
    source = make(mongo)
    changes = source.changes()
    first, second = mongo.write(document(), document(status="draft"))
    assert heard(changes)
    source.mark([Mark(first)])
    mongo.events.update_one({"_id": second}, {"$set": {"note": "still a draft"}})
    assert not changes.wait()
    mongo.events.replace_one({"_id": second}, document())
    assert heard(changes)
    mongo.events.drop()
    with pytest.raises(SourceError, match="the change stream ended"):
        heard(changes)


def test_a_document_that_takes_no_more_fields_is_marked_by_its_status_alone(mongo: Mongo) -> None:
    ids = mongo.write(document(), document(), document())
    ours = {"$jsonSchema": {"not": {"anyOf": [{"required": [each]} for each in ("processed_at", "failed_at")]}}}
    mongo.client[mongo.name].command("collMod", "events", validator=ours)
    make(mongo).mark([Mark(ids[0]), Mark(ids[1], "a reason")])
    assert mongo.states() == {"processed": 1, "failed": 1, "ingested": 1}
    mongo.client[mongo.name].command("collMod", "events", validator={"status": "ingested"})
    with pytest.raises(SourceError, match=r"1 documents of .* could not be marked"):
        make(mongo).mark([Mark(ids[2])])


def test_an_index_that_leaves_documents_out_is_not_read_by(mongo: Mongo) -> None:
    mongo.write(document(), document())
    keys = [("status", 1), ("_id", 1)]
    mongo.events.create_index(keys, name="theirs", partialFilterExpression={"status": "processed"})
    for settings in ({}, {"create_index": False}):
        source = make(mongo, **settings)
        assert source.waiting()
        assert source.count() == len(list(source.documents())) == 2


def test_an_index_that_goes_is_done_without(mongo: Mongo) -> None:
    mongo.write(document(), document())
    source = make(mongo)
    assert source.waiting()
    assert source.ordered
    mongo.events.drop_indexes()
    assert len(list(source.documents())) == 2
    assert not source.ordered
    assert source.waiting()
    assert source.ordered, "it is made again"


def test_what_a_server_refuses_is_told_in_few_words(mongo: Mongo) -> None:
    mongo.write(document())
    settings = {"mongodb": mongo.settings, "query": {"$nonsense": 1}}
    source = Collection("reading", MongoPipeline.model_validate(settings))
    for look in (source.waiting, lambda: list(source.documents())):
        with pytest.raises(SourceError) as found:
            look()
        assert "$nonsense" in str(found.value)
        assert "full error" not in str(found.value)
