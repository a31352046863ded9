"""What a request may cost once it is decoded: bounds over all of it, checked before anything is.

Two bytes can stand for a record of hundreds. So what repeats is counted and weighed, by about as many bytes as it takes
when it is decoded and encoded for the store, and the sum may not be out of proportion to the payload. What weighs more
than requests do that mean well also counts as more of what is in flight (`Load`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from gateway.component.batch import Batch
from gateway.component.errors import MalformedPayloadError, OverloadedError, TooLargeError
from gateway.otlp import wire_format
from gateway.otlp.services import SERVICES

SLICE = 0.01
"""Seconds for which the event loop is held at a time while a large request is worked on."""

RECORD = 256
"""What a record, metric, scope or resource weighs."""

PART = 128
"""What an event, link, exemplar or quantile weighs."""

ATTRIBUTE = 64
"""What an attribute weighs, or a value in the array or map that one is."""

BUCKET = 12
"""What a bucket weighs, or a bound between two."""

_ALWAYS = 4 * 2**20
"""Weight that any request may have: some 16,000 records of nothing."""

_PROPORTION = 32
"""Weight for each byte of payload. A log record, data point or span that says something has 30 bytes and more."""

_MOST = 192 * 2**20
_MOST_PROPORTION = 12
"""A large request may weigh so much, or so many times what it has bytes, whatever is more."""

_USUAL_PROPORTION = 8
"""What a request weighs, at most, that counts by its payload alone among what is in flight."""

MOST_PARTS = 50_000
"""How many parts one record may have: attributes, nested values, events, links, exemplars, buckets by sixteens. They
are decoded in one go, in some 50 ms."""

_LARGE_PART = 64 * 2**10
"""Bytes that a record needs to have to have too many parts."""

LARGE_REQUEST = 2**20
"""Bytes from which on the containers of a request are looked at before they are parsed in one go."""

_TAGS = b"\x0a\x12\x62"
"""The tags of what may repeat outside records: resources, scopes, metrics and records, and the metadata of a metric."""

RECORDS: dict[str, Any] = {
    cls.DESCRIPTOR.full_name: cls
    for cls in (
        logs_pb2.LogRecord,
        trace_pb2.Span,
        metrics_pb2.NumberDataPoint,
        metrics_pb2.HistogramDataPoint,
        metrics_pb2.ExponentialHistogramDataPoint,
        metrics_pb2.SummaryDataPoint,
    )
}
"""The messages that are one record each, by full name."""


def most_weight(size: int) -> int:
    """Return what a request of so many bytes may weigh."""
    return min(max(_ALWAYS, _PROPORTION * size), max(_MOST, _MOST_PROPORTION * size))


class Budget:
    """What a request of ``size`` bytes may still weigh; one that is a part of a ``whole``, its share of that.

    ``load`` grows with it.
    """

    def __init__(self, size: int, whole: int = 0, load: Load | None = None) -> None:
        self._most = max(_ALWAYS, most_weight(whole) * size // whole) if size < whole else most_weight(size)
        self._left = self._most
        self._size = size
        self._load = load
        self._look_below = 0 if load is None else self._most - _USUAL_PROPORTION * size

    @classmethod
    def of(cls, batch: Batch, *, kept: bool = False) -> Budget:
        """Return that of a batch. ``kept``: what is decoded of it is kept until it is answered for."""
        return cls(len(batch.payload), batch.whole, batch.load if kept else None)

    def take(self, count: int, weight: int, what: str) -> None:
        """Take the weight of some parts.

        Raises `TooLargeError` when that is more than is left, and `OverloadedError` when too much is in flight for it.
        """
        self._left -= count * weight
        if self._left < self._look_below:
            self._look(what)

    def _look(self, what: str) -> None:
        taken = self._most - self._left
        if self._left < 0:
            raise TooLargeError(
                f"the request of {self._size} bytes holds too much to decode: with its {what} about "
                f"{taken // 2**20} MiB, of at most {self._most // 2**20} MiB for that size; "
                "send smaller batches, and no empty records"
            )
        if self._load is not None:
            self._load.grow(taken // _USUAL_PROPORTION)


class InFlight:
    """What is admitted and not yet answered for, in bytes, of at most ``most``."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = 0

    def admit(self, size: int) -> Load:
        """Count a request of so many bytes. Raises `OverloadedError` when there is no room; one alone has room."""
        load = Load(self)
        load.grow(size)
        return load


class Load:
    """What one request, or a part of one, counts for among what is in flight. Release it in the end."""

    def __init__(self, in_flight: InFlight, whole: Load | None = None, size: int = 0) -> None:
        self._in_flight = in_flight
        self._whole = whole or self
        self._size = size
        self._held = 0
        self._released = False

    def part(self, size: int) -> Load:
        """Return what a part of so many bytes counts for. It is released with the whole, which counts these already."""
        return Load(self._in_flight, self._whole, size)

    def grow(self, size: int) -> None:
        """Count for so many bytes, where that is more than before. Raises `OverloadedError` when there is no room."""
        whole, in_flight = self._whole, self._in_flight
        more = size - self._size
        if more <= 0 or whole._released:
            return
        if in_flight.size > whole._held and in_flight.size + more > in_flight.most:
            raise OverloadedError(
                f"{in_flight.size} bytes wait to be stored, of at most {in_flight.most} "
                "(setting service.delivery.max_in_flight)"
            )
        self._size = size
        whole._held += more
        in_flight.size += more

    def release(self) -> None:
        """Count it no longer. Harmless when repeated."""
        self._released = True
        self._in_flight.size -= self._held
        self._held = 0


async def check(batch: Batch) -> None:
    """Look at what a large request repeats at its outer levels, when it may be that much. Raises `TooLargeError`.

    Whoever decodes a request weighs these levels by a `Budget` once they are parsed, which takes no longer than 10 ms
    up to a MiB whatever they hold. A larger one of which a quarter of the bytes may be tags is walked before. One that
    cannot be read is no matter here.
    """
    payload = batch.payload
    if len(payload) > LARGE_REQUEST and sum(map(payload.count, _TAGS)) > len(payload) // 4:
        await _check_by_walking(batch, Budget.of(batch))


async def _check_by_walking(batch: Batch, budget: Budget) -> None:
    began = time.perf_counter()
    try:
        for _ in _walk(batch.payload, SERVICES[batch.signal].request.DESCRIPTOR, budget):
            if time.perf_counter() - began > SLICE:
                await asyncio.sleep(0)
                began = time.perf_counter()
    except wire_format.BrokenError:
        return


def _walk(raw: bytes, descriptor: Any, budget: Budget) -> Iterator[None]:
    """Take the weight of what a message holds, with a pause now and then."""
    for count, (number, wire_type, _, content, end) in enumerate(wire_format.fields(raw)):
        if count % 256 == 0:
            yield
        known = descriptor.fields_by_number.get(number)
        # An unknown field costs its parser what a record does.
        budget.take(1, RECORD, "records" if known is None else known.name.replace("_", " "))
        if known is not None and wire_type == wire_format.LENGTH and holds_records(known.message_type):
            yield from _walk(raw[content:end], known.message_type, budget)


def holds_records(descriptor: Descriptor | None) -> bool:
    """Tell whether messages of a type hold records, or messages that do."""
    if descriptor is None:
        return False
    known = _HOLDS_RECORDS.get(descriptor.full_name)
    if known is None:
        _HOLDS_RECORDS[descriptor.full_name] = False  # should it hold itself, as an AnyValue does
        kinds = [each.message_type for each in descriptor.fields if each.message_type is not None]
        known = any(kind.full_name in RECORDS or holds_records(kind) for kind in kinds)
        _HOLDS_RECORDS[descriptor.full_name] = known
    return known


_HOLDS_RECORDS: dict[str, bool] = {}


def has_too_many_parts(raw: bytes, descriptor: Descriptor) -> bool:
    """Tell whether a record, or a resource or scope, has more parts than can be decoded in one go."""
    if len(raw) <= _LARGE_PART:
        return False
    try:
        return _parts(raw, descriptor, 0, 0) > MOST_PARTS
    except wire_format.BrokenError:
        return False  # which is found when it is parsed


def check_parts(raw: bytes, descriptor: Descriptor) -> None:
    """Raise `MalformedPayloadError` for a record, resource or scope of too many parts."""
    if len(raw) > _LARGE_PART and has_too_many_parts(raw, descriptor):
        raise MalformedPayloadError(f"a {descriptor.name} of the request has more than {MOST_PARTS} parts")


def _parts(raw: bytes, descriptor: Descriptor, count: int, depth: int) -> int:
    """Return ``count`` and how many parts a message has, or a number beyond the bound."""
    for number, wire_type, _, content, end in wire_format.fields(raw):
        count += 1
        known = descriptor.fields_by_number.get(number)
        if known is not None and wire_type == wire_format.LENGTH:
            if known.message_type is not None and depth < 100:
                count = _parts(raw[content:end], known.message_type, count, depth + 1)
            elif known.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
                count += (end - content) // 16
        if count > MOST_PARTS:
            break
    return count
