"""Encode an ``ExportMetricsServiceRequest`` as rows.

Nearly every number point begins with the same bytes: its times and its value, each a tag and eight bytes of
little-endian number, because encoders write fields in the order of their numbers. What follows, its attributes, is the
same from one collection to the next. So a point costs two slices and one dictionary look-up: the tail is the key of
the series, and the heads of all points are read at once as one numpy array, which also checks every tag. A point that
does not begin like that is decoded on its own.

Cutting is safe: a protobuf message cut at a field boundary is a protobuf message, the tags checked prove the boundary,
and a tail is only remembered after it was decoded and found to hold attributes and nothing else.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2

from exporters.timescale import wire
from exporters.timescale.copy import (
    NO_SPAN_ID,
    NO_TRACE_ID,
    NULL,
    POSTGRES_EPOCH_US,
    Rows,
    float8,
    float8_array,
    id_or_null,
    int4,
    int8,
    int8_array,
    int8_or_null,
    jsonb,
    time_and_ns,
)
from exporters.timescale.dimensions import Dimensions, MetricContext, MetricKey
from exporters.timescale.rejections import COUNT_TOO_LARGE, NO_TIMESTAMP, Rejections, TimeWindow
from exporters.timescale.walk import PACE, decode_large
from gateway.base.slices import LARGE, Steps
from gateway.component import MalformedPayloadError
from gateway.otlp.bounds import BUCKET, MOST_PARTS, PART, RECORD, Budget, check_parts

_TAG_START, _TAG_TIME, _TAG_DOUBLE, _TAG_INT = 0x11, 0x19, 0x21, 0x31
_MINUTE_US = 60_000_000
_MOST_GATHERED = 20_000
"""Number points that are encoded at once, in some 10 ms."""

_PACE = 1024
"""Number points between two pauses: a series that is new takes thirty times as long as one that is known."""

_METRIC = 32
"""What a metric counts for between two pauses, in number points."""


_Pauses = Iterable[Callable[[], Any] | None]
"""`Steps` without a result, or nothing at all."""


class _Head(NamedTuple):
    """How a number point begins: which fixed fields, and in how many bytes."""

    dtype: np.dtype[Any]
    has_start: bool
    size: int
    cut: Callable[[bytes], bytes]
    tail: Callable[[bytes], bytes]


def _head(fields: Sequence[tuple[str, str]], *, has_start: bool) -> _Head:
    dtype = np.dtype(list(fields))
    # Getters that are mapped over points: no code of Python runs for each, and no slice is made.
    cut, tail = itemgetter(slice(dtype.itemsize)), itemgetter(slice(dtype.itemsize, None))
    return _Head(dtype, has_start, dtype.itemsize, cut, tail)


_TIME_AND_VALUE = [("time_tag", "u1"), ("time", "<u8"), ("value_tag", "u1"), ("value", "<u8")]
_HEADS = {
    _TAG_START: _head([("start_tag", "u1"), ("start", "<u8"), *_TIME_AND_VALUE], has_start=True),
    _TAG_TIME: _head(_TIME_AND_VALUE, has_start=False),
}


def _row_dtype(is_int: bool, has_start: bool) -> np.dtype[Any]:
    """Return the layout of a ``sample`` row in binary COPY for points of one kind; flags are always NULL."""
    fields = [("time", ">i8"), ("series_id", ">i8"), ("value", ">f8")]
    fields.append(("start_time", ">i8" if has_start else ""))
    fields.append(("int_value", ">i8" if is_int else ""))
    fields += [("flags", ""), ("time_ns", ">i2"), ("start_time_ns", ">i2" if has_start else "")]
    layout = [("fields", ">i2")]
    for name, kind in fields:
        layout.append((f"{name}_length", ">i4"))
        if kind:
            layout.append((name, kind))
    return np.dtype(layout)


def _row_template(dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return one row of which everything that never changes is filled in."""
    row = np.zeros(1, dtype)
    row["fields"] = 8
    for name in dtype.names or ():
        if name.endswith("_length"):
            column = name.removesuffix("_length")
            row[name] = dtype[column].itemsize if column in (dtype.names or ()) else -1
    return row


_ROWS = {(i, s): _row_template(_row_dtype(i, s)) for i in (False, True) for s in (False, True)}


class _Gathered:
    """Number points that begin with one head, gathered across a request."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.series: list[int] = []
        self.points: list[bytes] = []
        # Where each metric's points begin, to find the metric of a point that turns out to be different.
        self.starts: list[int] = []
        self.metrics: list[MetricContext] = []


class MetricsEncoder:
    """Encodes one request. ``rollups`` says whether the minutes touched are to be collected as well."""

    def __init__(
        self,
        dimensions: Dimensions,
        window: TimeWindow,
        rows: Rows,
        rejections: Rejections,
        budget: Budget,
        rollups: bool,
    ):
        self._dimensions = dimensions
        self._window = window
        self._rows = rows
        self._rejections = rejections
        self._rollups = rollups
        self._gathered = {tag: _Gathered() for tag in _HEADS}
        self._points: dict[str, list[bytes]] = {}
        self._budget = budget
        self._since_pause = 0
        self._intervals: dict[str, set[int]] = {}

    def encode(self, payload: bytes) -> Steps[None]:
        """Encode a request, pausing now and then. Raises `google.protobuf.message.DecodeError` when it is malformed."""
        request = wire.MetricsRequest.FromString(payload)
        self._budget.take(len(request.resource_metrics), RECORD, "resources")
        if len(payload) > LARGE:
            yield from decode_large(request.resource_metrics, self._dimensions, "scope_metrics")
        for resource_metrics in request.resource_metrics:
            self._since_pause += _METRIC
            if self._since_pause > _PACE:
                yield from self._pause()
            self._budget.take(len(resource_metrics.scope_metrics), RECORD, "scopes")
            resource = resource_metrics.resource if resource_metrics.HasField("resource") else None
            resource_id = self._dimensions.resource(resource, resource_metrics.schema_url)
            for scope_metrics in resource_metrics.scope_metrics:
                self._since_pause += _METRIC
                if self._since_pause > _PACE:
                    yield from self._pause()
                scope = scope_metrics.scope if scope_metrics.HasField("scope") else None
                scope_id = self._dimensions.scope(scope, scope_metrics.schema_url)
                self._budget.take(len(scope_metrics.metrics), RECORD, "metrics")
                for metric in scope_metrics.metrics:
                    yield from self._metric(resource_id, scope_id, metric)
                    if self._since_pause > _PACE:
                        yield from self._pause()
        for tag in _HEADS:
            yield from self._flush(tag)
            yield None
        for table, chunks in self._points.items():
            self._rows.add(table, b"".join(chunks), len(chunks), self._intervals.get(table, ()))

    def _pause(self) -> Steps[None]:
        self._since_pause = 0
        yield None
        for tag, gathered in self._gathered.items():
            if len(gathered.heads) >= _MOST_GATHERED:
                yield from self._flush(tag)

    def _metric(self, resource_id: int, scope_id: int, metric: Any) -> _Pauses:
        """Encode a metric. What is returned is to be gone through: the pauses of a large one."""
        self._since_pause += _METRIC
        kind = metric.WhichOneof("data")
        if kind is None:
            return ()
        data = getattr(metric, kind)
        self._budget.take(len(data.data_points), RECORD, "data points")
        points = list(data.data_points)
        if not points:
            return ()
        if metric.metadata:
            self._check_metadata(metric.metadata)
        key = MetricKey(
            metric.name,
            kind,
            metric.unit,
            metric.description,
            data.aggregation_temporality,
            data.is_monotonic,
            tuple(metric.metadata),
        )
        context = self._dimensions.metric(resource_id, scope_id, key)
        if kind != "gauge" and kind != "sum":
            return self._distributions(context, kind, points)
        if len(points) > _PACE:
            return self._in_slices(context, points)
        self._since_pause += len(points)
        return self._gather(context, points)

    def _in_slices(self, context: MetricContext, points: Sequence[bytes]) -> Steps[None]:
        for start in range(0, len(points), _PACE):
            yield from self._gather(context, points[start : start + _PACE])
            yield from self._pause()

    def _distributions(self, context: MetricContext, kind: str, points: Sequence[bytes]) -> Steps[None]:
        encode = _DISTRIBUTIONS[kind]
        since = 0
        for index, point in enumerate(points):
            since += len(point)
            if index % PACE == 0 or since > LARGE:
                since = 0
                yield None
            if len(point) > LARGE:
                yield functools.partial(check_parts, point, _POINTS[kind].DESCRIPTOR)
            yield from encode(self, context, point)

    def _check_metadata(self, metadata: Sequence[bytes]) -> None:
        """Weigh what a metric is described by, all of which is decoded in one go."""
        self._budget.take(len(metadata), RECORD, "metadata")
        if len(metadata) > MOST_PARTS:
            raise MalformedPayloadError(f"a metric of the request has more than {MOST_PARTS} entries of metadata")
        for raw in metadata:
            check_parts(raw, common_pb2.KeyValue.DESCRIPTOR)

    # -- number points, the quick way ----------------------------------------------------------------------------

    def _gather(self, context: MetricContext, points: Sequence[bytes]) -> _Pauses:
        """Gather points. What is returned is to be gone through: the pauses, where they are not all known."""
        tag = points[0][0] if points[0] else 0
        head = _HEADS.get(tag)
        if head is None:
            return self._numbers(context, points)
        try:
            series = list(map(context.series.__getitem__, map(head.tail, points)))
        except KeyError:
            return self._learn(context, points, tag)
        self._add_gathered(context, points, series, tag)
        return ()

    def _numbers(self, context: MetricContext, points: Sequence[bytes]) -> Steps[None]:
        for point in points:
            yield from self._number(context, point)
            yield None

    def _add_gathered(self, context: MetricContext, points: Sequence[bytes], series: list[int], tag: int) -> None:
        head, gathered = _HEADS[tag], self._gathered[tag]
        gathered.starts.append(len(gathered.heads))
        gathered.metrics.append(context)
        gathered.points += points
        gathered.heads += map(head.cut, points)
        gathered.series += series

    def _learn(self, context: MetricContext, points: Sequence[bytes], tag: int) -> Steps[None]:
        """Gather the points whose series is known, or is now; encode the others on their own."""
        size = _HEADS[tag].size
        kept: list[bytes] = []
        series: list[int] = []
        for point in points:
            key = point[size:]
            found = context.series.get(key)
            if found is None and _has_head(point, tag):
                yield None
                if len(point) > LARGE:
                    yield functools.partial(check_parts, point, metrics_pb2.NumberDataPoint.DESCRIPTOR)
                tail = wire.NumberPoint.FromString(key)
                attributes = list(tail.attributes)
                tail.ClearField("attributes")
                if tail.ByteSize() == 0:
                    found = self._dimensions.series(context, key, attributes)
            if found is None:
                yield from self._number(context, point)
            else:
                kept.append(point)
                series.append(found)
        self._add_gathered(context, kept, series, tag)

    def _flush(self, tag: int) -> Steps[None]:
        gathered, self._gathered[tag] = self._gathered[tag], _Gathered()
        if gathered.heads:
            yield from self._encode_gathered(_HEADS[tag], gathered)

    def _encode_gathered(self, head: _Head, gathered: _Gathered) -> Steps[None]:
        joined = b"".join(gathered.heads)
        count = len(gathered.heads)
        if len(joined) != count * head.size:  # a point shorter than its head
            valid = np.zeros(count, bool)
            points = np.zeros(count, head.dtype)
        else:
            points = np.frombuffer(joined, head.dtype)
            valid = points["time_tag"] == _TAG_TIME
            valid &= (points["value_tag"] == _TAG_DOUBLE) | (points["value_tag"] == _TAG_INT)
            if head.has_start:
                valid &= (points["start_tag"] == _TAG_START) & (points["start"] != 0)
        series = np.array(gathered.series, np.int64)
        if not valid.all():
            for index in np.flatnonzero(~valid).tolist():
                metric = int(np.searchsorted(gathered.starts, index, "right")) - 1
                yield from self._number(gathered.metrics[metric], gathered.points[index])
                yield None
            points, series = points[valid], series[valid]

        rows = self._rows
        rows.series = series if rows.series is None else np.concatenate((rows.series, series))
        if not len(points):
            return
        times = points["time"]
        if times.min() < self._window.earliest or times.max() > self._window.latest:
            accepted = self._accepted(times)
            points, series = points[accepted], series[accepted]
        is_int = points["value_tag"] == _TAG_INT
        if not is_int.any():
            self._encode_rows(points, series, is_int=False, has_start=head.has_start)
        elif is_int.all():
            self._encode_rows(points, series, is_int=True, has_start=head.has_start)
        else:
            self._encode_rows(points[~is_int], series[~is_int], is_int=False, has_start=head.has_start)
            self._encode_rows(points[is_int], series[is_int], is_int=True, has_start=head.has_start)

    def _accepted(self, times: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        early = times < self._window.earliest
        late = times > self._window.latest
        missing = int((times == 0).sum())
        self._rejections.add(NO_TIMESTAMP, missing)
        self._rejections.add(self._window.too_early, int(early.sum()) - missing)
        self._rejections.add(self._window.too_late, int(late.sum()))
        accepted: npt.NDArray[np.bool_] = ~(early | late)
        return accepted

    def _encode_rows(
        self, points: npt.NDArray[Any], series: npt.NDArray[np.int64], *, is_int: bool, has_start: bool
    ) -> None:
        if not len(points):
            return
        rows = np.repeat(_ROWS[is_int, has_start], len(points))
        microseconds = points["time"] // 1000
        rows["time"] = microseconds.astype(np.int64) - POSTGRES_EPOCH_US
        rows["time_ns"] = points["time"] - microseconds * 1000
        rows["series_id"] = series
        values = np.ascontiguousarray(points["value"])
        if is_int:
            rows["value"] = rows["int_value"] = values.view(np.int64)
        else:
            rows["value"] = values.view(np.float64)
        if has_start:
            start = points["start"] // 1000
            rows["start_time"] = start.astype(np.int64) - POSTGRES_EPOCH_US
            rows["start_time_ns"] = points["start"] - start * 1000
        self._rows.add("sample", rows.tobytes(), len(rows), _distinct(microseconds, self._rows.interval))
        if self._rollups:
            self._rows.minutes.update(_distinct(microseconds, _MINUTE_US))

    # -- points one by one ---------------------------------------------------------------------------------------

    def _series(self, context: MetricContext, point: Any) -> int:
        attributes = tuple(point.attributes)
        found = context.series.get(attributes)
        return self._dimensions.series(context, attributes, attributes) if found is None else found

    def _admit(self, unix_nano: int) -> bool:
        reason = NO_TIMESTAMP if not unix_nano else self._window.reason(unix_nano)
        if reason is not None:
            self._rejections.add(reason)
        return reason is None

    def _add(self, table: str, unix_nano: int, row: bytes) -> None:
        self._points.setdefault(table, []).append(row)
        self._intervals.setdefault(table, set()).add(unix_nano // 1000 // self._rows.interval)

    def _number(self, context: MetricContext, raw: bytes) -> Steps[None]:
        if len(raw) > LARGE:
            yield functools.partial(check_parts, raw, metrics_pb2.NumberDataPoint.DESCRIPTOR)
        point = wire.NumberPoint.FromString(raw)
        unix_nano = point.time_unix_nano
        if not self._admit(unix_nano):
            return
        time, time_ns = time_and_ns(unix_nano)
        start, start_ns = time_and_ns(point.start_time_unix_nano)
        series = int8(self._series(context, point))
        value, int_value = _value(point)
        row = (b"\0\x08", time, series, value, start, int_value, int8_or_null(point.flags), time_ns, start_ns)
        self._add("sample", unix_nano, b"".join(row))
        if self._rollups:
            self._rows.minutes.add(unix_nano // 1000 // _MINUTE_US)
        if point.exemplars:
            yield from self._exemplars(point, time, series, time_ns)

    def _exemplars(self, point: Any, time: bytes, series: bytes, time_ns: bytes) -> Steps[None]:
        self._budget.take(len(point.exemplars), PART, "exemplars")
        for index, raw in enumerate(wire.counted(point.exemplars, "exemplars"), 1):
            if index % PACE == 0:
                yield None
            exemplar = wire.Exemplar.FromString(raw)
            at, at_ns = time_and_ns(exemplar.time_unix_nano)
            row = (
                b"\0\x0a",
                time,
                series,
                time_ns,
                at,
                at_ns,
                *_value(exemplar),
                id_or_null(exemplar.trace_id, NO_TRACE_ID),
                id_or_null(exemplar.span_id, NO_SPAN_ID),
                jsonb(self._dimensions.fragments.object(exemplar.filtered_attributes)),
            )
            self._add("exemplar", point.time_unix_nano, b"".join(row))

    def _distribution(self, table: str, context: MetricContext, point: Any, fields: Callable[[], bytes]) -> _Pauses:
        """Encode what all distributions begin with, then ``fields``. What is returned is to be gone through."""
        if not self._admit(point.time_unix_nano):
            return ()
        try:
            own = fields()
        except struct.error:
            self._rejections.add(COUNT_TOO_LARGE)
            return ()
        time, time_ns = time_and_ns(point.time_unix_nano)
        start, start_ns = time_and_ns(point.start_time_unix_nano)
        series = int8(self._series(context, point))
        flags = int8_or_null(point.flags)
        row = (_FIELD_COUNTS[table], time, series, time_ns, start, start_ns, flags, own)
        self._add(table, point.time_unix_nano, b"".join(row))
        if table == "summary_sample" or not point.exemplars:
            return ()
        return self._exemplars(point, time, series, time_ns)

    def _histogram(self, context: MetricContext, raw: bytes) -> _Pauses:
        point = wire.HistogramPoint.FromString(raw)
        self._budget.take(len(point.bucket_counts) + len(point.explicit_bounds), BUCKET, "buckets")

        def fields() -> bytes:
            return b"".join(
                (
                    int8(point.count),
                    *(_optional_float8(point, name) for name in ("sum", "min", "max")),
                    float8_array(wire.counted(point.explicit_bounds, "bounds")),
                    int8_array(wire.counted(point.bucket_counts, "buckets")),
                )
            )

        return self._distribution("histogram_sample", context, point, fields)

    def _exponential_histogram(self, context: MetricContext, raw: bytes) -> _Pauses:
        point = wire.ExponentialHistogramPoint.FromString(raw)
        count = len(point.positive.bucket_counts) + len(point.negative.bucket_counts)
        self._budget.take(count, BUCKET, "buckets")

        def buckets(name: str) -> bytes:
            if not point.HasField(name):
                return NULL + NULL
            its = getattr(point, name)
            return int4(its.offset) + int8_array(wire.counted(its.bucket_counts, "buckets"))

        def fields() -> bytes:
            return b"".join(
                (
                    int8(point.count),
                    *(_optional_float8(point, name) for name in ("sum", "min", "max")),
                    int4(point.scale),
                    int8(point.zero_count),
                    float8(point.zero_threshold),
                    buckets("positive"),
                    buckets("negative"),
                )
            )

        return self._distribution("exp_histogram_sample", context, point, fields)

    def _summary(self, context: MetricContext, raw: bytes) -> _Pauses:
        point = wire.SummaryPoint.FromString(raw)
        self._budget.take(len(point.quantile_values), PART, "quantiles")
        quantiles = [
            wire.ValueAtQuantile.FromString(value) for value in wire.counted(point.quantile_values, "quantiles")
        ]

        def fields() -> bytes:
            return b"".join(
                (
                    int8(point.count),
                    float8(point.sum),
                    float8_array([value.quantile for value in quantiles]),
                    float8_array([value.value for value in quantiles]),
                )
            )

        return self._distribution("summary_sample", context, point, fields)


_DISTRIBUTIONS: dict[str, Callable[[MetricsEncoder, MetricContext, bytes], _Pauses]] = {
    "histogram": MetricsEncoder._histogram,
    "exponential_histogram": MetricsEncoder._exponential_histogram,
    "summary": MetricsEncoder._summary,
}
_POINTS: dict[str, Any] = {
    "histogram": metrics_pb2.HistogramDataPoint,
    "exponential_histogram": metrics_pb2.ExponentialHistogramDataPoint,
    "summary": metrics_pb2.SummaryDataPoint,
}
_FIELD_COUNTS = {"histogram_sample": b"\0\x0c", "exp_histogram_sample": b"\0\x11", "summary_sample": b"\0\x0a"}


def _distinct(microseconds: npt.NDArray[np.uint64], unit: int) -> Iterable[int]:
    """Return the intervals of a length, numbered since the Unix epoch, in which the times lie."""
    first, last = int(microseconds.min()) // unit, int(microseconds.max()) // unit
    # Mostly all points are of one moment, and np.unique costs more than all the rest for a small request.
    return (first,) if first == last else np.unique(microseconds // unit).tolist()


def _has_head(point: bytes, tag: int) -> bool:
    """Return whether a point begins with the fields that the head of this tag has."""
    size = _HEADS[tag].size
    return (
        len(point) >= size
        and point[0] == tag
        and point[size - 18] == _TAG_TIME
        and point[size - 9] in (_TAG_DOUBLE, _TAG_INT)
    )


def _value(point: Any) -> tuple[bytes, bytes]:
    """Return the ``value`` and ``int_value`` fields of a number point or an exemplar."""
    kind = point.WhichOneof("value")
    if kind == "as_double":
        return float8(point.as_double), NULL
    if kind == "as_int":
        return float8(point.as_int), int8(point.as_int)
    return NULL, NULL


def _optional_float8(point: Any, name: str) -> bytes:
    return float8(getattr(point, name)) if point.HasField(name) else NULL
