"""Requests that differ from each other and cost next to nothing to make.

A request is serialized once, as a template, with the published protobuf classes. Whatever changes from one request to
the next (times, values, ids, the attributes that are not to repeat) has a fixed width on the wire and is written over
in a copy of those bytes, for all records at once. Request number *n* is the same whoever makes it: the load generator
sends it, and the limit encodes it into the same rows.

What repeats and what does not decides how hard a record is to encode and to store:

========  ==========================================================================================================
points    10,000 series of 20 hosts (25 metrics of 20 series each): 4 attributes, which repeat as a collector's do; 60 %
          are gauges of doubles, 40 % cumulative sums of integers with a start time; time and value are new each time
spans     8 attributes: 6 out of small sets, 1 out of 5,000 values, 1 unique; 8 spans a trace, ids are new each time;
          1 span in 20 failed, with a status message and an event
logs      8 attributes alike; a body of about 90 characters, unique; every second record belongs to a span
========  ==========================================================================================================
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.component import Signal
from tests.support.otlp_orders import Order, written

SERVICE_PREFIX = "bench-"
"""What the ``service.name`` of everything sent begins with."""

_HISTORY_NS = 12 * 3600 * 10**9
"""How far back the first record lies, so that time can advance much faster than the clock."""
_COLLECTION_NS = 10 * 10**9
"""The time from one collection of metrics to the next."""
_RECORD_NS = 500_000
"""The time from one span or log record to the next."""

_METRICS_PER_HOST = 25
_SERIES_PER_METRIC = 20
_SPANS_PER_TRACE = 8
_SERVICES = 5
_CHANGING = 10
"""Requests for which a series that changes is the same."""
_VALUES = 5_000

_Bytes = npt.NDArray[np.uint8]


def first_time(now_ns: int | None = None) -> int:
    """Return the time of the first record, in nanoseconds, to be shared by all that make the same requests."""
    return (time.time_ns() if now_ns is None else now_ns) - _HISTORY_NS


class Payloads:
    """Makes request number 0, 1, 2, … of a signal."""

    def __init__(
        self,
        signal: Signal,
        records: int,
        series: int,
        first_time_ns: int,
        order: Order = "python",
        changing: bool = False,
    ) -> None:
        self.signal = signal
        match signal:
            case Signal.METRICS:
                self._templates = _metrics(records, series, first_time_ns, order, changing)
            case Signal.TRACES:
                self._templates = [_traces(records, first_time_ns)]
            case Signal.LOGS:
                self._templates = [_logs(records, first_time_ns)]

    @property
    def records(self) -> int:
        """How many records a request has: as many as asked for, for metrics rounded down to whole collections."""
        return self._templates[0].records

    def request(self, number: int) -> bytes:
        """Return the serialized request of that number."""
        return self._templates[number % len(self._templates)].request(number)


@dataclass(slots=True, frozen=True)
class _Patch:
    """Bytes to write over: where they are, and what to put there for the request of a given number."""

    positions: npt.NDArray[np.intp]
    content: Callable[[int, np.random.Generator], _Bytes]


class _Template:
    """A serialized request, and the places in it that change."""

    def __init__(self, records: int, serialized: bytes, patches: Sequence[_Patch]) -> None:
        self.records = records
        self._bytes = np.frombuffer(serialized, np.uint8)
        self._patches = patches

    def request(self, number: int) -> bytes:
        copy = self._bytes.copy()
        random = np.random.Generator(np.random.SFC64(number))
        for patch in self._patches:
            copy[patch.positions] = patch.content(number, random)
        return copy.tobytes()


class _Marker:
    """A value that stands for one to come: found by its bytes in the serialized template."""

    def __init__(self, letter: str, width: int) -> None:
        # ASCII, so that it fits into a string; no other field contains it.
        self.text = f"~{letter}".ljust(width, letter)
        self.bytes = self.text.encode()
        self.width = width

    @property
    def fixed64(self) -> int:
        """The marker as the unsigned integer that is serialized to its bytes."""
        return int.from_bytes(self.bytes, "little")

    @property
    def double(self) -> float:
        """The marker as the double that is serialized to its bytes."""
        return float(np.frombuffer(self.bytes, "<f8")[0])

    def positions(self, serialized: bytes) -> npt.NDArray[np.intp]:
        """Return where each byte of each occurrence is: one row an occurrence."""
        starts = [found.start() for found in re.finditer(re.escape(self.bytes), serialized)]
        return np.array(starts, np.intp)[:, None] + np.arange(self.width)


_TIME, _END = _Marker("t", 8), _Marker("e", 8)
_DOUBLE, _INT = _Marker("d", 8), _Marker("i", 8)
_TRACE_ID, _SPAN_ID, _PARENT_ID = _Marker("r", 16), _Marker("s", 8), _Marker("p", 8)
_UNIQUE, _UNIQUE_BODY, _ONE_OF_MANY = _Marker("u", 16), _Marker("b", 16), _Marker("m", 8)


def _fixed64(values: npt.NDArray[np.generic]) -> _Bytes:
    return np.ascontiguousarray(values).view(np.uint8).reshape(-1, 8)


def _hex(raw: _Bytes) -> _Bytes:
    """Write bytes as hexadecimal digits, each row twice as long."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    return digits[np.stack((raw >> 4, raw & 15), axis=-1)].reshape(len(raw), -1)


def _random(count: int, width: int, random: np.random.Generator) -> _Bytes:
    return np.frombuffer(random.bytes(count * width), np.uint8).reshape(count, width)


def _unique_text(marker: _Marker, serialized: bytes) -> _Patch:
    positions = marker.positions(serialized)
    return _Patch(positions, lambda _, random: _hex(_random(len(positions), marker.width // 2, random)))


def _one_of_many(serialized: bytes) -> _Patch:
    positions = _ONE_OF_MANY.positions(serialized)
    names = np.frombuffer(b"".join(b"id-%05d" % number for number in range(_VALUES)), np.uint8).reshape(-1, 8)
    return _Patch(positions, lambda _, random: names[random.integers(0, _VALUES, len(positions))])


def _record_times(records: int, first_time_ns: int, number: int) -> npt.NDArray[np.uint64]:
    first = first_time_ns + number * records * _RECORD_NS
    return first + np.arange(records, dtype=np.uint64) * np.uint64(_RECORD_NS)


def _attribute(key: str, value: str | int) -> KeyValue:
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value))


def _resource(number: int) -> Resource:
    values = {
        "service.name": f"{SERVICE_PREFIX}{number % _SERVICES}",
        "service.version": "1.4.2",
        "host.name": f"host-{number:03d}",
        "os.type": "linux",
        "deployment.environment.name": "production",
    }
    return Resource(attributes=[_attribute(key, value) for key, value in values.items()])


_SCOPE = InstrumentationScope(name="bench.load", version="1.0.0")


# -- metrics -------------------------------------------------------------------------------------------------------


def _metrics(records: int, series: int, first_time_ns: int, order: Order, changing: bool) -> list[_Template]:
    """Return templates that go through all series once; one of more records than series holds several collections."""
    if records > series:
        collections = -(-records // series)
        return [_metrics_template(range(records // collections), 1, collections, first_time_ns, order, changing)]
    templates = series // records
    return [
        _metrics_template(range(first * records, (first + 1) * records), templates, 1, first_time_ns, order, changing)
        for first in range(templates)
    ]


def _metrics_template(
    series: range, templates: int, collections: int, first_time_ns: int, order: Order, changing: bool
) -> _Template:
    request = ExportMetricsServiceRequest()
    for host, its_series in itertools.groupby(
        series, lambda number: number // (_METRICS_PER_HOST * _SERIES_PER_METRIC)
    ):
        metrics = request.resource_metrics.add(resource=_resource(host)).scope_metrics.add(scope=_SCOPE).metrics
        for which, numbers in itertools.groupby(its_series, lambda number: number // _SERIES_PER_METRIC):
            metric = _metric(metrics.add(), which % _METRICS_PER_HOST)
            for number in numbers:
                for _ in range(collections):
                    _add_point(metric, number, first_time_ns)
    if changing:
        data = metric.gauge if metric.HasField("gauge") else metric.sum
        data.data_points[-1].attributes.append(_attribute("changing", _UNIQUE.text))
    serialized = request.SerializeToString() if order == "python" else written(request, order)

    step = _COLLECTION_NS // collections
    offsets = np.tile(np.arange(collections, dtype=np.uint64) * np.uint64(step), len(series))
    doubles, ints = _DOUBLE.positions(serialized), _INT.positions(serialized)

    def times(number: int, _: np.random.Generator) -> _Bytes:
        return _fixed64(offsets + np.uint64(first_time_ns + number // templates * _COLLECTION_NS))

    def double_values(_: int, random: np.random.Generator) -> _Bytes:
        # Two decimals, as a utilization or a temperature has.
        return _fixed64(random.integers(0, 10_000, len(doubles)) / 100)

    def int_values(number: int, random: np.random.Generator) -> _Bytes:
        # Counters grow, each at its own pace.
        grown = np.arange(len(ints), dtype=np.int64) * 1_000_003 + number * 10_000
        return _fixed64(grown + random.integers(0, 10_000, len(ints)))

    patches = [_Patch(_TIME.positions(serialized), times), _Patch(doubles, double_values), _Patch(ints, int_values)]
    if changing:
        unique = _UNIQUE.positions(serialized)

        def changed(number: int, _: np.random.Generator) -> _Bytes:
            return _hex(_random(len(unique), 8, np.random.Generator(np.random.SFC64((number // _CHANGING, 2)))))

        patches.append(_Patch(unique, changed))
    return _Template(len(series) * collections, serialized, patches)


def _metric(metric: Metric, which: int) -> Metric:
    if which % 5 < 3:
        metric.name, metric.unit = f"bench.gauge.{which}", "1"
        metric.description = "A gauge of the benchmark"
        metric.gauge.SetInParent()
    else:
        metric.name, metric.unit = f"bench.sum.{which}", "By"
        metric.description = "A cumulative sum of the benchmark"
        metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
        metric.sum.is_monotonic = True
    return metric


def _add_point(metric: Metric, number: int, first_time_ns: int) -> None:
    of_metric = number % _SERIES_PER_METRIC
    attributes = [
        _attribute("device", f"device-{of_metric // 4}"),
        _attribute("direction", ("read", "write")[of_metric % 2]),
        _attribute("state", ("used", "free", "cached", "reserved")[of_metric % 4]),
        _attribute("index", number),
    ]
    if metric.HasField("gauge"):
        metric.gauge.data_points.add(attributes=attributes, time_unix_nano=_TIME.fixed64, as_double=_DOUBLE.double)
    else:
        metric.sum.data_points.add(
            attributes=attributes,
            start_time_unix_nano=first_time_ns - _COLLECTION_NS,
            time_unix_nano=_TIME.fixed64,
            as_int=_INT.fixed64,
        )


# -- spans and logs ------------------------------------------------------------------------------------------------


def _common_attributes(number: int) -> list[KeyValue]:
    """Return 8 attributes: 6 out of small sets, one out of many values, one unique."""
    return [
        _attribute("http.request.method", ("GET", "POST", "PUT", "DELETE")[number % 4]),
        _attribute("http.route", f"/api/v1/resource-{number % 50}/{{id}}"),
        _attribute("http.response.status_code", (200, 200, 200, 201, 404, 500)[number % 6]),
        _attribute("server.address", f"backend-{number % 10}.example.internal"),
        _attribute("network.protocol.version", ("1.1", "2")[number % 2]),
        _attribute("thread.id", number % 64),
        _attribute("enduser.id", _ONE_OF_MANY.text),
        _attribute("http.request.id", _UNIQUE.text),
    ]


def _traces(records: int, first_time_ns: int) -> _Template:
    request = ExportTraceServiceRequest()
    for service in range(_SERVICES):
        spans = request.resource_spans.add(resource=_resource(service)).scope_spans.add(scope=_SCOPE).spans
        for number in range(service * records // _SERVICES, (service + 1) * records // _SERVICES):
            _add_span(spans.add(), number)
    serialized = request.SerializeToString()
    trace_positions = _TRACE_ID.positions(serialized)
    span_positions = _SPAN_ID.positions(serialized)
    parent_positions = _PARENT_ID.positions(serialized)
    children = np.array([number for number in range(records) if number % _SPANS_PER_TRACE], np.intp)

    def span_ids(number: int) -> _Bytes:
        # A seed of its own: parents refer to the ids of the same request.
        return _random(records, 8, np.random.Generator(np.random.SFC64((number, 1))))

    def trace_ids(_: int, random: np.random.Generator) -> _Bytes:
        return _random(records // _SPANS_PER_TRACE + 1, 16, random)[np.arange(records) // _SPANS_PER_TRACE]

    def starts(number: int, _: np.random.Generator) -> _Bytes:
        return _fixed64(_record_times(records, first_time_ns, number))

    def ends(number: int, random: np.random.Generator) -> _Bytes:
        durations = random.integers(100_000, 200_000_000, records).astype(np.uint64)
        return _fixed64(_record_times(records, first_time_ns, number) + durations)

    return _Template(
        records,
        serialized,
        [
            _Patch(trace_positions, trace_ids),
            _Patch(span_positions, lambda number, _: span_ids(number)),
            _Patch(parent_positions, lambda number, _: span_ids(number)[children - 1]),
            _Patch(_TIME.positions(serialized), starts),
            _Patch(_END.positions(serialized), ends),
            _unique_text(_UNIQUE, serialized),
            _one_of_many(serialized),
        ],
    )


def _add_span(span: Span, number: int) -> None:
    span.trace_id, span.span_id = _TRACE_ID.bytes, _SPAN_ID.bytes
    if number % _SPANS_PER_TRACE:
        span.parent_span_id = _PARENT_ID.bytes
    span.name = f"GET /api/v1/resource-{number % 50}/{{id}}"
    span.kind = (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_INTERNAL)[number % 3]
    span.start_time_unix_nano, span.end_time_unix_nano = _TIME.fixed64, _END.fixed64
    span.attributes.extend(_common_attributes(number))
    if number % 20 == 0:
        span.status.code = Status.STATUS_CODE_ERROR
        span.status.message = "upstream did not answer in time"
        span.events.add(
            name="exception",
            time_unix_nano=1_700_000_000_000_000_000,
            attributes=[_attribute("exception.type", "TimeoutError"), _attribute("exception.message", "timed out")],
        )


def _logs(records: int, first_time_ns: int) -> _Template:
    request = ExportLogsServiceRequest()
    for service in range(_SERVICES):
        logs = request.resource_logs.add(resource=_resource(service)).scope_logs.add(scope=_SCOPE).log_records
        for number in range(service * records // _SERVICES, (service + 1) * records // _SERVICES):
            _add_log(logs.add(), number)
    serialized = request.SerializeToString()
    trace_positions, span_positions = _TRACE_ID.positions(serialized), _SPAN_ID.positions(serialized)

    def times(number: int, _: np.random.Generator) -> _Bytes:
        return _fixed64(_record_times(records, first_time_ns, number))

    return _Template(
        records,
        serialized,
        [
            _Patch(_TIME.positions(serialized), times),
            _Patch(_END.positions(serialized), times),
            _Patch(trace_positions, lambda _, random: _random(len(trace_positions), 16, random)),
            _Patch(span_positions, lambda _, random: _random(len(span_positions), 8, random)),
            _unique_text(_UNIQUE, serialized),
            _unique_text(_UNIQUE_BODY, serialized),
            _one_of_many(serialized),
        ],
    )


def _add_log(record: LogRecord, number: int) -> None:
    severity = (5, 9, 9, 9, 9, 13, 17, 9)[number % 8]
    record.time_unix_nano, record.observed_time_unix_nano = _TIME.fixed64, _END.fixed64
    record.severity_number = severity  # type: ignore[assignment]
    record.severity_text = {5: "DEBUG", 9: "INFO", 13: "WARN", 17: "ERROR"}[severity]
    record.body.string_value = (
        f"request {_UNIQUE_BODY.text} handled by worker {number % 16}: 200 OK, 18 rows, cache miss"
    )
    record.attributes.extend(_common_attributes(number))
    if number % 2:
        record.trace_id, record.span_id = _TRACE_ID.bytes, _SPAN_ID.bytes
