"""Number points as arrays: what a request observed, in its order, before it is laid out for the database.

Whoever decodes number points, thousands at once or one alone, makes `NumberPoints`; whoever stores them begins there.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gateway.store import POSTGRES_EPOCH_US

if TYPE_CHECKING:
    from exporters.timescale.dimensions import MetricContext

NO_VALUE, DOUBLE, INT = 0, 4, 6
"""Kinds of values: the numbers of the fields ``as_double`` and ``as_int`` of a number point."""


@dataclass(slots=True, frozen=True, eq=False)
class NumberPoints:
    """Points in the order of their request. The arrays are equally long, and nobody writes to them.

    ``series`` are keys of series. ``time`` and ``start`` are nanoseconds since the Unix epoch, a start of 0 standing
    for none. ``value`` are the eight bytes of each value as the request has them, read as a little-endian number; what
    they mean is said by ``kind`` (`DOUBLE`, `INT`, or `NO_VALUE`, where they are 0). ``flags`` is None where no point
    has any. ``metric`` are places in ``metrics``: which metric, of which resource and scope, a point belongs to; those
    of one metric follow each other.
    """

    series: npt.NDArray[np.int64]
    time: npt.NDArray[np.uint64]
    start: npt.NDArray[np.uint64]
    value: npt.NDArray[np.uint64]
    kind: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint32] | None
    metric: npt.NDArray[np.int32]
    metrics: Sequence[MetricContext]

    def __len__(self) -> int:
        return len(self.series)

    def select(self, chosen: npt.NDArray[np.bool_]) -> NumberPoints:
        """Return the points for which the mask is true."""
        flags = None if self.flags is None else self.flags[chosen]
        return NumberPoints(
            self.series[chosen],
            self.time[chosen],
            self.start[chosen],
            self.value[chosen],
            self.kind[chosen],
            flags if flags is not None and flags.any() else None,
            self.metric[chosen],
            self.metrics,
        )


def concatenate(parts: Sequence[NumberPoints]) -> NumberPoints:
    """Return points, which are some, as one."""
    if len(parts) == 1:
        return parts[0]
    shifts = itertools.accumulate((len(part.metrics) for part in parts), initial=0)
    flags = None
    if any(part.flags is not None for part in parts):
        flags = np.concatenate([np.zeros(len(p), np.uint32) if p.flags is None else p.flags for p in parts])
    return NumberPoints(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.start for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.kind for part in parts]),
        flags,
        np.concatenate([part.metric + np.int32(shift) for part, shift in zip(parts, shifts, strict=False)]),
        [context for part in parts for context in part.metrics],
    )


def distinct(microseconds: npt.NDArray[np.uint64], unit: int) -> Collection[int]:
    """Return the intervals of a length, numbered since the Unix epoch, in which the times lie."""
    first, last = int(microseconds.min()) // unit, int(microseconds.max()) // unit
    # Mostly all points are of one moment, and np.unique costs more than all the rest for a small request.
    return (first,) if first == last else np.unique(microseconds // unit).tolist()


# -- rows of the table ``sample`` --------------------------------------------------------------------------------------


def _row_dtype(kind: int, has_start: bool, has_flags: bool) -> np.dtype[Any]:
    """Return the layout of a ``sample`` row in binary COPY for points of one kind."""
    fields = [
        ("time", ">i8"),
        ("series_id", ">i8"),
        ("value", "" if kind == NO_VALUE else ">f8"),
        ("start_time", ">i8" if has_start else ""),
        ("int_value", ">i8" if kind == INT else ""),
        ("flags", ">i8" if has_flags else ""),
        ("time_ns", ">i2"),
        ("start_time_ns", ">i2" if has_start else ""),
    ]
    layout = [("fields", ">i2")]
    for name, its_type in fields:
        layout.append((f"{name}_length", ">i4"))
        if its_type:
            layout.append((name, its_type))
    return np.dtype(layout)


def _row_template(dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return one row of which everything that never changes is filled in."""
    row = np.zeros(1, dtype)
    row["fields"] = 8
    for name in dtype.names or ():
        if name.endswith("_length"):
            column = name.removesuffix("_length")
            row[name] = dtype[column].itemsize if column in (dtype.names or ()) else -1
    return row


_TEMPLATES = {
    kind | has_start << 3 | has_flags << 4: _row_template(_row_dtype(kind, bool(has_start), bool(has_flags)))
    for kind in (NO_VALUE, DOUBLE, INT)
    for has_start in (0, 1)
    for has_flags in (0, 1)
}


def sample_rows(points: NumberPoints) -> Iterator[bytes]:
    """Return points as rows of the table ``sample`` in binary COPY, those with the same columns together."""
    if not len(points):
        return
    form = points.kind | (points.start != 0).view(np.uint8) << 3
    if points.flags is not None:
        form |= (points.flags != 0).view(np.uint8) << 4
    forms = np.flatnonzero(np.bincount(form)).tolist()
    for each in forms:
        yield _rows(each, points if len(forms) == 1 else points.select(form == each))


def _rows(form: int, points: NumberPoints) -> bytes:
    rows = np.repeat(_TEMPLATES[form], len(points))
    rows["time"], rows["time_ns"] = _time_and_ns(points.time)
    rows["series_id"] = points.series
    if form & INT == INT:
        rows["value"] = rows["int_value"] = points.value.view(np.int64)
    elif form & DOUBLE:
        rows["value"] = points.value.view(np.float64)
    if form & 8:
        rows["start_time"], rows["start_time_ns"] = _time_and_ns(points.start)
    if form & 16:
        rows["flags"] = points.flags
    return rows.tobytes()


def _time_and_ns(unix_nano: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    microseconds = unix_nano // 1000
    return microseconds.astype(np.int64) - POSTGRES_EPOCH_US, unix_nano - microseconds * 1000
