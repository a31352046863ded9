# ruff: noqa: E501 - a hostile request is easier to read in one line
"""Hostile requests by name. Each is made anew, so that no answer comes from a receipt."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from gateway.component import Signal
from tests.hostile.wire_format import (
    END_GROUP,
    FIXED32,
    GROUP,
    VARINT,
    fixed64,
    message,
    nested_array,
    nested_map,
    number,
    string_pair,
    tag,
    varint,
)
from tests.support.telemetry import now

_serial = itertools.count(1)

# -- a whole request around one hostile part ---------------------------------------------------------------------------


def attribute_everywhere(signal: Signal, pair: bytes) -> bytes:
    """A request with a serialized ``KeyValue`` wherever attributes may be: resource, scope, records, what is in them."""
    resource = message(1, message(1, pair))
    scope = message(1, message(1, b"scope"), message(3, pair))
    return message(1, resource, message(2, scope, _record(signal, pair)))


def _record(signal: Signal, pair: bytes) -> bytes:
    at = now() + next(_serial)
    exemplar = message(7, pair) + fixed64(2, at)
    match signal:
        case Signal.LOGS:
            return message(2, fixed64(1, at), message(5, message(1, b"hostile")), message(6, pair))
        case Signal.TRACES:
            ids = message(1, bytes(15) + b"\1") + message(2, bytes(7) + b"\1")
            inner = message(11, fixed64(1, at), message(3, pair)) + message(13, ids, message(4, pair))
            return message(2, ids, message(5, b"hostile"), fixed64(7, at), message(9, pair), inner)
        case _:
            fast = message(1, fixed64(3, at), fixed64(4, 0), message(7, pair))
            slow = message(1, message(7, pair), fixed64(3, at + 1), fixed64(4, 0), message(5, exemplar))
            histogram = message(1, message(9, pair), fixed64(3, at), message(8, exemplar))
            return (
                message(2, message(1, b"hostile"), message(5, fast, slow), message(12, pair))
                + message(2, message(1, b"hostile"), message(9, histogram))
                + message(2, message(1, b"hostile"), message(10, message(1, message(1, pair), fixed64(3, at))))
                + message(2, message(1, b"hostile"), message(11, message(1, message(7, pair), fixed64(3, at))))
            )


def value(inside: bytes, key: bytes = b"hostile") -> bytes:
    """A serialized ``KeyValue`` with the inside of an ``AnyValue``."""
    return message(1, key) + message(2, inside)


def _double(number: float) -> bytes:
    return b"\x21" + struct.pack("<d", number)


def _array(*values: bytes) -> bytes:
    return message(5, *(message(1, each) for each in values))


def _map(*pairs: bytes) -> bytes:
    return message(6, *(message(1, pair) for pair in pairs))


# -- attributes ---------------------------------------------------------------------------------------------------------

ATTRIBUTES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "a key without a value": lambda: message(1, b"k"),
    "an empty key": lambda: string_pair(b"", b"v"),
    "NUL in the key": lambda: string_pair(b"a\0b", b"v"),
    "NUL alone as the key": lambda: string_pair(b"\0", b"v"),
    "NUL in the value": lambda: string_pair(b"k", b"\0a\0"),
    "NUL deep inside": lambda: value(_array(_map(string_pair(b"\0", b"\0")))),
    "keys of a map equal but for NUL": lambda: value(
        _map(string_pair(b"\0", b"1"), string_pair(b"\xef\xbf\xbd", b"2"))
    ),
    "keys of a map that come twice": lambda: value(_map(string_pair(b"a", b"1"), string_pair(b"a", b"2"))),
    "the name of an escape": lambda: value(_map(string_pair(b"$bytes", b"!"), string_pair(b"$double", b"NaN"))),
    "noncharacters": lambda: string_pair("\uffff\ufffe\U0010ffff".encode(), "\ufdd0\U0001fffe".encode()),
    "a byte order mark": lambda: string_pair("\ufeffk".encode(), "\ufeff".encode()),
    "line separators": lambda: string_pair("\u2028\u2029\x85\r\n".encode(), "\u2028\u2029\x0b\x0c".encode()),
    "control characters": lambda: string_pair(bytes(range(1, 32)) + b"\x7f", bytes(range(1, 32)) + b'\x7f"\\'),
    "an overlong NUL": lambda: string_pair(b"k", b"\xc0\x80"),
    "a surrogate": lambda: string_pair(b"k", b"\xed\xa0\x80"),
    "a surrogate pair in six bytes": lambda: string_pair(b"k", b"\xed\xa0\xbd\xed\xb8\x80"),
    "beyond Unicode": lambda: string_pair(b"k", b"\xf4\x90\x80\x80"),
    "a cut character": lambda: string_pair(b"k", b"\xe2\x82"),
    "invalid UTF-8 in the key": lambda: string_pair(b"\xff", b"v"),
    "a key of 100,000 characters": lambda: string_pair(b"k" * 100_000, b"v"),
    "a value of 1 MiB": lambda: string_pair(b"k", b"v" * 2**20),
    "a service name of 100,000 characters": lambda: string_pair(b"service.name", b"n" * 100_000),
    "a host name that is a map": lambda: value(_map(string_pair(b"\0", b"\0")), b"host.name"),
    "the largest double": lambda: value(_double(1.7976931348623157e308)),
    "the smallest double": lambda: value(_double(5e-324)),
    "infinity": lambda: value(_double(float("inf"))),
    "not a number": lambda: value(_double(float("nan"))),
    "the largest integer": lambda: value(b"\x18" + varint(2**63 - 1)),
    "the smallest integer": lambda: value(b"\x18" + varint(2**63)),
    "a varint of 11 bytes": lambda: value(b"\x18" + b"\xff" * 10 + b"\1"),
    "an overlong varint": lambda: value(b"\x18" + varint(1, overlong=5)),
    "a bool that is 2": lambda: value(b"\x10\x02"),
    "several values at once": lambda: value(message(1, b"a") + b"\x18\x01" + _double(1.0)),
    "a value in two pieces": lambda: message(1, b"k") + message(2, _array(b"\x10\1")) + message(2, _array(b"\x10\0")),
    "bytes": lambda: value(message(7, bytes(range(256)))),
    "an unknown field": lambda: string_pair(b"k", b"v") + message(1000, b"?") + number(1001, 2**64 - 1),
    "an unknown group": lambda: string_pair(b"k", b"v") + tag(1000, GROUP) + number(1, 1) + tag(1000, END_GROUP),
    "a group without an end": lambda: string_pair(b"k", b"v") + tag(1000, GROUP),
    "a group with another's end": lambda: string_pair(b"k", b"v") + tag(1000, GROUP) + tag(1001, END_GROUP),
    "field number 0": lambda: b"\x02\x00",
    "a wire type that is none": lambda: b"\x0f",
    "a key that is a number": lambda: number(1, 5),
    "a value that is 32 bits": lambda: message(1, b"k") + tag(2, FIXED32) + bytes(4),
    "a length beyond the end": lambda: tag(1) + varint(2**31 - 1),
    "a length beyond 64 bits": lambda: tag(1) + b"\xff" * 9 + b"\x7f",
    "arrays 40 deep": lambda: value(nested_array(40)),
    "arrays 5,000 deep": lambda: value(nested_array(5_000)),
    "maps 30 deep": lambda: value(nested_map(30)),
    "maps 5,000 deep": lambda: value(nested_map(5_000)),
    "unknown groups 5,000 deep": lambda: tag(1000, GROUP) * 5_000 + tag(1000, END_GROUP) * 5_000,
    "1,000 numbers of 309 digits": lambda: value(_array(*[_double(-1.7976931348623157e308)] * 1_000)),
    "a map of 10,000 keys": lambda: value(_map(*(string_pair(b"%d" % n, b"") for n in range(10_000)))),
    "an array of 50,000 nothings": lambda: value(message(5, message(1) * 50_000)),
}
"""Serialized ``KeyValue`` messages, put wherever attributes may be."""

# -- whole requests -----------------------------------------------------------------------------------------------------


def _logs(edit: Callable[[Any], object]) -> Callable[[], bytes]:
    def make() -> bytes:
        request = ExportLogsServiceRequest()
        owner = request.resource_logs.add()
        record = owner.scope_logs.add().log_records.add(time_unix_nano=now() + next(_serial))
        record.body.string_value = "hostile"
        edit(record)
        return request.SerializeToString()

    return make


def _spans(edit: Callable[[Any], object]) -> Callable[[], bytes]:
    def make() -> bytes:
        request = ExportTraceServiceRequest()
        span = request.resource_spans.add().scope_spans.add().spans.add(start_time_unix_nano=now() + next(_serial))
        span.trace_id, span.span_id, span.name = bytes(15) + b"\1", bytes(7) + b"\1", "hostile"
        edit(span)
        return request.SerializeToString()

    return make


def _metrics(edit: Callable[[Any, int], object]) -> Callable[[], bytes]:
    def make() -> bytes:
        request = ExportMetricsServiceRequest()
        edit(request.resource_metrics.add().scope_metrics.add().metrics.add(name="hostile"), now() + next(_serial))
        return request.SerializeToString()

    return make


def set_all(target: Any, **fields: Any) -> Any:
    for name, content in fields.items():
        setattr(target, name, content)
    return target


_MAX = 2**64 - 1
_NUL = "a\0b"


def _many_attributes(target: Any, count: int = 100_000) -> None:
    target.attributes.extend(KeyValue(key=f"key {n}", value=AnyValue(int_value=n)) for n in range(count))


def _every_text_nul(signal: Signal) -> bytes:
    """A request in which every string there is has a NUL."""
    nul = _NUL.encode()
    pair = string_pair(nul, nul)
    entity = message(3, message(1, nul), message(2, nul), message(3, nul), message(4, nul))
    resource = message(1, message(1, pair), entity)
    scope = message(1, message(1, nul), message(2, nul), message(3, pair))
    at = now() + next(_serial)
    ids = message(1, bytes(15) + b"\1") + message(2, bytes(7) + b"\1")
    match signal:
        case Signal.LOGS:
            record = message(
                2, fixed64(1, at), message(3, nul), message(5, message(1, nul)), message(6, pair), message(12, nul)
            )
        case Signal.TRACES:
            inner = (
                message(11, message(2, nul), message(3, pair))
                + message(13, message(3, nul), message(4, pair))
                + message(15, message(2, nul))
            )
            record = message(2, ids, message(3, nul), message(5, nul), fixed64(7, at), message(9, pair), inner)
        case _:
            point = message(1, fixed64(3, at), fixed64(4, 0), message(7, pair))
            record = message(2, message(1, nul), message(2, nul), message(3, nul), message(5, point), message(12, pair))
    return message(1, resource, message(2, scope, record, message(3, nul)), message(3, nul))


def _point(at: int, *rest: bytes, value_first: bool = False) -> bytes:
    head = [fixed64(3, at), fixed64(4, 0)]
    return message(1, *(head[::-1] if value_first else head), *rest)


def _gauge_of(*points: bytes) -> bytes:
    return message(1, message(2, message(2, message(1, b"hostile"), message(5, *points))))


def _mixed_points() -> bytes:
    """Points of every shape in one metric: tails that are another's, heads too short, times and values twice."""
    at = now() + next(_serial)
    pair = message(7, string_pair(b"k", b"v"))
    start = fixed64(2, at)
    points = [
        _point(at, pair),
        message(1, start, fixed64(3, at + 1), fixed64(4, 0), pair),  # a head of the other length
        _point(at + 2, pair, value_first=True),
        message(1, pair, fixed64(3, at + 3), fixed64(6, _MAX)),
        _point(at + 4, pair, fixed64(3, at + 5)),  # its time twice: the last counts
        _point(at + 6, fixed64(6, 1), pair),  # two values: the last counts
        message(1, fixed64(3, at + 7)),  # no value
        message(1, fixed64(2, 0), fixed64(3, at + 8), fixed64(4, 0), pair),  # a start that is zero
        _point(at + 9, pair, number(8, 2**32 - 1)),
        _point(at + 10, pair, message(1000, b"?")),
        _point(at + 11, tag(7) + varint(len(pair) - 2, overlong=2) + pair[2:]),
        message(1, fixed64(3, at + 12), fixed64(4, 0)),
    ]
    return _gauge_of(*points, *reversed(points))


def _histogram(metric: Any, at: int, **fields: Any) -> None:
    metric.histogram.data_points.add(**{"time_unix_nano": at, "count": 1} | fields)


REQUESTS: dict[Signal, dict[str, Callable[[], bytes]]] = {
    Signal.LOGS: {
        "nothing": lambda: b"",
        "a resource without records": lambda: message(1),
        "1,000 empty records": lambda: message(1, message(2, message(2) * 1_000)),
        "NUL in every text": lambda: _every_text_nul(Signal.LOGS),
        "ids of the wrong length": _logs(lambda r: set_all(r, trace_id=b"\1" * 15, span_id=b"\1" * 9)),
        "ids of zeros": _logs(lambda r: set_all(r, trace_id=bytes(16), span_id=bytes(8))),
        "numbers at their limits": _logs(
            lambda r: set_all(r, severity_number=-(2**31), flags=2**32 - 1, dropped_attributes_count=2**32 - 1)
        ),
        "an observed time at its limit": _logs(lambda r: set_all(r, observed_time_unix_nano=_MAX)),
        "a time at its limit": _logs(lambda r: set_all(r, time_unix_nano=_MAX)),
        "a time of one nanosecond": _logs(lambda r: set_all(r, time_unix_nano=1)),
        "100,000 attributes": _logs(_many_attributes),
        "an attribute 10,000 times": _logs(lambda r: r.attributes.extend([KeyValue(key="k")] * 10_000)),
        "an event name of 1 MiB": _logs(lambda r: set_all(r, event_name="e" * 2**20)),
        "a severity text of 1 MiB": _logs(lambda r: set_all(r, severity_text="s" * 2**20)),
        "a body of 4 MiB of NUL": _logs(lambda r: set_all(r.body, string_value="\0" * 2**22)),
        "a severity beyond 32 bits": lambda: message(1, message(2, message(2, number(2, 2**40), fixed64(1, now())))),
    },
    Signal.TRACES: {
        "nothing": lambda: b"",
        "a resource without records": lambda: message(1),
        "1,000 empty records": lambda: message(1, message(2, message(2) * 1_000)),
        "NUL in every text": lambda: _every_text_nul(Signal.TRACES),
        "ids of the wrong length": _spans(lambda s: set_all(s, trace_id=b"\1" * 17, span_id=b"")),
        "ids of zeros": _spans(lambda s: set_all(s, trace_id=bytes(16))),
        "a parent of the wrong length": _spans(lambda s: set_all(s, parent_span_id=b"\1" * 100_000)),
        "links with ids of any length": _spans(lambda s: s.links.add(trace_id=b"", span_id=b"\1" * 100_000)),
        "numbers at their limits": _spans(
            lambda s: set_all(
                s, kind=-(2**31), flags=2**32 - 1, dropped_attributes_count=2**32 - 1, dropped_links_count=2**32 - 1
            )
        ),
        "an end at its limit": _spans(lambda s: set_all(s, end_time_unix_nano=_MAX)),
        "an end before its start": _spans(lambda s: set_all(s, end_time_unix_nano=1)),
        "an event at the limit of time": _spans(lambda s: s.events.add(time_unix_nano=_MAX)),
        "a status that none knows": _spans(lambda s: set_all(s.status, code=2**31 - 1)),
        "a name of 1 MiB": _spans(lambda s: set_all(s, name="n" * 2**20)),
        "an empty name": _spans(lambda s: set_all(s, name="")),
        "a trace state of 1 MiB": _spans(lambda s: set_all(s, trace_state="t" * 2**20)),
        "100,000 attributes": _spans(_many_attributes),
        "20,000 events": _spans(lambda s: s.events.extend([s.Event(name=_NUL)] * 20_000)),
    },
    Signal.METRICS: {
        "nothing": lambda: b"",
        "a metric without data": _metrics(lambda m, _: None),
        "a metric without points": _metrics(lambda m, _: m.gauge.SetInParent()),
        "1,000 empty points": lambda: _gauge_of(message(1) * 1_000),
        "NUL in every text": lambda: _every_text_nul(Signal.METRICS),
        "points of every shape": _mixed_points,
        "a time at its limit": _metrics(lambda m, _: m.gauge.data_points.add(time_unix_nano=_MAX, as_double=1.0)),
        "a start at its limit": _metrics(
            lambda m, at: m.gauge.data_points.add(time_unix_nano=at, start_time_unix_nano=_MAX, as_double=1.0)
        ),
        "integers at their limits": _metrics(
            lambda m, at: [m.gauge.data_points.add(time_unix_nano=at, as_int=n) for n in (-(2**63), 2**63 - 1)]
        ),
        "doubles that are no number": _metrics(
            lambda m, at: [
                m.gauge.data_points.add(time_unix_nano=at + n, as_double=x)
                for n, x in enumerate((float("nan"), float("inf"), float("-inf"), -0.0, 5e-324))
            ]
        ),
        "a temporality that none knows": _metrics(
            lambda m, at: set_all(m.sum, aggregation_temporality=-(2**31)).data_points.add(time_unix_nano=at, as_int=1)
        ),
        "counts at their limit": _metrics(lambda m, at: _histogram(m, at, count=_MAX, bucket_counts=[_MAX])),
        "buckets that do not fit their bounds": _metrics(
            lambda m, at: _histogram(m, at, bucket_counts=[1], explicit_bounds=[float("nan"), -1.0, float("inf")])
        ),
        "100,000 buckets": _metrics(
            lambda m, at: _histogram(m, at, bucket_counts=range(100_000), explicit_bounds=[0.0] * 99_999)
        ),
        "a scale at its limit": _metrics(
            lambda m, at: m.exponential_histogram.data_points.add(
                time_unix_nano=at, scale=-(2**31), positive={"offset": 2**31 - 1, "bucket_counts": [1, 2]}
            )
        ),
        "a zero count at its limit": _metrics(
            lambda m, at: m.exponential_histogram.data_points.add(time_unix_nano=at, zero_count=_MAX)
        ),
        "quantiles that are none": _metrics(
            lambda m, at: m.summary.data_points.add(
                time_unix_nano=at, quantile_values=[{"quantile": -7.0, "value": float("nan")}] * 1_000
            )
        ),
        "an exemplar with ids of any length": _metrics(
            lambda m, at: m.gauge.data_points.add(
                time_unix_nano=at, exemplars=[{"trace_id": b"\1" * 100_000, "span_id": b"\1"}]
            )
        ),
        "a name of 1 MiB": _metrics(
            lambda m, at: set_all(m, name="n" * 2**20).gauge.data_points.add(time_unix_nano=at)
        ),
        "an empty name": _metrics(lambda m, at: set_all(m, name="").gauge.data_points.add(time_unix_nano=at)),
        "100,000 attributes": _metrics(lambda m, at: _many_attributes(m.gauge.data_points.add(time_unix_nano=at))),
        "100,000 attributes of a resource": lambda: message(
            1,
            message(1, *(message(1, string_pair(b"%d" % n, b"")) for n in range(100_000))),
            message(2, message(2, message(1, b"hostile"), message(5, _point(now())))),
        ),
        "two kinds of data": lambda: message(
            1, message(2, message(2, message(5, _point(now())), message(7, _point(now() + 1))))
        ),
        "one kind of data in two pieces": lambda: message(
            1, message(2, message(2, message(5, _point(now())), message(5, _point(now() + 1))))
        ),
        "points that are no messages": lambda: message(1, message(2, message(2, message(5, tag(1, VARINT) + b"\5")))),
        "a resource in two pieces": lambda: message(
            1,
            message(1, message(1, string_pair(b"a", b"1"))),
            message(1, message(1, string_pair(b"b", b"2"))),
            message(2, message(2, message(5, _point(now())))),
        ),
        "fields in the order of a fool": lambda: message(
            1,
            message(3, b"url"),
            message(2, message(3, b"url"), message(2, message(5, _point(now())), message(1, b"n"))),
        ),
    },
}
"""Serialized requests by signal."""
