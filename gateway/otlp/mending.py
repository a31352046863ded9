"""Mending: what is wrong inside one record costs no other record of its request.

A request of which any part cannot be read is gone through record by record. What is sound stays byte for byte. Text
that is not UTF-8 gets U+FFFD in place of the broken bytes. A log record, exemplar or link whose ids are none is kept
without them: ``logs.proto`` asks receivers to take such a log record for one that belongs to no trace. What cannot be
mended is left out, a resource or scope with all that it holds, and told with its place and the reason.

The result depends on the payload alone. A batch keeps the digest of what its sender sent, by which a repetition is
recognized.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from gateway.base.slices import LARGE, Steps, in_slices
from gateway.component.batch import Batch, Signal
from gateway.component.errors import MalformedPayloadError
from gateway.component.interfaces import Outcome
from gateway.otlp import wire_format
from gateway.otlp.bounds import (
    MOST_PARTS,
    RECORD,
    RECORDS,
    SLICE,
    Budget,
    check_parts,
    has_too_many_parts,
    holds_records,
)
from gateway.otlp.requests import LEVELS, REQUESTS
from gateway.otlp.services import SERVICES

_SHOWN = 3
"""Of how many records that are rejected or mended the place is told."""

_PACE = 32
"""How many records are read between two looks at the clock."""

_WHOLE = 64 * 2**10
"""Bytes of a payload up to which it is checked by parsing it in one go, which takes half the time."""

_MAX_DEPTH = 100
"""Messages nested inside each other, which is protobuf's own limit."""


class NothingLeftError(MalformedPayloadError):
    """No record of a payload can be kept. ``outcome`` is what is told of it where it is a part of a request."""

    def __init__(self, message: str, outcome: Outcome, violations: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message, violations)
        self.outcome = outcome


@dataclass(slots=True, frozen=True)
class Mended:
    """What is left of a payload, how many records are not, and what the sender is to be told of it."""

    payload: bytes
    rejected: int
    message: str


async def mend_batch(batch: Batch) -> tuple[Batch, Outcome]:
    """Return a batch mended, with its digest as it was, and what to tell of it.

    Raises `MalformedPayloadError`, as `mend` does, `NothingLeftError` when no record of it can be kept.
    """
    mended = await mend(batch.signal, batch.payload, Budget.of(batch))
    return replace(batch, payload=mended.payload), Outcome(mended.rejected, mended.message)


async def mend(signal: Signal, payload: bytes, budget: Budget | None = None) -> Mended:
    """Mend the serialized request of a signal, in slices between which the event loop serves others.

    Raises `MalformedPayloadError` when its outermost structure cannot be read, `NothingLeftError` when no record of it
    can be kept, and `TooLargeError` when it holds too much for its size.
    """
    request = SERVICES[signal].request
    mending = _Mending(budget or Budget(len(payload)))
    try:
        result = await in_slices(mending.container(payload, request.DESCRIPTOR, ""))
    except wire_format.BrokenError as error:
        raise MalformedPayloadError(
            f"the body is not a valid {request.DESCRIPTOR.name} protobuf message: {error}"
        ) from error
    outcome = mending.report.outcome(signal)
    return Mended(result, outcome.rejected, outcome.message)


_POINTS: dict[str, Any] = {
    "gauge": metrics_pb2.NumberDataPoint,
    "sum": metrics_pb2.NumberDataPoint,
    "histogram": metrics_pb2.HistogramDataPoint,
    "exponential_histogram": metrics_pb2.ExponentialHistogramDataPoint,
    "summary": metrics_pb2.SummaryDataPoint,
}


async def check(batch: Batch) -> int:
    """Return how many records a batch has that anybody may be given as it is.

    It is for exporters that hand on a payload: whoever gets it would refuse all of it for one bad record. It takes one
    to four microseconds a record, in slices between which the event loop serves others, and for a large record a
    thread; what several exporters get is checked once. Raises `MalformedPayloadError` for a batch that is to be mended
    before, or `TooLargeError`.
    """
    if (known := check_at_once(batch)) is not None:
        return known
    try:
        records = batch.soundness.records = await _check_in_slices(batch)
    except DecodeError as error:
        raise MalformedPayloadError(f"the body is not a valid request of {batch.signal.value}: {error}") from error
    return records


def check_at_once(batch: Batch) -> int | None:
    """Do as `check` does for a batch that is small or was checked; None for another, or where something is wrong."""
    soundness = batch.soundness
    if soundness.records is None and len(batch.payload) <= _WHOLE:
        # What is wrong, if anything, `check` finds: records that are read alone may be nested a little deeper.
        with contextlib.suppress(DecodeError):
            soundness.records = _check_whole(batch)
    return soundness.records


_KINDS: dict[Signal, Any] = {Signal.LOGS: logs_pb2.LogRecord, Signal.TRACES: trace_pb2.Span}


def _check_whole(batch: Batch) -> int:
    request: Any = SERVICES[batch.signal].request.FromString(batch.payload)
    budget, count = Budget.of(batch), 0
    resources, scopes, records = LEVELS[batch.signal]
    budget.take(len(getattr(request, resources)), RECORD, "resources")
    for resource in getattr(request, resources):
        budget.take(len(getattr(resource, scopes)), RECORD, "scopes")
        for scope in getattr(resource, scopes):
            its = getattr(scope, records)
            budget.take(len(its), RECORD, records.replace("_", " "))
            if batch.signal is not Signal.METRICS:
                count += _checked(its, _KINDS[batch.signal])
                continue
            for metric in its:
                if (kind := metric.WhichOneof("data")) is not None:
                    points = getattr(metric, kind).data_points
                    budget.take(len(points), RECORD, batch.signal.records)
                    count += _checked(points, _POINTS[kind])
    return count


def _checked(records: Sequence[Any], cls: Any) -> int:
    """Return how many records there are. Raises `MalformedPayloadError` when any of them has ids that are none."""
    are_ids_sound = _ARE_IDS_SOUND.get(cls)
    if are_ids_sound is not None and not all(map(are_ids_sound, records)):
        raise MalformedPayloadError(f"a {cls.DESCRIPTOR.name} of the request has ids that are none")
    return len(records)


def _check_part(raw: bytes, cls: Any) -> None:
    check_parts(raw, cls.DESCRIPTOR)
    _checked((cls.FromString(raw),), cls)


async def _check_in_slices(batch: Batch) -> int:
    count = since = 0
    began = time.perf_counter()
    request = REQUESTS[batch.signal].FromString(batch.payload)
    for parts, cls in _parts_of(request, batch.signal, Budget.of(batch)):
        if cls.DESCRIPTOR.full_name in RECORDS:
            count += len(parts)
        parse, are_ids_sound = cls.FromString, _ARE_IDS_SOUND.get(cls)
        for index, raw in enumerate(parts, 1):
            since += len(raw)
            if len(raw) > LARGE:
                await asyncio.to_thread(_check_part, raw, cls)
                began, since = time.perf_counter(), 0
                continue
            if index % _PACE == 0 or since > LARGE:
                since = 0
                if time.perf_counter() - began > SLICE:
                    await asyncio.sleep(0)
                    began = time.perf_counter()
            part = parse(raw)
            if are_ids_sound is not None and not are_ids_sound(part):
                raise MalformedPayloadError(f"a {cls.DESCRIPTOR.name} of the request has ids that are none")
        if time.perf_counter() - began > SLICE:
            await asyncio.sleep(0)
            began = time.perf_counter()
    return count


def _parts_of(request: Any, signal: Signal, budget: Budget) -> Iterator[tuple[Sequence[bytes], Any]]:
    """Yield what a request consists of, serialized, with the class that reads it. Raises `TooLargeError`."""
    levels = LEVELS[signal]
    resources = getattr(request, levels.resources)
    budget.take(len(resources), RECORD, "resources")
    for resource in resources:
        scopes = getattr(resource, levels.scopes)
        budget.take(len(scopes), RECORD, "scopes")
        yield (resource.resource,), resource_pb2.Resource
        for scope in scopes:
            yield (scope.scope,), common_pb2.InstrumentationScope
            records = getattr(scope, levels.records)
            budget.take(len(records), RECORD, signal.records)
            if signal is not Signal.METRICS:
                yield records, _KINDS[signal]
                continue
            for metric in records:
                if metric.metadata:
                    yield metric.metadata, common_pb2.KeyValue
                kind = metric.WhichOneof("data")
                if kind is not None:
                    points = getattr(metric, kind).data_points
                    budget.take(len(points), RECORD, signal.records)
                    yield points, _POINTS[kind]


class _BadError(Exception):
    """A message that cannot be mended. Its text says why."""


@dataclass(slots=True)
class Report:
    """What becomes of the records of one request, and what its sender is told of it."""

    kept: int = 0
    rejected: int = 0
    mended: int = 0
    passed_over: int = 0
    rejections: list[tuple[str, str]] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def reject(self, place: str, reason: str, records: int = 1) -> None:
        """Count records that are left out."""
        self.rejected += records
        if len(self.rejections) <= _SHOWN:
            self.rejections.append((place, reason))

    def pass_over(self, place: str, why: str, records: int) -> None:
        """Count records under a key that OTLP does not have: they are no error, and they are not stored."""
        self.passed_over += records
        if len(self.remarks) <= _SHOWN:
            self.remarks.append(f"{place}: {why}")

    def mend(self, place: str, what: str) -> None:
        """Count what is kept otherwise than it came."""
        self.mended += 1
        if len(self.repairs) <= _SHOWN:
            self.repairs.append(f"{place}: {what}")

    def outcome(self, signal: Signal) -> Outcome:
        """Return what to tell the sender. Raises `NothingLeftError` when all records are rejected."""
        parts = []
        passed_over = []
        if self.remarks:
            counted = f"{self.passed_over} {signal.records} " if self.passed_over else ""
            passed_over.append(f"{counted}passed over: {_shown(self.remarks)}")
        if self.rejected:
            rejections = [f"{place}: {reason}" for place, reason in self.rejections]
            parts.append(f"{self.rejected} {signal.records} rejected: {_shown(rejections)}")
            if not self.kept:
                outcome = Outcome(self.rejected + self.passed_over, "; ".join(parts + passed_over))
                raise NothingLeftError("; ".join([_shown(rejections), *passed_over]), outcome, self.rejections[:_SHOWN])
        parts += passed_over
        if self.mended:
            parts.append(f"{self.mended} mended: {_shown(self.repairs)}")
        return Outcome(self.rejected + self.passed_over, "; ".join(parts))


def _shown(places: list[str]) -> str:
    return "; ".join([*places[:_SHOWN], *(["…"] if len(places) > _SHOWN else [])])


class _Mending:
    """One request under repair."""

    def __init__(self, budget: Budget) -> None:
        self.report = Report()
        self._budget = budget

    def container(self, raw: bytes, descriptor: Any, place: str) -> Steps[bytes]:
        """Mend a message that holds records, or holds what does. A generator that returns its bytes.

        Raises `wire_format.BrokenError` when it cannot be read, and `_BadError` when what all its records share cannot.
        """
        fields = descriptor.fields_by_number
        indices: dict[int, int] = {}
        out: list[bytes] = []
        for index, (number, wire_type, start, content, end) in enumerate(wire_format.fields(raw), 1):
            if index % _PACE == 0:
                yield None
            known = fields.get(number)
            if known is None or wire_type != wire_format.LENGTH:
                out.append(raw[start:end])  # unknown to this version, or so misspelt that parsers skip it
                continue
            value = raw[content:end]
            its_place = f"{place}.{known.name}" if place else known.name
            if known.is_repeated:
                its_place += f"[{indices.setdefault(number, 0)}]"
                indices[number] += 1
            kind = known.message_type
            self._budget.take(1, RECORD, known.name.replace("_", " "))
            is_large = len(value) > LARGE
            if kind is None:
                mended = self._noted(value, _text(value), its_place, NOT_UTF8) if _is_string(known) else value
            elif kind.full_name in RECORDS:
                work = functools.partial(self.record, value, kind, its_place)
                record = (yield work) if is_large else work()
                yield None
                if record is None:
                    continue
                mended = record
            elif holds_records(kind):
                report = self.report
                seen = report.rejected, report.kept
                try:
                    mended = yield from self.container(value, kind, its_place)
                except (_BadError, wire_format.BrokenError) as error:
                    count = functools.partial(_count, value, kind)
                    lost = (yield count) if is_large else count()
                    report.rejected, report.kept = seen
                    report.reject(its_place, str(error), max(lost, 1))
                    continue
            else:
                if indices.get(number, 0) > MOST_PARTS:
                    raise _BadError(f"it has more than {MOST_PARTS} entries of {known.name}")
                mend_it = functools.partial(_mended, value, kind)
                try:
                    sound = (yield mend_it) if is_large else mend_it()
                except (_BadError, wire_format.BrokenError) as error:
                    raise _BadError(f"its {known.name}: {error}") from error
                mended = self._noted(value, sound, its_place, NOT_UTF8)
                yield None
            out.append(raw[start:end] if mended is value else wire_format.length_delimited(number, mended))
        return b"".join(out)

    def record(self, raw: bytes, descriptor: Descriptor, place: str) -> bytes | None:
        """Return a record, mended where it needs to be; None when it is rejected."""
        try:
            text = _mended(raw, descriptor)
            ids = _with_sound_ids(text, RECORDS[descriptor.full_name])
        except (_BadError, wire_format.BrokenError) as error:
            self.report.reject(place, str(error))
            return None
        self.report.kept += 1
        return self._noted(raw, ids, place, "ids that are none are left out" if text is raw else NOT_UTF8)

    def _noted(self, before: bytes, after: bytes, place: str, what: str) -> bytes:
        """Return what something was mended to, and note it where that is something else."""
        if after is not before:
            self.report.mend(place, what)
        return after


NOT_UTF8 = "text that is not UTF-8 has U+FFFD in place of what is broken"


def _is_string(field: FieldDescriptor) -> bool:
    return bool(field.type == FieldDescriptor.TYPE_STRING)


def _count(raw: bytes, descriptor: Descriptor) -> int:
    """Return how many records a message holds, as far as it can be read."""
    count = 0
    try:
        for number, wire_type, _, content, end in wire_format.fields(raw):
            known = descriptor.fields_by_number.get(number)
            if known is None or wire_type != wire_format.LENGTH or (kind := known.message_type) is None:
                continue
            if kind.full_name in RECORDS:
                count += 1
            elif holds_records(kind):
                count += _count(raw[content:end], kind)
    except wire_format.BrokenError:
        pass
    return count


def _text(raw: bytes) -> bytes:
    """Return text as UTF-8, with U+FFFD in place of what is not; the same object when all is."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return raw.decode(errors="replace").encode()
    return raw


def _mended(raw: bytes, descriptor: Descriptor) -> bytes:
    """Return a message with its text mended; the same object when nothing was to mend.

    Raises `_BadError` or `wire_format.BrokenError` when it cannot be read for another reason.
    """
    if has_too_many_parts(raw, descriptor):
        raise _BadError(f"it has more than {MOST_PARTS} parts: attributes, nested values, events, links, buckets")
    parse: Any = GetMessageClass(descriptor).FromString
    try:
        parse(raw)
    except DecodeError:
        mended = _with_sound_text(raw, descriptor, 0)
        try:
            parse(mended)
        except DecodeError as error:
            raise _BadError("it cannot be read as protobuf") from error
        return mended
    return raw


def _with_sound_text(raw: bytes, descriptor: Descriptor, depth: int) -> bytes:
    if depth > _MAX_DEPTH:
        raise _BadError(f"it is nested too deeply, more than {_MAX_DEPTH} messages inside each other")
    out: list[bytes] = []
    for number, wire_type, start, content, end in wire_format.fields(raw):
        known = descriptor.fields_by_number.get(number)
        piece = raw[start:end]
        if known is not None and wire_type == wire_format.LENGTH:
            value = raw[content:end]
            mended = value
            if known.message_type is not None:
                mended = _with_sound_text(value, known.message_type, depth + 1)
            elif _is_string(known):
                mended = _text(value)
            if mended is not value:
                piece = wire_format.length_delimited(number, mended)
        out.append(piece)
    result = b"".join(out)
    return raw if result == raw else result


# -- ids ---------------------------------------------------------------------------------------------------------------

_ID_SIZES = (("trace_id", 16), ("span_id", 8))


_NO_TRACE_ID, _NO_SPAN_ID = bytes(16), bytes(8)


def sound_ids(record: Any) -> bool:
    """Tell whether nothing is to be mended about the ids in a message."""
    are_sound = _ARE_IDS_SOUND.get(type(record))
    return are_sound is None or are_sound(record)


def _are_span_ids_sound(span: Any) -> bool:
    trace_id, span_id = span.trace_id, span.span_id
    return (
        len(trace_id) == 16
        and len(span_id) == 8
        and len(span.parent_span_id) in (0, 8)
        and trace_id != _NO_TRACE_ID
        and span_id != _NO_SPAN_ID
        and all(map(_are_sizes_sound, span.links))
    )


def _are_exemplar_ids_sound(point: Any) -> bool:
    exemplars = point.exemplars
    return not exemplars or all(map(_are_sizes_sound, exemplars))


def _are_sizes_sound(owner: Any) -> bool:
    return len(owner.trace_id) in (0, 16) and len(owner.span_id) in (0, 8)


_ARE_IDS_SOUND: dict[Any, Callable[[Any], bool]] = {
    logs_pb2.LogRecord: _are_sizes_sound,
    trace_pb2.Span: _are_span_ids_sound,
    metrics_pb2.NumberDataPoint: _are_exemplar_ids_sound,
    metrics_pb2.HistogramDataPoint: _are_exemplar_ids_sound,
    metrics_pb2.ExponentialHistogramDataPoint: _are_exemplar_ids_sound,
}


def _with_sound_ids(raw: bytes, cls: Any) -> bytes:
    """Return a record without the ids that are none; the same object when all are. Raises `_BadError` for a span's own.

    Source: ``trace.proto`` and ``logs.proto`` on ``trace_id``, ``span_id`` and ``parent_span_id``.
    """
    record = cls.FromString(raw)
    if sound_ids(record):
        return raw
    if cls is trace_pb2.Span:
        for name, size in _ID_SIZES:
            if len(value := getattr(record, name)) != size or not any(value):
                raise _BadError(f"its {name} is not {size} bytes, or all zero")
        if len(record.parent_span_id) not in (0, 8):
            raise _BadError("its parent_span_id is not 8 bytes")
    owners = {logs_pb2.LogRecord: "", trace_pb2.Span: "links"}.get(cls, "exemplars")
    for owner in getattr(record, owners) if owners else [record]:
        for name, size in _ID_SIZES:
            if len(getattr(owner, name)) != size:
                owner.ClearField(name)
    return bytes(record.SerializeToString())
