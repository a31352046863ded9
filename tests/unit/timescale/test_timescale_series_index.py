"""Series are looked up by thousands at once: the same as one by one in a dictionary, within a bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.timescale import series_index
from exporters.timescale.series_index import SeriesIndex, salt

# Few hashes that begin alike, so that they are in each other's way; and such as there are.
hashes = st.integers(1, 40).map(lambda n: n << 10) | st.integers(-(2**63), 2**63 - 1).filter(bool)


def array(numbers: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(numbers, np.int64)


@given(
    steps=st.lists(st.tuples(st.sampled_from(["add", "get", "find"]), st.lists(hashes, min_size=1, max_size=30))),
)
def test_it_knows_what_a_dictionary_knows(steps: list[tuple[str, list[int]]]) -> None:
    index, known = SeriesIndex(10**6), dict[int, int]()
    for what, its_hashes in steps:
        if what == "add":
            for each in its_hashes:
                if each not in known:
                    known[each] = each ^ 7
                    index.add(each, each ^ 7)
        elif what == "get":
            assert [index.get(each) for each in its_hashes] == [known.get(each) for each in its_hashes]
        else:
            series, found = index.find(array(its_hashes))
            assert found.tolist() == [each in known for each in its_hashes]
            assert series[found].tolist() == [known[each] for each in its_hashes if each in known]
    assert len(index) == len(known)


def test_growing_moves_a_bounded_part_with_each_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """To move all at once would hold up everything else, longer the more series there are."""
    moved: list[int] = []
    move = series_index._Generation._move

    def noted(generation: series_index._Generation, slots: int) -> None:
        moved.append(slots)
        move(generation, slots)

    monkeypatch.setattr(series_index._Generation, "_move", noted)
    index, every = SeriesIndex(10**6), array([n << 7 | 1 for n in range(1, 30_001)])
    for count, each in enumerate(every.tolist(), 1):
        index.add(each, -each)
        if count % 997 == 0:  # also in the middle of growing
            series, found = index.find(every[: count + 3])
            assert found.tolist() == [True] * count + [False] * 3
            assert (series[:count] == -every[:count]).all()
            assert [index.get(its) for its in every[:count:101].tolist()] == (-every[:count:101]).tolist()
    assert len(index) == 30_000
    assert max(moved) <= series_index._MOVED_AT_ONCE
    assert sum(moved) >= 2**15, "the tables became too small several times"


@given(sizes=st.lists(st.integers(1, 5_000), max_size=8))
def test_many_at_once_find_room(sizes: list[int]) -> None:
    generation, first = series_index._Generation(), 1
    for size in sizes:
        its = np.arange(first, first + size, dtype=np.int64) << 8
        generation.add(its, -its)
        first += size
    every = np.arange(1, first, dtype=np.int64) << 8
    series, found = generation.find(every)
    assert found.all()
    assert (series == -every).all()
    assert generation.count == first - 1


def test_what_is_in_use_stays_known_when_generations_turn() -> None:
    index, used = SeriesIndex(2_000), array([*range(1, 501)])
    for each in used.tolist():
        index.add(each, -each)
    for number in range(20_000):
        index.add(10**6 + number, number)
        if number % 400 == 0:
            series, found = index.find(used)
            assert found.all()
            assert (series == -used).all()
        assert len(index) <= 2_000
    assert index.turns > 10


@pytest.mark.parametrize("active", [400, 500])
def test_half_of_its_limit_may_be_in_use_at_a_time(active: int) -> None:
    """Asked for in turn, as collections ask, none of them is ever forgotten."""
    index, missed = SeriesIndex(1_000), 0
    for collection in range(20):
        for each in range(1, active + 1):
            if index.get(each) is None:
                missed += collection > 0
                index.add(each, each)
    assert not missed


def test_one_above_that_some_are_forgotten_and_found_again() -> None:
    index, missed = SeriesIndex(1_000), 0
    for _ in range(20):
        for each in range(1, 702):
            if index.get(each) is None:
                missed += 1
                index.add(each, each)
    assert missed < 20 * 701 / 2


def test_the_salts_of_metrics_differ() -> None:
    assert len({salt(metric, resource, 3) for metric in range(-5, 5) for resource in range(10)}) == 100
