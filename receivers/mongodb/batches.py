"""Documents become batches of log records, as many as make one request."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.component.documents import SourceError
from receivers.mongodb.collection import Collection, Mark
from receivers.mongodb.config import MongoPipeline
from receivers.mongodb.errors import DocumentError
from receivers.mongodb.event import Event
from receivers.mongodb.mapping import identity, to_event
from receivers.mongodb.records import request, to_record
from receivers.mongodb.transform import Transform

if TYPE_CHECKING:
    from bson.codec_options import CodecOptions
    from bson.raw_bson import RawBSONDocument


class Entry(NamedTuple):
    """A document ready to be sent: its id, and, serialized, its resource and its log record."""

    id: Any
    resource: bytes
    record: bytes


_AT_ONCE, _SIZE_AT_ONCE = 64, 2**18
"""Documents that are decoded at once, and how many bytes of them; one alone may be larger."""


@dataclass(slots=True)
class Batch:
    """What was read at once: ``entries`` to send, ``done`` and ``failed`` to mark without sending.

    ``size`` is that of the records, in bytes.
    """

    entries: list[Entry] = field(default_factory=list)
    done: list[Mark] = field(default_factory=list)
    failed: list[Mark] = field(default_factory=list)
    size: int = 0

    @property
    def documents(self) -> int:
        """How many documents it is of."""
        return len(self.entries) + len(self.done) + len(self.failed)


def payload(entries: Sequence[Entry]) -> bytes:
    """Serialize an ``ExportLogsServiceRequest`` of entries."""
    return request((entry.resource, entry.record) for entry in entries)


class Batches:
    """The batches of one pass over a collection, one after the other. It blocks, as the collection does."""

    def __init__(self, pipeline: str, settings: MongoPipeline, source: Collection, transform: Transform | None) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._namespace = source.namespace
        self._source = source
        self._transform = transform
        self._after: Any = None
        self._at_end = False
        self._first: str | None = None

    def next(self) -> Batch | None:
        """Return the next batch, or None at the end. Those before have to be marked. Raises `SourceError`."""
        while not self._at_end:
            from_start = self._after is None
            batch, full = self._read()
            if not full:
                # Behind the last id of its type there may be some of another type, and some that came meanwhile.
                self._after, self._at_end = None, from_start
            if from_start and full:
                self._check_progress(batch)
            if batch.documents:
                return batch
        return None

    def ahead(self) -> Batch | None:
        """Return the next batch although those before are not marked yet. Raises `SourceError`.

        None where that cannot be: without an order, what is not marked would be read again. `next` goes on then.
        """
        if self._after is None or self._at_end:
            return None
        batch, full = self._read()
        if not full:
            self._after = None
        return batch if batch.documents else None

    def _check_progress(self, batch: Batch) -> None:
        """See that what was marked is gone from the start. Raises `SourceError`: else it would be read for ever."""
        ids = [*(entry.id for entry in batch.entries), *(mark.id for mark in (*batch.done, *batch.failed))]
        first = min(map(repr, ids), default=None)
        if first is not None and first == self._first:
            raise SourceError(f"the document with _id {first} is still ingested although it was marked")
        self._first = first

    def _read(self) -> tuple[Batch, bool]:
        """Read a batch. Returns, too, whether it is as full as it may be: there may be more behind it."""
        limits, batch = self._settings.batch, Batch()
        with contextlib.closing(self._source.documents(self._after)) as documents:
            for document, problem in _decoded(documents, limits.max_documents):
                entry = self._entry(document, problem)
                if isinstance(entry, Mark):
                    (batch.done if entry.reason is None else batch.failed).append(entry)
                else:
                    size = len(entry.record)
                    if batch.entries and batch.size + size > limits.max_size:
                        return batch, True  # it is read again with the next
                    batch.entries.append(entry)
                    batch.size += size
                if self._source.ordered:
                    self._after = entry.id
                if batch.documents >= limits.max_documents or batch.size >= limits.max_size:
                    return batch, True
        return batch, False

    def _entry(self, document: dict[str, Any], problem: str | None) -> Entry | Mark:
        """Make the log record of a document, or say what is to become of it otherwise: failed for a ``problem``."""
        document_id = document.get("_id")
        if problem is not None:
            return Mark(document_id, problem)
        try:
            event = self._event(document)
            if event is None:
                return Mark(document_id)
            return Entry(document_id, *to_record(event, identity(document_id, self._namespace)))
        except DocumentError as error:
            return Mark(document_id, str(error))
        except RecursionError:
            return Mark(document_id, "nested too deep")

    def _event(self, document: dict[str, Any]) -> Event | None:
        made = to_event(document, self._settings.mapping, self._pipeline)
        if self._transform is None:
            return made
        try:
            event = self._transform(made, document)
        except (Exception, SystemExit) as error:
            raise DocumentError(f"the transform failed: {type(error).__name__}: {error}") from error
        if event is not None and not isinstance(event, Event):
            raise DocumentError(f"the transform returned a {type(event).__name__}, not an Event or None")
        return event


@functools.cache
def _codec_options() -> CodecOptions[dict[str, Any]]:
    from bson.codec_options import CodecOptions, DatetimeConversion

    return CodecOptions(document_class=dict, tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)


def _decoded(documents: Iterator[RawBSONDocument], most: int) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Yield documents as `decode` returns them, of which at most ``most`` are taken.

    Some are decoded at once, which takes half the time; or each alone, where one of them cannot be.
    """
    for first in documents:
        some, size = [first.raw], len(first.raw)
        most -= 1
        while most and len(some) < _AT_ONCE and size < _SIZE_AT_ONCE and (another := next(documents, None)) is not None:
            some.append(another.raw)
            size += len(another.raw)
            most -= 1
        yield from _decode_all(some)
        if not most:
            return


def _decode_all(some: Sequence[bytes | memoryview]) -> Iterable[tuple[dict[str, Any], str | None]]:
    import bson
    from bson.errors import BSONError

    try:
        decoded = bson.decode_all(b"".join(some), _codec_options())
    except (BSONError, ValueError, OverflowError):
        return map(decode, some)
    return ((document, None) for document in decoded)


def decode(raw: bytes | memoryview) -> tuple[dict[str, Any], str | None]:
    """Decode a document. Returns, beside it, why it cannot be used, and then as much of it as can be read."""
    import bson
    from bson.errors import BSONError
    from bson.raw_bson import RawBSONDocument

    options = _codec_options()
    try:
        return bson.decode(raw, options), None
    except (BSONError, ValueError, OverflowError) as error:
        problem = f"not valid BSON: {error}"
    lenient = options.with_options(unicode_decode_error_handler="replace")
    try:
        return bson.decode(raw, lenient), problem
    except (BSONError, ValueError, OverflowError):
        return {"_id": RawBSONDocument(bytes(raw))["_id"]}, problem
