"""Values of series in equal intervals: from their points, or from rollups of them where the intervals are long.

A frame holds what many series had at a time, and is read as a whole; all else is done by numpy.
"""

from __future__ import annotations

import enum
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql

from gateway.query.reading import numbers
from gateway.query.reading.arrays import array_of, ids, row_of
from gateway.query.reading.chunks import SharedTimes
from gateway.query.reading.connection import Reading
from gateway.query.reading.window import Window as TimeRange
from gateway.store import POSTGRES_EPOCH_US

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

STEPS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800)
_INTERVALS = 260
"""How many intervals a chart has at most: about one for each three pixels of a wide one."""
_SEEN_WITHIN = 60
"""Seconds by which the time at which a metric was first seen may be wrong."""
_SHORTEST = 300


class Source(enum.StrEnum):
    """Where values are read. Each is named as the view that has them for people."""

    POINTS = "metrics"
    MINUTES = "metrics_1m"
    HOURS = "metrics_1h"


_TABLES = {Source.MINUTES: "1m", Source.HOURS: "1h"}
_LEAST_STEP = {Source.HOURS: 3600, Source.MINUTES: 120, Source.POINTS: 0}


@dataclass(frozen=True, slots=True)
class Window:
    """From ``start`` to before ``end``, in seconds since 1970, in intervals of ``step`` seconds that begin at its
    multiples. The first and the last may not be whole."""

    start: float
    end: float
    step: int

    @property
    def first(self) -> int:
        """When the first interval begins."""
        return math.floor(self.start / self.step) * self.step

    @property
    def count(self) -> int:
        """How many intervals there are."""
        return max(math.ceil((self.end - self.first) / self.step), 1)

    def times(self) -> list[int]:
        """Return when each interval begins."""
        return [self.first + self.step * n for n in range(self.count)]

    @classmethod
    def over(cls, start: float, end: float, since: float = -math.inf) -> Window:
        """Return the window that suits a range in which there is nothing before ``since``."""
        start = max(start, min(since - _SEEN_WITHIN, end - _SHORTEST))
        return cls(start, end, step_for(end - start, _INTERVALS))

    def coarser(self, least: float) -> Window:
        """Return it with intervals not shorter than so many seconds."""
        step = next((step for step in STEPS if step >= max(least, self.step)), max(STEPS[-1], self.step))
        return Window(self.start, self.end, step)


def step_for(seconds: float, most: int) -> int:
    """Return the shortest step by which so many seconds have ``most`` intervals or fewer: one of `STEPS`, or weeks."""
    weeks = math.ceil(seconds / STEPS[-1] / most)
    return next((step for step in STEPS if seconds / step <= most), STEPS[-1] * weeks)


def source_for(window: Window) -> Source:
    """Return the coarsest source that is finer than an interval."""
    return next(source for source, least in _LEAST_STEP.items() if window.step >= least)


@dataclass(slots=True)
class Values:
    """What one series had: ``times`` and ``values`` of its points, in seconds.

    Of rollups, ``sums`` and ``counts`` are what the interval at ``starts`` had, and the others its last point.
    """

    times: Floats
    values: Floats
    starts: Floats | None = None
    sums: Floats | None = None
    counts: Floats | None = None

    def means(self, window: Window) -> Floats:
        """Return the mean of each interval; NaN where there is nothing."""
        starts = self.times if self.starts is None else self.starts
        sums = self.values if self.sums is None else self.sums
        counts = np.ones(len(starts)) if self.counts is None else self.counts
        whole = np.isfinite(sums) & (counts > 0)
        at = _places(starts[whole], window)
        total = np.bincount(at, sums[whole], window.count)
        number = np.bincount(at, counts[whole], window.count)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(number > 0, total / number, np.nan)

    def rates(self, window: Window, *, resets: bool, delta: bool) -> Floats:
        """Return the change a second in each interval; NaN where there is nothing.

        What was counted since the point before counts for the interval of the later one. ``resets``: a value that fell
        began anew, from zero. ``delta``: each value is such a change itself.
        """
        known = np.isfinite(self.values)
        times, values = self.times[known], self.values[known]
        starts = times if self.starts is None else self.starts[known]
        if delta:
            changes = values if self.sums is None else self.sums[known]
            return np.where(
                np.bincount(_places(starts, window), minlength=window.count) > 0,
                np.bincount(_places(starts, window), changes, window.count) / window.step,
                np.nan,
            )
        changes, seconds = np.diff(values), np.diff(times)
        if resets:
            changes = np.where(changes < 0, values[1:], changes)
        moved = seconds > 0
        at = _places(starts[1:][moved], window)
        total = np.bincount(at, changes[moved], window.count)
        lasted = np.bincount(at, seconds[moved], window.count)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(lasted > 0, total / lasted, np.nan)

    def changes(self, window: Window, *, began: npt.NDArray[np.bool_], delta: bool) -> Floats:
        """Return the change in each interval; NaN where there is nothing. ``began``: which points began anew."""
        values = self.values if delta else np.where(began[1:], self.values[1:], np.diff(self.values))
        at = _places(self.times if delta else self.times[1:], window)
        total = np.bincount(at, values, window.count)
        return np.where(np.bincount(at, minlength=window.count) > 0, total, np.nan)

    @property
    def spacing(self) -> float:
        """Seconds between two points, mostly; 0 where that cannot be told."""
        if len(self.times) < 3 or self.starts is not None:
            return 0.0
        return float(np.median(np.diff(self.times[-100:])))


def _places(times: Floats, window: Window) -> npt.NDArray[np.int64]:
    return np.clip(((times - window.first) // window.step).astype(np.int64), 0, window.count - 1)


def read(
    reading: Reading, series: Sequence[int], window: Window, wanted: Source | None = None
) -> tuple[Source, dict[int, Values]]:
    """Return the values of gauges and sums, by series, and where they were found.

    Where the source that is wanted (by default: that suits the window) has nothing, as of what has just come in or of
    what is too old, another has.
    """
    wanted = wanted or source_for(window)
    order = [wanted, *(each for each in (Source.MINUTES, Source.POINTS, Source.HOURS) if each is not wanted)]
    keys = np.unique(np.array(series, np.int64))
    for source in order if len(keys) else ():
        if source is not Source.POINTS and window.step < {Source.MINUTES: 60, Source.HOURS: 3600}[source]:
            continue
        found = _points(reading, keys, window) if source is Source.POINTS else _rollups(reading, keys, window, source)
        if found:
            return source, found
    return wanted, {}


def _points(reading: Reading, keys: Ids, window: Window) -> dict[int, Values]:
    share = SharedTimes()
    # A window of the reading layer is open at its start.
    asked = TimeRange(math.ceil(window.start * 1000) - 1, math.ceil(window.end * 1000) - 1)
    found: dict[int, Values] = {}
    seconds: dict[int, Floats] = {}
    for key, chunks in numbers.read(reading, keys, asked, share).items():
        if len(chunks) == 1:
            times = seconds.setdefault(id(chunks[0].times), chunks[0].times / 1000.0)
            found[key] = Values(times, chunks[0].values)
        else:
            times, values = np.concatenate([c.times for c in chunks]), np.concatenate([c.values for c in chunks])
            order = np.argsort(times, kind="stable")
            found[key] = Values(times[order] / 1000.0, values[order])
    return found


_PART = 56
"""Members of a set that a row of its rollup has, as the migration to frames has it."""
_MEMBER = row_of(("set", ">i8"), ("series", ">i8"), ("ord", ">i2"))
_ROW = row_of(
    *(("series", ">i8"), ("time", ">i8"), ("sum", ">f8"), ("count", ">i8"), ("last", ">f8"), ("last_time", ">i8"))
)


def _rollups(reading: Reading, keys: Ids, window: Window, source: Source) -> dict[int, Values]:
    found: defaultdict[int, list[Values]] = defaultdict(list)
    during = sql.SQL("f.time >= {} AND f.time < {}").format(_instant(window.start), _instant(window.end))
    _rolled_up_frames(reading, keys, during, _TABLES[source], found)
    _rolled_up_rows(reading, keys, during, _TABLES[source], found)
    return {key: several[0] if len(several) == 1 else _joined(several) for key, several in found.items()}


def _rolled_up_frames(
    reading: Reading, keys: Ids, during: sql.Composed, name: str, found: defaultdict[int, list[Values]]
) -> None:
    """Read a slice of each row: from the first to the last member that is wanted."""
    members = reading.rows(
        sql.SQL("SELECT set_id, series_id, ord FROM member WHERE series_id = ANY({}::bigint[])").format(ids(keys)),
        _MEMBER,
    )
    by_part: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for its_set, series, order in zip(*(members[each].tolist() for each in ("set", "series", "ord")), strict=True):
        part, place = divmod(order - 1, _PART)
        by_part[its_set, part].append((place, series))
    if not by_part:
        return
    slices = [(*part, min(places)[0], max(places)[0]) for part, places in by_part.items()]
    sets, parts, firsts, lasts = np.array(slices, np.int64).T
    # All widths at once, for each query looks through all partitions; and cut before NULL is replaced in what is left.
    query = sql.SQL(
        "SELECT f.set_id, f.part, f.time, f.last_time, f.count, f.sums IS NULL,"
        " array_replace((coalesce(f.sums, f.maxs))[s.first:s.last], NULL, 'NaN'),"
        " array_replace((coalesce(f.lasts, f.maxs))[s.first:s.last], NULL, 'NaN'),"
        " array_replace(f.maxs[s.first:s.last], NULL, 'NaN')"
        " FROM unnest({sets}::bigint[], {parts}::smallint[], {firsts}::integer[], {lasts}::integer[])"
        " AS s (set_id, part, first, last)"
        " JOIN {table} f ON f.set_id = s.set_id AND f.part = s.part WHERE {during}"
    ).format(
        sets=ids(sets),
        parts=ids(parts),
        firsts=ids(firsts + 1),
        lasts=ids(lasts + 1),
        table=sql.Identifier(f"frame_{name}"),
        during=during,
    )
    by_size = reading.rows_by_size(query)
    for width in np.unique(lasts - firsts + 1).tolist():
        row = _rolled_up_row(width)
        rows = np.frombuffer(by_size.get(row.itemsize, b""), row)
        reading.usage.add_samples(len(rows) * width)
        order = np.lexsort([rows[each].astype(np.int64) for each in ("time", "part", "set")])
        rows = rows.view(np.void)[order].view(row)  # as bytes: by their fields, it takes twenty times as long
        its_set, part = rows["set"].astype(np.int64), rows["part"].astype(np.int64)
        changes = (its_set[1:] != its_set[:-1]) | (part[1:] != part[:-1])
        begins = np.flatnonzero(np.append(True, changes)[: len(rows)]).tolist()
        for begin, end in zip(begins, [*begins[1:], len(rows)][: len(begins)], strict=True):
            places = by_part[int(its_set[begin]), int(part[begin])]
            first = min(places)[0]
            _take_columns(rows[begin:end], [(place - first, key) for place, key in places], found)


@cache
def _rolled_up_row(width: int) -> np.dtype[Any]:
    head = row_of(
        *(("set", ">i8"), ("part", ">i2"), ("time", ">i8"), ("last_time", ">i8"), ("count", ">i4"), ("alike", "u1"))
    ).descr
    return np.dtype([*head, *((each, array_of(">f8", width)) for each in ("sums", "lasts", "maxs"))])


def _take_columns(
    rows: npt.NDArray[Any], columns: Sequence[tuple[int, int]], found: defaultdict[int, list[Values]]
) -> None:
    starts, times = _seconds(rows["time"]), _seconds(rows["last_time"])
    counts = rows["count"].astype(np.float64)
    sums, lasts, maxs = (rows[each]["items"]["value"].astype(np.float64) for each in ("sums", "lasts", "maxs"))
    # Left out is what the largest value says, of all items or of some (docs/decisions/0106).
    sums = np.where((rows["alike"] != 0)[:, None] | np.isnan(sums), maxs * counts[:, None], sums)
    lasts = np.where(np.isnan(lasts), maxs, lasts)
    for column, key in columns:
        there = ~np.isnan(lasts[:, column])
        if there.all():
            found[key].append(Values(times, lasts[:, column], starts, sums[:, column], counts))
        elif there.any():
            values = (each[there] for each in (times, lasts[:, column], starts, sums[:, column], counts))
            found[key].append(Values(*values))


def _rolled_up_rows(
    reading: Reading, keys: Ids, during: sql.Composed, name: str, found: defaultdict[int, list[Values]]
) -> None:
    tables = [f"sample_{name}"]
    if _exists(reading, f"rollup_{name}_continuous"):  # what TimescaleDB rolled up for an earlier version
        tables.append(f"rollup_{name}_continuous")
    for table in tables:
        query = sql.SQL(
            "SELECT series_id, time, sum, count, last, coalesce(last_time, time) FROM {} f"
            " WHERE series_id = ANY({}::bigint[]) AND {} AND count > 0"
        ).format(sql.Identifier(table), ids(keys), during)
        rows = reading.rows(query, _ROW)
        reading.usage.add_samples(len(rows))
        rows = rows[np.lexsort((rows["time"], rows["series"]))]
        own = rows["series"].astype(np.int64)
        begins = np.flatnonzero(np.append(True, own[1:] != own[:-1])[: len(own)]).tolist()
        for begin, end in zip(begins, [*begins[1:], len(own)][: len(begins)], strict=True):
            some = rows[begin:end]
            sums, counts, lasts = (some[each].astype(np.float64) for each in ("sum", "count", "last"))
            values = Values(_seconds(some["last_time"]), lasts, _seconds(some["time"]), sums, counts)
            found[int(own[begin])].append(values)


def _exists(reading: Reading, relation: str) -> bool:
    query = sql.SQL("SELECT to_regclass({}) IS NOT NULL").format(sql.Literal(relation))
    return bool(reading.rows(query, row_of(("there", "u1")))["there"][0])


def _joined(several: Sequence[Values]) -> Values:
    """Put together what one series has in several places."""
    names = ("times", "values", "starts", "sums", "counts")
    arrays = [np.concatenate([getattr(each, name) for each in several]) for name in names]
    order = np.argsort(arrays[2], kind="stable")
    return Values(*(each[order] for each in arrays))


def _seconds(times: npt.NDArray[Any]) -> Floats:
    return (times.astype(np.int64) + POSTGRES_EPOCH_US) / 1e6


def _instant(seconds: float) -> sql.Composed:
    return sql.SQL("{}::timestamptz").format(sql.Literal(datetime.fromtimestamp(seconds, UTC).isoformat()))
