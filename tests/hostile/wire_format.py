"""Protobuf's wire format by hand, for messages that no library would write."""

from __future__ import annotations

VARINT, FIXED64, LENGTH, GROUP, END_GROUP, FIXED32 = range(6)


def varint(number: int, overlong: int = 0) -> bytes:
    """Encode a number; ``overlong`` adds as many bytes that say nothing."""
    out = bytearray()
    while True:
        number, byte = number >> 7, number & 0x7F
        if not number:
            break
        out.append(byte | 0x80)
    if not overlong:
        return bytes([*out, byte])
    return bytes([*out, byte | 0x80]) + b"\x80" * (overlong - 1) + b"\0"


def tag(field: int, kind: int = LENGTH) -> bytes:
    return varint(field << 3 | kind)


def message(field: int, *parts: bytes) -> bytes:
    """Encode a field that is a message, a string or bytes."""
    content = b"".join(parts)
    return tag(field) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    return tag(field, VARINT) + varint(value % 2**64)


def fixed64(field: int, value: int) -> bytes:
    return tag(field, FIXED64) + value.to_bytes(8, "little")


def string_pair(key: bytes, value: bytes) -> bytes:
    """Encode the inside of a ``KeyValue`` with a string."""
    return message(1, key) + message(2, message(1, value))


def nested_array(depth: int) -> bytes:
    """Encode the inside of an ``AnyValue`` that is an array in an array, and so on."""
    inside = message(1, b"x")
    for _ in range(depth):
        inside = message(5, message(1, inside))
    return inside


def nested_map(depth: int) -> bytes:
    """Encode the inside of an ``AnyValue`` that is a map in a map, and so on."""
    inside = message(1, b"x")
    for _ in range(depth):
        inside = message(6, message(1, message(1, b"k"), message(2, inside)))
    return inside
