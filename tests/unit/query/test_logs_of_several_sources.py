"""Records of several sources, each shown once, however late they come in."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.query.logs.merging import Follower, latest, merged
from gateway.query.logs.records import LogFilter, LogRecord, TemporarySourceError

SECOND = 10**9
NOW = 1_700_000_000 * SECOND
ALL = LogFilter()


class Source:
    """A source in memory."""

    def __init__(self, name: str = "store", *records: LogRecord) -> None:
        self.name = name
        self.records = list(records)
        self.away = False

    def add(self, at: int, body: Any, **fields: Any) -> None:
        self.records.append(LogRecord(NOW + at, body, self.name, **fields))

    def latest(self, wanted: LogFilter, start: int, end: int, limit: int) -> list[LogRecord]:
        return list(self.between(wanted, start, end))[-limit:]

    def between(self, wanted: LogFilter, start: int, end: int | None) -> Iterator[LogRecord]:
        if self.away:
            raise TemporarySourceError(f"{self.name} is away")
        found = [
            one for one in self.records if start <= one.time_unix_nano and (end is None or one.time_unix_nano < end)
        ]
        yield from sorted(found, key=lambda record: record.time_unix_nano)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now

    def tick(self, seconds: float = 1) -> None:
        self.now += round(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def follower(clock: Clock, *sources: Source, late: int = 60) -> Follower:
    return Follower(sources, ALL, late * SECOND, clock)


def look(follower: Follower) -> list[Any]:
    def fail(error: TemporarySourceError) -> None:
        raise error

    return [record.body for record in follower.poll(fail)]


def test_an_event_that_is_in_the_store_and_in_loki_is_shown_once_as_the_store_has_it() -> None:
    store, loki = Source("store"), Source("loki")
    store.add(1, {"total": 5.0, "items": [1]}, event_name="order.placed", trace_id="ab")
    loki.add(1, '{"items":[1],"total":5}', trace_id="ab")
    loki.add(1, "a line at the same time")
    loki.add(0, "before")
    loki.add(2, "after")
    shown = latest([store, loki], ALL, NOW, NOW + 9, 10)
    assert [record.body for record in shown] == [
        "before",
        {"total": 5.0, "items": [1]},
        "a line at the same time",
        "after",
    ]
    assert shown[1].event_name == "order.placed"
    assert latest([store, loki], ALL, NOW, NOW + 9, 2) == shown[-2:]


@pytest.mark.parametrize(
    ("at", "body", "line"),
    [
        (0, 2.0, "2"),
        (0, True, "true"),
        (0, {"$bytes": "AAE="}, "AAE="),
        (0, [1e22], "[1e+22]"),
        (567, "observed", "observed"),
    ],
)
def test_a_record_is_known_again_however_loki_writes_it(at: int, body: Any, line: str) -> None:
    store, loki = Source("store"), Source("loki")
    store.add(0, body)
    loki.add(at, line)
    assert [record.source for record in merged([store.records, loki.records])] == ["store"]


def test_two_records_that_look_alike_in_one_source_are_two() -> None:
    store, loki = Source("store"), Source("loki")
    for source in (store, store, loki):
        source.add(0, "again")
    assert len(list(merged([store.records, loki.records]))) == 2


def test_following_shows_what_is_there_at_first_and_then_only_what_is_new(clock: Clock) -> None:
    source = Source()
    source.add(-SECOND, "old")
    following = follower(clock, source)
    assert look(following) == ["old"]
    assert look(following) == []
    source.add(0, "new")
    clock.tick()
    assert look(following) == ["new"]
    assert look(following) == []


def test_equal_records_are_each_shown(clock: Clock) -> None:
    source = Source()
    following = follower(clock, source)
    shown = []
    for _ in range(5):
        source.add(0, "tick")
        shown += look(following)
        clock.tick()
    assert shown == ["tick"] * 5


def test_a_record_is_shown_as_long_as_it_is_not_later_than_asked_for(clock: Clock) -> None:
    source = Source()
    following = follower(clock, source, late=60)
    for _ in range(200):
        look(following)
        clock.tick()
    source.add(145 * SECOND, "almost a minute late")
    source.add(10 * SECOND, "three minutes late")
    shown = []
    for _ in range(20):
        shown += look(following)
        clock.tick()
    assert shown == ["almost a minute late"]


def test_a_record_from_the_future_is_shown_once(clock: Clock) -> None:
    source = Source()
    following = follower(clock, source)
    look(following)
    source.add(1800 * SECOND, "of a clock that is ahead")
    shown = []
    for _ in range(60):
        shown += look(following)
        clock.tick(60)
    assert shown == ["of a clock that is ahead"]


def test_what_came_in_while_a_source_was_away_is_shown_when_it_is_back(clock: Clock) -> None:
    store, loki = Source("store"), Source("loki")
    following = follower(clock, store, loki)
    look(following)
    loki.away = True
    shown: list[Any] = []
    errors: list[TemporarySourceError] = []
    for minute in range(10):
        clock.tick(60)
        loki.add((minute * 60 + 59) * SECOND, f"loki {minute}")
        store.add((minute * 60 + 59) * SECOND, f"store {minute}")
        shown += [record.body for record in following.poll(errors.append)]
    assert shown == [f"store {minute}" for minute in range(10)]
    assert {str(error) for error in errors} == {"loki is away"}
    loki.away = False
    assert look(following) == [f"loki {minute}" for minute in range(10)]


def test_a_clock_that_is_set_back_shows_nothing_again(clock: Clock) -> None:
    source = Source()
    following = follower(clock, source)
    source.add(0, "once")
    shown = look(following)
    for seconds in (100, -3000, 2000, 1000):
        clock.tick(seconds)
        shown += look(following)
    assert shown == ["once"]


def test_what_is_remembered_does_not_grow(clock: Clock) -> None:
    source, other = Source("store"), Source("loki")
    following = follower(clock, source, other, late=5)
    for second in range(300):
        source.add(second * SECOND, second)
        look(following)
        clock.tick()
    remembered = [following._seen, *following._by_source.values(), *(one._known for one in following._watched)]
    assert max(map(len, remembered)) <= 20


@pytest.mark.parametrize("seed", range(10))
def test_each_record_is_shown_once_in_whatever_order_and_from_wherever_they_come(seed: int, clock: Clock) -> None:
    chance = random.Random(seed)
    store, loki = Source("store"), Source("loki")
    following = follower(clock, store, loki, late=30)
    shown: list[Any] = []
    sent: list[str] = []
    arriving: list[tuple[int, Source, LogRecord]] = []
    for n in range(400):
        record = LogRecord(NOW + n * SECOND // 4, f"line {n}", "", trace_id=str(n))
        sent.append(str(record.body))
        arriving += [
            (n // 4 + chance.randrange(29), source, replace(record, source=source.name))
            for source in chance.choice([(store,), (loki,), (store, loki)])
        ]
    for second in range(140):
        for at, source, record in arriving:
            if at == second:
                source.records.append(record)
        for source in (store, loki):
            source.away = chance.random() < 0.3
        shown += [record.body for record in following.poll(lambda error: None)]
        clock.tick()
    store.away = loki.away = False
    shown += look(following)
    assert sorted(shown) == sorted(sent)
