"""Number points of a request, from their bytes to `NumberPoints`.

A point costs two slices and a hash: what is around the key of its series is cut off (see `heads`), and what was cut off
all points is read at once, as the series of all keys are looked up at once. A point that is not laid out like that is
decoded on its own, and one whose series is not known to the end of its key.
"""

from __future__ import annotations

import bisect
import functools
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from opentelemetry.proto.metrics.v1 import metrics_pb2

from exporters.timescale import wire
from exporters.timescale.dimensions import Dimensions, MetricContext
from exporters.timescale.heads import Layout
from exporters.timescale.points import DOUBLE, INT, NO_VALUE, NumberPoints
from gateway.base.slices import LARGE, Steps
from gateway.otlp.bounds import check_parts

Pauses = Iterable[Callable[[], Any] | None]
"""`Steps` without a result, or nothing at all."""


class _Gathered:
    """Points of one layout: what was cut off each, a hash of its key, and where in the request those of a metric are.

    Lists of numbers and bytes alone, as all that grows with a request: Python's garbage collection need not look at it.
    """

    def __init__(self) -> None:
        self.cut: list[bytes] = []
        self._keys: list[int] = []
        self._firsts: list[int] = []
        self._counts: list[int] = []
        self._salts: list[int] = []

    def add(self, layout: Layout, first: int, salt: int, points: Sequence[bytes]) -> None:
        """Add points of a metric, the first of which has this place in the request."""
        self._firsts.append(first)
        self._counts.append(len(points))
        self._salts.append(salt)
        self.cut += layout.cut(points)
        self._keys += map(hash, map(layout.key, points))

    def hashes(self) -> npt.NDArray[np.int64]:
        """Return of each point a hash of its key and its metric."""
        return np.array(self._keys, np.int64) ^ np.repeat(np.array(self._salts, np.int64), self._counts)

    def empty(self) -> list[int]:
        """Return which points may have an empty key."""
        return (
            np.flatnonzero(np.array(self._keys) == _HASH_OF_NOTHING).tolist() if _HASH_OF_NOTHING in self._keys else []
        )

    def places(self) -> npt.NDArray[np.intp]:
        """Return the place of each point in the request."""
        counts = np.array(self._counts)
        return np.repeat(np.array(self._firsts) - np.cumsum(counts) + counts, counts) + np.arange(len(self._keys))


_HASH_OF_NOTHING = hash(b"")


class _Apart(NamedTuple):
    """A point that was decoded on its own."""

    series: int
    time: int
    start: int
    value: int
    kind: int
    flags: int


class Taken(NamedTuple):
    """Points, the places of those that were decoded on their own, and of those among them that are not accepted."""

    points: NumberPoints
    apart: list[int]
    left_out: list[int]


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
        self._points: list[bytes] = []
        # Of each metric its first place, and itself.
        self._firsts: list[int] = []
        self._contexts: list[MetricContext] = []
        self._gathered: dict[Layout, _Gathered] = {}
        # By place; None for those that are left out.
        self._apart: dict[int, _Apart | None] = {}

    @property
    def count(self) -> int:
        """How many points are gathered."""
        return len(self._points)

    def gather(self, context: MetricContext, points: Sequence[bytes], layout: Layout | None) -> Pauses:
        """Gather points of a metric, which seem to be laid out like that.

        What is returned is to be gone through: the pauses, where not all are known. Raises
        `google.protobuf.message.DecodeError`, now, then or in `take`, when one is malformed.
        """
        first = len(self._points)
        if not self._contexts or self._contexts[-1] is not context:
            self._firsts.append(first)
            self._contexts.append(context)
        self._points += points
        if layout is None:
            return self._each(context, first, points)
        gathered = self._gathered.get(layout)
        if gathered is None:
            gathered = self._gathered[layout] = _Gathered()
        gathered.add(layout, first, context.salt, points)
        return ()

    def _each(self, context: MetricContext, first: int, points: Sequence[bytes]) -> Steps[None]:
        for place, point in enumerate(points, first):
            yield from self.decode(context, place, point)
            yield None

    def decode(self, context: MetricContext, place: int, raw: bytes) -> Steps[None]:
        """Decode a point on its own."""
        if len(raw) > LARGE:
            yield functools.partial(check_parts, raw, metrics_pb2.NumberDataPoint.DESCRIPTOR)
        point = wire.NumberPoint.FromString(raw)
        self._apart[place] = None
        if not self._admit(point.time_unix_nano):
            return
        attributes = tuple(point.attributes)
        series = self._dimensions.series(context, hash(attributes), attributes)
        times = point.time_unix_nano, point.start_time_unix_nano
        self._apart[place] = _Apart(series, *times, *_value(point), point.flags)
        if point.exemplars:
            yield from self._exemplars(point, series)

    def take(self, points: NumberPoints | None = None) -> Steps[Taken | None]:
        """Return the points that were gathered, and begin anew; None for none.

        ``points`` are those that were read otherwise, among which those that were decoded on their own are to be put.
        """
        if points is None:
            if not self.count:
                return None
            points = yield from self._read()
        apart = self._apart
        if apart:
            points = _put(apart, points)
        self._begin()
        return Taken(points, list(apart), [place for place, point in apart.items() if point is None])

    def _read(self) -> Steps[NumberPoints]:
        count = self.count
        series, time = np.zeros(count, np.int64), np.zeros(count, np.uint64)
        start, value = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
        kind = np.zeros(count, np.uint8)
        for layout, gathered in self._gathered.items():
            places = np.arange(count) if len(gathered.cut) == count else gathered.places()
            its_series, known = self._dimensions.series_known.find(gathered.hashes())
            for index in gathered.empty():
                if len(self._points[places[index]]) < layout.size:
                    # It is shorter than what was to be cut off, so that its key only seems to be empty.
                    gathered.cut[index], known[index] = bytes(layout.size), False
            read = layout.read(gathered.cut)
            known &= read.valid
            for index in np.flatnonzero(~known).tolist():
                found = yield from self._learn(layout, int(places[index]))
                if found is not None:
                    its_series[index] = found
            series[places], time[places] = its_series, read.time
            value[places], kind[places] = read.value, read.kind
            if read.start is not None:
                start[places] = read.start
        metric = np.repeat(np.arange(len(self._firsts), dtype=np.int32), np.diff([*self._firsts, count]))
        return NumberPoints(series, time, start, value, kind, None, metric, self._contexts)

    def _learn(self, layout: Layout, place: int) -> Steps[int | None]:
        """Return the series of a point, which is known from now on; decode the point on its own when it has another
        layout, or more than attributes."""
        point = self._points[place]
        context = self._contexts[bisect.bisect_right(self._firsts, place) - 1]
        yield None
        if layout.fits(point):
            if len(point) > LARGE:
                yield functools.partial(check_parts, point, metrics_pb2.NumberDataPoint.DESCRIPTOR)
            key = layout.key(point)
            attributes = _attributes_alone(key)
            if attributes is not None:
                return self._dimensions.series(context, hash(key), attributes)
        yield from self.decode(context, place, point)
        return None


def _put(apart: Mapping[int, _Apart | None], points: NumberPoints) -> NumberPoints:
    """Return points among which those that were decoded on their own are put."""
    series, kind = points.series.copy(), points.kind.copy()
    flags = np.zeros(len(points), np.uint32)
    for place, point in apart.items():
        if point is not None:
            series[place], points.time[place], points.start[place], points.value[place], kind[place] = point[:5]
            flags[place] = point.flags
    its_flags = flags if flags.any() else None
    return NumberPoints(series, points.time, points.start, points.value, kind, its_flags, points.metric, points.metrics)


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
