"""Small requests that fit a template and hold one moment: their frames, without an array being made.

For ten points, numpy's price is that of its calls. So what is read of such a request is one `struct`, all its times,
values and starts at once, and each of its frames is written by another. Whatever is out of the ordinary is left to
`frames`, which makes the same of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exporters.timescale.frames import EXACT, LATEST, Frames
from exporters.timescale.points import INT, NO_VALUE
from exporters.timescale.sets import HAS_START, IS_INT, Piece, Sets
from gateway.store import OID_FLOAT8, OID_INT8, POSTGRES_EPOCH_US

if TYPE_CHECKING:
    from exporters.timescale.dimensions import MetricContext
    from exporters.timescale.templates import Fit

MOST_MEMBERS = 64
"""Points of a request, at most."""

_BYTES_A_POINT = 300
"""What is remembered of a point, roughly."""

_Places = npt.NDArray[np.intp]
_Pick = Callable[[Sequence[Any]], tuple[Any, ...]]


class Moment:
    """How requests of one template are read that hold one moment.

    ``time``, ``value`` and ``start`` are the places of the numbers; ``has_start`` tells which of the points have a
    start, whose places these are.
    """

    def __init__(
        self,
        series: npt.NDArray[np.int64],
        kind: npt.NDArray[np.uint8],
        has_start: npt.NDArray[np.bool_],
        metric: npt.NDArray[np.int32],
        metrics: Sequence[MetricContext],
        time: _Places,
        value: _Places,
        start: _Places,
    ) -> None:
        self.cost = _BYTES_A_POINT * len(series)
        self._series, self._metric, self._metrics = series, metric, metrics
        self._kind, self._has_start = kind, has_start
        self.count = len(series)
        self._starts = len(start)
        self._usable = bool((kind != NO_VALUE).all())
        self._read, self._pick = _reader(kind, time, value, start)
        self._rows: list[_Row] | None = None

    def frames(self, fit: Fit, sets: Sets, earliest: int, latest: int) -> Frames | None:
        """Return the frames that a request is, every point of it; None where it is to be looked at closely.

        ``earliest`` and ``latest`` are the times that are accepted.
        """
        if not self._usable:
            return None
        numbers = self._pick(self._read(fit.payload))
        count = self.count
        unix_nano: int = numbers[0]
        if numbers[:count].count(unix_nano) != count or not earliest <= unix_nano <= latest:
            return None
        starts = numbers[2 * count :]
        if self._starts and (0 in starts or max(starts) > LATEST):
            return None
        if self._rows is None:
            self._rows = self._compose(sets)
        if not self._usable:
            return None
        rows = []
        for row in self._rows:
            if not sets.is_declared(row.piece) or (encoded := row.encode(unix_nano, numbers)) is None:
                return None
            rows.append(encoded)
        return Frames(b"".join(rows), unix_nano, count)

    def _compose(self, sets: Sets) -> list[_Row]:
        """Return the rows; it is not usable where some points are in none of them."""
        bits = (self._kind == INT).view(np.uint8) * IS_INT | self._has_start.view(np.uint8) * HAS_START
        resources = np.array([metric.resource_id for metric in self._metrics], np.int64)[self._metric]
        metrics = np.array([metric.metric_id for metric in self._metrics], np.int64)[self._metric]
        composition = sets.composition(self._series, bits, resources, metrics)
        if len(composition.alone):
            self._usable = False
            return []
        order = composition.order
        start_of = np.cumsum(self._has_start) - 1 + 2 * self.count
        rows = []
        for piece in composition.pieces:
            its = order[piece.first : piece.end]
            has_start = self._has_start[its]
            is_int = (self._kind[its] == INT).tolist()
            starts = start_of[its[has_start]].tolist()
            rows.append(_Row(piece, (self.count + its).tolist(), is_int, starts, has_start.tolist()))
        return rows


class _Row:
    """How one frame is written: where its values and starts are among the numbers of the request.

    ``is_int`` tells which of its values are integers, ``has_start`` which of its members have a start.
    """

    def __init__(
        self, piece: Piece, values: list[int], is_int: list[bool], starts: list[int], has_start: list[bool]
    ) -> None:
        self.piece = piece
        self.count = len(values)
        self._values = _picker(values)
        self._integers = _picker([place for place, its in zip(values, is_int, strict=True) if its])
        self._starts = _picker(starts)
        self._members_with_start = [member for member, its in enumerate(has_start) if its]
        # Fields: time, set_id, time_ns, start_time, start_time_ns, vals, ints, starts.
        self._begin = ">hiqiqih"
        self._vals = f"iiiiii{''.join('id' if its else 'iQ' for its in is_int)}i"
        self._pack = struct.Struct(f"{self._begin}{'iqih' if starts else 'ii'}{self._vals}i").pack
        self._pack_starts: Callable[..., bytes] | None = None
        self._array = 20 + 12 * self.count, 1, 0, OID_FLOAT8, self.count, 1
        self._items = [8] * (2 * self.count)

    def encode(self, unix_nano: int, numbers: Sequence[int]) -> bytes | None:
        """Encode the row; None where an integer is too large for a double."""
        integers = self._integers(numbers)
        if integers and (max(integers) > EXACT or min(integers) < -EXACT):
            return None
        items = self._items
        items[1::2] = self._values(numbers)
        microseconds, ns = divmod(unix_nano, 1000)
        begin = 8, 8, microseconds - POSTGRES_EPOCH_US, 8, self.piece.set_id, 2, ns
        starts = self._starts(numbers)
        if not starts:
            return self._pack(*begin, -1, -1, *self._array, *items, -1, -1)
        start = starts[0]
        if starts.count(start) == len(starts):
            start_us, start_ns = divmod(start, 1000)
            return self._pack(*begin, 8, start_us - POSTGRES_EPOCH_US, 2, start_ns, *self._array, *items, -1, -1)
        if self._pack_starts is None:
            self._pack_starts = struct.Struct(f"{self._begin}ii{self._vals}iiiiii{'iq' * self.count}").pack
        its_starts = [8, 0] * self.count
        for member, each in zip(self._members_with_start, starts, strict=True):
            its_starts[2 * member + 1] = each
        array = 20 + 12 * self.count, 1, 0, OID_INT8, self.count, 1
        return self._pack_starts(*begin, -1, -1, *self._array, *items, -1, *array, *its_starts)


def _reader(
    kind: npt.NDArray[np.uint8], time: _Places, value: _Places, start: _Places
) -> tuple[Callable[[bytes], tuple[int, ...]], _Pick]:
    """Return what reads all numbers of a request, and what puts them in order: times, values, starts.

    The value of an integer is a number with a sign, that of a double its eight bytes as a number.
    """
    places = np.concatenate((time, value, start)).tolist()
    codes = ["Q"] * len(time) + ["q" if its == INT else "Q" for its in kind.tolist()] + ["Q"] * len(start)
    order = sorted(range(len(places)), key=places.__getitem__)
    layout, at = "<", 0
    for index in order:
        layout += f"{places[index] - at}x{codes[index]}"
        at = places[index] + 8
    rank = [0] * len(order)
    for position, index in enumerate(order):
        rank[index] = position
    return struct.Struct(layout).unpack_from, _picker(rank)


def _nothing(_: Sequence[Any]) -> tuple[Any, ...]:
    return ()


def _picker(places: list[int]) -> _Pick:
    """Return what picks the items at some places of a sequence, as a tuple."""
    if not places:
        return _nothing
    if len(places) == 1:
        (place,) = places
        return lambda numbers: (numbers[place],)
    return itemgetter(*places)
