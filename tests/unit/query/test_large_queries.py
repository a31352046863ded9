"""Of queries that need much memory, one runs at a time; others are not kept waiting by it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from gateway.query.errors import QueryCanceledError, QueryTimeoutError
from gateway.query.limits import UNBOUNDED, Large, Limits, Usage
from gateway.query.promql.engine import Engine
from gateway.query.series import Hints, Matcher, Series
from tests.support.waiting import PATIENCE

MIB = 2**20


def test_a_large_query_waits_until_another_is_over() -> None:
    large = Large(MIB)
    first, second = Usage(UNBOUNDED, large), Usage(UNBOUNDED, large)
    first.add_samples(100_000)
    went_on = threading.Event()

    def run() -> None:
        second.needs(size=MIB)
        went_on.set()

    thread = threading.Thread(target=run)
    thread.start()
    small = Usage(UNBOUNDED, large)
    small.add_samples(1000)
    small.needs(size=MIB // 2)
    first.add_size(MIB)  # who is a large one already does not wait
    assert not went_on.wait(0.3)
    first.release()
    assert went_on.wait(PATIENCE)
    thread.join()
    second.release()
    second.release()
    third = Usage(UNBOUNDED, large)
    third.needs(samples=MIB)
    third.release()


def test_what_is_read_and_sent_and_made_counts_together() -> None:
    large = Large(MIB)
    other = Usage(UNBOUNDED, large)
    other.needs(size=MIB)
    usage = Usage(Limits(seconds=0.2), large)
    usage.add_samples(20_000)
    usage.add_size(MIB // 8)
    usage.needs(size=MIB // 8)
    with pytest.raises(
        QueryTimeoutError, match=r"needs more than 1 MiB, and others that do .* raise query\.large_query"
    ):
        usage.needs(size=MIB // 2)


def test_whoever_waits_can_be_ended() -> None:
    large = Large(MIB)
    Usage(UNBOUNDED, large).needs(size=MIB)
    usage = Usage(UNBOUNDED, large)
    threading.Timer(0.05, usage.cancel).start()
    with pytest.raises(QueryCanceledError):
        usage.needs(size=MIB)


def test_the_engine_says_what_vectors_take_before_it_makes_them() -> None:
    class Querier:
        def select(self, matchers: list[Matcher], start: int, end: int, hints: Hints) -> list[Series]:
            times = np.arange(start + 1, end + 1, 60_000)
            return [Series({"__name__": "m", "n": str(n)}, times, np.ones(len(times))) for n in range(10)]

    told: list[int] = []
    engine = Engine(Querier(), needs=told.append)  # type: ignore[arg-type]
    engine.range("sum(m) + count(m * 2)", 0, 99_000, 1000)
    assert max(told) >= 9 * 10 * 100 * 2, "two vectors of 10 series at 100 steps"
    large = Large(MIB)
    Usage(UNBOUNDED, large).needs(size=MIB)
    usage = Usage(Limits(seconds=0.2), large)
    engine = Engine(Querier(), needs=lambda size: usage.needs(size=size))  # type: ignore[arg-type]
    engine.range("m", 0, 99_000, 1000)
    with pytest.raises(QueryTimeoutError, match="large_query"):
        engine.range("m", 0, 9_999_000, 500)
