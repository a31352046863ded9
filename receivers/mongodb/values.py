"""Values of documents as OTLP's ``AnyValue``, serialized.

=================================  ==================================================================
in the document                    ``AnyValue``
=================================  ==================================================================
text, boolean, double              the same; NaN and infinities, too
32 and 64 bit integers             int
null                               no value
object, array                      kvlist, array
date                               text in ISO 8601, UTC; beyond the year 9999, milliseconds as an int
binary data                        bytes; a UUID: text
ObjectId                           its 24 hexadecimal digits
Decimal128, integers beyond        text, because no number of OTLP holds them exactly
timestamp                          text in ISO 8601, UTC
regular expression                 ``/pattern/flags``
DBRef, code                        kvlist, text
MinKey, MaxKey                     their names
=================================  ==================================================================

The bytes are written at once, and are those that protobuf's own library writes: its messages, made of Python one by
one, take twice the time. Source of the field numbers: ``opentelemetry/proto/common/v1/common.proto``.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from gateway.otlp.wire_format import varint
from receivers.mongodb.errors import DocumentError

MAX_DEPTH = 30
"""Objects and arrays inside one another. protobuf reads 100 messages inside one another, and each takes up to three."""

_MOST = 2**63
_FLAGS = "ilmsux"
_MOST_KEYS = 10_000
_LONGEST_KEY = 256

_SHORT = 128
"""Lengths below this are one byte."""
_LONGISH = 128 * 128
"""Those below this are two."""

# The beginnings of fields, for each length below `_SHORT`. Values that come often are written by what is made before,
# for each step of their making takes as long as all of a look-up.
_HEADS = {tag: [bytes((tag, size)) for size in range(_SHORT)] for tag in (0x0A, 0x12, 0x32)}
_TEXTS = [bytes((0x12, size + 2, 0x0A, size)) for size in range(_SHORT - 2)]
"""What is before a text of each such size that is the value of a ``KeyValue``: its tag and length, and those of the
``AnyValue``."""
_TEXTS_OF_ARRAYS = [bytes((0x0A, size + 2, 0x0A, size)) for size in range(_SHORT - 2)]
_INTS = [bytes((0x12, 2, 0x18, number)) for number in range(_SHORT)]
"""Such numbers, as the value of a ``KeyValue``."""
_BOOLS = {False: b"\x12\x02\x10\x00", True: b"\x12\x02\x10\x01"}
_double = struct.Struct("<Bd").pack
_double_of_pair = struct.Struct("<BBBd").pack


class _NoTextError(Exception):
    """A key is no text."""


class _Keys(dict[str, bytes]):
    """The field ``key`` of a ``KeyValue``, by the key. Documents of a collection have the same ones over and over."""

    def __missing__(self, key: object) -> bytes:
        """Encode a key. Raises `_NoTextError` for what is none."""
        if not isinstance(key, str):
            raise _NoTextError
        encoded = field(0x0A, key.encode()) if key else b""
        if len(encoded) <= _LONGEST_KEY:
            if len(self) >= _MOST_KEYS:
                self.clear()
            self[key] = encoded
        return encoded


_KEYS = _Keys()


class _TextsOfKey(dict[int, bytes]):
    """What of a ``KeyValue``, as a field of a tag, is before its text, by the size of that.

    Empty where a length takes more than one byte.
    """

    def __init__(self, tag: int, key: bytes) -> None:
        super().__init__()
        self._tag, self._key = tag, key

    def __missing__(self, size: int) -> bytes:
        whole = len(self._key) + 4 + size
        if whole >= _SHORT:
            return b""  # for any size of what is long: not kept
        self[size] = head = _HEADS[self._tag][whole] + self._key + _TEXTS[size]
        return head


class _TextsOfKeys(dict[str, _TextsOfKey]):
    """What is before texts, by their key, for one tag."""

    def __init__(self, tag: int) -> None:
        super().__init__()
        self._tag = tag

    def __missing__(self, key: object) -> _TextsOfKey:
        """Begin with a key. Raises `_NoTextError` for what is none."""
        encoded = _KEYS[key]  # type: ignore[index]
        texts = _TextsOfKey(self._tag, encoded)
        if key and len(encoded) <= _LONGEST_KEY:
            if len(self) >= _MOST_KEYS:
                self.clear()
            self[key] = texts  # type: ignore[index]
        return texts


_TEXT_PAIRS = {tag: _TextsOfKeys(tag) for tag in _HEADS}
"""Most values are short texts: one look-up writes all around one."""


def field(tag: int, content: bytes) -> bytes:
    """Return a length-delimited field of a tag of one byte."""
    size = len(content)
    if size < _SHORT:
        return bytes((tag, size)) + content
    if size < _LONGISH:
        return bytes((tag, size & 127 | 128, size >> 7)) + content
    return bytes((tag,)) + varint(size) + content


def pairs(tag: int, items: Iterable[tuple[Any, Any]], path: str, depth: int) -> bytes:
    """Return a ``KeyValue`` for each key and value, as fields of a tag. Raises `DocumentError`."""
    texts, heads = _TEXT_PAIRS[tag], _HEADS[tag]
    out: list[bytes] = []
    for key, found in items:
        try:
            kind = type(found)
            if kind is str:
                text = found.encode()
                if head := texts[key][len(text)]:
                    out += (head, text)
                    continue
                pair = _KEYS[key] + field(0x12, field(0x0A, text))
            elif kind is int and 0 <= found < _SHORT:
                pair = _KEYS[key] + _INTS[found]
            elif kind is int and 0 <= found < _LONGISH:
                pair = _KEYS[key] + bytes((0x12, 3, 0x18, found & 127 | 128, found >> 7))
            elif kind is float:
                pair = _KEYS[key] + _double_of_pair(0x12, 9, 0x21, found)
            elif kind is bool:
                pair = _KEYS[key] + _BOOLS[found]
            else:
                pair = _KEYS[key]
                if value := any_value(found, f"{path}.{key}", depth):
                    pair += field(0x12, value)
        except UnicodeEncodeError:
            raise DocumentError(f"{path}.{key}: not valid Unicode") from None
        except _NoTextError:
            raise DocumentError(f"{path}: the key {key!r} is not a text") from None
        size = len(pair)
        out.append(heads[size] + pair if size < _SHORT else field(tag, pair))
    return b"".join(out)


def any_value(found: Any, path: str, depth: int = 0) -> bytes:
    """Return a value. ``path`` is where it stands, for people. Raises `DocumentError` for what OTLP cannot carry."""
    encode = _ENCODERS.get(type(found))
    if encode is None:
        return _other(found, path, depth)
    try:
        return encode(found, path, depth)
    except UnicodeEncodeError:
        raise DocumentError(f"{path}: not valid Unicode") from None


def _text_value(found: str, path: str, depth: int) -> bytes:
    return field(0x0A, found.encode())


def _bool(found: bool, path: str, depth: int) -> bytes:
    return b"\x10\x01" if found else b"\x10\x00"


def _int(found: int, path: str, depth: int) -> bytes:
    if 0 <= found < _SHORT:
        return bytes((0x18, found))
    if -_MOST <= found < _MOST:
        return b"\x18" + varint(found & 2**64 - 1)  # two's complement
    if found.bit_length() > 10_000:
        raise DocumentError(f"{path}: an integer of {found.bit_length()} bits")
    return field(0x0A, str(found).encode())


def _float(found: float, path: str, depth: int) -> bytes:
    return _double(0x21, found)


def _bytes(found: bytes, path: str, depth: int) -> bytes:
    return field(0x3A, bytes(found))


def _object(found: Mapping[Any, Any], path: str, depth: int) -> bytes:
    _check_depth(path, depth)
    return field(0x32, pairs(0x0A, found.items(), path, depth + 1))


def _array(found: Sequence[Any], path: str, depth: int) -> bytes:
    _check_depth(path, depth)
    out: list[bytes] = []
    for number, inner in enumerate(found):
        if type(inner) is str and (size := len(text := inner.encode())) < _SHORT - 2:
            out += (_TEXTS_OF_ARRAYS[size], text)
        else:
            out.append(field(0x0A, any_value(inner, f"{path}.{number}", depth + 1)))
    return field(0x2A, b"".join(out))


def _date(found: datetime, path: str, depth: int) -> bytes:
    return field(0x0A, iso(found).encode())


def _as_text(found: Any, path: str, depth: int) -> bytes:
    return field(0x0A, str(found).encode())


def _none(found: None, path: str, depth: int) -> bytes:
    return b""


def _check_depth(path: str, depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise DocumentError(f"{'.'.join(path.split('.')[:4])}…: nested more than {MAX_DEPTH} deep")


_ENCODERS: dict[type, Callable[[Any, str, int], bytes]] = {
    str: _text_value,
    bool: _bool,
    int: _int,
    float: _float,
    bytes: _bytes,
    dict: _object,
    list: _array,
    tuple: _array,
    type(None): _none,
    datetime: _date,
    uuid.UUID: _as_text,
}
"""By exact type. Those of `bson` that come often are added with the first: nobody who has no pipeline imports it."""


def _other(found: Any, path: str, depth: int) -> bytes:
    import bson
    from bson.datetime_ms import DatetimeMS

    _ENCODERS[bson.Int64], _ENCODERS[bson.ObjectId] = _int, _as_text
    text: str
    match found:
        case bson.ObjectId() | bson.Decimal128() | uuid.UUID():
            text = str(found)
        case datetime():
            text = iso(found)
        case date():
            text = found.isoformat()
        case DatetimeMS():
            return _int(int(found), path, depth)
        case bson.Timestamp():
            text = iso(found.as_datetime())
        case bson.Binary() if found.subtype in (3, 4) and len(found) == 16:
            text = str(uuid.UUID(bytes=bytes(found)))
        case bson.Regex():
            flags = "".join(letter for letter in _FLAGS if found.flags & _REGEX_FLAGS[letter])
            text = f"/{_text(found.pattern)}/{flags}"
        case bson.DBRef():
            return any_value(found.as_doc(), path, depth)
        case bson.MinKey() | bson.MaxKey():
            text = type(found).__name__
        case str():
            text = str(found)
        case int():
            return _int(int(found), path, depth)
        case float():
            return _float(float(found), path, depth)
        case bytes() | bytearray() | memoryview():
            return _bytes(bytes(found), path, depth)
        case Mapping():
            return _object(found, path, depth)
        case list() | tuple():
            return _array(found, path, depth)
        case _:
            raise DocumentError(f"{path}: a {type(found).__name__} cannot be sent")
    return any_value(text, path, depth)


_REGEX_FLAGS = {"i": 2, "l": 4, "m": 8, "s": 16, "u": 32, "x": 64}
"""The flags of `re`, which is how `bson` keeps them."""


def _text(pattern: str | bytes) -> str:
    return pattern if isinstance(pattern, str) else pattern.decode(errors="replace")


def iso(at: datetime) -> str:
    """Return a time in ISO 8601, UTC. One without a time zone is in UTC already, as MongoDB has it."""
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return at.isoformat(timespec="microseconds" if at.microsecond % 1000 else "milliseconds").replace("+00:00", "Z")
