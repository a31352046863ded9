"""Number points of a request, from their bytes to `NumberPoints`.

A point costs two slices and one dictionary look-up: what is around the key of its series is cut off (see `heads`), and
what was cut off all points is read at once. A point that is not laid out like that is decoded on its own.
"""

from __future__ import annotations

import bisect
import functools
import operator
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from opentelemetry.proto.metrics.v1 import metrics_pb2

from exporters.timescale import wire
from exporters.timescale.dimensions import Dimensions, MetricContext
from exporters.timescale.heads import Layout, layout_of
from exporters.timescale.points import DOUBLE, INT, NO_VALUE, NumberPoints
from gateway.base.slices import LARGE, Steps
from gateway.otlp.bounds import check_parts

Pauses = Iterable[Callable[[], Any] | None]
"""`Steps` without a result, or nothing at all."""


class _Run(NamedTuple):
    """Points of one metric that follow each other: the place of the first in the request, and their bytes."""

    first: int
    context: MetricContext
    points: Sequence[bytes]


class _Gathered:
    """Points of one layout: what was cut off each, and its series."""

    def __init__(self) -> None:
        self.runs: list[_Run] = []
        self.cut: list[bytes] = []
        self.series: list[int] = []

    def add(self, run: _Run, cut: Iterable[bytes], series: Iterable[int]) -> None:
        """Add the points of a metric."""
        self.runs.append(run)
        self.cut += cut
        self.series += series

    def places(self) -> npt.NDArray[np.intp]:
        """Return the place of each point in the request."""
        counts = [len(run.points) for run in self.runs]
        shifts = np.array([run.first for run in self.runs]) - np.cumsum([0, *counts[:-1]])
        return np.repeat(shifts, counts) + np.arange(len(self.series))


class _Apart(NamedTuple):
    """A point that was decoded on its own."""

    series: int
    time: int
    start: int
    value: int
    kind: int
    flags: int


class Numbers:
    """Gathers the number points of a request.

    ``admit`` tells whether a point of a time is accepted, and counts it where it is not; ``exemplars`` encodes those of
    a decoded point, whose series it is given.
    """

    def __init__(
        self, dimensions: Dimensions, admit: Callable[[int], bool], exemplars: Callable[[Any, int], Pauses]
    ) -> None:
        self._dimensions = dimensions
        self._admit = admit
        self._exemplars = exemplars
        self._begin()

    def _begin(self) -> None:
        self.count = 0
        self._runs: list[_Run] = []
        self._gathered: dict[Layout, _Gathered] = {}
        # By place; None for those that are left out.
        self._apart: dict[int, _Apart | None] = {}

    def gather(self, context: MetricContext, points: Sequence[bytes]) -> Pauses:
        """Gather points, of which there are some. What is returned is to be gone through: the pauses, where not all are
        known. Raises `google.protobuf.message.DecodeError`, then or now, when one is malformed."""
        run = _Run(self.count, context, points)
        self.count += len(points)
        self._runs.append(run)
        layout = layout_of(points[0])
        if layout is None:
            return self._each(run)
        gathered = self._gathered.get(layout)
        if gathered is None:
            gathered = self._gathered[layout] = _Gathered()
        known = context.series
        if b"" in known and min(map(len, points)) < layout.size:
            return self._learn(run, layout, gathered)  # of one that is too short the key would be empty, too
        try:
            series = list(map(known.__getitem__, map(layout.key, points)))
        except KeyError:
            return self._learn(run, layout, gathered)
        gathered.add(run, layout.cut(points), series)
        return ()

    def _each(self, run: _Run) -> Steps[None]:
        for place, point in enumerate(run.points, run.first):
            yield from self._decode(run.context, place, point)
            yield None

    def _learn(self, run: _Run, layout: Layout, gathered: _Gathered) -> Steps[None]:
        """Gather the points whose series is known, or is now; decode the others on their own."""
        cut: list[bytes] = []
        series: list[int] = []
        known = run.context.series
        for place, point in enumerate(run.points, run.first):
            key = layout.key(point)
            found = known.get(key) if len(point) >= layout.size else None
            if found is None and layout.fits(point):
                yield None
                if len(point) > LARGE:
                    yield functools.partial(check_parts, point, metrics_pb2.NumberDataPoint.DESCRIPTOR)
                attributes = _attributes_alone(key)
                if attributes is not None:
                    found = self._dimensions.series(run.context, key, attributes)
            if found is None:
                yield from self._decode(run.context, place, point)
                cut.append(bytes(layout.size))
                series.append(0)
            else:
                cut += layout.cut((point,))
                series.append(found)
        gathered.add(run, cut, series)

    def _decode(self, context: MetricContext, place: int, raw: bytes) -> Steps[None]:
        if len(raw) > LARGE:
            yield functools.partial(check_parts, raw, metrics_pb2.NumberDataPoint.DESCRIPTOR)
        point = wire.NumberPoint.FromString(raw)
        self._apart[place] = None
        if not self._admit(point.time_unix_nano):
            return
        attributes = tuple(point.attributes)
        series = context.series.get(attributes)
        if series is None:
            series = self._dimensions.series(context, attributes, attributes)
        times = point.time_unix_nano, point.start_time_unix_nano
        self._apart[place] = _Apart(series, *times, *_value(point), point.flags)
        if point.exemplars:
            yield from self._exemplars(point, series)

    def take(self) -> Steps[NumberPoints | None]:
        """Return the points that were gathered, without those that are left out, and begin anew; None for none."""
        if not self.count:
            return None
        count = self.count
        series, time = np.zeros(count, np.int64), np.zeros(count, np.uint64)
        start, value = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
        kind = np.zeros(count, np.uint8)
        for layout, gathered in self._gathered.items():
            read = layout.read(gathered.cut)
            places: Any = slice(count) if len(gathered.cut) == count else gathered.places()
            series[places], time[places] = gathered.series, read.time
            value[places], kind[places] = read.value, read.kind
            if read.start is not None:
                start[places] = read.start
            if not read.valid.all():
                for place in np.arange(count)[places][~read.valid].tolist():
                    if place not in self._apart:
                        run = self._run_of(place)
                        yield from self._decode(run.context, place, run.points[place - run.first])
                        yield None
        flags = None
        left_out = []
        for place, apart in self._apart.items():
            if apart is None:
                left_out.append(place)
                continue
            series[place], time[place], start[place], value[place], kind[place], its_flags = apart
            if its_flags:
                flags = np.zeros(count, np.uint32) if flags is None else flags
                flags[place] = its_flags
        counts = [len(run.points) for run in self._runs]
        metric = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        metrics = [run.context for run in self._runs]
        points = NumberPoints(series, time, start, value, kind, flags, metric, metrics)
        self._begin()
        if left_out:
            kept = np.ones(count, bool)
            kept[left_out] = False
            points = points.select(kept)
        return points

    def _run_of(self, place: int) -> _Run:
        return self._runs[bisect.bisect_right(self._runs, place, key=_first) - 1]


_first = operator.attrgetter("first")


def _attributes_alone(key: bytes) -> Sequence[bytes] | None:
    """Return the attributes that a key is made of; None when it is something else, too, or no whole fields."""
    try:
        rest = wire.NumberPoint.FromString(key)
    except DecodeError:
        return None  # the point may be sound: what seemed to end it ended an exemplar, say
    attributes = list(rest.attributes)
    rest.ClearField("attributes")
    return None if rest.ByteSize() else attributes


def _value(point: Any) -> tuple[int, int]:
    """Return the eight bytes of a decoded point's value, as a number, and its kind."""
    which = point.WhichOneof("value")
    if which == "as_double":
        return int.from_bytes(struct.pack("<d", point.as_double), "little"), DOUBLE
    if which == "as_int":
        return point.as_int & (2**64 - 1), INT
    return 0, NO_VALUE
