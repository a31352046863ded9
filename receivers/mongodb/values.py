"""Values of documents as OTLP's ``AnyValue``.

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
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from receivers.mongodb.errors import DocumentError

MAX_DEPTH = 30
"""Objects and arrays inside one another. protobuf reads 100 messages inside one another, and each takes up to three."""

_MOST = 2**63
_FLAGS = "ilmsux"


def put(value: AnyValue, found: Any, path: str, depth: int = 0) -> None:
    """Set a value. ``path`` is where it stands, for people. Raises `DocumentError` for what OTLP cannot carry."""
    encode = _ENCODERS.get(type(found))
    if encode is None:
        _put_other(value, found, path, depth)
        return
    try:
        encode(value, found, path, depth)
    except UnicodeEncodeError:
        raise DocumentError(f"{path}: not valid Unicode") from None


def _put_text(value: AnyValue, found: str, path: str, depth: int) -> None:
    value.string_value = found


def _put_bool(value: AnyValue, found: bool, path: str, depth: int) -> None:
    value.bool_value = found


def _put_int(value: AnyValue, found: int, path: str, depth: int) -> None:
    if -_MOST <= found < _MOST:
        value.int_value = found
    elif found.bit_length() > 10_000:
        raise DocumentError(f"{path}: an integer of {found.bit_length()} bits")
    else:
        value.string_value = str(found)


def _put_float(value: AnyValue, found: float, path: str, depth: int) -> None:
    value.double_value = found


def _put_bytes(value: AnyValue, found: bytes, path: str, depth: int) -> None:
    value.bytes_value = bytes(found)


def _put_object(value: AnyValue, found: Mapping[Any, Any], path: str, depth: int) -> None:
    _check_depth(path, depth)
    value.kvlist_value.SetInParent()
    add = value.kvlist_value.values.add
    for key, inner in found.items():
        if not isinstance(key, str):
            raise DocumentError(f"{path}: the key {key!r} is not a text")
        if type(inner) is str:  # most are
            try:
                add(key=key).value.string_value = inner
            except UnicodeEncodeError:
                raise DocumentError(f"{path}.{key}: not valid Unicode") from None
        else:
            put(add(key=key).value, inner, f"{path}.{key}", depth + 1)


def _put_array(value: AnyValue, found: Sequence[Any], path: str, depth: int) -> None:
    _check_depth(path, depth)
    value.array_value.SetInParent()
    add = value.array_value.values.add
    for number, inner in enumerate(found):
        put(add(), inner, f"{path}.{number}", depth + 1)


def _put_none(value: AnyValue, found: None, path: str, depth: int) -> None:
    pass


def _check_depth(path: str, depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise DocumentError(f"{'.'.join(path.split('.')[:4])}…: nested more than {MAX_DEPTH} deep")


_ENCODERS: dict[type, Callable[[AnyValue, Any, str, int], None]] = {
    str: _put_text,
    bool: _put_bool,
    int: _put_int,
    float: _put_float,
    bytes: _put_bytes,
    dict: _put_object,
    list: _put_array,
    tuple: _put_array,
    type(None): _put_none,
}


def _put_other(value: AnyValue, found: Any, path: str, depth: int) -> None:
    import bson

    match found:
        case bson.ObjectId() | bson.Decimal128() | uuid.UUID():
            value.string_value = str(found)
        case datetime():
            value.string_value = iso(found)
        case date():
            value.string_value = found.isoformat()
        case bson.datetime_ms.DatetimeMS():
            value.int_value = int(found)
        case bson.Timestamp():
            value.string_value = iso(found.as_datetime())
        case bson.Binary() if found.subtype in (3, 4) and len(found) == 16:
            value.string_value = str(uuid.UUID(bytes=bytes(found)))
        case bson.Regex():
            flags = "".join(letter for letter in _FLAGS if found.flags & _REGEX_FLAGS[letter])
            value.string_value = f"/{_text(found.pattern)}/{flags}"
        case bson.DBRef():
            _put_object(value, found.as_doc(), path, depth)
        case bson.MinKey() | bson.MaxKey():
            value.string_value = type(found).__name__
        case str():
            _put_text(value, str(found), path, depth)
        case int():
            _put_int(value, int(found), path, depth)
        case float():
            _put_float(value, float(found), path, depth)
        case bytes() | bytearray() | memoryview():
            _put_bytes(value, bytes(found), path, depth)
        case Mapping():
            _put_object(value, found, path, depth)
        case list() | tuple():
            _put_array(value, found, path, depth)
        case _:
            raise DocumentError(f"{path}: a {type(found).__name__} cannot be sent")


_REGEX_FLAGS = {"i": 2, "l": 4, "m": 8, "s": 16, "u": 32, "x": 64}
"""The flags of `re`, which is how `bson` keeps them."""


def _text(pattern: str | bytes) -> str:
    return pattern if isinstance(pattern, str) else pattern.decode(errors="replace")


def iso(at: datetime) -> str:
    """Return a time in ISO 8601, UTC. One without a time zone is in UTC already, as MongoDB has it."""
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return at.isoformat(timespec="microseconds" if at.microsecond % 1000 else "milliseconds").replace("+00:00", "Z")
