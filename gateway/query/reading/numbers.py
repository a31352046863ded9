"""Samples of gauges and sums, as arrays: from the frames of the sets that series are in, and from rows.

Nothing is looked at one by one. A set's values over time are a matrix, of which a series is a row; series of one
metric stand side by side in it, so that a slice of each frame is all that has to be sent.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
from psycopg import sql

from gateway.query.reading import frames
from gateway.query.reading.arrays import as_array, ids, row_of, statement
from gateway.query.reading.chunks import Chunk, SharedTimes, Times, to_milliseconds
from gateway.query.reading.connection import Reading
from gateway.query.reading.window import Window
from gateway.query.series import STALE
from gateway.store import POSTGRES_EPOCH_US

Ids = npt.NDArray[np.int64]

_MEMBER = row_of(("set", ">i8"), ("series", ">i8"), ("ord", ">i2"))
_POINT = row_of(("series", ">i8"), ("time", ">i8"), ("value", ">f8"), ("ended", "u1"))
_TIME = row_of(("set", ">i8"), ("time", ">i8"))


def read(
    reading: Reading,
    series: Ids,
    window: Window,
    share: SharedTimes,
    memory: frames.Memory = frames.NOTHING_REMEMBERED,
    only: frames.Looks | None = None,
) -> dict[int, list[Chunk]]:
    """Return the samples of series in a time range, by key; what has none is left out.

    ``only``: samples that are not looked at may be left out as well.
    """
    found: defaultdict[int, list[Chunk]] = defaultdict(list)
    if len(series):
        _from_frames(reading, series, window, share, memory, only, found)
        _from_rows(reading, series, window, share, found)
    return found


def statements(series: Ids, window: Window, memory: frames.Memory, only: frames.Looks | None) -> list[sql.SQL]:
    """Return what `read` will ask first, if series are members of the sets that they were when last asked for."""
    asked = [_members(series), _rows(series, window)]
    if slices := memory.lately(series):
        asked += frames.statements(slices, window, memory, only)
    return asked


def _members(series: Ids) -> sql.SQL:
    return statement(
        "SELECT set_id, series_id, ord FROM member WHERE series_id = ANY({series}::bigint[])",
        series=as_array(series.tolist()),
    )


def _rows(series: Ids, window: Window) -> sql.SQL:
    return statement(
        "SELECT series_id, time, coalesce(value, 'NaN'), coalesce(flags, 0) & 1 = 1 FROM sample"
        " WHERE series_id = ANY({series}::bigint[]) AND {time}",
        series=as_array(series.tolist()),
        time=window.text_on("time"),
    )


def _from_frames(
    reading: Reading,
    series: Ids,
    window: Window,
    share: SharedTimes,
    memory: frames.Memory,
    only: frames.Looks | None,
    found: defaultdict[int, list[Chunk]],
) -> None:
    members = reading.rows(_members(series), _MEMBER)
    if not len(members):
        return
    sets, places = members["set"].astype(np.int64), members["ord"].astype(np.int64)
    order = np.lexsort((places, sets))
    sets, places, keys = sets[order], places[order], members["series"].astype(np.int64)[order]
    starts = np.flatnonzero(np.concatenate(([True], sets[1:] != sets[:-1])))
    columns: dict[frames.Slice, tuple[list[int], list[int]]] = {}
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(sets)], strict=True):
        at = places[start:end].tolist()
        its = frames.Slice.of(int(sets[start]), at)
        columns[its] = its.columns(at), keys[start:end].tolist()
    slices = list(columns)
    memory.note(series, slices)
    for its, times, values in frames.read(reading, slices, window, share, memory, only):
        for column, key in zip(*columns[its], strict=True):
            found[key].append(Chunk(times, values[column]))


def _from_rows(
    reading: Reading, series: Ids, window: Window, share: SharedTimes, found: defaultdict[int, list[Chunk]]
) -> None:
    rows = reading.rows(_rows(series, window), _POINT)
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
