"""Frames: number points that were observed together, as one row of arrays.

Points of a request with the same time are one collection, of whatever metrics. They are cut into sets of series
(`sets`), and those of a set that is known are one row: its time, its set, its values. Points of which there is one
alone, those of sets that never came before, and those that carry more than a value and a start time are rows of their
own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from exporters.timescale.copy import NULL, int8_array
from exporters.timescale.sets import HAS_START, IS_INT, Composition, Piece, Sets
from gateway.store import POSTGRES_EPOCH_US

_EXACT = 2**53
"""Integers beyond are not all of them doubles."""

_ITEM = np.dtype([("length", ">i4"), ("value", ">f8")])
_BEGIN = struct.Struct(">hiqiq").pack
_TIME = struct.Struct(">iq").pack
_NS = struct.Struct(">ih").pack
_ARRAY = struct.Struct(">iiiiii").pack
_OID_FLOAT8 = 701


class NumberPoints(NamedTuple):
    """Number points with nothing but a value, as arrays of one length.

    ``times`` and ``starts`` are nanoseconds since the Unix epoch, a start of 0 being none; ``raw`` are the 8 bytes of
    each value, which is an integer where ``is_int``. ``resources`` and ``metrics`` say whose each point is.
    """

    series: npt.NDArray[np.int64]
    times: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.uint64]
    raw: npt.NDArray[np.uint64]
    is_int: npt.NDArray[np.bool_]
    resources: npt.NDArray[np.int64]
    metrics: npt.NDArray[np.int64]

    def take(self, which: Any) -> NumberPoints:
        """Return some of the points, by their indexes or a mask."""
        return NumberPoints(*(column[which] for column in self))


class Frame(NamedTuple):
    """One row of the table ``frame``, encoded, with its time in nanoseconds and how many points it holds."""

    row: bytes
    unix_nano: int
    points: int


def frames_of(points: NumberPoints, sets: Sets) -> tuple[list[Frame], NumberPoints]:
    """Return the frames that points make, and the points that are to be rows of their own."""
    frames: list[Frame] = []
    alone: list[npt.NDArray[np.int64]] = []
    for unix_nano, which in _collections(points.times):
        if len(which) == 1:
            alone.append(which)
            continue
        its = points if len(which) == len(points.times) else points.take(which)
        bits = its.is_int.astype(np.uint8) * IS_INT | (its.starts != 0).astype(np.uint8) * HAS_START
        composition = sets.composition(its.series, bits, its.resources, its.metrics)
        alone.append(which[composition.alone])
        known = [piece for piece in composition.pieces if sets.is_declared(piece)]
        if len(known) < len(composition.pieces):
            declared = {piece.set_id for piece in known}
            alone += [
                which[composition.order[piece.first : piece.end]]
                for piece in composition.pieces
                if piece.set_id not in declared
            ]
        if known:
            frames += _encode(unix_nano, its, composition, known)
    if not frames:
        return frames, points
    rest = np.concatenate(alone) if alone else np.empty(0, np.int64)
    rest.sort()
    return frames, points.take(rest)


def _collections(times: npt.NDArray[np.uint64]) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield the points of each moment, by their indexes."""
    if len(times) == 0:
        return
    if (times == times[0]).all():
        yield int(times[0]), np.arange(len(times))
        return
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(times)], strict=True):
        yield int(ordered[start]), order[start:end]


def _encode(unix_nano: int, points: NumberPoints, composition: Composition, pieces: list[Piece]) -> list[Frame]:
    """Encode the frames of one moment."""
    order = composition.order
    raw, is_int, starts = points.raw[order], points.is_int[order], points.starts[order]
    integers = raw.view(np.int64)
    values = np.empty(len(order), _ITEM)
    values["length"] = 8
    values["value"] = np.where(is_int, integers, raw.view(np.float64)) if is_int.any() else raw.view(np.float64)
    beyond = is_int & ((integers > _EXACT) | (integers < -_EXACT))
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
            _ARRAY(20 + 12 * count, 1, 0, _OID_FLOAT8, count, 1),
            content[12 * first : 12 * end],
            NULL if exact is None or not beyond[first:end].any() else int8_array(exact[first:end].tolist()),
            NULL if agree else int8_array(its_starts.view(np.int64).tolist()),
        )
        frames.append(Frame(b"".join(row), unix_nano, count))
    return frames
