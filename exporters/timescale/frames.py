"""Frames: number points that were observed together, as one row of arrays.

Points of a request with the same time are one collection, of whatever metrics. They are cut into sets of series
(`sets`), and those of a set that is known are one row: its time, its set, its values. Points of which there is one
alone, those of sets that never came before, and those that carry more than a value and a start time are rows of their
own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from exporters.timescale.copy import NULL, int8_array
from exporters.timescale.layouts import BEGIN, EXACT_INTEGERS, ONE_START, OWN_STARTS, START, Layout, begins_of
from exporters.timescale.points import INT, NO_VALUE, NumberPoints
from exporters.timescale.sets import HAS_START, IS_INT, Composition, Piece, Sets
from gateway.base.slices import Steps
from gateway.store import FLOAT8_ITEM, OID_FLOAT8, POSTGRES_EPOCH_US, array_begin, array_items

if TYPE_CHECKING:
    from exporters.timescale.dimensions import MetricContext

EXACT = 2**53
"""Integers beyond are not all of them doubles."""

LATEST = 2**63 - 1
"""Start times beyond, in nanoseconds, have no room in an array of ``bigint``."""

_Indexes = npt.NDArray[np.int64]
_ONE = np.uint64(1)
_FEW = 4
"""Rows that are sooner written one by one than laid out."""


class Frames(NamedTuple):
    """Encoded rows of the table ``frame``, all of one moment, in nanoseconds, and how many points they hold."""

    rows: bytes
    unix_nano: int
    points: int


def frames_of(points: NumberPoints, sets: Sets) -> Steps[tuple[list[Frames], NumberPoints]]:
    """Return the frames that points make, and the points that are to be rows of their own, pausing now and then."""
    frames: list[Frames] = []
    is_row = points.kind == NO_VALUE
    is_row |= points.start > LATEST
    if points.flags is not None:
        is_row |= points.flags != 0
    bits = bits_of(points)
    resources, metrics = whose_are(points.metrics)
    for unix_nano, which in _collections(points.time, is_row):
        yield None
        whose = points.metric[which]
        composition = sets.composition(points.series[which], bits[which], resources[whose], metrics[whose])
        is_row[which[composition.alone]] = True
        known = []
        order = which[composition.order]
        for piece in composition.pieces:
            if sets.is_declared(piece):
                known.append(piece)
            else:
                is_row[order[piece.first : piece.end]] = True
        if len(known) < len(composition.pieces):
            composition = Composition.of(composition.order, known, composition.alone)
            order = which[composition.order]
        if known:
            frames.append(encode(unix_nano, points, order, composition))
    return frames, points.select(is_row) if frames else points


def _collections(times: npt.NDArray[np.uint64], is_row: npt.NDArray[np.bool_]) -> Iterator[tuple[int, _Indexes]]:
    """Yield each moment with the indexes of its points. Rows are left out, and points alone become rows."""
    which = np.flatnonzero(~is_row)
    if not len(which):
        return
    its = times[which]
    if len(which) > 1 and (its == its[0]).all():
        yield int(its[0]), which
        return
    order = np.argsort(its, kind="stable")
    which, its = which[order], its[order]
    starts = np.concatenate(([0], np.flatnonzero(its[1:] != its[:-1]) + 1))
    ends = np.append(starts[1:], len(its))
    is_row[which[starts[ends - starts == 1]]] = True
    several = ends - starts > 1
    for first, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
        yield int(its[first]), which[first:end]


def bits_of(points: NumberPoints) -> npt.NDArray[np.uint8]:
    """Return what is alike in all points of a member, for each point."""
    bits: npt.NDArray[np.uint8] = (points.kind == INT).view(np.uint8) * IS_INT
    bits |= (points.start != 0).view(np.uint8) * HAS_START
    return bits


def whose_are(metrics: Sequence[MetricContext]) -> tuple[_Indexes, _Indexes]:
    """Return the resources and metrics of metrics."""
    resources = np.array([metric.resource_id for metric in metrics], np.int64)
    return resources, np.array([metric.metric_id for metric in metrics], np.int64)


def encode(unix_nano: int, points: NumberPoints, order: _Indexes, composition: Composition) -> Frames:
    """Encode the frames of one moment, whose points in the order of a composition are those of these indexes."""
    raw, is_int, starts = points.value[order], points.kind[order] == INT, points.start[order]
    integers = raw.view(np.int64)
    values = np.where(is_int, integers, raw.view(np.float64)) if is_int.any() else raw.view(np.float64)
    beyond = is_int & ((integers > EXACT) | (integers < -EXACT))
    exact = np.where(is_int, integers, 0) if beyond.any() else None
    if len(composition.pieces) <= _FEW:
        rows = _each(unix_nano, composition.pieces, values, beyond, exact, starts)
    else:
        rows = _laid_out(unix_nano, composition, values, beyond, exact, starts)
    return Frames(rows, unix_nano, len(order))


def _laid_out(
    unix_nano: int,
    composition: Composition,
    values: npt.NDArray[np.float64],
    beyond: npt.NDArray[np.bool_],
    exact: npt.NDArray[np.int64] | None,
    starts: npt.NDArray[np.uint64],
) -> bytes:
    """Encode many rows by their layout, which is mostly as it was the time before."""
    layout = composition.layout
    begins = begins_of(composition.pieces) if layout is None else layout.begins
    latest = np.maximum.reduceat(starts, begins)
    # Of those that are given, for one less than 0 is more than any other.
    earliest = np.minimum.reduceat(starts - _ONE, begins) + _ONE
    forms = np.where(earliest == latest, np.uint8(ONE_START), np.uint8(OWN_STARTS))
    forms[latest == 0] = 0
    if exact is not None:
        forms[np.logical_or.reduceat(beyond, begins)] |= EXACT_INTEGERS
    if layout is None or not np.array_equal(layout.forms, forms):
        layout = composition.layout = Layout(composition.pieces, forms)
    return layout.filled(unix_nano, values, exact, starts, latest[forms & ONE_START != 0])


def _each(
    unix_nano: int,
    pieces: Sequence[Piece],
    values: npt.NDArray[np.float64],
    beyond: npt.NDArray[np.bool_],
    exact: npt.NDArray[np.int64] | None,
    starts: npt.NDArray[np.uint64],
) -> bytes:
    """Encode one row after the other, as is sooner done for few."""
    items = array_items(FLOAT8_ITEM, len(values))
    items["value"] = values
    content = memoryview(items.tobytes())
    microseconds, ns = divmod(unix_nano, 1000)
    time = microseconds - POSTGRES_EPOCH_US
    parts: list[bytes | memoryview] = []
    for first, end, key, _ in pieces:
        count = end - first
        its_starts = starts[first:end]
        given = its_starts[its_starts != 0]
        start = int(given[0]) if len(given) else 0
        agree = not len(given) or bool((given == start).all())
        start_fields = NULL + NULL
        if start and agree:
            start_us, start_ns = divmod(start, 1000)
            start_fields = START(8, start_us - POSTGRES_EPOCH_US, 2, start_ns)
        parts += (
            BEGIN(8, 8, time, 8, key, 2, ns),
            start_fields,
            array_begin(20 + 12 * count, 1, 0, OID_FLOAT8, count, 1),
            content[12 * first : 12 * end],
            NULL if exact is None or not beyond[first:end].any() else int8_array(exact[first:end].tolist()),
            NULL if agree else int8_array(its_starts.view(np.int64).tolist()),
        )
    return b"".join(parts)
