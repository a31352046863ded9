"""OTLP/JSON to protobuf.

OTLP/JSON is proto3 JSON with exceptions (OTLP specification, "JSON Protobuf Encoding"): trace and span ids are hex
strings, keys are lowerCamelCase only, and unknown keys are ignored.
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
from typing import Any, NamedTuple

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gateway.pipeline import MalformedPayloadError, Outcome, Signal, TooLargeError
from gateway.pipeline.bounds import PART, RECORDS, holds_records, most_weight
from gateway.pipeline.mending import NOT_UTF8, Report
from gateway.pipeline.services import SERVICES

MAX_DEPTH = 100
"""Messages nested inside a request. protobuf's parser (upb) takes no more, so a deeper request would be unreadable."""

_Read = Callable[[Any], Any]
"""Turns a JSON value into the Python value of a field that is no message. Raises `_InvalidError`."""

_Set = Callable[[Any, Any, int], None]
"""Sets a field of a message, at a depth, from a JSON value other than null. Raises `_InvalidError`."""

_Write = Callable[[Any, Any, int], None]
"""Fills a message, at a depth, from a JSON value. Raises `_InvalidError`."""


class Transcoded(NamedTuple):
    """A serialized request, and what could not be read of its JSON and is not in it."""

    payload: bytes
    left_out: Outcome


def to_protobuf(signal: Signal, body: bytes) -> Transcoded:
    """Transcode the JSON of a signal's ``Export*ServiceRequest`` to protobuf.

    A record with something wrong inside is left out; a log record, exemplar or link of which that is an id, is kept
    without the id. Text that is not UTF-8, or has half a surrogate pair, gets U+FFFD in place of what is broken.

    Raises `MalformedPayloadError` when nothing is left, with the JSON path of what is wrong, what was expected and what
    was found: ``resourceSpans[0].scopeSpans[0].spans[3].traceId: expected a hex string, found "xyz"``; and
    `TooLargeError` when it has too many values.
    """
    most = most_weight(len(body)) // PART
    if _has_more_values(body, most):
        raise TooLargeError(
            f"the body of {len(body)} bytes holds more than {most} objects and arrays, which is more than a request of "
            "that size may; send smaller batches"
        )
    request: Any = SERVICES[signal].request()
    transcoding = _Transcoding()
    try:
        transcoding.container(body, request, "", 0)
    except _InvalidError as error:
        raise MalformedPayloadError(f"{error.path() or 'the body'}: {error}") from error
    except _NoJsonError as error:
        raise MalformedPayloadError(f"the body {error}") from error
    left_out = transcoding.report.outcome(signal)
    return Transcoded(request.SerializeToString(), left_out)


_MOST_VALUES_OF_A_RECORD = 100_000
"""Objects and arrays in one record, which is decoded in one go. Each takes a hundred bytes then."""

_MOST_COMMAS_OF_A_RECORD = 500_000
"""As many numbers, say, are decoded in some 20 ms."""


def _has_more_values(body: bytes, most: int, marks: tuple[bytes, ...] = (b"{", b"[")) -> bool:
    """Tell whether there are more objects and arrays than that, or more of other marks."""
    if len(body) <= 2 * most:
        return False
    count = sum(map(body.count, marks))
    if count > most:  # of which some may be text
        for text in _TEXT.finditer(body):
            count -= sum(body.count(mark, *text.span()) for mark in marks)
            if count <= most:
                return False
    return count > most


def _check_alone(raw: msgspec.Raw) -> None:
    """Raise `_InvalidError` for what is decoded in one go and would take too long."""
    body = bytes(raw)
    if _has_more_values(body, _MOST_VALUES_OF_A_RECORD):
        raise _InvalidError(f"it has more than {_MOST_VALUES_OF_A_RECORD} objects and arrays")
    if _has_more_values(body, _MOST_COMMAS_OF_A_RECORD, (b",",)):
        raise _InvalidError(f"it has more than {_MOST_COMMAS_OF_A_RECORD} values")


_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


class _NoJsonError(Exception):
    """Bytes that are no JSON. The text says why, and goes on from what they are."""


_ESCAPES = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
"""An escape in a JSON string. The group is half a surrogate pair."""

_RAW_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = msgspec.json.Decoder()


class _Transcoding:
    """One request on its way.

    What holds records is decoded a level at a time, with what is inside left as it came, and each record on its own: so
    one that cannot be read costs no other, and no single call takes long.
    """

    def __init__(self) -> None:
        self.report = Report()

    def container(self, raw: bytes | msgspec.Raw, message: Any, place: str, depth: int) -> None:
        """Fill a message that holds records. Raises `_InvalidError` or `_NoJsonError` when what they share is wrong."""
        container = _CONTAINERS[message.DESCRIPTOR.full_name]
        found = self._decode(container.decoder, "an object", raw, place)
        for key, (field, set_field) in container.fields.items():
            value = getattr(found, key)
            if bytes(value) == b"null":
                continue
            try:
                if not _is_walked(field):
                    _check_alone(value)
                    set_field(self._decode(_ANY, "", value, f"{place}.{key}"), message, depth)
                elif field.is_repeated:
                    self._items(value, field, message, f"{place}.{key}", depth)
                else:
                    # `data` of a metric: `"gauge": {}` says that it is a gauge.
                    if message.WhichOneof(field.containing_oneof.name) is not None:
                        raise _several(field.containing_oneof.name)
                    child = getattr(message, field.name)
                    child.SetInParent()
                    self.container(value, child, f"{place}.{key}", depth + 1)
            except _InvalidError as error:
                error.steps.append(f".{key}")
                raise

    def _items(self, raw: msgspec.Raw, field: Any, message: Any, place: str, depth: int) -> None:
        report, items = self.report, getattr(message, field.name)
        is_record = field.message_type.full_name in RECORDS
        write = _known[field.message_type.full_name]
        for index, value in enumerate(self._decode(_RAW_ARRAY, "an array", raw, place)):
            its_place = f"{place}[{index}]"
            kept, rejected = report.kept, report.rejected
            item = items.add()
            try:
                if is_record:
                    _check_alone(value)
                    write(self._decode(_ANY, "", value, its_place), item, depth + 1)
                    report.kept += 1
                else:
                    self.container(value, item, its_place, depth + 1)
            except (_InvalidError, _NoJsonError) as error:
                report.kept, report.rejected = kept, rejected
                where = its_place + "".join(reversed(getattr(error, "steps", ())))
                report.reject(_clipped(where), str(error), 1 if is_record else max(_count(value, field), 1))
                del items[-1]

    def _decode(self, decoder: msgspec.json.Decoder[Any], what: str, raw: bytes | msgspec.Raw, place: str) -> Any:
        """Decode a value, with its text mended where nothing else is wrong."""
        try:
            try:
                return decoder.decode(raw)
            except msgspec.ValidationError as error:
                raise _expected(what, _ANY.decode(raw)) from error
            except (msgspec.DecodeError, UnicodeDecodeError):
                # The decoder tells a half pair from other faults by nothing, so what is mended is tried.
                text = bytes(raw).decode(errors="replace")
                mended = _ESCAPES.sub(lambda escape: "\ufffd" if escape[1] else escape[0], text)
                decoded = decoder.decode(mended)
                self.report.mend(_clipped(place) or "the body", NOT_UTF8)
                return decoded
        except RecursionError as error:
            raise _NoJsonError("is nested too deeply") from error
        except msgspec.ValidationError as error:
            raise _InvalidError(f"expected {what}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _NoJsonError(f"is not valid JSON: {error}") from error


def _is_walked(field: Any) -> bool:
    kind = field.message_type
    return kind is not None and (kind.full_name in RECORDS or holds_records(kind))


def _count(raw: msgspec.Raw, field: Any) -> int:
    """Return how many records a message holds, as far as that can be read."""
    count = 0
    try:
        document = _CONTAINERS[field.message_type.full_name].decoder.decode(raw)
        for each in filter(_is_walked, field.message_type.fields):
            if bytes(value := getattr(document, each.json_name)) != b"null":
                values = _RAW_ARRAY.decode(value) if each.is_repeated else [value]
                is_record = each.message_type.full_name in RECORDS
                count += len(values) if is_record else sum(_count(value, each) for value in values)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return count


class _InvalidError(Exception):
    """A value that does not belong where it is. Its path is gathered on the way out, so that valid ones pay nothing."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.steps: list[str] = []

    def path(self) -> str:
        return _clipped("".join(reversed(self.steps)))


def _clipped(path: str) -> str:
    path = path.removeprefix(".")
    return path if len(path) <= 300 else f"{path[:200]}…{path[-99:]}"


def _several(oneof: str) -> _InvalidError:
    return _InvalidError(f"only one alternative of {oneof!r} may be given, and another one is already")


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


def _read_hex_or_nothing(value: Any) -> bytes:
    """Read an id of a log record, exemplar or link, which mean something without."""
    try:
        return _read_hex(value)
    except _InvalidError:
        return b""


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


def _enum_reader(enum: Any) -> _Read:
    names = {value.name: value.number for value in enum.values}

    def read_enum(value: Any) -> int:
        # Senders must write numbers (OTLP specification, "JSON Protobuf Encoding"); proto3 JSON has names.
        if type(value) is str:
            number = names.get(value)
            if number is None:
                raise _expected(f"a value of {enum.name}, by its number", value)
            return int(number)
        return int(_read_int32(value))

    return read_enum


_READERS: dict[int, _Read] = {
    FieldDescriptor.CPPTYPE_STRING: _read_string,
    FieldDescriptor.CPPTYPE_BOOL: _read_bool,
    FieldDescriptor.CPPTYPE_DOUBLE: _read_double,
    FieldDescriptor.CPPTYPE_INT32: _read_int32,
    FieldDescriptor.CPPTYPE_INT64: _integer_reader(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: _integer_reader(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: _integer_reader(0, 2**64 - 1),
}

_HEX_FIELDS = {"trace_id", "span_id", "parent_span_id"}


def _reader(field: Any) -> _Read:
    if field.type == FieldDescriptor.TYPE_BYTES:
        if field.name in _HEX_FIELDS:
            return _read_hex if field.containing_type.name == "Span" else _read_hex_or_nothing
        return _read_base64
    if field.enum_type is not None:
        return _enum_reader(field.enum_type)
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
            raise _several(oneof)
        set_field(value, message, depth)

    return set_once


def _expect_array(value: Any) -> None:
    if type(value) is not list:
        raise _expected("an array", value)


_known: dict[str, _Write] = {}
"""What fills a message that is decoded in one go, by full name."""


class _Container(NamedTuple):
    """A message that holds records: its fields by JSON key, and what decodes these one level deep.

    Keys that are not known are passed over as they are read, however many there are.
    """

    fields: dict[str, tuple[Any, _Set]]
    decoder: msgspec.json.Decoder[Any]


_CONTAINERS: dict[str, _Container] = {}
"""By full name."""

_NULL = msgspec.Raw(b"null")


def _know(descriptor: Any) -> None:
    if holds_records(descriptor):
        fields = {field.json_name: (field, _setter(field, _known)) for field in descriptor.fields}
        levels = msgspec.defstruct(descriptor.name, [(key, msgspec.Raw, _NULL) for key in fields])
        _CONTAINERS[descriptor.full_name] = _Container(fields, msgspec.json.Decoder(levels))
        for field in descriptor.fields:
            if field.message_type is not None:
                _know(field.message_type)


for _service in SERVICES.values():
    _know(_service.request.DESCRIPTOR)
