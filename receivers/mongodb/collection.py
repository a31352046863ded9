"""The collection, over pymongo: reading what is ingested, marking it, and hearing of more. All of it blocks.

The synchronous client in threads, not the asynchronous one: decoding and transforming documents would hold up the event
loop, and a user's function may wait for whatever it likes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote

import structlog

from gateway.component.documents import NoChangeStreamsError, SourceError
from receivers.mongodb.changes import STAGES, WAIT_MILLISECONDS, WITHOUT_CHANGE_STREAMS, Changes
from receivers.mongodb.config import FAILED, INGESTED, PROCESSED, STATUS, URI, MongoPipeline

if TYPE_CHECKING:
    from bson.raw_bson import RawBSONDocument

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
_T = TypeVar("_T")

_INDEX = [(STATUS, 1), ("_id", 1)]
_OPTIONS = {"serverSelectionTimeoutMS": 10_000, "connectTimeoutMS": 10_000, "socketTimeoutMS": 60_000}
"""What a connection string leaves open: a server that does not answer is as good as away."""
_COUNT_MILLISECONDS = 5_000
_MARK_PAUSES = (0.5, 2.0)
_LONGEST_REASON = 1_000
_LONGEST_ID = 256
"""Characters of an id that goes with others into one statement, of which MongoDB takes 16 MiB."""
_CREDENTIALS = re.compile(r"(mongodb(?:\+srv)?://)[^@/\s]*@")

_BAD_VALUE, _AUTHENTICATION_FAILED, _NO_INDEX = 2, 18, 27


class Mark(NamedTuple):
    """What became of a document: it was done with, or failed for a ``reason``."""

    id: Any
    reason: str | None = None


class Collection:
    """The collection of one pipeline, over a client of its own that connects when it is needed.

    Every method raises `SourceError` when the server cannot be reached, or refuses.
    """

    def __init__(self, name: str, settings: MongoPipeline) -> None:
        self._name = name
        self._settings = settings
        self._client: Any = None
        self._opening = threading.Lock()
        self._hint: str | None = None
        self.ordered = False
        """Whether documents come in the order of their ids: there is an index for it."""
        self._index_known = False
        self._warned = False

    @property
    def namespace(self) -> str:
        """The database, a dot, the collection."""
        return str(self._settings.place)

    def close(self) -> None:
        """Close the connections. The next operation would open some again."""
        with self._opening:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    # -- reading -------------------------------------------------------------------------------------------------

    def waiting(self) -> bool:
        """Tell whether there is anything to read."""

        def look() -> bool:
            cursor = self._hinted(self._collection().find(self._filter(), {"_id": 1}).limit(1))
            return next(iter(cursor), None) is not None

        return self._guarded(lambda: self._without_hint(look))

    def count(self) -> int | None:
        """Return how many documents there are to read, or None when that takes too long to count."""
        options: dict[str, Any] = {"maxTimeMS": _COUNT_MILLISECONDS}
        try:
            self._guarded(self._find_index)
            if self._hint is not None:
                options["hint"] = self._hint
            return int(self._guarded(lambda: self._collection().count_documents(self._filter(), **options)))
        except SourceError as error:
            _log.info("the documents to read could not be counted", pipeline=self._name, reason=str(error))
            return None

    def documents(self, after: Any = None) -> Generator[RawBSONDocument, None, None]:
        """Yield what is ingested, as the server sends it: each is decoded alone, so that one cannot spoil others.

        Close it before anything is marked: no cursor stays open, so none can time out or stand in the way of writes.
        ``after`` is an ``_id`` to go on behind where there is an order (see `ordered`): the server need not step over
        what has been marked since. Ids of other types than that one's are left out then.
        """
        from bson.codec_options import CodecOptions
        from bson.raw_bson import RawBSONDocument

        raw: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
        done: Any = object()

        def begin() -> tuple[Any, Any]:
            collection = self._collection().with_options(codec_options=raw)
            query = self._filter() if after is None else {"$and": [self._filter(), {"_id": {"$gt": after}}]}
            cursor = self._hinted(collection.find(query, batch_size=self._settings.batch.max_documents))
            cursor = cursor.sort(_INDEX[1:]) if self.ordered else cursor
            return cursor, next(cursor, done)

        cursor, document = self._guarded(lambda: self._without_hint(begin))
        further = functools.partial(next, cursor, done)
        try:
            while document is not done:
                yield document
                document = self._guarded(further)
        finally:
            with contextlib.suppress(SourceError):
                self._guarded(cursor.close)

    def _filter(self) -> dict[str, Any]:
        from bson import json_util

        try:
            query = json_util.loads(json.dumps(self._settings.query))
        except Exception as error:
            raise SourceError(f"query: not valid Extended JSON: {error}") from error
        return {STATUS: INGESTED, **query}

    # -- marking -------------------------------------------------------------------------------------------------

    def mark(self, marks: Sequence[Mark]) -> None:
        """Write down what became of documents. One that is no longer ``ingested`` is left alone."""
        import pymongo.errors

        left = list(marks)
        for pause in (*_MARK_PAUSES, None):
            try:
                left = self._guarded(functools.partial(self._mark, left), pymongo.errors.ConnectionFailure)
                break
            except pymongo.errors.ConnectionFailure as error:
                if pause is None:
                    raise self._explained(error) from None
                time.sleep(pause)
        if left:
            raise SourceError(f"{len(left)} documents of {self.namespace} could not be marked; see the log")

    def _mark(self, marks: Sequence[Mark]) -> list[Mark]:
        """Mark; return those that could not be."""
        now = datetime.now(UTC)
        done = {"$set": {STATUS: PROCESSED, "processed_at": now}, "$unset": {"error": "", "failed_at": ""}}
        refused = self._write([(mark, done if mark.reason is None else _failed(mark.reason, now)) for mark in marks])
        if not refused:
            return []
        # The document would grow beyond 16 MiB, or a validation rule forbids our fields: the status alone has to do.
        again = self._write([(mark, {"$set": {STATUS: _status(mark)}}) for mark, _ in refused])
        for mark, problem in again[:10]:
            _log.error("a document cannot be marked", pipeline=self._name, document=repr(mark.id), reason=problem)
        return [mark for mark, _ in again]

    def _write(self, updates: Sequence[tuple[Mark, dict[str, Any]]]) -> list[tuple[Mark, str]]:
        """Update documents; return those that the server refused to, and why."""
        import pymongo
        from pymongo.errors import BulkWriteError, WriteError

        by_value = _ids_by_value()
        together: list[tuple[Mark, dict[str, Any]]] = []
        alone: list[tuple[Mark, dict[str, Any]]] = []
        for update in updates:
            (together if _goes_with_others(update[0], by_value) else alone).append(update)
        if len(together) > 1:
            # All that was acknowledged in one statement: one for each would cost the server, and this, many times that.
            ids = [mark.id for mark, _ in together]
            try:
                self._collection().update_many({"_id": {"$in": ids}, STATUS: INGESTED}, together[0][1])
            except WriteError:
                pass  # it ended at one that refuses: the others are marked, and those behind it, one by one
            else:
                updates = alone
        if not updates:
            return []
        requests = [
            pymongo.UpdateOne({"_id": {"$eq": mark.id} if isinstance(mark.id, dict) else mark.id, STATUS: INGESTED}, to)
            for mark, to in updates
        ]
        try:
            self._collection().bulk_write(requests, ordered=False)
        except BulkWriteError as error:
            problems = error.details.get("writeErrors", [])
            if not problems:  # the server says that it may not be durable: done again, it does no harm
                raise
            return [(updates[each["index"]][0], str(each.get("errmsg", ""))) for each in problems]
        return []

    # -- hearing -------------------------------------------------------------------------------------------------

    def changes(self) -> Changes:
        """Begin to hear of documents. Raises `NoChangeStreamsError` where that cannot be."""
        from pymongo.errors import OperationFailure

        def watch() -> Any:
            return self._collection().watch(STAGES, max_await_time_ms=WAIT_MILLISECONDS)

        try:
            stream = self._guarded(watch, OperationFailure)
        except NotImplementedError as error:
            raise NoChangeStreamsError(str(error)) from error
        except OperationFailure as error:
            if (why := WITHOUT_CHANGE_STREAMS.get(error.code or 0)) is None:
                raise self._explained(error) from None
            raise NoChangeStreamsError(why) from None
        return Changes(stream, self._guarded)

    # -- the index -----------------------------------------------------------------------------------------------

    def _find_index(self) -> None:
        """Find out by which index to read, or make it. Where there is none it is looked for again the next time."""
        import pymongo.errors

        if self._index_known:
            return
        settings, collection = self._settings.mongodb, self._collection()
        try:
            indexes = collection.index_information()
            if not indexes:
                return  # there is no such collection yet
            if settings.hint is not None:
                self._use(settings.hint if settings.hint in indexes else None, ordered=False)
                return
            named = next((name for name, each in indexes.items() if _serves(each)), None)
            if named is None and settings.create_index:
                named = collection.create_index(_INDEX)
            self._use(named, ordered=True)
        except pymongo.errors.OperationFailure as error:
            if error.code == _AUTHENTICATION_FAILED:
                raise
            self._use(None, ordered=False, problem=str(self._explained(error)))

    def _use(self, index: str | None, *, ordered: bool, problem: str = "") -> None:
        self._hint, self.ordered, self._index_known = index, index is not None and ordered, index is not None
        if index is not None or self._warned:
            return
        self._warned = True
        settings = self._settings.mongodb
        wanted = f"the index {settings.hint}" if settings.hint is not None else "an index on status and _id"
        _log.warning(
            f"a collection has not {wanted}, so each run looks at all of its documents",
            pipeline=self._name,
            collection=self.namespace,
            **({"reason": problem} if problem else {}),
            what_to_do=(
                f"make one in mongosh: use {settings.database}; "
                f"db.getCollection({json.dumps(settings.collection)}).createIndex({{status: 1, _id: 1}})"
            ),
        )

    def _hinted(self, cursor: Any) -> Any:
        self._find_index()
        return cursor if self._hint is None else cursor.hint(self._hint)

    def _without_hint(self, look: Callable[[], _T]) -> _T:
        """Look; once more without a hint when the server refuses because there is no such index any more."""
        from pymongo.errors import OperationFailure

        try:
            return look()
        except OperationFailure as error:
            if self._hint is None or error.code not in (_BAD_VALUE, _NO_INDEX) or "hint" not in str(error):
                raise
            self._use(None, ordered=False, problem=" any more")
            self._index_known = True  # that there is none to hint at
            try:
                return look()
            finally:
                self._index_known = False

    # -- the connection ------------------------------------------------------------------------------------------

    def _collection(self) -> Any:
        import pymongo

        settings = self._settings.mongodb
        with self._opening:  # a run, a look for documents and a change stream begin at the same time
            if self._client is None:
                uri = settings.uri.get_secret_value()
                options: dict[str, Any] = {
                    name: value for name, value in _OPTIONS.items() if name.lower() not in uri.lower()
                }
                self._client = pymongo.MongoClient(uri, appname="obs-hub", tz_aware=True, **options)
            return self._client[settings.database][settings.collection]

    def _guarded(self, work: Callable[[], _T], *passed: type[Exception]) -> _T:
        """Do something; raise what pymongo raises as `SourceError`, but for the exceptions ``passed``."""
        try:
            return work()
        except passed:
            raise
        except Exception as error:
            from bson.errors import BSONError  # here, for this runs for each document
            from pymongo.errors import PyMongoError

            if not isinstance(error, PyMongoError | BSONError | OSError | ValueError):
                raise
            raise self._explained(error) from None

    def _explained(self, error: Exception) -> SourceError:
        """Say what went wrong without the password, which pymongo's own words may hold."""
        uri = self._settings.mongodb.uri.get_secret_value()
        text = " ".join(str(error).split()) or type(error).__name__
        text = _CREDENTIALS.sub(r"\1********@", text.replace(uri, _CREDENTIALS.sub(r"\1********@", uri)))
        password = (found["password"] or "") if (found := URI.match(uri)) else ""
        for secret in {password, unquote(password)} - {""}:
            text = text.replace(secret, "********")
        for lengthy in (", full error: ", ", Timeout: ", " (configured timeouts: "):
            text, _, _ = text.partition(lengthy)
        if getattr(error, "code", None) == _AUTHENTICATION_FAILED:
            text += " (a user is known in one database: the URI ends with its name, or with /?authSource=NAME)"
        return SourceError(f"MongoDB: {text[:_LONGEST_REASON]}")


def _serves(index: Mapping[str, Any]) -> bool:
    """Tell whether it is an index to read by. A hint at one that is partial would leave out what is not in it."""
    partial = index.get("partialFilterExpression")
    return list(index["key"]) == _INDEX and partial in (None, {STATUS: INGESTED}) and not index.get("hidden")


def _goes_with_others(mark: Mark, by_value: tuple[type, ...]) -> bool:
    """Tell whether a document can be marked with others, by a list of ids, in which a pattern would match others."""
    kind = type(mark.id)
    return mark.reason is None and (kind in by_value or (kind is str and len(mark.id) <= _LONGEST_ID))


@functools.cache
def _ids_by_value() -> tuple[type, ...]:
    from bson import Int64, ObjectId

    return ObjectId, int, Int64


def _status(mark: Mark) -> str:
    return PROCESSED if mark.reason is None else FAILED


def _failed(reason: str, now: datetime) -> dict[str, Any]:
    error = reason.encode(errors="replace").decode()[:_LONGEST_REASON]
    return {"$set": {STATUS: FAILED, "failed_at": now, "error": error}, "$unset": {"processed_at": ""}}
