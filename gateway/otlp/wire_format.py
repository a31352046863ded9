"""The protobuf wire format: a message as its fields, without a schema.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""The wire types. Groups, which nothing of OTLP ever had, are not read."""


class BrokenError(Exception):
    """Bytes that are no protobuf message. The text says why."""


def fields(data: bytes | memoryview) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield the fields of a message: number, wire type, and where its tag, its content and what follows it begin.

    The content of a length-delimited field begins after the length. Raises `BrokenError`.
    """
    at, size = 0, len(data)
    while at < size:
        start = at
        tag = data[at]
        if tag < 0x80:
            at += 1
        else:
            tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise BrokenError(f"it has no field {number}")
        content = at
        if wire_type == LENGTH:
            if at < size and data[at] < 0x80:
                length, content = data[at], at + 1
            else:
                length, content = _varint(data, at)
            at = content + length
        elif wire_type == VARINT:
            _, at = _varint(data, at)
        elif wire_type == FIXED64:
            at += 8
        elif wire_type == FIXED32:
            at += 4
        else:
            raise BrokenError(f"its field {number} has the unknown wire type {wire_type}")
        if at > size:
            raise BrokenError(f"it is truncated: its field {number} ends {at - size} bytes beyond it")
        yield number, wire_type, start, content, at


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Return the varint at an offset and the offset behind it."""
    value = shift = 0
    for place in range(at, min(at + 10, len(data))):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), place + 1
        shift += 7
    raise BrokenError("it is truncated within a number" if at + 10 > len(data) else "it has a number of over 64 bits")


def varint(value: int) -> bytes:
    """Return a number that is not negative as a varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_delimited(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return varint(number << 3 | LENGTH) + varint(len(content)) + content
