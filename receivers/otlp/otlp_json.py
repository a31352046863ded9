"""OTLP/JSON to protobuf.

OTLP/JSON is proto3 JSON with exceptions (OTLP specification, "JSON Protobuf Encoding"): trace and span ids are hex
strings, enum values are integers only, keys are lowerCamelCase only, and unknown keys are ignored.
The rules for everything else come from https://protobuf.dev/programming-guides/json/.

The published descriptors are turned into tables once, at import: for each message, a function for each JSON key that
checks the value and sets the field. A request is one walk over the decoded JSON along these tables.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gateway.pipeline import MalformedPayloadError, Signal
from gateway.pipeline.services import SERVICES

MAX_DEPTH = 100
"""Messages nested inside a request. protobuf's parser (upb) takes no more, so a deeper request would be unreadable."""

_Read = Callable[[Any], Any]
"""Turns a JSON value into the Python value of a field that is no message. Raises `_InvalidError`."""

_Set = Callable[[Any, Any, int], None]
"""Sets a field of a message, at a depth, from a JSON value other than null. Raises `_InvalidError`."""

_Write = Callable[[Any, Any, int], None]
"""Fills a message, at a depth, from a JSON value. Raises `_InvalidError`."""


def to_protobuf(signal: Signal, body: bytes) -> bytes:
    """Transcode the JSON of a signal's ``Export*ServiceRequest`` to protobuf.

    Raises `MalformedPayloadError` with the JSON path of what is wrong, what was expected and what was found:
    ``resourceLogs[0].scopeLogs[0].logRecords[3].traceId: expected a hex string, found "xyz"``.
    """
    try:
        document = msgspec.json.decode(body)
    except RecursionError as error:
        raise MalformedPayloadError("the body is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedPayloadError(f"the body is not valid JSON: {error}") from error
    request = SERVICES[signal].request()
    try:
        _WRITERS[signal](document, request, 0)
    except _InvalidError as error:
        raise MalformedPayloadError(f"{error.path() or 'the body'}: {error}") from error
    return request.SerializeToString()


class _InvalidError(Exception):
    """A value that does not belong where it is. Its path is gathered on the way out, so that valid ones pay nothing."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.steps: list[str] = []

    def path(self) -> str:
        path = "".join(reversed(self.steps)).removeprefix(".")
        return path if len(path) <= 300 else f"{path[:200]}…{path[-99:]}"


def _expected(what: str, found: object) -> _InvalidError:
    if isinstance(found, dict):
        text = "an object"
    elif isinstance(found, list):
        text = "an array"
    else:
        text = msgspec.json.encode(found).decode() if isinstance(found, str | float | bool | None) else str(found)
        text = text if len(text) <= 60 else text[:59] + "…"
    return _InvalidError(f"expected {what}, found {text}")


# Values


def _read_string(value: Any) -> str:
    if type(value) is not str:
        raise _expected("a string", value)
    return value


def _read_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise _expected("true or false", value)
    return value


def _read_hex(value: Any) -> bytes:
    if type(value) is str:
        try:
            return binascii.unhexlify(value)
        except ValueError:
            pass
    raise _expected("a hex string", value)


_URL_SAFE = str.maketrans("-_", "+/")


def _read_base64(value: Any) -> bytes:
    # Either alphabet, with or without padding.
    if type(value) is str:
        text = value.rstrip("=").translate(_URL_SAFE)
        try:
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except ValueError:
            pass
    raise _expected("a base64 string", value)


_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_NAMED_DOUBLES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _read_double(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int or (type(value) is str and _NUMBER.fullmatch(value)):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    elif type(value) is str and value in _NAMED_DOUBLES:
        return _NAMED_DOUBLES[value]
    raise _expected('a number, "NaN", "Infinity" or "-Infinity"', value)


_MAX_INTEGER_TEXT = 64
"""Characters of an integer in a string. Bounds what parsing it costs; 20 digits are enough for 64 bits."""


def _integer_reader(low: int, high: int) -> _Read:
    expectation = f"an integer from {low} to {high}"

    def read_integer(value: Any) -> int:
        if type(value) is str:
            number = _parse_integer(value)
        elif type(value) is float:
            number = _integral(value)
        else:
            number = value if type(value) is int else None
        if number is None or not low <= number <= high:
            raise _expected(expectation, value)
        return number

    return read_integer


def _parse_integer(text: str) -> int | None:
    if len(text) > _MAX_INTEGER_TEXT:
        return None
    if text.isdecimal() and text.isascii():
        return int(text)
    if not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)  # exact, where a float would round "9007199254740993.0"
    if number.adjusted() >= _MAX_INTEGER_TEXT or number != number.to_integral_value():
        return None
    return int(number)


def _integral(number: float) -> int | None:
    # Some versions of msgspec decode an integer that does not fit 64 bits as the nearest float, and the nearest to
    # those just below -2^63 is -2^63 itself, which would pass for a valid value.
    return int(number) if number.is_integer() and number != -(2.0**63) else None


_read_int32 = _integer_reader(-(2**31), 2**31 - 1)


def _read_enum(value: Any) -> int:
    if type(value) is str:
        raise _expected("the number of an enum value, for OTLP/JSON does not take names", value)
    number: int = _read_int32(value)
    return number


_READERS: dict[int, _Read] = {
    FieldDescriptor.CPPTYPE_STRING: _read_string,
    FieldDescriptor.CPPTYPE_BOOL: _read_bool,
    FieldDescriptor.CPPTYPE_DOUBLE: _read_double,
    FieldDescriptor.CPPTYPE_ENUM: _read_enum,
    FieldDescriptor.CPPTYPE_INT32: _read_int32,
    FieldDescriptor.CPPTYPE_INT64: _integer_reader(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: _integer_reader(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: _integer_reader(0, 2**64 - 1),
}

_HEX_FIELDS = {"trace_id", "span_id", "parent_span_id"}


def _reader(field: FieldDescriptor) -> _Read:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _read_hex if field.name in _HEX_FIELDS else _read_base64
    return _READERS[field.cpp_type]


# Messages


def _writer(descriptor: Any, known: dict[str, _Write]) -> _Write:
    """Make the function that fills a message of this type; ``known`` has those already made, by full name."""
    if descriptor.full_name in known:
        return known[descriptor.full_name]
    setters: dict[str, _Set] = {}

    def write(value: Any, message: Any, depth: int) -> None:
        if type(value) is not dict:
            raise _expected("an object", value)
        if depth > MAX_DEPTH:
            raise _InvalidError(f"nested too deeply, expected at most {MAX_DEPTH} messages inside each other")
        key = ""
        try:
            for key, item in value.items():
                if item is not None and (set_field := setters.get(key)) is not None:
                    set_field(item, message, depth)
        except _InvalidError as error:
            error.steps.append(f".{key}")
            raise

    known[descriptor.full_name] = write  # before the fields: an AnyValue holds AnyValues
    for field in descriptor.fields:
        setters[field.json_name] = _setter(field, known)
    return write


def _setter(field: FieldDescriptor, known: dict[str, _Write]) -> _Set:
    if field.message_type is not None:
        write = _writer(field.message_type, known)
        set_field = _set_messages(field.name, write) if field.is_repeated else _set_message(field.name, write)
    else:
        read = _reader(field)
        set_field = _set_values(field.name, read) if field.is_repeated else _set_value(field.name, read)
    oneof = field.containing_oneof
    # protoc puts each `optional` field into a oneof of its own, named "_" and the field.
    return set_field if oneof is None or oneof.name == f"_{field.name}" else _set_once(oneof.name, set_field)


def _set_value(name: str, read: _Read) -> _Set:
    def set_value(value: Any, message: Any, depth: int) -> None:
        setattr(message, name, read(value))

    return set_value


def _set_values(name: str, read: _Read) -> _Set:
    def set_values(values: Any, message: Any, depth: int) -> None:
        _expect_array(values)
        index = 0
        try:
            append = getattr(message, name).append
            for index, value in enumerate(values):  # noqa: B007 - read when an error passes by
                append(read(value))
        except _InvalidError as error:
            error.steps.append(f"[{index}]")
            raise

    return set_values


def _set_message(name: str, write: _Write) -> _Set:
    def set_message(value: Any, message: Any, depth: int) -> None:
        child = getattr(message, name)
        child.SetInParent()  # `"gauge": {}` says that the metric is a gauge
        write(value, child, depth + 1)

    return set_message


def _set_messages(name: str, write: _Write) -> _Set:
    def set_messages(values: Any, message: Any, depth: int) -> None:
        _expect_array(values)
        index = 0
        try:
            add = getattr(message, name).add
            for index, value in enumerate(values):  # noqa: B007 - read when an error passes by
                write(value, add(), depth + 1)
        except _InvalidError as error:
            error.steps.append(f"[{index}]")
            raise

    return set_messages


def _set_once(oneof: str, set_field: _Set) -> _Set:
    def set_once(value: Any, message: Message, depth: int) -> None:
        if message.WhichOneof(oneof) is not None:
            raise _InvalidError(f"only one alternative of {oneof!r} may be given, and another one is already")
        set_field(value, message, depth)

    return set_once


def _expect_array(value: Any) -> None:
    if type(value) is not list:
        raise _expected("an array", value)


_known: dict[str, _Write] = {}
_WRITERS = {signal: _writer(service.request.DESCRIPTOR, _known) for signal, service in SERVICES.items()}
