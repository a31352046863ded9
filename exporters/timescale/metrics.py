"""Encode an ``ExportMetricsServiceRequest``: number points as arrays (see `numbers`), all else as rows."""

from __future__ import annotations

import functools
import itertools
import operator
import struct
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2

from exporters.timescale import wire
from exporters.timescale.copy import (
    COLUMNS,
    NO_SPAN_ID,
    NO_TRACE_ID,
    NULL,
    Rows,
    counts,
    float8,
    float8_array,
    id_or_null,
    int4,
    int8,
    int8_or_null,
    jsonb,
    time_and_ns,
)
from exporters.timescale.dimensions import Dimensions, MetricContext, MetricKey
from exporters.timescale.frames import frames_of
from exporters.timescale.heads import Layout, layout_of
from exporters.timescale.numbers import Numbers, Pauses, Taken
from exporters.timescale.points import NumberPoints, concatenate, distinct
from exporters.timescale.rejections import COUNT_TOO_LARGE, NO_TIMESTAMP, Rejections, TimeWindow
from exporters.timescale.sets import Sets
from exporters.timescale.templates import Fit, Metric, Template, learn
from exporters.timescale.walk import PACE, decode_large
from gateway.base.slices import LARGE, Steps
from gateway.component import MalformedPayloadError, Soundness
from gateway.otlp.bounds import BUCKET, MOST_PARTS, PART, RECORD, Budget, check_parts

_MINUTE_US = 60_000_000
_NEVER = np.uint64(2**64 - 1)
_MOST_GATHERED = 20_000
"""Number points that are encoded at once, in some 10 ms."""

_PACE = 1024
"""Number points between two pauses: a series that is new takes thirty times as long as one that is known."""

_METRIC = 32
"""What a metric counts for between two pauses, in number points."""


def add_moment(fit: Fit, sets: Sets, window: TimeWindow, rows: Rows) -> bool:
    """Encode the number points of a request, where they are of one moment. Returns whether they are; nothing was done
    if not."""
    template = fit.template
    if template.moment is None:
        return False
    frames = template.moment.frames(fit, sets, window.earliest, window.latest)
    if frames is None:
        return False
    microseconds = frames.unix_nano // 1000
    minute = microseconds // _MINUTE_US
    rows.minutes.add(minute)
    if template.noted != (minute,):
        template.noted = (minute,)
        for metric_id in template.metric_ids:
            sets.dimensions.seen(metric_id, frames.unix_nano, frames.unix_nano)
    rows.add("frame", frames.rows, frames.points, (microseconds // rows.interval,))
    return True


class MetricsEncoder:
    """Encodes one request. ``sets`` says which points are stored as frames."""

    def __init__(
        self,
        dimensions: Dimensions,
        sets: Sets,
        window: TimeWindow,
        rows: Rows,
        rejections: Rejections,
        budget: Budget,
    ):
        self._dimensions = dimensions
        self._window = window
        self._rows = rows
        self._rejections = rejections
        self._sets = sets
        self._numbers = Numbers(dimensions, self._admit, self._exemplars_of)
        self._taken: list[Taken] = []
        self._metrics: list[Metric] = []
        self._weight = 0
        self._points: dict[str, list[bytes]] = {}
        self._budget = budget
        self._since_pause = 0
        self._intervals: dict[str, set[int]] = {}

    def encode(self, payload: bytes, soundness: Soundness | None = None) -> Steps[None]:
        """Encode a request, pausing now and then. Raises `google.protobuf.message.DecodeError` when it is malformed."""
        fit = self._dimensions.templates.find(payload)
        if fit is None:
            yield from self._decode(payload)
        else:
            yield from self._fill(fit)
            if soundness is not None:
                fit.template.share(soundness)
        yield None
        for table, chunks in self._points.items():
            self._rows.add(table, b"".join(chunks), len(chunks), self._intervals.get(table, ()))

    # -- requests that were seen before ----------------------------------------------------------------------------

    def _fill(self, fit: Fit) -> Steps[None]:
        """Encode a request that fits a template."""
        template, payload = fit.template, fit.payload
        self._budget.take(template.weight, RECORD, "records")
        for number, points in itertools.groupby(template.opaque, operator.attrgetter("metric")):
            metric = template.metrics[number]
            context = self._dimensions.metric(metric.resource_id, metric.scope_id, metric.key)
            if metric.is_number:
                for each in points:
                    yield from self._numbers.decode(context, each.place, payload[each.begin : each.end])
                    yield None
            else:
                raw = [payload[each.begin : each.end] for each in points]
                yield from self._distributions(context, metric.key.type, raw)
        if not add_moment(fit, self._sets, self._window, self._rows):
            yield from self._add_numbers(fit.points(), template)

    def _remember(self, payload: bytes) -> Steps[None]:
        """Make a template of a request that came like this before."""
        if not self._taken:
            return
        points, apart, first = concatenate([taken.points for taken in self._taken]), list[int](), 0
        for taken in self._taken:
            apart += [first + place for place in taken.apart]
            first += len(taken.points)
        templates = self._dimensions.templates
        shape = hash((len(payload), points.series.tobytes(), *apart))
        gap = templates.due(shape, int(points.series[0]), 2 * len(payload))
        if gap is not None:
            template = yield from learn(payload, self._metrics, points, apart, self._weight)
            if template is not None:
                templates.add(template, len(payload), gap)

    # -- others ----------------------------------------------------------------------------------------------------

    def _decode(self, payload: bytes) -> Steps[None]:
        request = wire.MetricsRequest.FromString(payload)
        self._weigh(len(request.resource_metrics), "resources")
        if len(payload) > LARGE:
            yield from decode_large(request.resource_metrics, self._dimensions, "scope_metrics")
        for resource_metrics in request.resource_metrics:
            self._since_pause += _METRIC
            if self._since_pause > _PACE:
                yield from self._pause()
            self._weigh(len(resource_metrics.scope_metrics), "scopes")
            resource = resource_metrics.resource if resource_metrics.HasField("resource") else None
            resource_id = self._dimensions.resource(resource, resource_metrics.schema_url)
            for scope_metrics in resource_metrics.scope_metrics:
                self._since_pause += _METRIC
                if self._since_pause > _PACE:
                    yield from self._pause()
                scope = scope_metrics.scope if scope_metrics.HasField("scope") else None
                scope_id = self._dimensions.scope(scope, scope_metrics.schema_url)
                self._weigh(len(scope_metrics.metrics), "metrics")
                for metric in scope_metrics.metrics:
                    yield from self._metric(resource_id, scope_id, metric)
                    if self._since_pause > _PACE:
                        yield from self._pause()
        yield from self._add_numbers()
        yield from self._remember(payload)

    def _weigh(self, count: int, what: str) -> None:
        self._weight += count
        self._budget.take(count, RECORD, what)

    def _pause(self) -> Steps[None]:
        self._since_pause = 0
        yield None
        if self._numbers.count >= _MOST_GATHERED:
            yield from self._add_numbers()

    def _metric(self, resource_id: int, scope_id: int, metric: Any) -> Pauses:
        """Encode a metric. What is returned is to be gone through: the pauses of a large one."""
        self._since_pause += _METRIC
        kind = metric.WhichOneof("data")
        if kind is None:
            return ()
        data = getattr(metric, kind)
        self._weigh(len(data.data_points), "data points")
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
        self._metrics.append(Metric(resource_id, scope_id, key, len(points)))
        if kind != "gauge" and kind != "sum":
            return self._distributions(context, kind, points)
        layout = layout_of(points[0])
        if len(points) > _PACE:
            return self._in_slices(context, points, layout)
        self._since_pause += len(points)
        return self._numbers.gather(context, points, layout)

    def _in_slices(self, context: MetricContext, points: Sequence[bytes], layout: Layout | None) -> Steps[None]:
        for start in range(0, len(points), _PACE):
            yield from self._numbers.gather(context, points[start : start + _PACE], layout)
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
        self._weigh(len(metadata), "metadata")
        if len(metadata) > MOST_PARTS:
            raise MalformedPayloadError(f"a metric of the request has more than {MOST_PARTS} entries of metadata")
        for raw in metadata:
            check_parts(raw, common_pb2.KeyValue.DESCRIPTOR)

    # -- number points -------------------------------------------------------------------------------------------

    def _add_numbers(self, read: NumberPoints | None = None, template: Template | None = None) -> Steps[None]:
        taken = yield from self._numbers.take(read)
        if taken is None:
            return
        if read is None:
            self._taken.append(taken)
        points = taken.points
        if taken.left_out:
            kept = np.ones(len(points), bool)
            kept[taken.left_out] = False
            points = points.select(kept)
        if not len(points):
            return
        if points.time.min() < self._window.earliest or points.time.max() > self._window.latest:
            points = points.select(self._accepted(points.time))
            if not len(points):
                return
        minutes = distinct(points.time // 1000, _MINUTE_US)
        self._rows.minutes.update(minutes)
        self._note_seen(points, minutes, template)
        yield None
        frames, alone = yield from frames_of(points, self._sets)
        if frames:
            intervals = {each.unix_nano // 1000 // self._rows.interval for each in frames}
            count = sum(each.points for each in frames)
            self._rows.add("frame", b"".join([each.rows for each in frames]), count, intervals)
        if len(alone):
            self._rows.add_points(alone, distinct(alone.time // 1000, self._rows.interval))

    def _note_seen(self, points: NumberPoints, minutes: Collection[int], template: Template | None) -> None:
        """Note when the metrics of points were observed, once a minute for those that a template has."""
        if template is not None:
            if template.noted == tuple(minutes):
                return
            template.noted = tuple(minutes)
        first = np.full(len(points.metrics), _NEVER)
        last = np.zeros(len(points.metrics), np.uint64)
        np.minimum.at(first, points.metric, points.time)
        np.maximum.at(last, points.metric, points.time)
        for context, earliest, latest in zip(points.metrics, first.tolist(), last.tolist(), strict=True):
            if latest:  # some of its points are accepted
                self._dimensions.seen(context.metric_id, earliest, latest)

    def _accepted(self, times: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        early = times < self._window.earliest
        late = times > self._window.latest
        missing = int((times == 0).sum())
        self._rejections.add(NO_TIMESTAMP, missing)
        self._rejections.add(self._window.too_early, int(early.sum()) - missing)
        self._rejections.add(self._window.too_late, int(late.sum()))
        accepted: npt.NDArray[np.bool_] = ~(early | late)
        return accepted

    def _exemplars_of(self, point: Any, series: int) -> Steps[None]:
        """Encode the exemplars of a number point."""
        time, time_ns = time_and_ns(point.time_unix_nano)
        return self._exemplars(point, time, int8(series), time_ns)

    # -- points one by one ---------------------------------------------------------------------------------------

    def _series(self, context: MetricContext, point: Any) -> int:
        attributes = tuple(point.attributes)
        return self._dimensions.series(context, hash(attributes), attributes)

    def _admit(self, unix_nano: int) -> bool:
        reason = NO_TIMESTAMP if not unix_nano else self._window.reason(unix_nano)
        if reason is not None:
            self._rejections.add(reason)
        return reason is None

    def _add(self, table: str, unix_nano: int, row: bytes) -> None:
        self._points.setdefault(table, []).append(row)
        self._intervals.setdefault(table, set()).add(unix_nano // 1000 // self._rows.interval)

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

    def _distribution(self, table: str, context: MetricContext, point: Any, fields: Callable[[], bytes]) -> Pauses:
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
        self._dimensions.seen(context.metric_id, point.time_unix_nano, point.time_unix_nano)
        if table == "summary_sample" or not point.exemplars:
            return ()
        return self._exemplars(point, time, series, time_ns)

    def _bounds(self, values: Sequence[float]) -> bytes:
        """Encode bounds or quantiles as two fields: the list itself, or the key of one that came before."""
        key = self._dimensions.bounds(values)
        return float8_array(values) + NULL if key is None else NULL + int8(key)

    def _histogram(self, context: MetricContext, raw: bytes) -> Pauses:
        point = wire.HistogramPoint.FromString(raw)
        self._budget.take(len(point.bucket_counts) + len(point.explicit_bounds), BUCKET, "buckets")

        def fields() -> bytes:
            return b"".join(
                (
                    int8(point.count),
                    *(_optional_float8(point, name) for name in ("sum", "min", "max")),
                    self._bounds(wire.counted(point.explicit_bounds, "bounds")),
                    counts(wire.counted(point.bucket_counts, "buckets")),
                )
            )

        return self._distribution("histogram_sample", context, point, fields)

    def _exponential_histogram(self, context: MetricContext, raw: bytes) -> Pauses:
        point = wire.ExponentialHistogramPoint.FromString(raw)
        count = len(point.positive.bucket_counts) + len(point.negative.bucket_counts)
        self._budget.take(count, BUCKET, "buckets")

        def buckets(name: str) -> bytes:
            if not point.HasField(name):
                return NULL + NULL + NULL
            its = getattr(point, name)
            return int4(its.offset) + counts(wire.counted(its.bucket_counts, "buckets"))

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

    def _summary(self, context: MetricContext, raw: bytes) -> Pauses:
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
                    self._bounds([value.quantile for value in quantiles]),
                    float8_array([value.value for value in quantiles]),
                )
            )

        return self._distribution("summary_sample", context, point, fields)


_DISTRIBUTIONS: dict[str, Callable[[MetricsEncoder, MetricContext, bytes], Pauses]] = {
    "histogram": MetricsEncoder._histogram,
    "exponential_histogram": MetricsEncoder._exponential_histogram,
    "summary": MetricsEncoder._summary,
}
_POINTS: dict[str, Any] = {
    "histogram": metrics_pb2.HistogramDataPoint,
    "exponential_histogram": metrics_pb2.ExponentialHistogramDataPoint,
    "summary": metrics_pb2.SummaryDataPoint,
}
_FIELD_COUNTS = {table: struct.pack(">h", len(columns)) for table, columns in COLUMNS.items()}


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
