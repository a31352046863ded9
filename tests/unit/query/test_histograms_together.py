"""Native histograms that are alike are worked out all at once: to the last digit what each comes to by itself."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from gateway.query.promql import aggregations, histogram_ranges, histogram_stacks
from gateway.query.promql.engine import Engine
from gateway.query.promql.histogram import NO_BUCKETS, Histogram, ResetHint, Side
from gateway.query.promql.histogram_stacks import stacked, unstacked
from gateway.query.promql.results import Matrix
from tests.support.memory_series import MINUTE, MemoryQuerier

COUNT = 24
QUERIES = (
    "rate(h[5m])",
    "increase(h[7m])",
    "sum(h)",
    "avg by (n) (h)",
    "sum(rate(h[5m]))",
    "avg(increase(h[3m]) / 3)",
    "sum(h * 1e308)",
    "avg(h * 1e308)",
    *(f"histogram_quantile({q}, {x})" for q in (0, 0.1, 0.5, 0.9, 1, -1, 2, "NaN") for x in ("h", "sum(rate(h[5m]))")),
    "histogram_quantile(scalar(sum(histogram_count(h))) % 1000 / 1000, h)",
    *(f"{f}({x})" for f in ("histogram_stddev", "histogram_stdvar") for x in ("h", "rate(h[5m])", "h - h * 2")),
    *(f"{f}_over_time(h[{n}m])" for f in ("sum", "avg") for n in (1, 5, 30)),
    "sum_over_time((h * 1e308)[5m:1m])",
    "avg_over_time((h * 1e308)[5m:1m])",
    "histogram_quantile(0.01, sum_over_time(h[3m]))",
    "histogram_fraction(0.1, 3, rate(h[5m]))",
)


def side(made: random.Random, counts: list[float], offset: int) -> Side:
    return Side(offset, np.array(counts)) if counts else NO_BUCKETS


def histograms(made: random.Random, kind: str) -> list[Histogram | float | None]:
    """A counter that grows and begins anew, now and then without a point, with buckets that come and go."""
    samples: list[Histogram | float | None] = []
    offset = made.randrange(-3, 3)
    positive = [0.0] * made.randrange(1, 6)
    negative = [0.0] * made.choice([0, 0, 3])
    zero, total, schema = 0.0, 0.0, made.choice([0, 1, 3])
    for _ in range(COUNT):
        if made.random() < 0.1:
            positive, negative, zero, total = [0.0] * len(positive), [0.0] * len(negative), 0.0, 0.0
        for population in (positive, negative):
            for at in range(len(population)):
                population[at] += made.choice([0, 0, 1, 5, 0.1])
        zero += made.choice([0, 0, 2])
        total += made.random()
        if kind == "rescaled" and made.random() < 0.1:
            schema = max(schema - 1, 0)
        if made.random() < 0.1:
            samples.append(1.5 if kind == "mixed" else None)
            continue
        shown = math.nan if kind == "unknown" and made.random() < 0.2 else total
        count = sum(positive) + sum(negative) + zero + (1 if math.isnan(shown) else 0)
        hint = ResetHint.NOT_RESET if kind == "hinted" and made.random() < 0.3 else ResetHint.UNKNOWN
        samples.append(
            Histogram(
                schema,
                0.001,
                zero,
                count,
                shown,
                side(made, positive[:], offset),
                side(made, negative[:], 0),
                None,
                hint,
            )
        )
    return samples


def shown(result: Any) -> Any:
    assert isinstance(result.value, Matrix)
    said = sorted(result.annotations.warnings), sorted(result.annotations.infos)
    return said, [
        (
            series.labels,
            series.times.tolist(),
            list(map(repr, series.values.tolist())),
            series.histogram_times.tolist(),
            [
                (*(getattr(one, name) for name in ("schema", "zero_threshold", "zero_count", "count", "hint")),
                 repr(one.sum), one.positive.offset, one.positive.counts.tolist(), one.negative.offset,
                 one.negative.counts.tolist())
                for one in series.histograms
            ],
        )
        for series in result.value.series
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["alike", "rescaled", "mixed", "unknown", "hinted"])
def test_all_at_once_is_what_each_is(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = random.Random(f"{kind}{seed}")
    store = MemoryQuerier()
    for n in range(3):
        store.add(f'h{{n="{n}"}}', histograms(made, kind))
    engine = Engine(store)

    def answers() -> list[Any]:
        return [shown(engine.range(query, 0, COUNT * MINUTE, MINUTE)) for query in QUERIES]

    at_once = answers()
    tried = 0

    def never(several: Any) -> None:
        nonlocal tried
        tried += 1

    for module in (aggregations, histogram_stacks, histogram_ranges):
        monkeypatch.setattr(module, "stacked", never)
    for query, one, other in zip(QUERIES, at_once, answers(), strict=True):
        # Populations of several buckets that become one are added up before those of several histograms.
        exact = kind != "rescaled" or ("sum" not in query and "avg" not in query)
        assert one == other if exact else close(one, other), query
    assert tried


def close(one: Any, other: Any) -> bool:
    """Tell whether two answers are equal but for the order in which numbers were added up."""
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=1e-12)
    if isinstance(one, str) and one != other:
        return close(float(one), float(other))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(close, one, other))
    return bool(one == other)


def test_only_windows_with_a_change_of_the_schema_are_done_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    made = random.Random(3)
    store = MemoryQuerier()
    fine = Histogram(3, 0.001, 0, 1, 1.0, Side(2, np.array([1.0])), NO_BUCKETS)
    store.add("h", [(fine if n < COUNT // 2 else fine.reduced(1)).multiplied(n + made.random()) for n in range(COUNT)])
    alone: list[int] = []
    by_itself = histogram_ranges._increase

    def told(several: list[Histogram], *arguments: Any, **options: Any) -> Any:
        alone.append(len({one.schema for one in several}))
        return by_itself(several, *arguments, **options)

    monkeypatch.setattr(histogram_ranges, "_increase", told)
    Engine(store).range("rate(h[5m])", 0, COUNT * MINUTE, MINUTE)
    assert alone == [2] * 4


def test_what_is_alike_is_a_matrix_and_what_is_not_is_none() -> None:
    one = Histogram(0, 0.001, 1, 7, 2.5, Side(2, np.array([1.0, 0.0, 5.0])), NO_BUCKETS)
    other = Histogram(0, 0.001, 0, 3, 1.5, Side(4, np.array([1.0, 2.0])), NO_BUCKETS)
    stack = stacked([one, other])
    assert stack is not None
    assert stack.positive.tolist() == [[1, 0, 5, 0], [0, 0, 1, 2]]
    for before, after in zip([one, other], unstacked(stack.layout, stack.rows), strict=True):
        assert after.equals(before)
        assert after.positive.offset == before.positive.offset
    assert stacked([]) is None
    assert stacked([one, one.reduced(-1)]) is None
    assert stacked([one, one.hinted(ResetHint.RESET)]) is None
    far = Histogram(0, 0.001, 0, 1, 1.0, Side(100_000, np.array([1.0])), NO_BUCKETS)
    assert stacked([one, far]) is None, "a hundred thousand columns for five populations"
