"""OTLP/JSON as senders write it, straight to protobuf's bytes.

Nearly all that arrives are keys that OTLP has, with values of the types that encoders give them. Such a request is
decoded into structs and written from these; attributes that came before are looked up by the bytes they came as. What
is odd is left to `receivers.otlp.otlp_json`, which says what is wrong: a message that is only rare by itself, one of
which something is to be told with all of its request.

The bytes are those that protobuf's own serializer makes of the same request.
"""

from __future__ import annotations

import binascii
import functools
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from gateway.component import Signal
from gateway.otlp import wire_format
from gateway.otlp.bounds import RECORD, Budget

Apart = Callable[[str, Raw, int], bytes | None]
"""Transcodes one message, given its full name, its JSON and how many messages it is nested in. None where something is
to be told of it."""

_T = TypeVar("_T")

_LARGE = 100_000
"""Bytes of a record, resource or scope from which on it is no usual one."""

_KNOWN_ATTRIBUTES, _KNOWN_POINTS, _KNOWN_RESOURCES = (2048, 256), (8192, 512), (128, 4 * 2**10)
"""How many are remembered, and bytes of the longest: an attribute of a kind of record, all those of a point, and a
resource or scope. All of it is 20 MiB at worst, where each is as long as it may be."""


class _UnusualError(Exception):
    """Something that is not written as encoders do."""


_NULL = Raw(b"null")


class _Message(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """A message of which no other key is known."""


class _Value(_Message):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | None = None


class _Pair(_Message):
    key: str | None = None
    value: _Value | None = None


class _Log(_Message):
    time_unix_nano: int | str | None = None
    severity_number: int | None = None
    severity_text: str | None = None
    body: Raw = _NULL
    attributes: list[Raw] | None = None
    dropped_attributes_count: int | None = None
    flags: int | None = None
    trace_id: str | None = None
    span_id: str | None = None
    observed_time_unix_nano: int | str | None = None
    event_name: str | None = None


class _Event(_Message):
    time_unix_nano: int | str | None = None
    name: str | None = None
    attributes: list[Raw] | None = None
    dropped_attributes_count: int | None = None


class _Link(_Message):
    trace_id: str | None = None
    span_id: str | None = None
    trace_state: str | None = None
    attributes: list[Raw] | None = None
    dropped_attributes_count: int | None = None
    flags: int | None = None


class _Status(_Message):
    message: str | None = None
    code: int | None = None


class _Span(_Message):
    trace_id: str | None = None
    span_id: str | None = None
    trace_state: str | None = None
    parent_span_id: str | None = None
    name: str | None = None
    kind: int | None = None
    start_time_unix_nano: int | str | None = None
    end_time_unix_nano: int | str | None = None
    attributes: list[Raw] | None = None
    dropped_attributes_count: int | None = None
    events: list[_Event] | None = None
    dropped_events_count: int | None = None
    links: list[_Link] | None = None
    dropped_links_count: int | None = None
    status: _Status | None = None
    flags: int | None = None


class _Point(_Message):
    attributes: Raw = _NULL
    start_time_unix_nano: int | str | None = None
    time_unix_nano: int | str | None = None
    as_double: float | None = None
    as_int: int | str | None = None
    flags: int | None = None


class _Gauge(_Message):
    data_points: list[Raw] | None = None


class _Distribution(_Gauge):
    aggregation_temporality: int | None = None


class _Sum(_Distribution):
    is_monotonic: bool | None = None


class _Metric(_Message):
    name: str | None = None
    description: str | None = None
    unit: str | None = None
    gauge: _Gauge | None = None
    sum: _Sum | None = None
    histogram: _Distribution | None = None
    exponential_histogram: _Distribution | None = None
    summary: _Gauge | None = None


class _ScopeLogs(_Message):
    scope: Raw = _NULL
    log_records: list[Raw] | None = None
    schema_url: str | None = None


class _ScopeSpans(_Message):
    scope: Raw = _NULL
    spans: list[Raw] | None = None
    schema_url: str | None = None


class _ScopeMetrics(_Message):
    scope: Raw = _NULL
    metrics: list[_Metric] | None = None
    schema_url: str | None = None


class _ResourceLogs(_Message):
    resource: Raw = _NULL
    scope_logs: list[_ScopeLogs] | None = None
    schema_url: str | None = None


class _ResourceSpans(_Message):
    resource: Raw = _NULL
    scope_spans: list[_ScopeSpans] | None = None
    schema_url: str | None = None


class _ResourceMetrics(_Message):
    resource: Raw = _NULL
    scope_metrics: list[_ScopeMetrics] | None = None
    schema_url: str | None = None


class _LogsRequest(_Message):
    resource_logs: list[_ResourceLogs]


class _TraceRequest(_Message):
    resource_spans: list[_ResourceSpans]


class _MetricsRequest(_Message):
    resource_metrics: list[_ResourceMetrics]


_REQUESTS: dict[Signal, tuple[msgspec.json.Decoder[Any], str, str, str]] = {
    Signal.LOGS: (msgspec.json.Decoder(_LogsRequest), "resource_logs", "scope_logs", "log_records"),
    Signal.TRACES: (msgspec.json.Decoder(_TraceRequest), "resource_spans", "scope_spans", "spans"),
    Signal.METRICS: (msgspec.json.Decoder(_MetricsRequest), "resource_metrics", "scope_metrics", "metrics"),
}
_decode_pair = msgspec.json.Decoder(_Pair).decode
_decode_pairs = msgspec.json.Decoder(list[Raw] | None).decode
_decode_value = msgspec.json.Decoder(_Value).decode
_decode_log = msgspec.json.Decoder(_Log).decode
_decode_span = msgspec.json.Decoder(_Span).decode
_decode_point = msgspec.json.Decoder(_Point).decode

_COMMON = "opentelemetry.proto.common.v1"
_RESOURCE, _SCOPE = "opentelemetry.proto.resource.v1.Resource", f"{_COMMON}.InstrumentationScope"
_METRICS = "opentelemetry.proto.metrics.v1"
_DATA = (
    ("gauge", b"\x2a", f"{_METRICS}.NumberDataPoint"),
    ("sum", b"\x3a", f"{_METRICS}.NumberDataPoint"),
    ("histogram", b"\x4a", f"{_METRICS}.HistogramDataPoint"),
    ("exponential_histogram", b"\x52", f"{_METRICS}.ExponentialHistogramDataPoint"),
    ("summary", b"\x5a", f"{_METRICS}.SummaryDataPoint"),
)
_NUMBER_POINT = _DATA[0][2]

# How many messages each is nested in.
_IN_RESOURCE, _IN_SCOPE = 2, 3

_VARINTS = [wire_format.varint(value) for value in range(2048)]
_FIXED32, _FIXED64 = struct.Struct("<I").pack, struct.Struct("<Q").pack
_DOUBLE, _INT = struct.Struct("<d").pack, struct.Struct("<q").pack
_START_TIME_DOUBLE, _TIME_DOUBLE = struct.Struct("<BQBQBd").pack, struct.Struct("<BQBd").pack
_START_TIME_INT, _TIME_INT = struct.Struct("<BQBQBq").pack, struct.Struct("<BQBq").pack


def _varint(value: int) -> bytes:
    return _VARINTS[value] if value < 2048 else wire_format.varint(value)


def _sized(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _unsigned(value: int | str, most: int) -> int:
    """Return a number that is not negative, which JSON has as a number or as text."""
    if type(value) is str:
        if len(value) > 20 or not (value.isascii() and value.isdecimal()):
            raise _UnusualError
        value = int(value)
    number: int = value  # type: ignore[assignment]
    if not 0 <= number <= most:
        raise _UnusualError
    return number


def _signed(value: int | str) -> int:
    if type(value) is str:
        digits = value[1:] if value[:1] == "-" else value
        if len(digits) > 19 or not (digits.isascii() and digits.isdecimal()):
            raise _UnusualError
        value = int(value)
    number: int = value  # type: ignore[assignment]
    if not -(2**63) <= number < 2**63:
        raise _UnusualError
    return number


def _id(text: str) -> bytes:
    try:
        return binascii.unhexlify(text)
    except ValueError as error:
        raise _UnusualError from error


class _Out:
    """The fields of one message, in the order of their numbers. What is zero or empty is left out, as proto3 has it."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def text(self, tag: bytes, value: str | None) -> None:
        if value:
            content = value.encode()
            self.parts += (tag, _varint(len(content)), content)

    def id(self, tag: bytes, value: str | None) -> None:
        if value:
            content = _id(value)
            self.parts += (tag, _varint(len(content)), content)

    def time(self, tag: bytes, value: int | str | None) -> None:
        if value and (number := _unsigned(value, 2**64 - 1)):
            self.parts += (tag, _FIXED64(number))

    def number(self, tag: bytes, value: int | None) -> None:
        """Add a ``uint32``, or an enum value, of which those below zero are no usual ones."""
        if value:
            self.parts += (tag, _varint(_unsigned(value, 2**31 - 1)))

    def fixed32(self, tag: bytes, value: int | None) -> None:
        if value:
            self.parts += (tag, _FIXED32(_unsigned(value, 2**32 - 1)))

    def message(self, tag: bytes, content: bytes | None) -> None:
        if content is not None:
            self.parts += (tag, _varint(len(content)), content)


class _Known(dict[bytes, bytes]):
    """Messages by the JSON they came as. All are forgotten when they are too many."""

    def __init__(self, encode: Callable[[bytes], bytes], most: int, longest: int) -> None:
        super().__init__()
        self._encode = encode
        self._most = most
        self._longest = longest

    def __missing__(self, raw: bytes) -> bytes:
        encoded = self._encode(raw)
        if len(raw) <= self._longest:
            if len(self) >= self._most:
                self.clear()
            self[raw] = encoded
        return encoded


class QuickJson:
    """Transcodes requests. ``apart`` is how a message that is rare is transcoded by itself."""

    def __init__(self, apart: Apart) -> None:
        self._apart_or_none = apart
        self._resources = _Known(functools.partial(self._shared, _RESOURCE, _IN_RESOURCE), *_KNOWN_RESOURCES)
        self._scopes = _Known(functools.partial(self._shared, _SCOPE, _IN_SCOPE), *_KNOWN_RESOURCES)
        # By what they are fields of, for what is nested too deeply in one may not be in another.
        self._of_log, self._of_span, self._of_point, self._of_event, self._of_link = (
            _Known(functools.partial(self._encoded_pair, tag, depth), *_KNOWN_ATTRIBUTES)
            for tag, depth in ((b"\x32", 4), (b"\x4a", 4), (b"\x3a", 6), (b"\x1a", 5), (b"\x22", 5))
        )
        # A point has the same ones in each collection.
        self._all_of_point = _Known(self._encoded_pairs, *_KNOWN_POINTS)
        self._records: dict[Signal, Callable[[Raw], bytes]] = {Signal.LOGS: self._log, Signal.TRACES: self._span}

    def transcode(self, signal: Signal, body: bytes, budget: Budget) -> bytes | None:
        """Return a request as protobuf, None where it is not as encoders write it. Raises `TooLargeError`."""
        try:
            return self._request(signal, body, budget)
        except (_UnusualError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _request(self, signal: Signal, body: bytes, budget: Budget) -> bytes:
        decoder, resources, scopes, records = _REQUESTS[signal]
        out = _Out()
        its_resources = getattr(decoder.decode(body), resources)
        if not its_resources:
            raise _UnusualError
        budget.take(len(its_resources), RECORD, resources.replace("_", " "))
        for resource in its_resources:
            of_resource = _Out()
            of_resource.parts.append(self._resources[bytes(resource.resource)])
            its_scopes = getattr(resource, scopes) or ()
            budget.take(len(its_scopes), RECORD, scopes.replace("_", " "))
            for scope in its_scopes:
                of_scope = _Out()
                of_scope.parts.append(self._scopes[bytes(scope.scope)])
                its_records = getattr(scope, records) or ()
                budget.take(len(its_records), RECORD, records.replace("_", " "))
                if signal is Signal.METRICS:
                    for metric in its_records:
                        of_scope.message(b"\x12", self._metric(metric, budget))
                else:
                    encode = self._records[signal]
                    for record in its_records:
                        of_scope.message(b"\x12", encode(record))
                of_scope.text(b"\x1a", scope.schema_url)
                of_resource.message(b"\x12", b"".join(of_scope.parts))
            of_resource.text(b"\x1a", resource.schema_url)
            out.message(b"\x0a", b"".join(of_resource.parts))
        return b"".join(out.parts)

    def _apart(self, name: str, raw: Raw, depth: int) -> bytes:
        if memoryview(raw).nbytes > _LARGE:
            raise _UnusualError
        encoded = self._apart_or_none(name, raw, depth)
        if encoded is None:
            raise _UnusualError
        return encoded

    def _shared(self, name: str, depth: int, raw: bytes) -> bytes:
        """Return a resource or scope as a field, nothing where there is none."""
        return b"" if raw == b"null" else b"\x0a" + _sized(self._apart(name, Raw(raw), depth))

    # -- values ----------------------------------------------------------------------------------------------------

    def _encoded_pair(self, tag: bytes, depth: int, raw: bytes) -> bytes:
        """Return an attribute as a field of a message that is nested in so many."""
        try:
            content = _pair(_decode_pair(raw))
        except (_UnusualError, msgspec.ValidationError):
            content = self._apart(f"{_COMMON}.KeyValue", Raw(raw), depth)
        return tag + _sized(content)

    def _encoded_pairs(self, raw: bytes) -> bytes:
        """Return all attributes of a number point."""
        return b"".join(map(self._of_point.__getitem__, map(bytes, _decode_pairs(raw) or ())))

    def _value(self, raw: Raw, depth: int) -> bytes | None:
        """Return the body of a log record."""
        try:
            return _value(_decode_value(raw))
        except (_UnusualError, msgspec.ValidationError):
            return None if bytes(raw) == b"null" else self._apart(f"{_COMMON}.AnyValue", raw, depth)

    # -- records ---------------------------------------------------------------------------------------------------

    def _usual(
        self, decode: Callable[[Raw], _T], encode: Callable[[_T], bytes], raw: Raw, name: str, depth: int
    ) -> bytes:
        if memoryview(raw).nbytes > _LARGE:
            raise _UnusualError  # it would be decoded in one go
        try:
            return encode(decode(raw))
        except (_UnusualError, msgspec.ValidationError):
            return self._apart(name, raw, depth)

    def _log(self, raw: Raw) -> bytes:
        return self._usual(_decode_log, self._usual_log, raw, "opentelemetry.proto.logs.v1.LogRecord", 3)

    def _span(self, raw: Raw) -> bytes:
        return self._usual(_decode_span, self._usual_span, raw, "opentelemetry.proto.trace.v1.Span", 3)

    def _point(self, raw: Raw) -> bytes:
        return self._usual(_decode_point, self._usual_point, raw, _NUMBER_POINT, 5)

    def _usual_log(self, log: _Log) -> bytes:
        out = _Out()
        parts = out.parts
        if log.time_unix_nano:
            out.time(b"\x09", log.time_unix_nano)
        if log.severity_number:
            out.number(b"\x10", log.severity_number)
        if log.severity_text:
            out.text(b"\x1a", log.severity_text)
        if log.body is not _NULL:
            out.message(b"\x2a", self._value(log.body, 4))
        if log.attributes:
            parts += map(self._of_log.__getitem__, map(bytes, log.attributes))
        if log.dropped_attributes_count:
            out.number(b"\x38", log.dropped_attributes_count)
        if log.flags:
            out.fixed32(b"\x45", log.flags)
        if log.trace_id:
            out.id(b"\x4a", log.trace_id)
        if log.span_id:
            out.id(b"\x52", log.span_id)
        if log.observed_time_unix_nano:
            out.time(b"\x59", log.observed_time_unix_nano)
        if log.event_name:
            out.text(b"\x62", log.event_name)
        return b"".join(parts)

    def _usual_span(self, span: _Span) -> bytes:
        out = _Out()
        parts = out.parts
        if span.trace_id:
            out.id(b"\x0a", span.trace_id)
        if span.span_id:
            out.id(b"\x12", span.span_id)
        if span.trace_state:
            out.text(b"\x1a", span.trace_state)
        if span.parent_span_id:
            out.id(b"\x22", span.parent_span_id)
        if span.name:
            out.text(b"\x2a", span.name)
        if span.kind:
            out.number(b"\x30", span.kind)
        if span.start_time_unix_nano:
            out.time(b"\x39", span.start_time_unix_nano)
        if span.end_time_unix_nano:
            out.time(b"\x41", span.end_time_unix_nano)
        if span.attributes:
            parts += map(self._of_span.__getitem__, map(bytes, span.attributes))
        if span.dropped_attributes_count:
            out.number(b"\x50", span.dropped_attributes_count)
        if span.events:
            for event in span.events:
                out.message(b"\x5a", self._event(event))
        if span.dropped_events_count:
            out.number(b"\x60", span.dropped_events_count)
        if span.links:
            for link in span.links:
                out.message(b"\x6a", self._link(link))
        if span.dropped_links_count:
            out.number(b"\x70", span.dropped_links_count)
        if (status := span.status) is not None:
            of_status = _Out()
            of_status.text(b"\x12", status.message)
            of_status.number(b"\x18", status.code)
            out.message(b"\x7a", b"".join(of_status.parts))
        if span.flags:
            out.fixed32(b"\x85\x01", span.flags)
        return b"".join(parts)

    def _event(self, event: _Event) -> bytes:
        out = _Out()
        out.time(b"\x09", event.time_unix_nano)
        out.text(b"\x12", event.name)
        out.parts += map(self._of_event.__getitem__, map(bytes, event.attributes or ()))
        out.number(b"\x20", event.dropped_attributes_count)
        return b"".join(out.parts)

    def _link(self, link: _Link) -> bytes:
        out = _Out()
        out.id(b"\x0a", link.trace_id)
        out.id(b"\x12", link.span_id)
        out.text(b"\x1a", link.trace_state)
        out.parts += map(self._of_link.__getitem__, map(bytes, link.attributes or ()))
        out.number(b"\x28", link.dropped_attributes_count)
        out.fixed32(b"\x35", link.flags)
        return b"".join(out.parts)

    def _metric(self, metric: _Metric, budget: Budget) -> bytes:
        out = _Out()
        out.text(b"\x0a", metric.name)
        out.text(b"\x12", metric.description)
        out.text(b"\x1a", metric.unit)
        given = 0
        for field, tag, name in _DATA:
            data = getattr(metric, field)
            if data is None:
                continue
            given += 1
            points = data.data_points or ()
            budget.take(len(points), RECORD, "data points")
            of_data = _Out()
            is_number = name == _NUMBER_POINT
            parts = of_data.parts
            for point in points:
                encoded = self._point(point) if is_number else self._apart(name, point, 5)
                parts += (b"\x0a", _varint(len(encoded)), encoded)
            if isinstance(data, _Distribution):
                of_data.number(b"\x10", data.aggregation_temporality)
            if isinstance(data, _Sum) and data.is_monotonic:
                of_data.parts.append(b"\x18\x01")
            out.message(tag, b"".join(of_data.parts))
        if given > 1:
            raise _UnusualError  # of which only one counts
        return b"".join(out.parts)

    def _usual_point(self, point: _Point) -> bytes:
        start, time, double, integer = point.start_time_unix_nano, point.time_unix_nano, point.as_double, point.as_int
        if start is not None:
            start = _unsigned(start, 2**64 - 1)
        if time is not None:
            time = _unsigned(time, 2**64 - 1)
        attributes = b"" if point.attributes is _NULL else self._all_of_point[bytes(point.attributes)]
        if integer is not None:
            if double is not None:
                raise _UnusualError
            integer = _signed(integer)
        # What nearly all points are.
        if time and not point.flags:
            if double is not None:
                if start:
                    return _START_TIME_DOUBLE(0x11, start, 0x19, time, 0x21, double) + attributes
                return _TIME_DOUBLE(0x19, time, 0x21, double) + attributes
            if integer is not None:
                if start:
                    return _START_TIME_INT(0x11, start, 0x19, time, 0x31, integer) + attributes
                return _TIME_INT(0x19, time, 0x31, integer) + attributes
        out = _Out()
        out.time(b"\x11", start)
        out.time(b"\x19", time)
        if double is not None:
            out.parts += (b"\x21", _DOUBLE(double))
        elif integer is not None:
            out.parts += (b"\x31", _INT(integer))
        out.parts.append(attributes)
        out.number(b"\x40", point.flags)
        return b"".join(out.parts)


def _pair(pair: _Pair) -> bytes:
    out = _Out()
    out.text(b"\x0a", pair.key)
    if pair.value is not None:
        out.message(b"\x12", _value(pair.value))
    return b"".join(out.parts)


def _value(value: _Value) -> bytes:
    """Return a value, of which at most one kind is given."""
    text, flag, integer, double = value.string_value, value.bool_value, value.int_value, value.double_value
    if (text is not None) + (flag is not None) + (integer is not None) + (double is not None) > 1:
        raise _UnusualError
    if text is not None:
        return b"\x0a" + _sized(text.encode())
    if integer is not None:
        return b"\x18" + wire_format.varint(_signed(integer) & 2**64 - 1)
    if flag is not None:
        return b"\x10\x01" if flag else b"\x10\x00"
    if double is not None:
        return b"\x21" + _DOUBLE(double)
    return b""
