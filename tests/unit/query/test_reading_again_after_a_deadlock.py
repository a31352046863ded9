"""What reads the store outlives the deadlocks that jobs of TimescaleDB bring about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from gateway.query.store import Row, Store

ROWS: list[Row] = [{"n": 1}, {"n": 2}]


class Deadlocked(Store):
    """A store whose first queries are ended for a deadlock, after so many rows."""

    def __init__(self, times: int, after: int = 0) -> None:
        super().__init__("", "")
        self.times, self.after = times, after

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        yield self

    @contextmanager
    def cursor(self, **_: Any) -> Iterator[Any]:
        yield self

    def execute(self, *_: Any) -> Any:
        self.found = list(self.stream_rows())
        return self

    def fetchall(self) -> list[Row]:
        return self.found

    def stream_rows(self) -> Iterator[Row]:
        self.times -= 1
        for number, row in enumerate(ROWS):
            if self.times >= 0 and number == self.after:
                raise psycopg.errors.DeadlockDetected
            yield row


class Streaming(Deadlocked):
    """The same, for queries that are streamed: a cursor's method is named as the store's own."""

    @contextmanager
    def cursor(self, **_: Any) -> Iterator[Any]:
        yield _Cursor(self.stream_rows)


class _Cursor:
    def __init__(self, rows: Callable[[], Iterator[Row]]) -> None:
        self._rows = rows

    def stream(self, *_: Any) -> Iterator[Row]:
        return self._rows()


def test_a_query_that_met_a_deadlock_is_tried_again() -> None:
    assert Deadlocked(2).rows("SELECT") == ROWS
    assert list(Streaming(2).stream("SELECT")) == ROWS


def test_a_deadlock_that_lasts_is_told() -> None:
    with pytest.raises(psycopg.errors.DeadlockDetected):
        Deadlocked(3).rows("SELECT")
    with pytest.raises(psycopg.errors.DeadlockDetected):
        list(Streaming(3).stream("SELECT"))


def test_no_row_is_yielded_twice() -> None:
    rows = Streaming(1, after=1).stream("SELECT")
    assert next(rows) == ROWS[0]
    with pytest.raises(psycopg.errors.DeadlockDetected):
        next(rows)
