"""Frames: points that were observed together, of which a query wants some members.

PostgreSQL puts the frames of a set and a quarter of an hour together before it sends them: to take in a row costs this
process more than what is in it. What was read is remembered, up to a bound, and used again where the store has as many
frames of that set and quarter as then. That is enough to know that they are the same ones: frames are never changed,
and go only with their partition, which is part of what is remembered.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from psycopg import sql

from gateway.query.reading.arrays import array_of, as_array, row_of, statement
from gateway.query.reading.chunks import Floats, SharedTimes, Times, to_milliseconds
from gateway.query.reading.connection import Reading
from gateway.query.reading.window import Window
from gateway.query.series import Hints, Matcher
from gateway.store import POSTGRES_EPOCH_US

_SLOT = 15 * 60_000
"""Milliseconds whose frames are one row, and one thing to remember."""
_DAY = 96
"""Slots that are read at once: PostgreSQL has those of one set in memory."""
_WORTH = _SLOT
"""Milliseconds from which on a time range is worth remembering: less is read as it is."""
_LOOKS = 64
"""Frames that are one row where there is one of each time that is looked at."""
_MOST = 3 / 4
"""Part of the memory that one query may take."""
_AT_ONCE = 2**16
"""Values that are put in order at a time: each is there three times meanwhile."""
_OVERHEAD = 500
"""Bytes that a stretch takes besides its arrays."""
_FEW, _SPARSE = 16, 4
"""Members that are asked for one by one, at most, where there are that many times as many between the first and the
last. PostgreSQL finds an element in an array quickly, and takes its time to copy many."""
_NOTED = 1000
"""Selections of which it is noted where their series are, and series that each of them may have. With more, to wait
for PostgreSQL is little of the work."""

_COUNT = row_of(("set", ">i8"), ("slot", ">i8"), ("count", ">i8"))
_PARTITIONS = row_of(("partitions", ">i8"), ("count", ">i8"))

Ids = npt.NDArray[np.int64]
_Identity = tuple[int, ...]
_Key = tuple[_Identity, "Slice", int]


class Slice(NamedTuple):
    """Members of a set: those that stand side by side, or where that would be many others, those at ``places``."""

    set_id: int
    first: int
    width: int
    places: tuple[int, ...] = ()

    @classmethod
    def of(cls, set_id: int, places: Sequence[int]) -> Slice:
        """Return what has the members at some places, ascending: between them there may be others."""
        span = places[-1] - places[0] + 1
        if len(places) <= _FEW and span > _SPARSE * len(places):
            return cls(set_id, places[0], len(places), tuple(places))
        return cls(set_id, places[0], span)

    def columns(self, places: Sequence[int]) -> list[int]:
        """Return where in its values those places are that it is of."""
        return list(range(self.width)) if self.places else [place - self.first for place in places]


class Stretch(NamedTuple):
    """Values of a slice, ascending by time: one row for each member. ``frames`` is how many they are of."""

    times: Times
    values: Floats
    frames: int

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return self.times.nbytes + self.values.nbytes + _OVERHEAD


class Looks(NamedTuple):
    """All that a query looks at: ``length`` milliseconds up to ``end``, and up to ``more`` steps before it."""

    end: int
    step: int
    length: int
    more: int
    last_only: bool
    """Whether the newest frame of each is enough: whoever asks takes the newest sample."""


def looks(window: Window, hints: Hints) -> Looks | None:
    """Return what a query looks at, where that is much less than its whole time range."""
    step = hints.step or window.end - window.start
    if not hints.range or hints.range * (1 if hints.last_only else 2) > step:
        return None
    more = (window.end - window.start - hints.range) // step
    return Looks(window.end, step, hints.range, more, hints.last_only) if hints.last_only or more else None


class Selection(NamedTuple):
    """By which statements a selector found its series, and which of them have numbers."""

    statements: Sequence[sql.SQL]
    series: Ids


_T = TypeVar("_T")
_V = TypeVar("_V")


class Memory:
    """What was read of frames, up to ``size`` bytes; the longest unused goes first. For several threads."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        self._stretches: OrderedDict[_Key, Stretch] = OrderedDict()
        self._slices: OrderedDict[bytes, Sequence[Slice]] = OrderedDict()
        self._selections: OrderedDict[tuple[Matcher, ...], Selection] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: _Key, frames: int) -> Stretch | None:
        """Return what was read, where it is of as many frames."""
        with self._lock:
            if (found := self._stretches.get(key)) is None or found.frames != frames:
                return None
            self._stretches.move_to_end(key)
            return found

    def keep(self, several: dict[_Key, Stretch]) -> None:
        """Remember what was read, unless it is so much that little else would stay."""
        if not several or sum(stretch.size for stretch in several.values()) > self.size * _MOST:
            return
        with self._lock:
            for key, stretch in several.items():
                stretch.times.flags.writeable = stretch.values.flags.writeable = False
                if (before := self._stretches.pop(key, None)) is not None:
                    self.used -= before.size
                self._stretches[key] = stretch
                self.used += stretch.size
            while self.used > self.size:
                _, oldest = self._stretches.popitem(last=False)
                self.used -= oldest.size

    def note(self, series: Ids, slices: Sequence[Slice]) -> None:
        """Note where series were found. They may be elsewhere, too, by the time that they are asked for again."""
        if self.size and len(series) <= _NOTED:
            self._note(self._slices, series.tobytes(), slices)

    def lately(self, series: Ids) -> Sequence[Slice]:
        """Return where series were found lately; nothing where that is not known."""
        with self._lock:
            return self._slices.get(series.tobytes(), ())

    def note_selection(self, matchers: Sequence[Matcher], selection: Selection) -> None:
        """Note what a selector found."""
        if self.size and len(selection.series) <= _NOTED:
            self._note(self._selections, tuple(matchers), selection)

    def selection(self, matchers: Sequence[Matcher]) -> Selection | None:
        """Return what a selector found lately, where that is known."""
        with self._lock:
            return self._selections.get(tuple(matchers))

    def _note(self, noted: OrderedDict[_T, _V], key: _T, value: _V) -> None:
        with self._lock:
            noted[key] = value
            noted.move_to_end(key)
            if len(noted) > _NOTED:
                noted.popitem(last=False)


NOTHING_REMEMBERED = Memory(0)


def statements(slices: Sequence[Slice], window: Window, memory: Memory, only: Looks | None) -> list[sql.SQL]:
    """Return what `read` will ask first."""
    if only is not None:
        return _statements(slices, _looks(only))
    if window.end - window.start < _WORTH:
        return _statements(slices, _whole(window))
    return [*([_partitions()] if memory.size else []), _count(slices, _of_slots(window))]


def read(
    reading: Reading,
    slices: Sequence[Slice],
    window: Window,
    share: SharedTimes,
    memory: Memory,
    only: Looks | None = None,
) -> Iterator[tuple[Slice, Times, Floats]]:
    """Yield the values of slices in a time range; those without any are left out. Each set is in one slice.

    ``only``: what is not looked at may be left out as well.
    """
    parts: defaultdict[Slice, list[tuple[int, Stretch]]] = defaultdict(list)
    if only is not None or window.end - window.start < _WORTH:
        frames = _whole(window) if only is None else _looks(only)
        for its, stretch in _read(reading, slices, frames, share):
            parts[its].append((int(stretch.times[0]), stretch))
    else:
        _read_slots(reading, slices, _of_slots(window), share, memory, parts)
    joined: dict[tuple[int, ...], Times] = {}
    for its, several in parts.items():
        several.sort(key=lambda part: part[0])
        stretches = [stretch for _, stretch in several]
        key = tuple(id(stretch.times) for stretch in stretches)
        if (times := joined.get(key)) is None:
            times = joined[key] = np.concatenate([stretch.times for stretch in stretches])
        low, high = np.searchsorted(times, (window.start, window.end), side="right").tolist()
        if low == high:
            continue
        values = np.concatenate([stretch.values for stretch in stretches], axis=1)
        yield its, share(times[low:high]), values[:, low:high]


def _read_slots(
    reading: Reading,
    slices: Sequence[Slice],
    window: Window,
    share: SharedTimes,
    memory: Memory,
    parts: defaultdict[Slice, list[tuple[int, Stretch]]],
) -> None:
    """Put into `parts` what slices have in whole slots: from memory, or else from the store."""
    identity = _identity(reading) if memory.size else ()
    counts = _counts(reading, slices, window)
    of_sets = {its.set_id: its for its in slices}
    reading.usage.needs(samples=sum(count * of_sets[set_id].width for (set_id, _), count in counts.items()))
    missing: defaultdict[tuple[Slice, int], list[int]] = defaultdict(list)
    for (set_id, slot), count in counts.items():
        its = of_sets[set_id]
        if (known := memory.find((identity, its, slot), count)) is None:
            missing[its, slot // _DAY].append(slot)
        else:
            reading.usage.add_samples(known.values.size)
            parts[its].append((slot, known))
    together: defaultdict[tuple[int, int], list[Slice]] = defaultdict(list)
    for (its, _), slots in missing.items():
        together[min(slots), max(slots)].append(its)
    added: dict[_Key, Stretch] = {}
    for (lowest, highest), some in together.items():
        its_time = Window(lowest * _SLOT - 1, (highest + 1) * _SLOT - 1)
        for its, stretch in _read(reading, some, _slots(its_time), share):
            slot = int(stretch.times[0]) // _SLOT
            if slot in missing[its, slot // _DAY]:  # else it is known, and between others that are not
                parts[its].append((slot, stretch))
                if counts[its.set_id, slot] == stretch.frames:
                    added[identity, its, slot] = stretch
    memory.keep(added)


def _of_slots(window: Window) -> Window:
    """Return a time range with all of the slots that it has a part of."""
    return Window((window.start + 1) // _SLOT * _SLOT - 1, (window.end // _SLOT + 1) * _SLOT - 1)


def _identity(reading: Reading) -> _Identity:
    """Return what is another one where the server, the database or the partitions of frames are others."""
    (row,) = reading.rows(_partitions(), _PARTITIONS)
    return (*reading.origin, int(row["partitions"]), int(row["count"]))


def _partitions() -> sql.SQL:
    return statement(
        "SELECT coalesce(bit_xor(hashint8extended(inhrelid::bigint, 0)), 0), count(*) FROM pg_inherits"
        " WHERE inhparent = 'frame'::regclass"
    )


def _count(slices: Sequence[Slice], window: Window) -> sql.SQL:
    return statement(
        "SELECT f.set_id, date_bin('15 minutes', f.time, 'epoch'), count(*) FROM frame f WHERE f.set_id ="
        " ANY({sets}::bigint[]) AND {time} GROUP BY 1, 2",
        sets=as_array(its.set_id for its in slices),
        time=window.text_on("f.time"),
    )


def _counts(reading: Reading, slices: Sequence[Slice], window: Window) -> dict[tuple[int, int], int]:
    """Return how many frames there are of each set and slot that has some."""
    rows = reading.rows(_count(slices, window), _COUNT)
    slots = to_milliseconds(rows["slot"].astype(np.int64) + POSTGRES_EPOCH_US) // _SLOT
    keys = zip(rows["set"].tolist(), slots.tolist(), strict=True)
    return dict(zip(keys, rows["count"].tolist(), strict=True))


def _whole(window: Window) -> str:
    """Return how the frames of ``s.set_id`` in a short time range are put together: all of them."""
    return f"FROM frame f WHERE f.set_id = s.set_id AND {window.text_on('f.time')} HAVING count(*) > 0"


def _slots(window: Window) -> str:
    """Return how the frames of ``s.set_id`` in a time range are put together: by slots."""
    its = window.text_on("f.time")
    return f"FROM frame f WHERE f.set_id = s.set_id AND {its} GROUP BY date_bin('15 minutes', f.time, 'epoch')"


def _looks(only: Looks) -> str:
    """Return how the frames of ``s.set_id`` that are looked at are put together: some looks, in a row."""
    return _LOOKED_AT.format(
        more=only.more,
        end=Window.text(only.end),
        step=only.step,
        length=only.length - 1,
        newest=" ORDER BY f.time DESC LIMIT 1" if only.last_only else "",
        together=_LOOKS if only.last_only else 1,
    )


_LOOKED_AT = (
    "FROM generate_series(0, {more}) AS look (number) CROSS JOIN LATERAL"
    " (SELECT {end} - (look.number * {step}::bigint) * interval '1 millisecond' AS at) AS t"
    " CROSS JOIN LATERAL (SELECT f.time, f.vals FROM frame f WHERE f.set_id = s.set_id"
    " AND f.time >= t.at - interval '{length} milliseconds'"
    " AND f.time < t.at + interval '1 millisecond'{newest}) AS f GROUP BY look.number / {together}"
)


def _statements(slices: Sequence[Slice], frames: str) -> list[sql.SQL]:
    """Return what reads slices: one statement for those of members side by side, and one for each number of others."""
    kinds: defaultdict[int, list[Slice]] = defaultdict(list)
    for its in slices:
        kinds[len(its.places)].append(its)
    return [_statement(count, some, frames) for count, some in kinds.items()]


def _statement(count: int, slices: Sequence[Slice], frames: str) -> sql.SQL:
    if count:
        places = list(zip(*(its.places for its in slices), strict=True))
        values = "ARRAY[" + ", ".join(f"f.vals[s.p{n}]" for n in range(count)) + "]"
    else:
        places = [tuple(its.first for its in slices), tuple(its.first + its.width - 1 for its in slices)]
        values = "f.vals[s.p0:s.p1]"
    return statement(
        "SELECT s.set_id, g.times, g.vals FROM unnest({sets}::bigint[]{places}) AS s (set_id{names})"
        " CROSS JOIN LATERAL (SELECT array_agg(f.time) AS times, array_agg({values}) AS vals {frames}) AS g",
        sets=as_array(its.set_id for its in slices),
        places="".join(f", {as_array(each)}::integer[]" for each in places),
        names="".join(f", p{n}" for n in range(len(places))),
        values=values,
        frames=frames,
    )


def _read(
    reading: Reading, slices: Sequence[Slice], frames: str, share: SharedTimes
) -> Iterator[tuple[Slice, Stretch]]:
    """Yield what is in the store of slices. ``frames`` finds frames ``f`` of a set, and groups them."""
    of_sets = {its.set_id: its for its in slices}
    found = itertools.chain.from_iterable(reading.rows_by_size(each).items() for each in _statements(slices, frames))
    for size, data in found:
        its_sets = np.ndarray(len(data) // size, ">i8", data, _SET, (size,)).tolist()
        widths = np.array([of_sets[set_id].width for set_id in its_sets])
        for width in np.unique(widths).tolist():
            rows = np.frombuffer(data, _together(size, width))[widths == width]
            reading.usage.add_samples(rows["values"]["items"]["value"].size)
            some = max(_AT_ONCE // max(rows["values"]["items"][0].size, 1), 1)
            for begin in range(0, len(rows), some):
                yield from _stretches(rows[begin : begin + some], of_sets, share)


def _together(size: int, width: int) -> np.dtype[np.void]:
    """Return how a row of so many bytes looks: a set, the times of its frames, and their values."""
    count = (size - _HEAD) // (12 * (width + 1))
    items = ("items", [("size", ">i4"), ("value", ">f8")], (count, width))
    matrix = [("length", ">i4"), ("dimensions", ">i4", 7), items]
    return np.dtype([*row_of(("set", ">i8")).descr, ("times", array_of(">i8", count)), ("values", matrix)])


_SET = 2 + 4
"""Where the set stands in such a row."""
_HEAD = 2 + 12 + 24 + 32
"""Bytes of such a row without its times and values."""


def _stretches(
    rows: npt.NDArray[np.void], of_sets: dict[int, Slice], share: SharedTimes
) -> Iterator[tuple[Slice, Stretch]]:
    """Yield what rows with as many frames as each other have."""
    instants = rows["times"]["items"]["value"].astype(np.int64)
    order = np.argsort(instants, axis=1, kind="stable")
    times = to_milliseconds(np.take_along_axis(instants, order, axis=1) + POSTGRES_EPOCH_US)
    # As bits, which no conversion of a number touches: a NaN is told from another by them.
    bits = rows["values"]["items"]["value"].view(">u8")
    ordered = np.take_along_axis(bits, order[:, :, None], axis=1).transpose(0, 2, 1)
    values = ordered.astype(np.uint64, order="C").view(np.float64)
    once: npt.NDArray[np.bool_] = np.ones(times.shape, np.bool_)
    once[:, 1:] = times[:, 1:] != times[:, :-1]
    all_once: list[bool] = np.all(once, axis=1).tolist()
    for row, set_id in enumerate(rows["set"].tolist()):
        at, its = times[row], values[row]
        if not all_once[row]:
            at, its = at[once[row]], its[:, once[row]]
        # Copies, where there are others: what is remembered must not keep all that was read with it.
        alone = len(rows) == 1
        yield of_sets[set_id], Stretch(share(at if alone else at.copy()), its if alone else its.copy(), times.shape[1])
