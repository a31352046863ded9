"""Samples of gauges and sums, as arrays: from the frames of the sets that series are in, and from rows.

Nothing is looked at one by one. A set's values over time are a matrix, of which a series is a column; series of one
metric stand side by side in it, so that a slice of each frame is all that has to be sent.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg import sql

from gateway.query.reading.arrays import array_of, ids, row_of
from gateway.query.reading.chunks import Chunk, SharedTimes, Times, to_milliseconds
from gateway.query.reading.connection import Reading
from gateway.query.series import STALE
from gateway.store import POSTGRES_EPOCH_US

Ids = npt.NDArray[np.int64]

_MEMBER = row_of(("set", ">i8"), ("series", ">i8"), ("ord", ">i2"))
_POINT = row_of(("series", ">i8"), ("time", ">i8"), ("value", ">f8"), ("ended", "u1"))
_TIME = row_of(("set", ">i8"), ("time", ">i8"))


class Window(NamedTuple):
    """A time range, (start, end] in milliseconds since the epoch, as conditions on a column of PostgreSQL's."""

    start: int
    end: int

    def on(self, column: str) -> sql.Composed:
        """Return the condition on a column of times, which have microseconds."""
        return sql.SQL("{0} >= {1}::timestamptz AND {0} < {2}::timestamptz").format(
            sql.SQL(column),  # pyright: ignore[reportArgumentType] - of this package's own
            sql.Literal(_text(self.start + 1)),
            sql.Literal(_text(self.end + 1)),
        )


_EARLIEST, _LATEST = -62_000_000_000_000, 9_200_000_000_000_000 // 1000
"""Milliseconds: about the years 5 and 2261, beyond which the store has nothing."""


def _text(milliseconds: int) -> str:
    bounded = min(max(milliseconds, _EARLIEST), _LATEST)
    return str(np.datetime64(bounded, "ms")) + "+00"


def read(reading: Reading, series: Ids, window: Window, share: SharedTimes) -> dict[int, list[Chunk]]:
    """Return the samples of series in a time range, by key; what has none is left out."""
    found: defaultdict[int, list[Chunk]] = defaultdict(list)
    if len(series):
        _from_frames(reading, series, window, share, found)
        _from_rows(reading, series, window, share, found)
    return found


def _from_frames(
    reading: Reading, series: Ids, window: Window, share: SharedTimes, found: defaultdict[int, list[Chunk]]
) -> None:
    members = reading.rows(
        sql.SQL("SELECT set_id, series_id, ord FROM member WHERE series_id = ANY({}::bigint[])").format(ids(series)),
        _MEMBER,
    )
    if not len(members):
        return
    sets, places = members["set"].astype(np.int64), members["ord"].astype(np.int64)
    order = np.lexsort((places, sets))
    sets, places, keys = sets[order], places[order], members["series"].astype(np.int64)[order]
    starts = np.flatnonzero(np.concatenate(([True], sets[1:] != sets[:-1])))
    ends = np.append(starts[1:], len(sets))
    first, last = places[starts], places[ends - 1]
    widths = last - first + 1
    for width in np.unique(widths).tolist():
        which = np.flatnonzero(widths == width)
        slices = {
            int(sets[starts[at]]): (places[starts[at] : ends[at]] - first[at], keys[starts[at] : ends[at]])
            for at in which.tolist()
        }
        rows = reading.rows(_slices(sets[starts[which]], first[which], width, window), _frame(width))
        reading.usage.add_samples(len(rows) * width)
        _take_columns(rows, slices, share, found)


def _slices(sets: Ids, first: Ids, width: int, window: Window) -> sql.Composed:
    """Find a part of the values of each frame of some sets."""
    return sql.SQL(
        "SELECT f.set_id, f.time, f.vals[s.place:s.place + {}]"
        " FROM unnest({}::bigint[], {}::integer[]) AS s (set_id, place) JOIN frame f ON f.set_id = s.set_id WHERE {}"
    ).format(width - 1, ids(sets), ids(first), window.on("f.time"))


def _frame(width: int) -> np.dtype[np.void]:
    head = row_of(("set", ">i8"), ("time", ">i8")).descr
    return np.dtype([*head, ("values", array_of(">f8", width))])


def _take_columns(
    rows: npt.NDArray[np.void],
    slices: dict[int, tuple[Ids, Ids]],
    share: SharedTimes,
    found: defaultdict[int, list[Chunk]],
) -> None:
    """Take the samples of each series out of the frames of its set."""
    if not len(rows):
        return
    sets, times = rows["set"].astype(np.int64), rows["time"].astype(np.int64)
    order = np.lexsort((times, sets))
    sets, times = sets[order], to_milliseconds(times[order] + POSTGRES_EPOCH_US)
    values = rows["values"]["items"]["value"]
    begins = np.flatnonzero(np.concatenate(([True], sets[1:] != sets[:-1])))
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(sets)], strict=True):
        at = times[begin:end]
        its_rows = order[begin:end]
        once = np.concatenate(([True], at[1:] != at[:-1]))
        if not once.all():
            at, its_rows = at[once], its_rows[once]
        at = share(np.ascontiguousarray(at))
        columns, keys = slices[int(sets[begin])]
        # As bits, which no conversion of a number touches: a NaN is told from another by them.
        matrix = np.ascontiguousarray(values[its_rows].T).view(">u8").astype(np.uint64).view(np.float64)
        for column, key in zip(columns.tolist(), keys.tolist(), strict=True):
            found[key].append(Chunk(at, matrix[column]))


def _from_rows(
    reading: Reading, series: Ids, window: Window, share: SharedTimes, found: defaultdict[int, list[Chunk]]
) -> None:
    rows = reading.rows(
        sql.SQL(
            "SELECT series_id, time, coalesce(value, 'NaN'), coalesce(flags, 0) & 1 = 1 FROM sample"
            " WHERE series_id = ANY({}::bigint[]) AND {}"
        ).format(ids(series), window.on("time")),
        _POINT,
    )
    if not len(rows):
        return
    reading.usage.add_samples(len(rows))
    keys, at = rows["series"].astype(np.int64), rows["time"].astype(np.int64)
    order = np.lexsort((at, keys))
    keys, times = keys[order], to_milliseconds(at[order] + POSTGRES_EPOCH_US)
    values = rows["value"][order].view(">u8").astype(np.uint64).view(np.float64)
    values[rows["ended"][order] != 0] = STALE
    keep = np.ones(len(keys), np.bool_)
    keep[1:] = (keys[1:] != keys[:-1]) | (times[1:] != times[:-1])
    keys, times, values = keys[keep], times[keep], values[keep]
    begins = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(keys)], strict=True):
        found[int(keys[begin])].append(Chunk(share(times[begin:end].copy()), values[begin:end]))


def times_of_sets(reading: Reading, sets: Ids, window: Window) -> dict[int, Times]:
    """Return when frames of some sets were observed."""
    rows = reading.rows(
        sql.SQL("SELECT set_id, time FROM frame WHERE set_id = ANY({}::bigint[]) AND {}").format(
            ids(sets), window.on("time")
        ),
        _TIME,
    )
    reading.usage.add_samples(len(rows))
    keys = rows["set"].astype(np.int64)
    times = from_postgres(rows["time"])
    return {int(key): np.unique(times[keys == key]) for key in np.unique(keys)}


def from_postgres(times: npt.NDArray[np.int64]) -> Times:
    """Return PostgreSQL's times in milliseconds since the Unix epoch."""
    return to_milliseconds(times.astype(np.int64) + POSTGRES_EPOCH_US)
