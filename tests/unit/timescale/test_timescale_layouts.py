"""Rows of frames are laid out once and filled again and again. Each time they must say what their points say."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exporters.timescale import frames
from exporters.timescale.copy import COLUMNS
from exporters.timescale.layouts import begins_of
from exporters.timescale.points import DOUBLE, INT, NumberPoints
from exporters.timescale.sets import Composition, Piece
from gateway.store import OID_FLOAT8, OID_INT8, POSTGRES_EPOCH_US
from tests.support.copies import fields


class Point(NamedTuple):
    bits: int
    is_int: bool
    start: int


INTEGERS = st.sampled_from([0, -1, 7, 2**53, -(2**53), 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)])
POINTS = st.builds(
    Point,
    bits=st.one_of(INTEGERS, st.integers(-(2**63), 2**63 - 1)).map(lambda value: value % 2**64),
    is_int=st.booleans(),
    start=st.sampled_from([0, 1, 999, 10**18 + 1, 10**18 + 1001, 2**63 - 1]),
)
ALIKE = st.builds(Point, bits=st.integers(0, 2**53), is_int=st.booleans(), start=st.just(10**18 + 1))
PIECES = st.lists(st.one_of(st.lists(POINTS, min_size=2, max_size=6), st.lists(ALIKE, min_size=2, max_size=6)))
MOMENTS = st.integers(0, 2**63 - 1)


def array_of(field: bytes | None, oid: int, code: str) -> list[bytes] | None:
    """Return the items of an array without NULLs, each as its eight bytes."""
    if field is None:
        return None
    dimensions, has_nulls, its_oid, count, lower = struct.unpack_from(">5i", field)
    assert (dimensions, has_nulls, its_oid, lower) == (1, 0, oid, 1)
    items = list(struct.iter_unpack(f">i{code}", field[20:]))
    assert len(items) == count
    assert all(length == 8 for length, _ in items)
    return [struct.pack(f">{code}", value) for _, value in items]


def expected(unix_nano: int, set_id: int, points: Sequence[Point]) -> list[Any]:
    """Return the fields of a row as the table ``frame`` is described, worked out point by point."""
    signed = [point.bits - 2**64 if point.bits >= 2**63 else point.bits for point in points]
    values = [
        struct.pack(">d", value) if point.is_int else struct.pack(">Q", point.bits)
        for point, value in zip(points, signed, strict=True)
    ]
    is_exact = all(abs(value) <= 2**53 for point, value in zip(points, signed, strict=True) if point.is_int)
    integers = [struct.pack(">q", value if p.is_int else 0) for p, value in zip(points, signed, strict=True)]
    starts = {point.start for point in points if point.start}
    start = start_ns = own = None
    if len(starts) == 1:
        start = struct.pack(">q", starts.copy().pop() // 1000 - POSTGRES_EPOCH_US)
        start_ns = struct.pack(">h", starts.pop() % 1000)
    elif starts:
        own = [struct.pack(">q", point.start) for point in points]
    time = struct.pack(">q", unix_nano // 1000 - POSTGRES_EPOCH_US)
    of = struct.pack(">q", set_id)
    return [time, of, struct.pack(">h", unix_nano % 1000), start, start_ns, values, None if is_exact else integers, own]


def number_points(points: Sequence[Point], unix_nano: int) -> NumberPoints:
    return NumberPoints(
        np.arange(len(points)),
        np.full(len(points), unix_nano, np.uint64),
        np.array([point.start for point in points], np.uint64),
        np.array([point.bits for point in points], np.uint64),
        np.array([INT if point.is_int else DOUBLE for point in points], np.uint8),
        None,
        np.zeros(len(points), np.int32),
        [],
    )


@given(
    shape=PIECES.filter(bool),
    data=st.data(),
    moments=st.lists(MOMENTS, min_size=1, max_size=3),
    few=st.sampled_from([0, 1000]),
)
def test_rows_say_what_their_points_say(
    shape: list[list[Point]], data: st.DataObject, moments: list[int], few: int
) -> None:
    count = sum(map(len, shape))
    order = np.array(data.draw(st.permutations(range(count + 3)))[:count])  # some points are in no set
    pieces, first = [], 0
    for number, points in enumerate(shape):
        pieces.append(Piece(first, first + len(points), number - 1, b""))
        first += len(points)
    composition = Composition.of(order, pieces, order[:0])
    for unix_nano in moments:
        ordered = [point for points in shape for point in points]
        scattered = [Point(1, False, 5)] * (count + 3)
        for at, point in zip(order.tolist(), ordered, strict=True):
            scattered[at] = point
        with mock.patch.object(frames, "_FEW", few):  # which of the two ways they go must make no difference
            encoded = frames.encode(unix_nano, number_points(scattered, unix_nano), composition.order, composition)
        assert (composition.layout is None) == bool(few)
        assert (encoded.unix_nano, encoded.points) == (unix_nano, count)
        rows = fields(encoded.rows, len(COLUMNS["frame"]))
        for piece, points, row in zip(pieces, shape, rows, strict=True):
            arrays = [
                array_of(field, *kind)
                for field, kind in zip(row[5:], ((OID_FLOAT8, "Q"), (OID_INT8, "q"), (OID_INT8, "q")), strict=True)
            ]
            assert [*row[:5], *arrays] == expected(unix_nano, piece.set_id, points)
        shape = [data.draw(st.lists(st.one_of(POINTS, ALIKE), min_size=len(p), max_size=len(p))) for p in shape]


def test_what_is_left_of_an_order_has_no_gaps() -> None:
    order = np.array([4, 3, 2, 1, 0])
    some = Composition.of(order, [Piece(0, 2, 7, b"a"), Piece(3, 5, 8, b"b")], order[:0])
    assert some.order.tolist() == [4, 3, 1, 0]
    assert some.pieces == [Piece(0, 2, 7, b"a"), Piece(2, 4, 8, b"b")]
    assert begins_of(some.pieces).tolist() == [0, 2]
    none = Composition.of(order, [], order)
    assert (none.order.tolist(), none.pieces) == ([], [])
