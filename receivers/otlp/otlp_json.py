"""OTLP/JSON to protobuf.

OTLP/JSON is proto3 JSON with exceptions (OTLP specification, "JSON Protobuf Encoding"): trace and span ids are hex
strings, enum values are integers, keys are lowerCamelCase only, and unknown keys are ignored.
The rules for everything else come from https://protobuf.dev/programming-guides/json/.

Two mistakes whose meaning is clear are taken as the Collector takes them, unless asked to be strict: an enum value by
its name, and several alternatives of a oneof, of which the last counts. Keys that some sender meant for a field, such
as those in snake_case or of former versions of OTLP, are ignored as unknown ones have to be, and told of.

The published descriptors are turned into tables once: for each message, a function for each JSON key that checks the
value and sets the field. A request is one walk over the decoded JSON along these tables.
"""

from __future__ import annotations

import base64
import binascii
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.common.v1 import common_pb2

from gateway.component import ACCEPTED, MalformedPayloadError, Outcome, Signal, TooLargeError
from gateway.otlp.bounds import PART, RECORD, RECORDS, Budget, holds_records, most_weight
from gateway.otlp.mending import NOT_UTF8, Report
from gateway.otlp.services import SERVICES
from receivers.otlp.json_templates import JsonTemplates
from receivers.otlp.quick_json import QuickJson

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


def to_protobuf(signal: Signal, body: bytes, *, strict: bool = False) -> Transcoded:
    """Transcode the JSON of a signal's ``Export*ServiceRequest`` to protobuf.

    A record with something wrong inside is left out; a log record, exemplar or link of which that is an id, is kept
    without the id. Text that is not UTF-8, or has half a surrogate pair, gets U+FFFD in place of what is broken.
    When ``strict``, an enum value by its name and a oneof given twice are wrong, too.

    Raises `MalformedPayloadError` when nothing is left, with the JSON path of what is wrong, what was expected and what
    was found: ``resourceSpans[0].scopeSpans[0].spans[3].traceId: expected a hex string, found "xyz"``; and
    `TooLargeError` when it has too many values.
    """
    quick, templates = _quick(strict), _templates(strict)
    repeats = signal is Signal.METRICS
    if repeats and (payload := templates.find(body)) is not None:
        return Transcoded(payload, ACCEPTED)
    most = most_weight(len(body)) // PART
    if _has_more_values(body, most):
        raise TooLargeError(
            f"the body of {len(body)} bytes holds more than {most} objects and arrays, which is more than a request of "
            "that size may; send smaller batches"
        )
    if (payload := quick.transcode(signal, body, Budget(len(body)))) is not None:
        if repeats:
            templates.note(body, payload, functools.partial(_half_as_much, quick))
        return Transcoded(payload, ACCEPTED)
    request: Any = SERVICES[signal].request()
    transcoding = _Transcoding(_tables(strict), Budget(len(body)))
    ignored = _ignored_keys.set(Counter())
    try:
        transcoding.container(body, request, "", 0)
        for key, times in _ignored_keys.get().most_common():
            transcoding.report.pass_over(f"{key} ({times} of them)", _advice(_json_name(key)), 0)
        left_out = transcoding.report.outcome(signal)
    except _InvalidError as error:
        path = error.path()
        raise MalformedPayloadError(f"{path or 'the body'}: {error}", [(path, str(error))]) from error
    except _NoJsonError as error:
        raise MalformedPayloadError(f"the body {error}") from error
    finally:
        _ignored_keys.reset(ignored)
    return Transcoded(request.SerializeToString(), left_out)


_ignored_keys: ContextVar[Counter[str]] = ContextVar("ignored_keys")
"""Keys in snake_case inside the records of the request under way, and how many there are. It is no parameter of all
that reads a record, so that a sound one costs nothing more."""


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

_WHITESPACE = b" \t\r\n"

_RAW_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()


class _Transcoding:
    """One request on its way.

    What holds records is decoded a level at a time, with what is inside left as it came, and each record on its own: so
    one that cannot be read costs no other, and no single call takes long.
    """

    def __init__(self, tables: _Tables, budget: Budget) -> None:
        self.report = Report()
        self._tables = tables
        self._budget = budget

    def container(self, raw: bytes | msgspec.Raw, message: Any, place: str, depth: int) -> None:
        """Fill a message that holds records. Raises `_InvalidError` or `_NoJsonError` when what they share is wrong."""
        container = self._tables.containers[message.DESCRIPTOR.full_name]
        found = self._decode(container.decoder, "an object", raw, place)
        given = {key: value for key in container.fields if not _is_null(value := getattr(found, key))}
        self._pass_over(container, found, raw, place, nothing=not given)
        if container.oneof and len(given) > 1:
            self._keep_last(container, given, raw, place)
        for key, value in given.items():
            field, set_field = container.fields[key]
            try:
                if not _is_walked(field):
                    _check_alone(value)
                    set_field(self._decode(_ANY, "", value, f"{place}.{key}"), message, depth)
                elif field.is_repeated:
                    self._items(value, field, message, f"{place}.{key}", depth)
                else:
                    # `data` of a metric: `"gauge": {}` says that it is a gauge.
                    child = getattr(message, field.name)
                    child.SetInParent()
                    self.container(value, child, f"{place}.{key}", depth + 1)
            except _InvalidError as error:
                error.steps.append(f".{key}")
                raise

    def _pass_over(
        self, container: _Container, found: Any, raw: bytes | msgspec.Raw, place: str, *, nothing: bool
    ) -> None:
        """Tell of keys that were meant for something, and of a request that has none of its own."""
        nothing = nothing and not place
        for key, misnomer in container.misnomers.items():
            if not _is_null(value := getattr(found, key)):
                records = 0 if misnomer.field is None else self._tables.count(value, misnomer.field)
                self.report.pass_over(_clipped(f"{place}.{key}"), misnomer.advice, records)
                nothing = False
        if nothing and bytes(raw).strip(_WHITESPACE)[1:].lstrip(_WHITESPACE) != b"}":
            wanted = ", ".join(f'"{key}"' for key in container.fields)
            self.report.pass_over("the body", f"it has no {wanted}, so nothing of it is stored", 0)

    def _keep_last(
        self, container: _Container, given: dict[str, msgspec.Raw], raw: bytes | msgspec.Raw, place: str
    ) -> None:
        """Of several alternatives of a oneof, keep the last; tell how many records that costs."""
        alternatives = [key for key in self._decode(_KEYS, "an object", raw, place) if key in container.oneof]
        alternatives = [key for key in alternatives if key in given]
        for key in alternatives[:-1]:
            field, _ = container.fields[key]
            oneof = field.containing_oneof.name
            if self._tables.strict:
                error = _several(oneof)
                error.steps.append(f".{alternatives[-1]}")
                raise error
            why = f"only one alternative of {oneof!r} counts, and {alternatives[-1]} is the last"
            self.report.pass_over(_clipped(f"{place}.{key}"), why, self._tables.count(given.pop(key), field))

    def _items(self, raw: msgspec.Raw, field: Any, message: Any, place: str, depth: int) -> None:
        report, items = self.report, getattr(message, field.name)
        is_record = field.message_type.full_name in RECORDS
        write = self._tables.known[field.message_type.full_name]
        values = self._decode(_RAW_ARRAY, "an array", raw, place)
        self._budget.take(len(values), RECORD, field.name.replace("_", " "))
        for index, value in enumerate(values):
            its_place = f"{place}[{index}]"
            kept, rejected, passed_over = report.kept, report.rejected, report.passed_over
            item = items.add()
            try:
                if is_record:
                    _check_alone(value)
                    write(self._decode(_ANY, "", value, its_place), item, depth + 1)
                    report.kept += 1
                else:
                    self.container(value, item, its_place, depth + 1)
            except (_InvalidError, _NoJsonError) as error:
                report.kept, report.rejected, report.passed_over = kept, rejected, passed_over
                where = its_place + "".join(reversed(getattr(error, "steps", ())))
                records = 1 if is_record else max(self._tables.count_in(value, field.message_type), 1)
                report.reject(_clipped(where), str(error), records)
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


def _is_null(raw: msgspec.Raw) -> bool:
    return raw is _NULL or bytes(raw) == b"null"


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


def _enum_reader(enum: Any, *, strict: bool) -> _Read:
    names = {} if strict else {value.name: value.number for value in enum.values}

    def read_enum(value: Any) -> int:
        # Senders must write numbers (OTLP specification, "JSON Protobuf Encoding"); proto3 JSON has names, and so has
        # who writes by hand.
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


def _reader(field: Any, *, strict: bool) -> _Read:
    if field.type == FieldDescriptor.TYPE_BYTES:
        if field.name in _HEX_FIELDS:
            return _read_hex if field.containing_type.name == "Span" else _read_hex_or_nothing
        return _read_base64
    if field.enum_type is not None:
        return _enum_reader(field.enum_type, strict=strict)
    return _READERS[field.cpp_type]


# Messages


class _Misnomer(NamedTuple):
    """A key that OTLP does not have and that a sender means something by: which field, if any, and what to write."""

    field: Any
    advice: str


class _Container(NamedTuple):
    """A message that holds records: its fields by JSON key, keys that are meant for one, the keys that are alternatives
    of each other, and what decodes all these one level deep.

    Keys that are not known are passed over as they are read, however many there are.
    """

    fields: dict[str, tuple[Any, _Set]]
    misnomers: dict[str, _Misnomer]
    oneof: frozenset[str]
    decoder: msgspec.json.Decoder[Any]


_NULL = msgspec.Raw(b"null")


class _Tables:
    """What is known of the messages of all requests. ``strict`` decides about names of enum values, and oneofs.

    ``known`` has what fills a message that is decoded in one go, ``containers`` the others, both by full name.
    """

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.known: dict[str, _Write] = {}
        self.containers: dict[str, _Container] = {}
        for service in SERVICES.values():
            self._know(service.request.DESCRIPTOR)

    def count(self, raw: msgspec.Raw, field: Any) -> int:
        """Return how many records the value of a field holds, as far as that can be read."""
        try:
            values = _RAW_ARRAY.decode(raw) if field.is_repeated else [raw]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return 0
        if field.message_type.full_name in RECORDS:
            return len(values)
        return sum(self.count_in(value, field.message_type) for value in values)

    def count_in(self, raw: msgspec.Raw, descriptor: Any) -> int:
        """Return how many records a message holds, under whatever keys, as far as that can be read."""
        container = self.containers[descriptor.full_name]
        try:
            found = container.decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return 0
        meant = {key: field for key, (field, _) in container.fields.items()}
        meant |= {key: misnomer.field for key, misnomer in container.misnomers.items()}
        held = {key: field for key, field in meant.items() if field is not None and _is_walked(field)}
        return sum(
            self.count(value, field) for key, field in held.items() if not _is_null(value := getattr(found, key))
        )

    def _know(self, descriptor: Any) -> None:
        if not holds_records(descriptor) or descriptor.full_name in self.containers:
            return
        fields = {field.json_name: (field, self._setter(field)) for field in descriptor.fields}
        misnomers = dict(_misnomers(descriptor))
        oneof = frozenset(field.json_name for field in descriptor.fields if field.containing_oneof is not None)
        levels = msgspec.defstruct(descriptor.name, [(key, msgspec.Raw, _NULL) for key in (*fields, *misnomers)])
        decoder = msgspec.json.Decoder(levels)
        self.containers[descriptor.full_name] = _Container(fields, misnomers, oneof, decoder)
        for field in descriptor.fields:
            if field.message_type is not None:
                self._know(field.message_type)

    def _writer(self, descriptor: Any) -> _Write:
        """Make the function that fills a message of this type, unless there is one."""
        if descriptor.full_name in self.known:
            return self.known[descriptor.full_name]
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

        self.known[descriptor.full_name] = write  # before the fields: an AnyValue holds AnyValues
        for field in descriptor.fields:
            if field.name != field.json_name:
                setters[field.name] = _ignore(field.name)
            setters[field.json_name] = self._setter(field)
        return write

    def _setter(self, field: FieldDescriptor) -> _Set:
        if field.message_type is not None:
            write = self._writer(field.message_type)
            if field.is_repeated:
                of_pairs = field.message_type is common_pb2.KeyValue.DESCRIPTOR
                set_field = (_set_pairs if of_pairs else _set_messages)(field.name, write)
            else:
                set_field = _set_message(field.name, write)
        else:
            read = _reader(field, strict=self.strict)
            set_field = _set_values(field.name, read) if field.is_repeated else _set_value(field.name, read)
        oneof = field.containing_oneof
        # protoc puts each `optional` field into a oneof of its own, named "_" and the field.
        if not self.strict or oneof is None or oneof.name == f"_{field.name}":
            return set_field
        return _set_once(oneof.name, set_field)


@functools.cache
def _tables(strict: bool) -> _Tables:
    return _Tables(strict=strict)


@functools.cache
def _quick(strict: bool) -> QuickJson:
    return QuickJson(functools.partial(_apart, _tables(strict)))


@functools.cache
def _templates(strict: bool) -> JsonTemplates:
    return JsonTemplates()


def _half_as_much(quick: QuickJson, body: bytes) -> bytes | None:
    """Transcode a request of metrics that holds no more than one of half its size may."""
    size = len(body) // 2
    if _has_more_values(body, most_weight(size) // PART):
        return None
    return quick.transcode(Signal.METRICS, body, Budget(size))


def _apart(tables: _Tables, name: str, raw: msgspec.Raw, depth: int) -> bytes | None:
    """Transcode a message by itself; None where something is wrong with it, or a key is passed over."""
    message = GetMessageClass(Default().FindMessageTypeByName(name))()
    ignored = _ignored_keys.set(Counter())
    try:
        tables.known[name](_ANY.decode(raw), message, depth)
        return None if _ignored_keys.get() else message.SerializeToString()
    except (_InvalidError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    finally:
        _ignored_keys.reset(ignored)


_FORMER = {
    "ResourceSpans": {"instrumentationLibrarySpans": "scope_spans"},
    "ResourceMetrics": {"instrumentationLibraryMetrics": "scope_metrics"},
    "ResourceLogs": {"instrumentationLibraryLogs": "scope_logs"},
    "ScopeSpans": {"instrumentationLibrary": "scope"},
    "ScopeMetrics": {"instrumentationLibrary": "scope"},
    "ScopeLogs": {"instrumentationLibrary": "scope", "logs": "log_records"},
    "Metric": {
        "intGauge": "gauge",
        "doubleGauge": "gauge",
        "intSum": "sum",
        "doubleSum": "sum",
        "intHistogram": "histogram",
        "doubleHistogram": "histogram",
        "doubleSummary": "summary",
    },
}
"""Keys of former versions of OTLP, by message, with the field that is there now. Source: the changelog of
opentelemetry-proto, versions 0.9 to 0.19."""


def _misnomers(descriptor: Any) -> Iterator[tuple[str, _Misnomer]]:
    """Yield the keys that senders may mean a field by, of a message that holds records."""
    for field in descriptor.fields:
        if field.name != field.json_name:
            yield field.name, _Misnomer(field, _advice(field.json_name))
    for key, name in _FORMER.get(descriptor.name, {}).items():
        field = descriptor.fields_by_name[name]
        former = _Misnomer(field, f"a former version of OTLP had it; now there is {field.json_name}")
        yield key, former
        if (snake := _snake_name(key)) != key:
            yield snake, former
    requests = {service.http_path: service.request.DESCRIPTOR for service in SERVICES.values()}
    if descriptor in requests.values():
        for path, request in requests.items():
            if request is not descriptor:
                for field in request.fields:
                    yield field.json_name, _Misnomer(None, f"send that to {path}")


def _advice(json_name: str) -> str:
    return f"keys are lowerCamelCase, so write {json_name}"


def _json_name(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _snake_name(key: str) -> str:
    return re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", key)


def _ignore(name: str) -> _Set:
    def ignore(value: Any, message: Any, depth: int) -> None:
        _ignored_keys.get()[name] += 1

    return ignore


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


def _set_pairs(name: str, write: _Write) -> _Set:
    """Return what sets attributes: as `_set_messages` does, without its calls for texts, which most of them are."""

    def set_pairs(values: Any, message: Any, depth: int) -> None:
        _expect_array(values)
        index = 0
        try:
            add = getattr(message, name).add
            for index, value in enumerate(values):  # noqa: B007 - read when an error passes by
                pair = add()
                if (
                    type(value) is dict
                    and len(value) == 2
                    and type(key := value.get("key")) is str
                    and type(inner := value.get("value")) is dict
                    and len(inner) == 1
                    and type(text := inner.get("stringValue")) is str
                    and depth + 2 <= MAX_DEPTH
                ):
                    pair.key = key
                    pair.value.string_value = text
                else:
                    write(value, pair, depth + 1)
        except _InvalidError as error:
            error.steps.append(f"[{index}]")
            raise

    return set_pairs


def _set_once(oneof: str, set_field: _Set) -> _Set:
    def set_once(value: Any, message: Message, depth: int) -> None:
        if message.WhichOneof(oneof) is not None:
            raise _several(oneof)
        set_field(value, message, depth)

    return set_once


def _expect_array(value: Any) -> None:
    if type(value) is not list:
        raise _expected("an array", value)
