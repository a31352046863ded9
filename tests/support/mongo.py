"""MongoDB for tests: a server where one is named, and by default mongomock, which stands in for one in this process.

mongomock speaks pymongo's synchronous interface, keeps what it is given in memory, and checks no hint and knows no
change streams. What a real server does otherwise is tried where ``OBSHUB_TEST_MONGO_URI`` names one.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import bson
import mongomock
import mongomock.store
import pymongo
import pymongo.errors
from bson.raw_bson import RawBSONDocument

VARIABLE = "OBSHUB_TEST_MONGO_URI"
STAND_IN_URI = "mongodb://apps:pa%24%24word@stand-in.invalid:27017/"


class _RawCursor:
    """A cursor of mongomock whose documents come as a server sends them."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def sort(self, keys: Any) -> _RawCursor:
        return _RawCursor(self._cursor.sort(keys))

    def hint(self, name: Any) -> _RawCursor:
        return _RawCursor(self._cursor.hint(name))

    def __iter__(self) -> Iterator[RawBSONDocument]:
        return self

    def __next__(self) -> RawBSONDocument:
        document = next(self._cursor)
        return document if isinstance(document, RawBSONDocument) else RawBSONDocument(bson.encode(document))

    def close(self) -> None:
        self._cursor.close()


class _RawCollection:
    def __init__(self, collection: Any) -> None:
        self._collection = collection

    def find(self, query: Any, batch_size: int = 0) -> _RawCursor:
        return _RawCursor(self._collection.find(query, batch_size=batch_size))


def _watch(*_: Any, **__: Any) -> None:
    """Refuse as a MongoDB does that is no replica set."""
    raise pymongo.errors.OperationFailure("The $changeStream stage is only supported on replica sets", 40573)


@contextmanager
def stand_in() -> Iterator[None]:
    """Let pymongo's clients be mongomock's for the length of a block, all of one server."""
    server = mongomock.store.ServerStore()

    def client(uri: str, **_: Any) -> Any:
        return mongomock.MongoClient(uri, _store=server)

    original = mongomock.collection.Collection.with_options

    def with_options(self: Any, codec_options: Any = None, **options: Any) -> Any:
        if codec_options is not None and codec_options.document_class is RawBSONDocument:
            return _RawCollection(self)
        return original(self, codec_options=codec_options, **options)

    builder = mongomock.collection.BulkOperationBuilder
    add_update = builder.add_update

    def without_sort(self: Any, *arguments: Any, sort: Any = None, **options: Any) -> Any:
        return add_update(self, *arguments, **options)  # pymongo has an option by now that mongomock has not

    with (
        mock.patch.object(pymongo, "MongoClient", client),
        mock.patch.object(builder, "add_update", without_sort),
        mock.patch.object(mongomock.collection.Collection, "with_options", with_options),
        mock.patch.object(mongomock.collection.Collection, "watch", _watch, create=True),
    ):
        yield


class Mongo:
    """A database for one test."""

    def __init__(self, uri: str, *, real: bool) -> None:
        self.uri = uri
        self.real = real
        self.name = f"obs_hub_test_{uuid.uuid4().hex[:12]}"
        self.client: Any = pymongo.MongoClient(uri)

    @property
    def events(self) -> Any:
        """The collection that applications write to."""
        return self.client[self.name]["events"]

    @property
    def settings(self) -> dict[str, Any]:
        """What a pipeline's configuration says of it."""
        return {"uri": self.uri, "database": self.name, "collection": "events"}

    def write(self, *documents: dict[str, Any]) -> list[Any]:
        """Write documents as an application does; return their ids."""
        return list(self.events.insert_many(documents).inserted_ids)

    def states(self) -> dict[str, int]:
        """How many documents there are of each status."""
        counted: dict[str, int] = {}
        for document in self.events.find({}, {"status": 1}):
            counted[document["status"]] = counted.get(document["status"], 0) + 1
        return counted

    def drop(self) -> None:
        self.client.drop_database(self.name)
        self.client.close()


@contextmanager
def database(*, real: bool) -> Iterator[Mongo]:
    """A database of the server that is named, or of a stand-in."""
    if real:
        mongo = Mongo(os.environ[VARIABLE], real=True)
        try:
            yield mongo
        finally:
            mongo.drop()
        return
    with stand_in():
        yield Mongo(STAND_IN_URI, real=False)


def document(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A document as the reading application writes it, a while ago."""
    return {
        "source": "reading",
        "event_type": "reading.session_finished",
        "timestamp": datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=number + 1),
        "payload": {"title": f"Book {number}", "author": "George Eliot", "duration_minutes": 25, "pages_read": 18},
        "meta": {"device": "tablet", "app_version": "3.1"},
        "status": "ingested",
        **changes,
    }
