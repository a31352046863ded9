"""The keys of series by what their points carry, looked up by thousands at once.

What a point carries is known by a hash of 64 bits, keyed by a secret of this process: 16 bytes an entry, and two thirds
of them are used, whatever the attributes are. Two of a million series share a hash by chance in one of 30 million
stores; nobody can make two that do. (The key of a series is itself 64 bits of a hash.)
"""

from __future__ import annotations

import hashlib
import secrets
import struct

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.int64]

_SECRET = secrets.token_bytes(16)
_SMALLEST = 2**10
_FULL = 2 / 3
_MOVED_EACH, _MOVED_AT_ONCE = 8, 2048
"""Slots of a table that became too small: how many are moved for each entry that is added, so that all have been long
before the next table is too small, and how many at a time, for fewer cost numpy as much."""


def salt(metric_id: int, resource_id: int, scope_id: int) -> int:
    """Return what the hashes of a metric of a resource and scope are combined with, by exclusive or."""
    ids = struct.pack("<qqq", metric_id, resource_id, scope_id)
    return int.from_bytes(hashlib.blake2b(ids, digest_size=8, key=_SECRET).digest(), "little", signed=True)


class _Table:
    """A hash table in two arrays. A hash of 0 marks a slot that is free, and is none."""

    def __init__(self, slots: int) -> None:
        self.count = 0
        self._mask = slots - 1
        self._hashes: Hashes = np.zeros(slots, np.int64)
        self._series: Hashes = np.zeros(slots, np.int64)

    @property
    def slots(self) -> int:
        """For how many entries there is memory."""
        return self._mask + 1

    def entries(self, some: slice) -> tuple[Hashes, Hashes]:
        """Return the hashes in some of the slots, and the series they stand for."""
        hashes = self._hashes[some]
        used = np.flatnonzero(hashes)
        return hashes[used], self._series[some][used]

    def find(self, hashes: Hashes) -> tuple[Hashes, npt.NDArray[np.bool_]]:
        """Return the series of each hash, and whether there is one."""
        at = hashes & self._mask
        there = self._hashes[at]
        series, found = self._series[at], there == hashes
        left = np.flatnonzero(~found & (there != 0))
        while len(left):
            at[left] = at[left] + 1 & self._mask
            there = self._hashes[at[left]]
            same = there == hashes[left]
            series[left[same]], found[left[same]] = self._series[at[left[same]]], True
            left = left[~same & (there != 0)]
        return series, found

    def get(self, its_hash: int) -> int | None:
        """Return the series of a hash."""
        at = its_hash & self._mask
        while (there := self._hashes.item(at)) != 0:
            if there == its_hash:
                return self._series.item(at)
            at = at + 1 & self._mask
        return None

    def add(self, hashes: Hashes, series: Hashes) -> None:
        """Add entries, none of which is there, nor twice. There must be room."""
        self.count += len(hashes)
        at, left = hashes & self._mask, np.arange(len(hashes))
        while len(left):
            slots = at[left]
            free = self._hashes[slots] == 0
            # Of several for one slot the last has it, the others find it taken.
            self._hashes[slots[free]] = hashes[left[free]]
            won = free & (self._hashes[slots] == hashes[left])
            self._series[slots[won]] = series[left[won]]
            left = left[~won]
            at[left] = at[left] + 1 & self._mask

    def add_one(self, its_hash: int, series: int) -> None:
        """Add an entry that is not there. There must be room."""
        self.count += 1
        at = its_hash & self._mask
        while self._hashes.item(at) != 0:
            at = at + 1 & self._mask
        self._hashes[at], self._series[at] = its_hash, series


class _Generation:
    """A table that grows by and by: each addition moves some entries of the one that became too small.

    To move all at once would hold the event loop for as long as that takes, 100 ms and more for a million.
    """

    def __init__(self, slots: int = _SMALLEST) -> None:
        self.count = 0
        self._table = _Table(slots)
        self._former: _Table | None = None
        self._moved = self._due = 0  # slots of the former one

    @property
    def slots(self) -> int:
        """For how many entries there is memory."""
        return self._table.slots

    def find(self, hashes: Hashes) -> tuple[Hashes, npt.NDArray[np.bool_]]:
        """Return the series of each hash, and whether there is one."""
        series, found = self._table.find(hashes)
        if self._former is not None and not found.all():
            missed = np.flatnonzero(~found)
            series[missed], found[missed] = self._former.find(hashes[missed])
        return series, found

    def get(self, its_hash: int) -> int | None:
        """Return the series of a hash."""
        found = self._table.get(its_hash)
        return self._former.get(its_hash) if found is None and self._former is not None else found

    def add(self, hashes: Hashes, series: Hashes) -> None:
        """Add entries, none of which is there, nor twice."""
        self._make_room(len(hashes))
        self._table.add(hashes, series)

    def add_one(self, its_hash: int, series: int) -> None:
        """Add an entry that is not there."""
        self._make_room(1)
        self._table.add_one(its_hash, series)

    def _make_room(self, more: int) -> None:
        self.count += more
        if self._former is not None:
            self._due += more * _MOVED_EACH
            if self._due >= _MOVED_AT_ONCE:
                self._move(self._due)
        if self.count <= _FULL * self.slots:
            return
        if self._former is not None:  # which a very large addition alone finds
            self._move(self._former.slots)
        slots = self.slots
        while self.count > _FULL * slots:
            slots *= 2
        self._former, self._table, self._moved, self._due = self._table, _Table(slots), 0, 0

    def _move(self, slots: int) -> None:
        assert self._former is not None, "there is something to be moved"
        self._table.add(*self._former.entries(slice(self._moved, self._moved + slots)))
        self._moved += slots
        self._due = 0
        if self._moved >= self._former.slots:
            self._former = None


class SeriesIndex:
    """Series by hash, at most ``limit``.

    There are two generations: when the younger has half of that it becomes the older, and the older is forgotten, so
    that series in use stay known and those that ended do not. Up to half of the limit may be in use at a time; beyond,
    some are forgotten before they come again.
    """

    def __init__(self, limit: int) -> None:
        self._most = max(limit // 2, 1)
        self.turns = 0
        self.clear()

    def __len__(self) -> int:
        return self._young.count + self._old.count

    def clear(self) -> None:
        """Forget all."""
        self._young = _Generation()
        self._old = _Generation()

    def find(self, hashes: Hashes) -> tuple[Hashes, npt.NDArray[np.bool_]]:
        """Return the series of each hash, and whether it is known."""
        series, found = self._young.find(hashes)
        if self._old.count and not found.all():
            missed = np.flatnonzero(~found)
            older, known = self._old.find(hashes[missed])
            if known.any():
                series[missed], found[missed] = older, known
                again, first = np.unique(hashes[missed[known]], return_index=True)
                self._add(again, older[known][first])
        return series, found

    def get(self, its_hash: int) -> int | None:
        """Return the series of a hash, None when it is not known."""
        found = self._young.get(its_hash)
        if found is None and (found := self._old.get(its_hash)) is not None:
            self.add(its_hash, found)
        return found

    def add(self, its_hash: int, series: int) -> None:
        """Remember a series, which is not known, by a hash."""
        self._make_room(1)
        self._young.add_one(its_hash, series)

    def _add(self, hashes: Hashes, series: Hashes) -> None:
        for first in range(0, len(hashes), self._most):
            some = slice(first, first + self._most)
            self._make_room(len(hashes[some]))
            self._young.add(hashes[some], series[some])

    def _make_room(self, more: int) -> None:
        if self._young.count and self._young.count + more > self._most:
            self.turns += 1
            self._old, self._young = self._young, _Generation(self._young.slots)
