"""What reads the store outlives the deadlocks that jobs of TimescaleDB bring about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from psycopg import sql

from gateway.query.errors import ExecutionError
from gateway.query.limits import UNBOUNDED, Usage
from gateway.query.reading.connection import Reading

ROWS = [(b"1",), (b"2",)]
QUERY = sql.SQL("SELECT 1")


class _Connection:
    pooled = connection = None


class Deadlocked(Reading):
    """A connection whose first queries are ended for a deadlock, after so many rows."""

    def __init__(self, times: int, after: int = 0) -> None:
        super().__init__(_Connection(), Usage(UNBOUNDED))  # type: ignore[arg-type]
        self.times, self.after = times, after

    def _copied(self, queries: Sequence[bytes]) -> Iterator[Any]:
        self.times -= 1
        for number, (value,) in enumerate(ROWS):
            if self.times >= 0 and number == self.after:
                raise psycopg.errors.DeadlockDetected
            yield 0, [memoryview(b"\0\1" + len(value).to_bytes(4, "big") + value)]


def test_a_query_that_met_a_deadlock_is_tried_again() -> None:
    assert list(Deadlocked(2).texts(QUERY)) == ROWS


def test_a_deadlock_that_lasts_is_told() -> None:
    with pytest.raises(ExecutionError, match="DeadlockDetected"):
        list(Deadlocked(3).texts(QUERY))


def test_no_row_is_yielded_twice() -> None:
    rows = Deadlocked(1, after=1).texts(QUERY)
    assert next(rows) == ROWS[0]
    with pytest.raises(ExecutionError, match="DeadlockDetected"):
        next(rows)
