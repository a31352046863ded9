"""How the bytes of a number point are laid out: where its times and its value lie, and what is left of it.

Times and value are a tag and eight bytes each, and encoders write them where they like: Python and Java begin with
start, time, value; .NET with value, start, time; the Collector and Alloy with value, time, start; Go begins with start
and time and ends with the value. What is left is, nearly always, the attributes, the same from one collection to the
next: it is the key by which the series is known. So a point is cut by slices alone, no field of it is read, and all
that was cut off is checked at once.

Cutting is safe: a protobuf message cut at a field boundary is a protobuf message, the tags of what stands before the
key prove where it begins, and a key is only remembered after it was decoded and found to hold attributes and nothing
else, so that it ends at a field boundary, too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from exporters.timescale.points import DOUBLE, INT

START, TIME, VALUE = "start", "time", "value"
"""The fields of a number point that are a tag and eight bytes."""

_TAGS = {0x11: START, 0x19: TIME, DOUBLE << 3 | 1: VALUE, INT << 3 | 1: VALUE}
_FIELD = np.dtype([("tag", "u1"), ("content", "<u8")])
_SIZE = _FIELD.itemsize


class Times(NamedTuple):
    """What was cut off many points. ``valid`` tells of which it is what it was taken for."""

    valid: npt.NDArray[np.bool_]
    time: npt.NDArray[np.uint64]
    start: npt.NDArray[np.uint64] | None
    value: npt.NDArray[np.uint64]
    kind: npt.NDArray[np.uint8]


class Layout:
    """The fixed fields that points begin with and those that they end with. Time and value are among them."""

    def __init__(self, before: Sequence[str], after: Sequence[str]) -> None:
        self.fields = (*before, *after)
        self.before = len(before) * _SIZE
        self.after = len(after) * _SIZE
        # Getters that are mapped over points: no code of Python runs for each.
        self.key: Callable[[bytes], bytes] = itemgetter(slice(self.before, -self.after or None))
        self._begin: Callable[[bytes], bytes] = itemgetter(slice(self.before))
        self._end: Callable[[bytes], bytes] = itemgetter(slice(-self.after, None))
        self.size = self.before + self.after

    def place(self, field: str) -> tuple[bool, int]:
        """Return how far the content of a field is from the beginning of a point; or, with true, from its end."""
        at = self.fields.index(field) * _SIZE + 1
        return (False, at) if at < self.before else (True, at - self.size)

    def cut(self, points: Iterable[bytes]) -> Iterable[bytes]:
        """Return of each point what stands around its key; its length differs where the point is shorter."""
        if not self.after:
            return map(self._begin, points)
        if not self.before:
            return map(self._end, points)
        return [point[: self.before] + point[-self.after :] for point in points]

    def fits(self, point: bytes) -> bool:
        """Tell whether a point has the fields where this layout says."""
        if len(point) < self.size:
            return False
        tags = point[: self.before : _SIZE] + (point[-self.after :: _SIZE] if self.after else b"")
        return [_TAGS.get(tag) for tag in tags] == [*self.fields]

    def read(self, cut: Sequence[bytes]) -> Times:
        """Read what was cut off points, none of which is too short."""
        joined, count = b"".join(cut), len(cut)
        table = np.frombuffer(joined, _FIELD).reshape(count, len(self.fields))
        of_time = table[:, self.fields.index(TIME)]
        of_value = table[:, self.fields.index(VALUE)]
        kind = (of_value["tag"] >> 3).astype(np.uint8, copy=False)
        valid = of_time["tag"] == 0x19
        valid &= (of_value["tag"] == DOUBLE << 3 | 1) | (of_value["tag"] == INT << 3 | 1)
        start = None
        if START in self.fields:
            of_start = table[:, self.fields.index(START)]
            valid &= of_start["tag"] == 0x11
            start = of_start["content"]
        return Times(valid, of_time["content"], start, of_value["content"], kind)


def layout_of(point: bytes) -> Layout | None:
    """Return how a point seems to be laid out; None when its time or value are not where they can be cut off."""
    before = _run_of_fields(point[: 3 * _SIZE : _SIZE], ())
    if TIME in before and VALUE in before:
        return _layout(before, ())
    after = _run_of_fields(point[-_SIZE : -3 * _SIZE - 1 : -_SIZE], before)
    return _layout(before, after)


@functools.lru_cache(maxsize=256)
def _run_of_fields(tags: bytes, others: Sequence[str]) -> tuple[str, ...]:
    """Return the fields that these tags begin, none of them twice nor among others, until there is another tag."""
    fields: list[str] = []
    for tag in tags:
        name = _TAGS.get(tag)
        if name is None or name in fields or name in others:
            break
        fields.append(name)
    return tuple(fields)


@functools.cache  # there are few: the ways in which three fields may follow each other
def _layout(before: tuple[str, ...], after: tuple[str, ...]) -> Layout | None:
    """Return the layout of these fields, the last ones told from the end; None when time or value are missing."""
    return Layout(before, after[::-1]) if {TIME, VALUE}.issubset(before + after) else None
