"""The format of a spool segment: records one after the other, each with its length and checksum.

A record is a header of 40 bytes and the payload. Integers are big-endian.

======  ====================================================================================
bytes   meaning
======  ====================================================================================
4       the mark by which a reader finds the next record behind a damaged one
4       length of the payload
4       CRC-32 of everything after this field
1       signal: 1 metrics, 2 logs, 3 traces; 0 in a head
1       1 when the batch is the gateway's own telemetry
2       reserved, zero
8       when the batch was received, in nanoseconds since the Unix epoch
16      digest of the batch
======  ====================================================================================

A write that a crash cut short leaves an incomplete record at the end of a segment: it was never acknowledged and is cut
off. A damaged record with intact ones behind it is something else, and is reported.

A segment that was begun behind another one begins with a head: a record without payload, which in place of a digest has
the other's number and how many bytes that one has, 8 bytes each. So what is missing of the other is known.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from gateway.component.batch import Batch, Signal

MARK = b"\xf1OHS"
_HEADER = struct.Struct(">4sII")
_BODY = struct.Struct(">BBHQ16s")
_BEFORE = struct.Struct(">QQ")
HEADER_SIZE = _HEADER.size + _BODY.size

_SEARCH_BYTES = 512 * 2**20
"""How many bytes are checksummed in the search for the next record behind a damaged one."""

_SIGNALS = {Signal.METRICS: 1, Signal.LOGS: 2, Signal.TRACES: 3}
_HEAD_CODE = 0
_SIGNALS_BY_CODE = {code: signal for signal, code in _SIGNALS.items()}


@dataclass(slots=True, frozen=True)
class Record:
    """An intact record and the offset in its segment at which the next one begins."""

    batch: Batch
    end: int


@dataclass(slots=True, frozen=True)
class Head:
    """The head of a segment: the number and the length in bytes of the one before it; and where the head ends."""

    number: int
    length: int
    end: int


@dataclass(slots=True, frozen=True)
class Damage:
    """Bytes of a segment, from ``start`` to ``end``, that are no record.

    ``torn`` is true for an incomplete record with nothing intact behind it: what a crash in the middle of a write
    leaves.
    """

    start: int
    end: int
    torn: bool


def encode(batch: Batch) -> bytes:
    """Return the record of a batch."""
    body = _BODY.pack(_SIGNALS[batch.signal], batch.own_telemetry, 0, batch.received_at, batch.digest)
    checksum = zlib.crc32(batch.payload, zlib.crc32(body))
    return b"".join((_HEADER.pack(MARK, len(batch.payload), checksum), body, batch.payload))


def encode_head(number: int, length: int) -> bytes:
    """Return the head of a segment behind the one of that number, which has so many bytes."""
    body = _BODY.pack(_HEAD_CODE, 0, 0, 0, _BEFORE.pack(number, length))
    return _HEADER.pack(MARK, 0, zlib.crc32(body)) + body


def record_size(batch: Batch) -> int:
    """Return how many bytes the record of a batch has."""
    return HEADER_SIZE + len(batch.payload)


def digests(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """Yield the digest of each record of a segment from an offset on, by headers alone, up to the first damaged one."""
    offset = start
    while offset + HEADER_SIZE <= end:
        file.seek(offset)
        header = file.read(HEADER_SIZE)
        if len(header) < HEADER_SIZE or header[:4] != MARK:
            return
        _, length, _ = _HEADER.unpack_from(header)
        offset += HEADER_SIZE + length
        if offset > end:
            return
        if header[_HEADER.size] in _SIGNALS_BY_CODE:  # the head of a segment is no batch
            yield header[-16:]


def scan(data: bytes, start: int = 0) -> Iterator[Record | Head | Damage]:
    """Yield the records of a segment from an offset on, its head, and what is damaged between them."""
    offset = start
    while offset < len(data):
        record = _record_at(data, offset)
        if record is not None:
            yield record
            offset = record.end
            continue
        damage = _damage_at(data, offset)
        yield damage
        offset = damage.end


def _record_at(data: bytes, offset: int) -> Record | Head | None:
    if len(data) - offset < HEADER_SIZE:
        return None
    mark, length, checksum = _HEADER.unpack_from(data, offset)
    body_start = offset + _HEADER.size
    end = offset + HEADER_SIZE + length
    if mark != MARK or end > len(data) or zlib.crc32(memoryview(data)[body_start:end]) != checksum:
        return None
    code, own_telemetry, _, received_at, digest = _BODY.unpack_from(data, body_start)
    if code == _HEAD_CODE and not length:
        number, its_length = _BEFORE.unpack(digest)
        return Head(number, its_length, end)
    signal = _SIGNALS_BY_CODE.get(code)
    if signal is None:
        return None
    return Record(Batch(signal, data[offset + HEADER_SIZE : end], digest, bool(own_telemetry), received_at), end)


def _damage_at(data: bytes, offset: int) -> Damage:
    """Return how far damage reaches: to the first intact record behind it.

    Where the damaged record's own length leads to an intact one, that is it. Otherwise it is searched for. A payload
    may be full of marks, each followed by a length to check, so there is a bound to what is tried.
    """
    own_end = _end_at(data, offset)
    if own_end is not None and _record_at(data, own_end) is not None:
        return Damage(offset, own_end, torn=False)
    budget, at = _SEARCH_BYTES, offset
    while (at := data.find(MARK, at + 1)) >= 0:
        if budget < 0:
            return Damage(offset, len(data), torn=False)
        end = _end_at(data, at)
        budget -= HEADER_SIZE + (end - at if end is not None else 0)
        if end is not None and _record_at(data, at) is not None:
            return Damage(offset, at, torn=False)
    return Damage(offset, len(data), torn=own_end is None)


def _end_at(data: bytes, offset: int) -> int | None:
    """Return where a record ends by its own account, or None when there is no mark or too little data."""
    if len(data) - offset < HEADER_SIZE:
        return None
    mark, length, _ = _HEADER.unpack_from(data, offset)
    end: int = offset + HEADER_SIZE + length
    return end if mark == MARK and end <= len(data) else None
