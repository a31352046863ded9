"""The newest log records of all sources, as far back as there is time to look."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.base.instants import unix_nano
from gateway.query.backwards import Backwards
from gateway.query.errors import StoreAwayError
from gateway.query.logs.records import LogFilter, LogRecord, SourceError, TemporarySourceError, literally
from gateway.query.logs.search import search

END = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
ALL = LogFilter()


@dataclass
class Source:
    """A source in memory, which remembers how it was asked."""

    name: str = "store"
    records: list[LogRecord] = field(default_factory=list)
    error: Exception | None = None
    asked: list[tuple[int, int]] = field(default_factory=list)

    def add(self, before_end: timedelta, body: str) -> None:
        self.records.append(LogRecord(unix_nano(END - before_end), body, self.name))

    def latest(self, wanted: LogFilter, start: int, end: int, limit: int) -> list[LogRecord]:
        self.asked.append((start, end))
        if self.error is not None:
            raise self.error
        found = [record for record in self.records if start <= record.time_unix_nano < end]
        return sorted(found, key=lambda record: record.time_unix_nano)[-limit:]

    def between(self, wanted: LogFilter, start: int, end: int | None) -> Iterator[LogRecord]:
        raise AssertionError("only what is newest is asked for")


def bodies(records: list[LogRecord]) -> list[object]:
    return [record.body for record in records]


def test_pieces_cover_the_range_from_its_end_each_instant_once() -> None:
    pieces = Backwards(END - 30 * DAY, END, seconds=60)
    found = list(pieces)
    assert found[0] == (END - 5 * MINUTE, END)
    assert found[-1][0] == END - 30 * DAY
    assert all(later[0] == earlier[1] for later, earlier in pairwise(found))
    assert len(found) < 10, "a month is a few pieces"
    assert pieces.is_whole


def test_when_time_is_over_it_is_known_how_far_back_was_looked() -> None:
    pieces = Backwards(END - 30 * DAY, END, seconds=0)
    assert list(pieces) == [(END - 5 * MINUTE, END)]
    assert not pieces.is_whole
    assert pieces.reached == END - 5 * MINUTE


def test_a_piece_is_not_longer_than_there_is_time_for() -> None:
    now = 0.0
    pieces = Backwards(END - 30 * DAY, END, seconds=0.15, clock=lambda: now)
    lengths = []
    for begins, ends in pieces:
        now += 0.001 + (ends - begins) / DAY  # a day takes a second
        lengths.append(ends - begins)
    assert lengths[1] == 4 * lengths[0]
    assert not pieces.is_whole
    assert 0.1 < now < 0.2


def test_what_is_newest_is_found_without_reading_what_is_old() -> None:
    store = Source()
    for minutes in range(100):
        store.add(timedelta(minutes=minutes, seconds=30), f"{minutes}")
    found = search([store], ALL, END - 30 * DAY, END, 5, timedelta(0))
    assert bodies(found.records) == ["0", "1", "2", "3", "4"]
    assert found.reached is None
    assert min(start for start, _ in store.asked) == unix_nano(END - 5 * MINUTE)


def test_what_is_rare_is_found_far_back() -> None:
    store = Source()
    store.add(20 * DAY, "rare")
    found = search([store], ALL, END - 30 * DAY, END, 5, timedelta(0))
    assert bodies(found.records) == ["rare"]


def test_clocks_that_are_ahead_are_no_reason_to_miss_a_record() -> None:
    store = Source()
    store.add(-MINUTE, "of the next minute")
    assert bodies(search([store], ALL, END - DAY, END, 5, DAY).records) == ["of the next minute"]
    assert not search([store], ALL, END - DAY, END, 5, timedelta(0)).records


def test_records_of_loki_are_among_those_of_the_store() -> None:
    store, loki = Source(), Source("loki")
    store.add(2 * MINUTE, "an event")
    loki.add(2 * MINUTE, "an event")
    loki.add(MINUTE, "a line")
    assert bodies(search([store, loki], ALL, END - DAY, END, 5, timedelta(0)).records) == ["a line", "an event"]


@pytest.mark.parametrize("error", [TemporarySourceError("Loki is away"), SourceError("Loki answers 401")])
def test_without_loki_what_the_store_has_is_shown_and_the_trouble_told(error: Exception) -> None:
    store, loki = Source(), Source("loki", error=error)
    store.add(MINUTE, "an event")
    found = search([store, loki], ALL, END - DAY, END, 5, timedelta(0))
    assert bodies(found.records) == ["an event"]
    assert found.troubles == [str(error)]


def test_without_the_store_nothing_is_shown_as_if_it_were_all() -> None:
    away = TemporarySourceError("away")
    away.__cause__ = StoreAwayError("the store does not answer")
    with pytest.raises(StoreAwayError):
        search([Source(error=away), Source("loki")], ALL, END - DAY, END, 5, timedelta(0))


@given(st.text())
def test_text_is_found_as_it_is(text: str) -> None:
    assert re.fullmatch(literally(text), text, re.DOTALL)
