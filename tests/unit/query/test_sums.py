"""Sums of many series: to the last digit what Prometheus gets by adding one after the other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gateway.query.promql import sums
from gateway.query.promql.engine import Engine
from gateway.query.promql.results import Vector
from tests.support.memory_series import MemoryQuerier


def one_by_one(values: list[float]) -> tuple[float, float]:
    total, lost = sums.NOTHING, 0.0
    for value in values:
        total, lost = sums.add_one(value, total, lost)
    return total, lost


@pytest.mark.parametrize(
    "special", [[], [math.nan], [math.inf], [math.inf, -math.inf], [1e308, 1e308, -1e308], [-0.0], [5e-324]]
)
@pytest.mark.parametrize("count", [1, 255, 256, 700])
def test_rows_at_once_are_rows_one_by_one(special: list[float], count: int) -> None:
    dice = np.random.default_rng(count)
    rows = dice.normal(size=(count, 3)) * 10.0 ** dice.integers(-18, 18, (count, 3))
    rows[dice.integers(0, count, len(special)), 1] = special
    rows[:, 2] = -0.0
    with np.errstate(all="ignore"):
        total, lost = sums.add_rows(rows, np.full(3, sums.NOTHING), np.zeros(3))
    for column in range(3):
        expected = one_by_one(rows[:, column].tolist())
        assert repr(float(total[column])) == repr(expected[0])
        assert repr(float(total[column] + lost[column])) == repr(sum(expected))


def test_groups_of_every_size() -> None:
    dice = np.random.default_rng(4)
    querier = MemoryQuerier()
    values: dict[str, list[float]] = {}
    for group, size in enumerate([1, 700, 3, 0, 41]):
        for number in range(size):
            value = float(dice.normal() * 10.0 ** dice.integers(-12, 12))
            values.setdefault(str(group), []).append(value)
            querier.add(f'm{{group="{group}",number="{number}"}}', [value])
    for query, name in (("sum", ""), ("avg", "avg"), ("sum", "all")):
        found = Engine(querier).instant(f"{query}{'' if name == 'all' else ' by (group)'} (m)", 0).value
        assert isinstance(found, Vector)
        if name == "all":
            (sample,) = found.samples
            assert sample.value == sum(one_by_one([value for several in values.values() for value in several]))
            continue
        for sample in found.samples:
            its = values[sample.labels["group"]]
            total, lost = one_by_one(its)
            assert sample.value == (total / len(its) + lost / len(its) if query == "avg" else total + lost)
