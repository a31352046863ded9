"""Rollups: number points by the minute, and minutes by the hour, made by the gateway in every layout.

Only what has ended is rolled up: of a minute or an hour under way nothing is shown as if it were whole. Writers note
which minutes got points; each is computed anew from all of its points, be they rows or in frames, and then the hour it
is in from all of its minutes. A series has one rollup an interval: in a frame of the set that had its latest point
where it agrees with the others there in how many values it has and when the latest was, and as a row otherwise.

What there is to do may be much, after a database was away for long: it is done in transactions that take about a
second each, the oldest first, and what is done stays done.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg import sql

from gateway.store import layout, partitions
from gateway.store.binary import HEADER, OID_FLOAT8, POSTGRES_EPOCH_US, TRAILER, array_begin
from gateway.store.binary_rows import FLOAT8_ITEM, array_items, read_rows
from gateway.store.dropped_before import dropped_before
from gateway.store.locks import Lock, try_hold
from gateway.store.settings import StoreSettings

PART = 56
"""Members of a set whose rollups are one row: its four arrays are below 2 kB together."""

_MOST_AT_ONCE = 240
"""Intervals that are rolled up in one transaction, where few points are in them."""

_SECONDS = 1.0
"""About how long a transaction may take."""

_LONGEST = 300.0
"""Seconds after which a round of maintenance goes on to what else there is to do."""

_MARGIN = timedelta(hours=1)
"""For how long a chunk may have been about to be dropped."""

_EARLIER_WRITE = timedelta(days=7)
"""For how long after a migration gateways of an earlier version are reckoned with."""

_SPARSE = 0.75
"""Of the members of a row, up to how many may say something in an array whose other items are NULL."""

_HUGE = 1e290
"""Values beyond are left out of sums: PostgreSQL raises an error for one that has no double."""

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


class _Source(NamedTuple):
    """What a rollup is made of, and where the work is noted."""

    interval: timedelta
    rows: str
    frames: str
    source: str
    pending: str
    start: str


_MINUTE = _Source(timedelta(minutes=1), "sample_1m", "frame_1m", "sample", "rollup_pending", "minute")
_HOUR = _Source(timedelta(hours=1), "sample_1h", "frame_1h", "sample_1m", "rollup_pending_1h", "hour")


class Values(NamedTuple):
    """What series had in an interval, as arrays of one length: a series may be there more than once.

    ``counts`` are how many values each had, ``summed`` how many of them are in ``sum``. ``last_at`` is when the last
    was, in nanoseconds since the Unix epoch. ``home`` is the part of a set they came from, as an index; -1 for a row.
    """

    series: _Ints
    counts: _Ints
    summed: _Ints
    sum: _Floats
    min: _Floats
    max: _Floats
    last: _Floats
    last_at: _Ints
    home: _Ints

    def take(self, which: Any) -> Values:
        """Return some of them, by their indexes or a mask."""
        return Values._make(column[which] for column in self)


class _Home(NamedTuple):
    """A part of a set, with the keys of its series."""

    set_id: int
    part: int
    series: _Ints


def roll_up(
    connection: layout.Connection,
    present: layout.Layout,
    settings: StoreSettings,
    its_partitions: partitions.Partitions,
) -> bool:
    """Roll up what has ended and got points. Returns False when another gateway is at it.

    What retention may have taken the points of is never computed anew: the few that came late would take the place of
    all that were there. Series that had nothing in such an interval get what came.
    """
    began = time.monotonic()
    for source in (_MINUTE, _HOUR):
        at_once = 1
        while True:
            with connection.transaction():
                if not try_hold(connection, Lock.MAINTENANCE):
                    return False
                if not settings.rollups:
                    connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(source.pending)))
                    break
                starts = _due(connection, source, at_once)
            if not starts:
                break
            if present.native:
                # Partitions are made in transactions of their own.
                numbers = {partitions.interval_of(at, settings.chunk_interval) for at in starts}
                for table in (source.rows, source.frames):
                    its_partitions.ensure(connection, table, numbers)
            since = time.monotonic()
            with connection.transaction():
                if not try_hold(connection, Lock.MAINTENANCE):
                    return False
                _take_up(connection, source, starts)
                _roll_up(connection, source, starts, _taken(connection, source, present, settings))
            if time.monotonic() - began > _LONGEST:
                return True
            at_once = min(2 * at_once, _MOST_AT_ONCE) if time.monotonic() - since < _SECONDS else max(at_once // 2, 1)
    return True


def note_unnoted(connection: layout.Connection) -> None:
    """Note minutes to be rolled up again whose points gateways of an earlier version may have stored.

    Where TimescaleDB made the rollups they noted no minutes, and a store is migrated while some of them still write.
    Each gateway does this once, at its start, which is when an earlier one has been replaced.
    """
    since = layout.read_setting(connection, "rolled_up_since")
    if since is None or datetime.now(UTC) - (start := datetime.fromisoformat(since)) > _EARLIER_WRITE:
        return
    connection.execute(
        "INSERT INTO rollup_pending (minute) SELECT DISTINCT date_trunc('minute', time) FROM sample WHERE time >= %s",
        (start,),
    )


def _due(connection: layout.Connection, source: _Source, most: int) -> list[datetime]:
    """Return the oldest intervals that have ended and are to be rolled up."""
    start = sql.Identifier(source.start)
    query = sql.SQL("SELECT DISTINCT {0} FROM {1} WHERE {0} + %s <= clock_timestamp() ORDER BY 1 LIMIT %s")
    rows = connection.execute(query.format(start, sql.Identifier(source.pending)), (source.interval, most))
    return [row[0] for row in rows]


def _take_up(connection: layout.Connection, source: _Source, starts: Sequence[datetime]) -> None:
    """Strike intervals off what is to be done, and note the hours of minutes."""
    delete = sql.SQL("DELETE FROM {} WHERE {} = ANY(%s)")
    connection.execute(delete.format(sql.Identifier(source.pending), sql.Identifier(source.start)), (list(starts),))
    if source is _MINUTE:
        hours = sorted({at.astimezone(UTC).replace(minute=0) for at in starts})
        connection.execute(
            "INSERT INTO rollup_pending_1h (hour) SELECT hour FROM unnest(%s::timestamptz[]) AS new (hour)"
            " WHERE NOT EXISTS (SELECT FROM rollup_pending_1h known WHERE known.hour = new.hour)",
            (hours,),
        )


def _taken(
    connection: layout.Connection, source: _Source, present: layout.Layout, settings: StoreSettings
) -> datetime | None:
    """Return before when retention may have taken what a rollup is made of."""
    noted = dropped_before(connection, source.source)
    kept = settings.retention.metrics if source is _MINUTE else settings.retention.rollup_1m
    if not present.community or kept is None:
        return noted
    # TimescaleDB drops chunks by itself, and notes it nowhere.
    since = datetime.now(UTC) - kept + _MARGIN
    return since if noted is None else max(noted, since)


def _roll_up(
    connection: layout.Connection, source: _Source, starts: Sequence[datetime], taken: datetime | None
) -> None:
    """Compute intervals anew; of those before the instant ``taken`` only what series have that had nothing there."""
    since = layout.read_setting(connection, "rolled_up_since")
    if since is not None:  # before that they are TimescaleDB's, by an earlier version
        starts = [start for start in starts if start >= datetime.fromisoformat(since)]
    for first, last in _ranges(starts, source.interval):
        bounds = {"lower": first, "upper": last + source.interval}
        begin, length = _unix_nano(first), source.interval // timedelta(microseconds=1) * 1000
        homes, values = _read(connection, source, bounds)
        merged = merge(values, begin, length)
        numbers = (merged.last_at - begin) // length
        kept = 0 if taken is None else -(-(taken - first) // source.interval)
        if kept > 0:
            _insert_missing(connection, source, first, merged.take(numbers < kept), numbers[numbers < kept])
        if kept * source.interval >= last + source.interval - first:
            continue
        bounds["lower"] = max(first, first + kept * source.interval)
        for table in (source.rows, source.frames):
            delete = sql.SQL("DELETE FROM {} WHERE time >= %(lower)s AND time < %(upper)s")
            connection.execute(delete.format(sql.Identifier(table)), bounds)
        frames, rows = [], []
        for number in np.unique(numbers[numbers >= kept]).tolist():
            at = _microseconds(first + number * source.interval)
            in_frames, alone = settle(homes, merged.take(numbers == number))
            frames += [_frame_row(at, homes[home], its) for home, its in in_frames]
            if len(alone.series):
                rows.append(_rows(at, alone))
        _copy(connection, source.frames, "time, set_id, last_time, count, part, maxs, mins, sums, lasts", frames)
        _copy(connection, source.rows, "time, series_id, count, sum, min, max, last, last_time", rows)


def _ranges(starts: Sequence[datetime], length: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Join adjacent intervals, which are sorted, into ranges; yield the start of the first and of the last of each."""
    first = last = None
    for start in starts:
        if first is None or last is None:
            first = start
        elif start - last != length:
            yield first, last
            first = start
        last = start
    if first is not None and last is not None:
        yield first, last


def merge(values: Sequence[Values], begin: int, length: int) -> Values:
    """Return what each series had, once an interval; its home is that of its latest point.

    Intervals are of a length in nanoseconds, the first begins at ``begin``, in nanoseconds since the Unix epoch.
    """
    joined = Values._make(map(np.concatenate, zip(*values, strict=True))) if values else _nothing()
    interval = (joined.last_at - begin) // length
    order = np.lexsort((joined.last_at, joined.series, interval))
    joined, interval = joined.take(order), interval[order]
    if not len(order):
        return joined
    changes = (joined.series[1:] != joined.series[:-1]) | (interval[1:] != interval[:-1])
    begins = np.concatenate(([True], changes))
    if begins.all():
        return joined
    starts = np.flatnonzero(begins)
    latest = np.concatenate((starts[1:], [len(order)])) - 1
    # Of what is in rows and in sets, the latest set is the home, whichever was last.
    settled = np.maximum.reduceat(np.where(joined.home >= 0, np.arange(len(order)), -1), starts)
    home = np.where(settled >= 0, joined.home[settled], -1)
    with np.errstate(invalid="ignore"):  # infinity and its opposite have no sum, which is NaN as in SQL
        sums = np.add.reduceat(joined.sum, starts)
    return Values(
        joined.series[starts],
        np.add.reduceat(joined.counts, starts),
        np.add.reduceat(joined.summed, starts),
        sums,
        np.minimum.reduceat(joined.min, starts),
        np.maximum.reduceat(joined.max, starts),
        joined.last[latest],
        joined.last_at[latest],
        home,
    )


def settle(homes: Sequence[_Home], values: Values) -> tuple[list[tuple[int, Values]], Values]:
    """Return which rollups stand in the frame of which home, in the order of its members, and those that are rows.

    Members that are not among them have no series (-1 as their count).
    """
    if not len(values.series):
        return [], values
    in_frames: list[tuple[int, Values]] = []
    is_row = np.ones(len(values.series), bool)
    microseconds = values.last_at // 1000
    for index, home in enumerate(homes):
        places = np.searchsorted(values.series, home.series)
        places[places == len(values.series)] = 0
        here = (values.series[places] == home.series) & (values.home[places] == index) & (values.summed[places] > 0)
        if not here.any():
            continue
        counts, lasts = values.counts[places], microseconds[places]
        first = int(np.argmax(here))
        usual = here & (counts == counts[first]) & (lasts == lasts[first])
        if 2 * usual.sum() < here.sum():
            continue  # it is hardly worth a row of arrays
        is_row[places[usual]] = False
        its = values.take(places)
        in_frames.append((index, its._replace(counts=np.where(usual, its.counts, -1))))
    return in_frames, values.take(is_row)


# -- reading ---------------------------------------------------------------------------------------------------------


def _nothing() -> Values:
    integers, floats = np.empty(0, np.int64), np.empty(0, np.float64)
    return Values(integers, integers, integers, floats, floats, floats, floats, integers, integers)


_POINT = np.dtype(
    [("fields", ">i2"), ("l1", ">i4"), ("series", ">i8"), ("l2", ">i4"), ("time", ">i8"), ("l3", ">i4"), ("ns", ">i2"),
     ("l4", ">i4"), ("value", ">f8")]
)  # fmt: skip
_ROLLED = np.dtype(
    [("fields", ">i2"), ("l1", ">i4"), ("series", ">i8"), ("l2", ">i4"), ("count", ">i8"), ("l3", ">i4"),
     ("summed", ">i8"), *((name, kind) for each in ("sum", "min", "max", "last")
                          for name, kind in ((f"length_{each}", ">i4"), (each, ">f8"))),
     ("l8", ">i4"), ("last_time", ">i8")]
)  # fmt: skip


def _read(
    connection: layout.Connection, source: _Source, bounds: dict[str, datetime]
) -> tuple[list[_Home], list[Values]]:
    """Return all that there is of a range of intervals, and the parts of sets that some of it came from."""
    homes: list[_Home] = []
    numbers: dict[tuple[int, int], int] = {}
    members = _members(connection, source, bounds)
    values = [_read_points(connection, bounds) if source is _MINUTE else _read_rolled(connection, bounds)]
    read = _read_frames if source is _MINUTE else _read_rolled_frames
    frames = read(connection, bounds, source.interval // timedelta(microseconds=1))
    for set_id, part, its in frames:
        if (series := members.get(set_id)) is None:
            continue
        for first in range(0, len(series), PART) if part is None else [part * PART]:
            number = numbers.get((set_id, first))
            if number is None:
                number = numbers[set_id, first] = len(homes)
                homes.append(_Home(set_id, first // PART, series[first : first + PART]))
            cut = homes[number].series
            own = its.take(slice(first, first + PART)) if part is None else its
            own = own._replace(series=cut, home=np.full(len(cut), number, np.int64))
            values.append(own.take(own.counts > 0))
    return homes, values


def _members(connection: layout.Connection, source: _Source, bounds: dict[str, datetime]) -> dict[int, _Ints]:
    """Return the series of every set that has a frame in an interval."""
    frames = sql.Identifier("frame" if source is _MINUTE else "frame_1m")
    query = sql.SQL(
        "COPY (SELECT m.set_id, m.series_id FROM member m WHERE m.set_id IN (SELECT set_id FROM {} WHERE time >= {}"
        " AND time < {}) ORDER BY m.set_id, m.ord) TO STDOUT (FORMAT binary)"
    ).format(frames, sql.Literal(bounds["lower"]), sql.Literal(bounds["upper"]))
    row = np.dtype([("fields", ">i2"), ("l1", ">i4"), ("set", ">i8"), ("l2", ">i4"), ("series", ">i8")])
    rows = read_rows(connection, query, row)
    sets, series = rows["set"].astype(np.int64), rows["series"].astype(np.int64)
    starts = np.flatnonzero(np.concatenate(([True], sets[1:] != sets[:-1]))) if len(sets) else np.empty(0, np.int64)
    ends = [*starts[1:].tolist(), len(sets)]
    return {int(sets[first]): series[first:end] for first, end in zip(starts.tolist(), ends, strict=False)}


def _read_points(connection: layout.Connection, bounds: dict[str, datetime]) -> Values:
    query = sql.SQL(
        "COPY (SELECT series_id, time, time_ns, value FROM sample WHERE time >= {} AND time < {} AND value <> 'NaN')"
        " TO STDOUT (FORMAT binary)"
    ).format(sql.Literal(bounds["lower"]), sql.Literal(bounds["upper"]))
    rows = read_rows(connection, query, _POINT)
    value = rows["value"].astype(np.float64)
    summed = (np.abs(value) <= _HUGE) | np.isinf(value)
    at = (rows["time"].astype(np.int64) + POSTGRES_EPOCH_US) * 1000 + rows["ns"]
    one, row = np.ones(len(rows), np.int64), np.full(len(rows), -1, np.int64)
    its_sum = np.where(summed, value, 0.0)
    series = rows["series"].astype(np.int64)
    return Values(series, one, summed.astype(np.int64), its_sum, value, value, value, at, row)


def _read_rolled(connection: layout.Connection, bounds: dict[str, datetime]) -> Values:
    query = sql.SQL(
        "COPY (SELECT series_id, count, CASE WHEN sum IS NULL THEN 0 ELSE count END, coalesce(sum, 0), min, max, last,"
        " coalesce(last_time, time) FROM sample_1m WHERE time >= {} AND time < {} AND count > 0)"
        " TO STDOUT (FORMAT binary)"
    ).format(sql.Literal(bounds["lower"]), sql.Literal(bounds["upper"]))
    rows = read_rows(connection, query, _ROLLED)
    series, counts, summed = (rows[name].astype(np.int64) for name in ("series", "count", "summed"))
    its_sum, low, high, last = (rows[name].astype(np.float64) for name in ("sum", "min", "max", "last"))
    at = (rows["last_time"].astype(np.int64) + POSTGRES_EPOCH_US) * 1000
    return Values(series, counts, summed, its_sum, low, high, last, at, np.full(len(rows), -1, np.int64))


_FRAME = struct.Struct(">hiqiqihiiiiii")
_ROLLED_FRAME = struct.Struct(">hiqihiqiqii")


_Read = Iterator[tuple[int, int | None, Values]]
"""Sets, each with a part, None for all of it, and what its members had in one interval."""


def _read_frames(connection: layout.Connection, bounds: dict[str, datetime], length: int) -> _Read:
    """Yield what is in frames of the members of each set, by intervals of a length in microseconds."""
    query = sql.SQL(
        "COPY (SELECT set_id, time, time_ns, vals FROM frame WHERE time >= {} AND time < {}"
        " ORDER BY set_id, time, time_ns) TO STDOUT (FORMAT binary)"
    ).format(sql.Literal(bounds["lower"]), sql.Literal(bounds["upper"]))
    current: tuple[int, int] | None = None
    rows: list[_Floats] = []
    times: list[int] = []
    for data in _each_row(connection, query):
        _, _, set_id, _, at, _, ns, _, _, _, _, count, _ = _FRAME.unpack_from(data)
        if (set_id, at // length) != current:
            if current is not None:
                yield current[0], None, _of_matrix(np.array(rows), times)
            current, rows, times = (set_id, at // length), [], []
        rows.append(np.frombuffer(data, FLOAT8_ITEM, count, _FRAME.size)["value"].astype(np.float64))
        times.append((at + POSTGRES_EPOCH_US) * 1000 + ns)
    if current is not None:
        yield current[0], None, _of_matrix(np.array(rows), times)


def _of_matrix(matrix: _Floats, times: Sequence[int]) -> Values:
    """Return what each column had of values, which stand in the order of their times."""
    known = ~np.isnan(matrix)
    summed = known & ((np.abs(matrix) <= _HUGE) | np.isinf(matrix))
    ats = np.array(times, np.int64)
    if summed.all():
        count = np.full(matrix.shape[1], len(ats), np.int64)
        latest = np.full(matrix.shape[1], len(ats) - 1)
        low = high = matrix
    else:
        count = known.sum(axis=0)
        latest = len(ats) - 1 - np.argmax(known[::-1], axis=0)
        low, high = np.where(known, matrix, np.inf), np.where(known, matrix, -np.inf)
    with np.errstate(invalid="ignore"):  # as above
        its_sum = np.where(summed, matrix, 0.0).sum(axis=0)
    columns = np.arange(matrix.shape[1])
    return Values(
        columns, count, summed.sum(axis=0), its_sum, low.min(axis=0), high.max(axis=0),
        matrix[latest, columns], ats[latest], columns,
    )  # fmt: skip


def _read_rolled_frames(connection: layout.Connection, bounds: dict[str, datetime], length: int) -> _Read:
    """Yield what is in frames of the minutes of each part of a set, by intervals of a length in microseconds."""
    query = sql.SQL(
        "COPY (SELECT set_id, part, time, last_time, count, maxs, mins, sums, lasts FROM frame_1m"
        " WHERE time >= {} AND time < {} ORDER BY set_id, part, time) TO STDOUT (FORMAT binary)"
    ).format(sql.Literal(bounds["lower"]), sql.Literal(bounds["upper"]))
    current: tuple[int, int, int] | None = None
    minutes: list[tuple[int, int, _Floats, _Floats, _Floats, _Floats]] = []
    for data in _each_row(connection, query):
        _, _, set_id, _, part, _, at, _, last_time, _, count = _ROLLED_FRAME.unpack_from(data)
        offset = _ROLLED_FRAME.size
        highs, offset = _array(data, offset)
        lows, offset = _array(data, offset, highs)
        with np.errstate(invalid="ignore"):
            sums, offset = _array(data, offset, highs * count)
        lasts, offset = _array(data, offset, highs)
        if (set_id, part, at // length) != current:
            if current is not None:
                yield *current[:2], _of_minutes(minutes)
            current, minutes = (set_id, part, at // length), []
        minutes.append((count, (last_time + POSTGRES_EPOCH_US) * 1000, highs, lows, sums, lasts))
    if current is not None:
        yield *current[:2], _of_minutes(minutes)


def _of_minutes(minutes: Sequence[tuple[int, int, _Floats, _Floats, _Floats, _Floats]]) -> Values:
    """Return what each member had in all of its minutes together; one that a minute has as a row is NaN there."""
    counts, ats = np.array([each[0] for each in minutes]), np.array([each[1] for each in minutes], np.int64)
    highs, lows, sums, lasts = (np.array([each[place] for each in minutes]) for place in range(2, 6))
    known = ~np.isnan(highs)
    latest = len(ats) - 1 - np.argmax(known[::-1], axis=0)
    columns = np.arange(highs.shape[1])
    count = np.where(known, counts[:, None], 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        total = np.where(known, sums, 0.0).sum(axis=0)
    return Values(
        columns, count, count, total,
        np.where(known, lows, np.inf).min(axis=0), np.where(known, highs, -np.inf).max(axis=0),
        lasts[latest, columns], ats[latest], columns,
    )  # fmt: skip


def _array(data: bytes, offset: int, implied: _Floats | None = None) -> tuple[_Floats, int]:
    """Return a field of ``double precision[]``, and where the next field begins.

    What is NULL, items or all of it, is as ``implied``; without that, an item is NaN.
    """
    (length,) = struct.unpack_from(">i", data, offset)
    offset += 4
    if length < 0:
        assert implied is not None
        return implied, offset
    _, has_nulls, _, count, _ = struct.unpack_from(">iiiii", data, offset)
    end = offset + length
    if not has_nulls:
        return np.frombuffer(data, FLOAT8_ITEM, count, offset + 20)["value"].astype(np.float64), end
    found, at = np.full(count, np.nan) if implied is None else implied.copy(), offset + 20
    for index in range(count):
        if data[at] == _NULL[0]:
            at += 4
        else:
            (found[index],) = _DOUBLE(data, at + 4)
            at += 12
    return found, end


def _each_row(connection: layout.Connection, query: sql.Composed) -> Iterator[bytes]:
    """Yield the rows of a binary COPY, of which the server sends each on its own."""
    with connection.cursor().copy(query) as stream:
        for index, data in enumerate(stream):
            row = bytes(data)
            if index == 0:
                row = row[len(HEADER) :]
            if row and row != TRAILER:
                yield row


# -- writing ---------------------------------------------------------------------------------------------------------


def _copy(connection: layout.Connection, table: str, columns: str, rows: Sequence[bytes]) -> None:
    if not rows:
        return
    names = sql.SQL(", ").join(map(sql.Identifier, columns.split(", ")))
    query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(table), names)
    with connection.cursor().copy(query) as stream:
        stream.write(HEADER)
        for row in rows:
            stream.write(row)
        stream.write(TRAILER)


def _unix_nano(at: datetime) -> int:
    return (_microseconds(at) + POSTGRES_EPOCH_US) * 1000


def _microseconds(at: datetime) -> int:
    return (at - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


_FRAME_BEGIN = struct.Struct(">hiqiqiqiiih").pack
_NULL = struct.pack(">i", -1)
_DOUBLE = struct.Struct(">d").unpack_from


def _frame_row(at: int, home: _Home, its: Values) -> bytes:
    """Encode the row of a part of a set. What the largest values say already is left out, items and whole arrays."""
    there = its.counts >= 0
    first = int(np.argmax(there))
    count = int(its.counts[first])
    last_time = int(its.last_at[first]) // 1000 - POSTGRES_EPOCH_US
    arrays = [_array_field(its.max, there)]
    with np.errstate(invalid="ignore"):
        for column, implied in ((its.min, its.max), (its.sum, count * its.max), (its.last, its.max)):
            says = there & (column != implied)
            if not says.any():
                arrays.append(_NULL)
                continue
            # An array without NULL is quicker to read from, and of a few items hardly larger.
            sparse = np.count_nonzero(says) <= _SPARSE * np.count_nonzero(there)
            arrays.append(_array_field(column, says if sparse else there))
    return _FRAME_BEGIN(9, 8, at, 8, home.set_id, 8, last_time, 4, count, 2, home.part) + b"".join(arrays)


def _array_field(values: _Floats, there: npt.NDArray[np.bool_]) -> bytes:
    """Encode a field of ``double precision[]``, whose items are NULL where they are not there."""
    items = array_items(FLOAT8_ITEM, len(values))
    items["value"] = values
    content = items.tobytes()
    has_nulls = not there.all()
    if has_nulls:
        ends = np.cumsum(np.where(there, items.itemsize, len(_NULL)))
        sparse = np.full(ends[-1], 0xFF, np.uint8)  # which is the length of a NULL
        each = items.view(np.uint8).reshape(-1, items.itemsize)
        sparse[(ends[there] - items.itemsize)[:, None] + np.arange(items.itemsize)] = each[there]
        content = sparse.tobytes()
    return array_begin(20 + len(content), 1, int(has_nulls), OID_FLOAT8, len(values), 1) + content


_ROW = np.dtype(
    [("fields", ">i2"), ("l1", ">i4"), ("time", ">i8"), ("l2", ">i4"), ("series", ">i8"), ("l3", ">i4"),
     ("count", ">i8"), *((name, kind) for each in ("sum", "min", "max", "last")
                         for name, kind in ((f"length_{each}", ">i4"), (each, ">f8"))),
     ("l8", ">i4"), ("last_time", ">i8")]
)  # fmt: skip
_NO_SUM = np.dtype([(name, kind) for name, kind, *_ in _ROW.descr if name != "sum"])


def _rows(at: int, values: Values) -> bytes:
    """Encode rollups as rows."""
    chunks = []
    for dtype, which in ((_ROW, values.summed > 0), (_NO_SUM, values.summed == 0)):
        its = values.take(which)
        rows = np.zeros(len(its.series), dtype)
        rows["fields"] = 8
        for name in dtype.names or ():
            if name.startswith("l") and name not in ("last", "last_time"):
                rows[name] = 8
        rows["time"], rows["series"], rows["count"] = at, its.series, its.counts
        rows["min"], rows["max"], rows["last"] = its.min, its.max, its.last
        rows["last_time"] = its.last_at // 1000 - POSTGRES_EPOCH_US
        if dtype is _ROW:
            rows["sum"] = its.sum
        else:
            rows["length_sum"] = -1
        chunks.append(rows.tobytes())
    return b"".join(chunks)


def _insert_missing(
    connection: layout.Connection, source: _Source, first: datetime, values: Values, numbers: _Ints
) -> None:
    """Insert, as rows, the rollups of series that have none in an interval; numbers count intervals from the first."""
    query = sql.SQL(
        "INSERT INTO {} (time, series_id, count, sum, min, max, last, last_time)"
        " SELECT new.time, new.series_id, new.count, new.sum, new.min, new.max, new.last, instant(new.last_at)"
        " FROM unnest(%(times)s::timestamptz[], %(series)s::bigint[], %(counts)s::bigint[], %(sum)s::float8[],"
        " %(min)s::float8[], %(max)s::float8[], %(last)s::float8[], %(last_at)s::bigint[])"
        " AS new (time, series_id, count, sum, min, max, last, last_at)"
        " WHERE NOT EXISTS (SELECT FROM {} known WHERE known.time = new.time AND known.series_id = new.series_id)"
    ).format(sql.Identifier(source.rows), sql.Identifier(source.rows.replace("sample", "rollup")))
    sums = [each if summed else None for each, summed in zip(values.sum.tolist(), values.summed.tolist(), strict=True)]
    columns = {name: getattr(values, name).tolist() for name in ("series", "counts", "min", "max", "last", "last_at")}
    times = [first + number * source.interval for number in numbers.tolist()]
    connection.execute(query, {"times": times, "sum": sums, **columns})
