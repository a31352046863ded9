"""The collection: by which index it is read, how one bad document spoils no other, and what is said when it cannot."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bson
import mongomock
import pymongo
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo.errors import AutoReconnect, OperationFailure, ServerSelectionTimeoutError

from gateway.component.documents import NoChangeStreamsError, SourceError
from receivers.mongodb import collection as collections
from receivers.mongodb.batches import Batches, _decoded, decode
from receivers.mongodb.collection import Collection, Mark
from receivers.mongodb.config import MongoPipeline
from tests.support import mongo as mongos
from tests.support.logged import Logged
from tests.support.mongo import Mongo, document

COLLECTION = mongomock.collection.Collection


@pytest.fixture
def mongo() -> Iterator[Mongo]:
    with mongos.database(real=False) as database:
        yield database


def make(mongo: Mongo, **mongodb: Any) -> Collection:
    return Collection("reading", MongoPipeline.model_validate({"mongodb": {**mongo.settings, **mongodb}}))


def hints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hints that cursors are given from now on, and None where one is given none."""
    given: list[str] = []
    hint = collections.Collection._hinted

    def note(self: Collection, cursor: Any) -> Any:
        told, own = ["None"], cursor.hint

        def tell(index: Any) -> Any:
            told.append(str(index))
            return own(index)

        cursor.hint = tell
        cursor = hint(self, cursor)
        given.append(told[-1])
        return cursor

    monkeypatch.setattr(Collection, "_hinted", note)
    return given


def test_it_makes_its_index_and_reads_by_it(mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    given = hints(monkeypatch)
    mongo.write(document())
    assert make(mongo).waiting()
    assert given == ["status_1__id_1"]
    assert mongo.events.index_information()["status_1__id_1"]["key"] == [("status", 1), ("_id", 1)]
    mongo.events.drop_index("status_1__id_1")
    mongo.events.create_index([("status", 1), ("_id", 1)], name="theirs")
    assert make(mongo).waiting()
    assert given[1:] == ["theirs"]


def test_the_index_that_is_named_is_read_by(mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    given = hints(monkeypatch)
    mongo.write(document())
    mongo.events.create_index([("status", 1), ("_id", 1)], name="theirs")
    mongo.events.create_index([("status", 1), ("timestamp", 1)], name="mine")
    source = make(mongo, hint="mine")
    assert source.waiting()
    assert len(list(source.documents())) == 1
    assert given == ["mine", "mine"]
    assert not source.ordered, "by that index, ids are in no order"


@pytest.mark.parametrize(("query", "left_open"), [("", {10_000}), ("/?serverSelectionTimeoutMS=7", {None})])
def test_what_a_connection_string_says_counts(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch, query: str, left_open: set[int | None]
) -> None:
    given: list[dict[str, Any]] = []

    def client(_: str, **options: Any) -> Any:
        given.append(options)
        return mongo.client

    monkeypatch.setattr(pymongo, "MongoClient", client)
    make(mongo, uri=f"mongodb://127.0.0.1{query}").waiting()
    assert {each.get("serverSelectionTimeoutMS") for each in given} == left_open
    assert {each["socketTimeoutMS"] for each in given} == {60_000}


def test_a_collection_that_is_not_there_is_not_made(mongo: Mongo) -> None:
    source = make(mongo)
    assert not source.waiting()
    assert list(source.documents()) == []
    assert mongo.client[mongo.name].list_collection_names() == []


@pytest.mark.parametrize("settings", [{"create_index": False}, {"hint": "missing"}])
def test_without_an_index_it_reads_all_and_says_how_to_make_one(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch, logged: Logged, settings: dict[str, Any]
) -> None:
    given = hints(monkeypatch)
    mongo.write(document())
    source = make(mongo, **settings)
    assert source.waiting()
    assert len(list(source.documents())) == 1
    assert set(given) == {"None"}
    (warning,) = logged.complaints
    make_one = f'use {mongo.name}; db.getCollection("events").createIndex({{status: 1, _id: 1}})'
    assert make_one in warning["what_to_do"]


def test_a_user_who_may_not_make_an_index_reads_all(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OperationFailure("not authorized on apps to execute command createIndexes", 13)

    mongo.write(document())
    monkeypatch.setattr(COLLECTION, "create_index", refuse)
    assert make(mongo).waiting()
    assert "not authorized" in logged.text


def test_an_index_that_is_made_later_is_read_by(mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    given = hints(monkeypatch)
    mongo.write(document())
    source = make(mongo, create_index=False)
    assert source.waiting()
    mongo.events.create_index([("status", 1), ("_id", 1)])
    assert source.waiting()
    assert given == ["None", "status_1__id_1"]
    assert source.ordered


@pytest.mark.parametrize(
    ("properties", "serves"),
    [
        ({"partialFilterExpression": {"status": "ingested"}}, True),
        ({"partialFilterExpression": {"status": "processed"}}, False),
        ({"partialFilterExpression": {"source": "reading"}}, False),
        ({"hidden": True}, False),
    ],
)
def test_an_index_that_leaves_documents_out_is_not_read_by(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch, properties: dict[str, Any], serves: bool
) -> None:
    given = hints(monkeypatch)
    mongo.write(document())
    theirs = {"theirs": {"key": [("status", 1), ("_id", 1)], **properties}}
    monkeypatch.setattr(COLLECTION, "index_information", lambda _: theirs)
    assert make(mongo).waiting()
    assert given == ["theirs" if serves else "status_1__id_1"]


def test_a_password_that_is_wrong_says_nothing_about_indexes(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    def refuse(*_: object) -> None:
        raise OperationFailure("Authentication failed., full error: {'ok': 0.0, 'code': 18}", 18, {"code": 18})

    mongo.write(document())
    source = make(mongo)
    with monkeypatch.context() as wrong:
        wrong.setattr(COLLECTION, "index_information", refuse)
        with pytest.raises(SourceError, match=r"^MongoDB: Authentication failed\. \(.*authSource=NAME\)$"):
            source.waiting()
    assert source.waiting()
    assert source.ordered
    assert not logged.entries


def test_an_index_that_goes_is_done_without(mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    mongo.write(document(), document())
    source = make(mongo)
    assert source.waiting()
    find = COLLECTION.find

    def refuse(self: Any, *arguments: Any, **options: Any) -> Any:
        if source._hint is not None:  # as MongoDB answers a hint that leads nowhere
            raise OperationFailure("error processing query: planner returned error: bad hint", 2)
        return find(self, *arguments, **options)

    monkeypatch.setattr(COLLECTION, "find", refuse)
    assert len(list(source.documents())) == 2
    assert source.waiting()


@pytest.mark.parametrize("create_index", [True, False])
def test_all_is_read_in_batches_with_no_cursor_left_open(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch, create_index: bool
) -> None:
    ids = [*range(7), *"abcdefg", bson.ObjectId(), 2.5]
    mongo.write(*(document(_id=each) for each in ids))
    closed: list[bool] = []
    monkeypatch.setattr(mongos._RawCursor, "close", lambda self: closed.append(True))
    settings = MongoPipeline.model_validate(
        {"mongodb": {**mongo.settings, "create_index": create_index}, "batch": {"max_documents": 3}}
    )
    source = Collection("reading", settings)
    batches, seen = Batches("reading", settings, source, None), []
    while (batch := batches.next()) is not None:
        assert batch.documents <= 3
        seen += [entry.id for entry in batch.entries]
        assert len(closed) >= len(seen) // 3
        source.mark([Mark(entry.id) for entry in batch.entries])
    assert len(seen) == len(ids)
    assert set(map(str, seen)) == set(map(str, ids))
    assert mongo.states() == {"processed": len(ids)}


def test_a_document_that_does_not_fit_is_in_the_next_batch(mongo: Mongo) -> None:
    sizes = [100, 900, 100, 5000, 100]
    mongo.write(*(document(_id=number, payload="x" * size) for number, size in enumerate(sizes)))
    settings = MongoPipeline.model_validate({"mongodb": mongo.settings, "batch": {"max_size": 1024}})
    source = Collection("reading", settings)
    batches, seen = Batches("reading", settings, source, None), []
    while (batch := batches.next()) is not None:
        seen.append([entry.id for entry in batch.entries])
        source.mark([Mark(entry.id) for entry in batch.entries])
    assert seen == [[0], [1], [2], [3], [4]]


def test_only_what_is_still_ingested_is_marked(mongo: Mongo) -> None:
    first, second = mongo.write(document(), document())
    mongo.events.update_one({"_id": first}, {"$set": {"status": "withdrawn"}})
    make(mongo).mark([Mark(first), Mark(second, "no \ud800 reason")])
    assert mongo.states() == {"withdrawn": 1, "failed": 1}
    assert mongo.events.find_one({"_id": second})["error"] == "no ? reason"


def test_one_that_takes_no_mark_holds_up_no_other(mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = mongo.write(*(document() for _ in range(4)))

    def refuse_all(*_: Any, **__: Any) -> None:
        raise pymongo.errors.WriteError("validation", 121)

    monkeypatch.setattr(COLLECTION, "update_many", refuse_all)
    make(mongo).mark([Mark(each) for each in ids])
    assert mongo.states() == {"processed": 4}


def test_ids_of_every_type_are_marked(mongo: Mongo) -> None:
    ids = [bson.ObjectId(), bson.ObjectId(), 1, "a", "b" * 300, {"a": 1}, 1.5, bson.Int64(2**40), None]
    mongo.write(*(document(_id=each) for each in ids))
    make(mongo).mark([Mark(each) for each in ids])
    assert mongo.states() == {"processed": len(ids)}
    assert all(each["processed_at"] for each in mongo.events.find())


def test_what_no_mark_can_be_put_on_is_told(mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = mongo.write(document(), document())

    def refuse(*_: Any, **__: Any) -> None:
        raise pymongo.errors.BulkWriteError({"writeErrors": [{"index": 0, "code": 121, "errmsg": "validation"}]})

    def refuse_all(*_: Any, **__: Any) -> None:
        raise pymongo.errors.WriteError("validation", 121)

    monkeypatch.setattr(COLLECTION, "update_many", refuse_all)
    monkeypatch.setattr(COLLECTION, "bulk_write", refuse)
    with pytest.raises(SourceError, match=r"1 documents of .* could not be marked"):
        make(mongo).mark([Mark(each) for each in ids])


@pytest.mark.parametrize(
    "said",
    [
        "cannot resolve mongodb://apps:pa%24%24word@stand-in.invalid:27017/",
        "bad auth for apps with pa$$word",
        "bad auth: pa%24%24word",
        "mongodb+srv://other:pa%24%24word@host/",
    ],
)
def test_passwords_are_kept_out_of_what_is_said(mongo: Mongo, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ServerSelectionTimeoutError(f"{said}, Timeout: 10s, Topology Description: <many words>")

    monkeypatch.setattr(COLLECTION, "index_information", fail)
    with pytest.raises(SourceError) as found:
        make(mongo).waiting()
    assert "word" not in str(found.value)
    assert str(found.value).startswith("MongoDB: ")
    assert found.value.__cause__ is None


def test_an_error_is_told_whatever_the_password_is_made_of(mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ServerSelectionTimeoutError("no host by secret[word")

    monkeypatch.setattr(COLLECTION, "index_information", fail)
    with pytest.raises(SourceError, match=r"^MongoDB: no host by \*+$"):
        make(mongo, uri="mongodb://apps:secret[word@db/").waiting()


def test_what_begins_at_the_same_time_shares_a_client_that_is_closed(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    both = threading.Barrier(2)

    def client(uri: str, **_: Any) -> Any:
        made.append(uri)
        time.sleep(0.05)  # long enough for the other to come in between
        return mongo.client

    monkeypatch.setattr(pymongo, "MongoClient", client)
    source = make(mongo)

    def look(_: int) -> bool:
        both.wait()
        return source.waiting()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(look, range(2))) == [False, False]
    assert len(made) == 1


def test_a_query_with_types_is_extended_json(mongo: Mongo) -> None:
    (kept, _) = mongo.write(document(batch=bson.ObjectId("65a000000000000000000001")), document())
    settings = {"mongodb": mongo.settings, "query": {"batch": {"$oid": "65a000000000000000000001"}}}
    source = Collection("reading", MongoPipeline.model_validate(settings))
    assert [each["_id"] for each in source.documents()] == [kept]
    broken = MongoPipeline.model_validate({"mongodb": mongo.settings, "query": {"at": {"$date": "soon"}}})
    with pytest.raises(SourceError, match="query: not valid Extended JSON"):
        Collection("reading", broken).waiting()


def test_text_that_is_no_text_spoils_its_document_only() -> None:
    raw = bson.encode({"_id": 7, "title": "abcd"}).replace(b"abcd", b"a\xff\xfed")
    found, problem = decode(raw)
    assert found["_id"] == 7
    assert problem is not None
    assert problem.startswith("not valid BSON: ")


def test_documents_that_are_decoded_at_once_do_not_spoil_each_other() -> None:
    good = [bson.encode({"_id": number, "title": "abcd"}) for number in range(200)]
    raws = [*good[:70], good[70].replace(b"abcd", b"a\xff\xfed"), *good[71:]]
    found = list(_decoded(map(RawBSONDocument, raws), 1000))
    assert [document["_id"] for document, _ in found] == list(range(200))
    assert [document["_id"] for document, problem in found if problem] == [70]


def test_no_more_is_taken_from_the_server_than_a_batch_may_have() -> None:
    left = iter([RawBSONDocument(bson.encode({"_id": number})) for number in range(200)])
    assert len(list(_decoded(left, 130))) == 130
    assert len(list(left)) == 70


def test_large_documents_are_decoded_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    decode_all = bson.decode_all

    def counted(data: bytes, options: Any) -> list[dict[str, Any]]:
        sizes.append(len(data))
        return decode_all(data, options)

    monkeypatch.setattr(bson, "decode_all", counted)
    large = [RawBSONDocument(bson.encode({"_id": number, "x": "x" * 2**18})) for number in range(5)]
    assert len(list(_decoded(iter(large), 1000))) == len(sizes) == 5


def test_a_date_that_no_datetime_holds_is_no_problem() -> None:
    raw = bson.encode({"_id": 7, "at": bson.Int64(2**60)})
    assert raw.count(b"\x12at") == 1
    found, problem = decode(raw.replace(b"\x12at", b"\x09at"))
    assert problem is None
    assert int(found["at"]) == struct.unpack("<q", struct.pack("<q", 2**60))[0]


class Stream:
    """A change stream of a server that has them."""

    alive = True

    def __init__(self, *changes: Any) -> None:
        self._changes = list(changes)

    def try_next(self) -> Any:
        found = self._changes.pop(0) if self._changes else None
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        self.alive = False


def test_changes_are_heard_of(mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    stream = Stream({"_id": 1}, {"_id": 2}, {"_id": 3}, None, None, AutoReconnect("mongodb://a:b@c gone"))

    def watch(_: Any, stages: list[dict[str, Any]], **options: Any) -> Stream:
        asked.update(options, stages=stages)
        return stream

    monkeypatch.setattr(COLLECTION, "watch", watch, raising=False)
    changes = make(mongo).changes()
    assert [changes.wait(), changes.wait(), changes.wait()] == [True, True, False]
    with pytest.raises(SourceError, match=r"mongodb://\*+@c gone"):
        changes.wait()
    stream.alive = False
    with pytest.raises(SourceError, match="the change stream ended"):
        changes.wait()
    assert asked["stages"][-1] == {"$project": {"_id": 1}}, "documents are not sent twice"


def test_changes_that_never_pause_are_told_all_the_same(mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    class Trickle(Stream):
        def try_next(self) -> Any:
            nonlocal now
            now += 0.3  # less than it waits for a change
            return {"_id": now}

    monkeypatch.setattr("receivers.mongodb.changes.monotonic", lambda: now)
    monkeypatch.setattr(COLLECTION, "watch", lambda *_, **__: Trickle(), raising=False)
    changes = make(mongo).changes()
    assert changes.wait()
    assert now == pytest.approx(0.3), "the first is told at once"
    for _ in range(3):
        began = now
        assert changes.wait()
        assert now - began == pytest.approx(1.2)


@pytest.mark.parametrize("code", [13, 59, 238, 40573])
def test_a_server_without_change_streams_is_told_from_one_that_is_away(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OperationFailure("no", code)

    monkeypatch.setattr(COLLECTION, "watch", refuse, raising=False)
    with pytest.raises(NoChangeStreamsError):
        make(mongo).changes()
    code = 11_600  # it shuts down
    with pytest.raises(SourceError):
        make(mongo).changes()
