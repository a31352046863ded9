"""Frames: number points that were observed together, as one row of arrays.

Points of a request with the same time are one collection, of whatever metrics. They are cut into sets of series
(`sets`), and those of a set that is known are one row: its time, its set, its values. Points of which there is one
alone, those of sets that never came before, and those that carry more than a value and a start time are rows of their
own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from exporters.timescale.copy import NULL, int8_array
from exporters.timescale.points import INT, NO_VALUE, NumberPoints
from exporters.timescale.sets import HAS_START, IS_INT, Piece, Sets
from gateway.base.slices import Steps
from gateway.store import FLOAT8_ITEM, OID_FLOAT8, POSTGRES_EPOCH_US, array_begin

EXACT = 2**53
"""Integers beyond are not all of them doubles."""

LATEST = 2**63 - 1
"""Start times beyond, in nanoseconds, have no room in an array of ``bigint``."""

_Indexes = npt.NDArray[np.int64]
_BEGIN = struct.Struct(">hiqiq").pack
_TIME = struct.Struct(">iq").pack
_NS = struct.Struct(">ih").pack


class Frame(NamedTuple):
    """One row of the table ``frame``, encoded, with its time in nanoseconds and how many points it holds."""

    row: bytes
    unix_nano: int
    points: int


def frames_of(points: NumberPoints, sets: Sets) -> Steps[tuple[list[Frame], NumberPoints]]:
    """Return the frames that points make, and the points that are to be rows of their own, pausing now and then."""
    frames: list[Frame] = []
    is_row = points.kind == NO_VALUE
    is_row |= points.start > LATEST
    if points.flags is not None:
        is_row |= points.flags != 0
    bits = (points.kind == INT).view(np.uint8) * IS_INT | (points.start != 0).view(np.uint8) * HAS_START
    resources = np.array([metric.resource_id for metric in points.metrics], np.int64)
    metrics = np.array([metric.metric_id for metric in points.metrics], np.int64)
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
        if known:
            frames += _encode(unix_nano, points, order, known)
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


def _encode(unix_nano: int, points: NumberPoints, order: _Indexes, pieces: list[Piece]) -> list[Frame]:
    """Encode the frames of one moment, whose points in order are those of these indexes."""
    raw, is_int, starts = points.value[order], points.kind[order] == INT, points.start[order]
    integers = raw.view(np.int64)
    values = np.empty(len(order), FLOAT8_ITEM)
    values["length"] = 8
    values["value"] = np.where(is_int, integers, raw.view(np.float64)) if is_int.any() else raw.view(np.float64)
    beyond = is_int & ((integers > EXACT) | (integers < -EXACT))
    exact = np.where(is_int, integers, 0) if beyond.any() else None
    content = memoryview(values.tobytes())
    microseconds, ns = divmod(unix_nano, 1000)
    time = microseconds - POSTGRES_EPOCH_US
    frames = []
    for first, end, key, _ in pieces:
        count = end - first
        its_starts = starts[first:end]
        given = its_starts[its_starts != 0]
        start = int(given[0]) if len(given) else 0
        agree = not len(given) or bool((given == start).all())
        start_fields = NULL + NULL
        if start and agree:
            start_us, start_ns = divmod(start, 1000)
            start_fields = _TIME(8, start_us - POSTGRES_EPOCH_US) + _NS(2, start_ns)
        row = (
            _BEGIN(8, 8, time, 8, key),
            _NS(2, ns),
            start_fields,
            array_begin(20 + 12 * count, 1, 0, OID_FLOAT8, count, 1),
            content[12 * first : 12 * end],
            NULL if exact is None or not beyond[first:end].any() else int8_array(exact[first:end].tolist()),
            NULL if agree else int8_array(its_starts.view(np.int64).tolist()),
        )
        frames.append(Frame(b"".join(row), unix_nano, count))
    return frames
