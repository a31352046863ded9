"""Rows of the table ``frame`` that are laid out once, and filled with numbers each time.

From one collection to the next, the rows of its frames differ in times, values and starts alone, which are in the same
places each time: to write all of them takes as many steps as there are kinds of numbers, however many rows there are.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from exporters.timescale.copy import NULL
from exporters.timescale.sets import Piece
from gateway.store import FLOAT8_ITEM, INT8_ITEM, OID_FLOAT8, OID_INT8, POSTGRES_EPOCH_US, array_begin, array_items

ONE_START, OWN_STARTS, EXACT_INTEGERS = 1, 2, 4
"""What a row has besides its values, as bits: a start time of all its members that have any, or one of each; its
integers, for some are no doubles."""

BEGIN = struct.Struct(">hiqiqih").pack
"""The number of fields; then time, set_id and time_ns, each behind its length."""
START = struct.Struct(">iqih").pack
"""start_time and start_time_ns, each behind its length."""
_TIME_AT, _NS_AT = 6, 30
_START_AT, _START_NS_AT = 4, 16
_ITEM_SIZE = FLOAT8_ITEM.itemsize

_Places = npt.NDArray[np.intp]


class Layout:
    """One row for each of these pieces, in the form that ``forms`` says.

    It is filled in place: what is filled holds until it is filled again.
    """

    def __init__(self, pieces: Sequence[Piece], forms: npt.NDArray[np.uint8]) -> None:
        self.forms = forms
        self.begins = begins_of(pieces)
        counts = np.array([piece.end - piece.first for piece in pieces], np.intp)
        has_exact, has_own = forms & EXACT_INTEGERS != 0, forms & OWN_STARTS != 0
        self._with_exact = np.flatnonzero(np.repeat(has_exact, counts))
        self._with_own = np.flatnonzero(np.repeat(has_own, counts))
        self._values = array_items(FLOAT8_ITEM, int(counts.sum()))
        self._exact = array_items(INT8_ITEM, len(self._with_exact))
        self._own = array_items(INT8_ITEM, len(self._with_own))
        values, exact, own = (items.view(np.uint8).data for items in (self._values, self._exact, self._own))
        # All but the items of arrays, and where it is cut for them.
        self._rest = bytearray()
        cuts: list[int] = []
        arrays: list[memoryview] = []
        begins: list[int] = []
        starts: list[int] = []

        def add_array(oid: int, count: int, items: memoryview) -> memoryview:
            """Add an array of the first of these items, and return the others."""
            size = _ITEM_SIZE * count
            self._rest += array_begin(20 + size, 1, 0, oid, count, 1)
            cuts.append(len(self._rest))
            arrays.append(items[:size])
            return items[size:]

        for piece, count, form in zip(pieces, counts.tolist(), forms.tolist(), strict=True):
            begins.append(len(self._rest))
            self._rest += BEGIN(8, 8, 0, 8, piece.set_id, 2, 0)
            if form & ONE_START:
                starts.append(len(self._rest))
                self._rest += START(8, 0, 2, 0)
            else:
                self._rest += NULL + NULL
            values = add_array(OID_FLOAT8, count, values)
            if form & EXACT_INTEGERS:
                exact = add_array(OID_INT8, count, exact)
            else:
                self._rest += NULL
            if form & OWN_STARTS:
                own = add_array(OID_INT8, count, own)
            else:
                self._rest += NULL
        rest = memoryview(self._rest)
        self._parts: list[memoryview] = []
        for first, end, items in zip([0, *cuts], cuts, arrays, strict=False):
            self._parts += (rest[first:end], items)
        self._parts.append(rest[cuts[-1] :])
        self._numbers = np.ndarray((len(rest) - 7,), ">i8", rest, strides=(1,))
        self._shorts = np.ndarray((len(rest) - 1,), ">i2", rest, strides=(1,))
        at, self._starts_at = np.array(begins), np.array(starts, np.intp)
        self._time_at, self._ns_at = at + _TIME_AT, at + _NS_AT

    def filled(
        self,
        unix_nano: int,
        values: npt.NDArray[np.float64],
        exact: npt.NDArray[np.int64] | None,
        starts: npt.NDArray[np.uint64],
        one_start: npt.NDArray[np.uint64],
    ) -> bytes:
        """Return the rows of a moment.

        Values, integers (0 for what is none; None where all are doubles) and starts are those of all members of all
        pieces; ``one_start`` are the starts of the pieces that have one.
        """
        microseconds, ns = divmod(unix_nano, 1000)
        self._numbers[self._time_at], self._shorts[self._ns_at] = microseconds - POSTGRES_EPOCH_US, ns
        self._values["value"] = values
        if len(self._starts_at):
            start = one_start // 1000
            self._numbers[self._starts_at + _START_AT] = start.view(np.int64) - POSTGRES_EPOCH_US
            self._shorts[self._starts_at + _START_NS_AT] = one_start - start * 1000
        if exact is not None:
            self._exact["value"] = exact[self._with_exact]
        if len(self._own):
            self._own["value"] = starts[self._with_own].view(np.int64)
        return b"".join(self._parts)


def begins_of(pieces: Sequence[Piece]) -> _Places:
    """Return where the points of each piece begin."""
    return np.array([piece.first for piece in pieces], np.intp)
