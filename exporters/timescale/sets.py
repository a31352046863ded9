"""Sets: which series are stored together as the members of frames.

What one request observed at one moment is cut into sets of up to `MOST` series. A set is a dimension: an ordered list
of series, each with what all its points have alike, known by a hash of that. The same collection comes again and again,
so its sets do, and a frame of it names its set and holds the values alone.

Where to cut is decided by what stands there and not by its position, so that a series that appears or goes changes the
set it is in, perhaps the next, and not all behind it. Series are put in order first, by resource, metric and key, for
some clients report them in another order each time.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.store import Connection

if TYPE_CHECKING:
    from exporters.timescale.dimensions import Dimensions
    from exporters.timescale.layouts import Layout

MOST = 112
"""Members of a set, at most: a frame with a start time for each is below 2 kB, above which PostgreSQL would move its
arrays out of the row, to be fetched for each series that is read."""

IS_INT = 1
HAS_START = 2
"""What all points of a member have alike, as bits: a value that is an integer, a start time."""

_LEAST = 32
_FEW = 56
_TINY = 8
_REMEMBERED = 2**20
"""Points of the compositions that are remembered, each of them some 50 bytes."""

_EACH = 64
"""What a composition takes besides, in points."""

_SEEN = 2**17

_Ids = npt.NDArray[np.int64]


class Piece(NamedTuple):
    """A part of a composition that is a set: the points ``[first, end)`` of those put in order."""

    first: int
    end: int
    set_id: int
    members: bytes
    """What the set is known by: keys of series, then their bits."""


@dataclass(slots=True, eq=False)
class Composition:
    """How points that were observed together are put in order and cut; ``alone`` are those in no set.

    The pieces are all of the order, without gaps. ``layout`` is how their rows were laid out last, which `frames` keeps
    here. ``key`` is what `Sets` knows it by.
    """

    order: _Ids
    pieces: list[Piece]
    alone: _Ids
    layout: Layout | None = field(init=False, default=None)
    key: bytes = field(init=False, default=b"")

    @classmethod
    def of(cls, order: _Ids, pieces: Sequence[Piece], alone: _Ids) -> Composition:
        """Return the composition of these pieces of an order, without what lies between them."""
        if sum([piece.end - piece.first for piece in pieces]) == len(order):
            return cls(order, list(pieces), alone)
        its: list[Piece] = []
        at = 0
        for piece in pieces:
            its.append(piece._replace(first=at, end=at + piece.end - piece.first))
            at = its[-1].end
        return cls(np.concatenate([order[:0], *(order[each.first : each.end] for each in pieces)]), its, alone)


class Sets:
    """Cuts what was observed together into sets, and tells which of them the store is to know.

    A set is declared when it comes for the second time: one that never comes again, of series that were seen together
    but once, would cost more than its points do as rows. ``limit`` bounds how many may be declared in all, for a client
    of which no collection is like another.
    """

    def __init__(self, dimensions: Dimensions, limit: int) -> None:
        self.dimensions = dimensions
        self._limit = limit
        self._compositions: OrderedDict[bytes, Composition] = OrderedDict()
        self._points = 0
        self._seen: set[int] = set()
        self._seen_before: set[int] = set()
        self._declared: set[int] = set()

    def load(self, stored: set[int]) -> None:
        """Take over which sets the store has (see `read`). One on the way to it is declared again when it comes."""
        self._seen |= self._declared - stored
        self._declared = stored

    def composition(self, series: _Ids, bits: npt.NDArray[np.uint8], resources: _Ids, metrics: _Ids) -> Composition:
        """Return how points are cut, of which each has a series, bits, a resource and a metric."""
        key = hashlib.blake2b(series.tobytes() + bits.tobytes(), digest_size=16).digest()
        found = self.known(key)
        if found is not None:
            return found
        found = compose(series, bits, resources, metrics)
        found.key = key
        self._compositions[key] = found
        self._points += len(series) + _EACH
        while self._points > _REMEMBERED and len(self._compositions) > 1:
            _, oldest = self._compositions.popitem(last=False)
            self._points -= len(oldest.order) + len(oldest.alone) + _EACH
        return found

    def known(self, key: bytes) -> Composition | None:
        """Return a composition by its key, as long as it is remembered."""
        found = self._compositions.get(key)
        if found is not None:
            self._compositions.move_to_end(key)
        return found

    def are_declared(self, pieces: Sequence[Piece], set_ids: frozenset[int]) -> bool:
        """Tell whether all these sets, with these keys, may be referred to, and declare those that have come before."""
        if set_ids <= self._declared and self.dimensions.are_known(set_ids):
            return True
        declared = [self.is_declared(piece) for piece in pieces]  # each of them hears that it came
        return all(declared)

    def is_declared(self, piece: Piece) -> bool:
        """Tell whether a set may be referred to, and declare it where it has come before."""
        if piece.set_id not in self._declared:
            if piece.set_id not in self._seen and piece.set_id not in self._seen_before:
                if len(self._seen) >= _SEEN:
                    self._seen_before, self._seen = self._seen, set()
                self._seen.add(piece.set_id)
                return False
            if len(self._declared) >= self._limit:
                return False
            self._declared.add(piece.set_id)
        self.dimensions.series_set(piece.set_id, piece.members)
        return True


def compose(series: _Ids, bits: npt.NDArray[np.uint8], resources: _Ids, metrics: _Ids) -> Composition:
    """Put points in order and cut them into sets. A series that is there twice is in a set once."""
    order = np.lexsort((series, metrics, resources))
    ordered = series[order]
    repeated = np.zeros(len(order), bool)
    repeated[1:] = ordered[1:] == ordered[:-1]
    alone = [order[repeated]]
    order = order[~repeated]
    ordered, its_bits = series[order], bits[order]
    pieces: list[Piece] = []
    for first, end in _cuts(ordered, resources[order], metrics[order]):
        if end - first == 1:
            alone.append(order[first:end])
            continue
        members = ordered[first:end].astype(">i8").tobytes() + its_bits[first:end].tobytes()
        pieces.append(Piece(first, end, set_id(members), members))
    return Composition.of(order, pieces, np.concatenate(alone))


_MEMBER = np.dtype(
    [
        ("fields", ">i2"),
        ("set_id_length", ">i4"), ("set_id", ">i8"),
        ("series_id_length", ">i4"), ("series_id", ">i8"),
        ("ord_length", ">i4"), ("ord", ">i2"),
        ("is_int_length", ">i4"), ("is_int", "u1"),
        ("has_start_length", ">i4"), ("has_start", "u1"),
    ]
)  # fmt: skip


def member_rows(key: int, members: bytes) -> bytes:
    """Return the members of a set as rows in binary COPY: ``set_id, series_id, ord, is_int, has_start``."""
    count = len(members) // 9
    bits = np.frombuffer(members, np.uint8, count, 8 * count)
    rows = np.zeros(count, _MEMBER)
    rows["fields"] = 5
    rows["set_id_length"] = rows["series_id_length"] = 8
    rows["ord_length"], rows["is_int_length"], rows["has_start_length"] = 2, 1, 1
    rows["set_id"] = key
    rows["series_id"] = np.frombuffer(members, ">i8", count)
    rows["ord"] = np.arange(1, count + 1)
    rows["is_int"], rows["has_start"] = (bits & IS_INT) > 0, (bits & HAS_START) > 0
    return rows.tobytes()


def read(connection: Connection) -> set[int]:
    """Return the keys of the sets that the store has."""
    with connection.transaction():
        return {row[0] for row in connection.execute("SELECT id FROM series_set")}


def set_id(members: bytes) -> int:
    """Return the key of a set: a hash of the keys of its series, each 8 bytes big-endian, and then their bits."""
    return int.from_bytes(hashlib.blake2b(b'"set"' + members).digest()[:8], "big", signed=True)


def _cuts(series: _Ids, resources: _Ids, metrics: _Ids) -> list[tuple[int, int]]:
    """Return where the sets of points in order begin and end."""
    count = len(series)
    new_resource = np.ones(count + 1, bool)
    new_resource[1:-1] = resources[1:] != resources[:-1]
    new_metric = new_resource.copy()
    new_metric[1:-1] |= metrics[1:] != metrics[:-1]
    resource_starts = np.flatnonzero(new_resource)
    # A resource with series enough has sets of its own: with which others it comes is chance.
    large = np.zeros(count + 1, bool)
    for start, end in itertools.pairwise(resource_starts.tolist()):
        if end - start >= _LEAST:
            large[start] = large[end] = True
    # Keys are hashes, so some of their bits are as good as a throw of dice.
    may_cut = np.zeros(count + 1, bool)
    may_cut[:-1] = new_metric[:-1] & (((metrics ^ (resources >> 8)) & 3) == 0)
    starts = np.flatnonzero(new_metric).tolist()
    cuts: list[tuple[int, int]] = []
    first = 0

    def close(at: int) -> None:
        nonlocal first
        if at - first >= _TINY or (at > first and (not cuts or large[first] or at - cuts[-1][0] > MOST)):
            cuts.append((first, at))
        elif at > first:  # what is left over goes to the set before
            cuts[-1] = (cuts[-1][0], at)
        first = at

    for start, end in itertools.pairwise(starts):
        if large[start] or (start - first >= _FEW and may_cut[start]) or end - first > MOST >= end - start:
            close(start)
        if end - first > MOST:  # a metric of more series than a set has room for
            within = start + np.flatnonzero((series[start:end] & 31) == 0)
            for at in within.tolist():
                while at - first > MOST:
                    close(first + MOST)
                if at - first >= _FEW:
                    close(at)
            while end - first > MOST:
                close(first + MOST)
    close(count)
    return cuts
