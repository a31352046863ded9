"""Records of several sources as one stream: in order, and each once.

A record may be in two sources: an event goes to the store and to Loki. Two records of one source that look alike are
two records, so that sources are compared by how often each has a record, not by whether it has it.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from gateway.base.instants import SECOND
from gateway.query.logs.records import LogFilter, LogRecord, LogSource, TemporarySourceError

_time = attrgetter("time_unix_nano")
# How often a record was seen, by what tells it from others; its time comes first.
_Counts = Counter[tuple[Any, ...]]


def merged(streams: Sequence[Iterable[LogRecord]]) -> Iterator[LogRecord]:
    """Yield the records of streams, each oldest first, in order; where two have the same, that of the first stream."""
    for _, group in itertools.groupby(heapq.merge(*streams, key=_time), key=lambda record: record.identity[0]):
        yield from _each_once(list(group), Counter(), {})


def _each_once(records: Iterable[LogRecord], seen: _Counts, by_source: dict[str, _Counts]) -> Iterator[LogRecord]:
    """Yield the records that no other source had before, and remember all of them."""
    for record in records:
        counts = by_source.setdefault(record.source, Counter())
        counts[record.identity] += 1
        if counts[record.identity] > seen[record.identity]:
            seen[record.identity] += 1
            yield record


def latest(sources: Sequence[LogSource], wanted: LogFilter, start: int, end: int, limit: int) -> list[LogRecord]:
    """Return the newest records of all sources, at most `limit`, oldest first."""
    if limit <= 0:
        return []
    return list(merged([source.latest(wanted, start, end, limit) for source in sources]))[-limit:]


class Follower:
    """Finds the records that are new in some sources, each once, however late and out of order they arrive.

    Sources have no order of arrival, only that of time. So each look reads again from a while before, and what was
    found before is left out, counted: 10 seconds before the last look on most looks, `late` nanoseconds before the last
    such look on every tenth. A look that failed is none, so that nothing is missed when a source was away.
    """

    def __init__(
        self, sources: Sequence[LogSource], wanted: LogFilter, late: int, clock: Callable[[], int] = time.time_ns
    ) -> None:
        now = clock()
        self._watched = [_Watched(source, wanted, late, now) for source in sources]
        self._clock = clock
        self.since = self._watched[0].horizon
        """The time from which records are looked for, at first."""
        self._seen: _Counts = Counter()
        self._by_source: dict[str, _Counts] = {}

    def poll(self, failed: Callable[[TemporarySourceError], None]) -> list[LogRecord]:
        """Return what is new, in order of time. `failed` is told of a source that cannot be read now."""
        now = self._clock()
        found: list[LogRecord] = []
        for watched in self._watched:
            try:
                found += watched.poll(now)
            except TemporarySourceError as error:
                failed(error)
        new = sorted(_each_once(found, self._seen, self._by_source), key=_time)
        horizon = min(watched.horizon for watched in self._watched)
        for counts in (self._seen, *self._by_source.values()):
            _forget(counts, horizon)
        return new


class _Watched:
    """What is known of one source."""

    _QUICK = 10 * SECOND
    _THOROUGH_EVERY = 10

    def __init__(self, source: LogSource, wanted: LogFilter, late: int, now: int) -> None:
        self._source, self._wanted, self._late = source, wanted, late
        self._read_at = self._thorough_at = now
        self._looks = 0
        self._known: _Counts = Counter()

    @property
    def horizon(self) -> int:
        """The time before which nothing is looked for. All sources can compare with whole seconds exactly."""
        return (self._thorough_at - self._late) // SECOND * SECOND

    def poll(self, now: int) -> list[LogRecord]:
        """Return the records that were not there before."""
        looks, self._looks = self._looks, 0  # should this fail, the next is thorough
        thorough = looks % self._THOROUGH_EVERY == 0
        start = self.horizon if thorough else max(self._read_at - self._QUICK, self.horizon)
        present: _Counts = Counter()
        new = []
        for record in self._source.between(self._wanted, start, None):
            key = (record.time_unix_nano, hash(repr(record)))
            present[key] += 1
            if present[key] > self._known[key]:
                new.append(record)
        self._known |= present  # of each, the larger count
        # A clock that is set back asks for nothing that was forgotten.
        self._read_at = max(self._read_at, now)
        if thorough:
            self._thorough_at = self._read_at
        self._looks = looks + 1
        _forget(self._known, self.horizon)
        return new


def _forget(counts: _Counts, horizon: int) -> None:
    for key in [key for key in counts if key[0] < horizon]:
        del counts[key]
