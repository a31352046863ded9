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

from exporters.timescale.layouts import EXACT_INTEGERS, ONE_START, OWN_STARTS, Layout
from exporters.timescale.points import INT, NO_VALUE, NumberPoints
from exporters.timescale.sets import HAS_START, IS_INT, Composition, Sets
from gateway.base.slices import Steps

if TYPE_CHECKING:
    from exporters.timescale.dimensions import MetricContext

EXACT = 2**53
"""Integers beyond are not all of them doubles."""

LATEST = 2**63 - 1
"""Start times beyond, in nanoseconds, have no room in an array of ``bigint``."""

_Indexes = npt.NDArray[np.int64]
_ONE = np.uint64(1)


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
    values, integers = raw.view(np.float64), np.where(is_int, raw.view(np.int64), 0)
    if is_int.any():
        values = np.where(is_int, integers, values)
    begins = composition.begins
    latest = np.maximum.reduceat(starts, begins)
    # Of those that are given, for one less than 0 is more than any other.
    earliest = np.minimum.reduceat(starts - _ONE, begins) + _ONE
    forms = np.where(earliest == latest, np.uint8(ONE_START), np.uint8(OWN_STARTS))
    forms[latest == 0] = 0
    beyond = (integers > EXACT) | (integers < -EXACT)
    if beyond.any():
        forms[np.logical_or.reduceat(beyond, begins)] |= EXACT_INTEGERS
    layout = composition.layout
    if layout is None or not np.array_equal(layout.forms, forms):
        layout = composition.layout = Layout(composition.pieces, forms)
    rows = layout.filled(unix_nano, values, integers, starts, latest[forms & ONE_START != 0])
    return Frames(rows, unix_nano, len(order))
