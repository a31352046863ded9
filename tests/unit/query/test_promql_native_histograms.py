"""Native histograms in PromQL, with values worked out from the documentation of Prometheus.

With schema 0 bucket 1 is (1, 2], bucket 2 is (2, 4] and so on, and bucket 0 is (0.5, 1].
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest

from gateway.query.errors import ExecutionError, LimitExceededError
from gateway.query.promql.context import Limits
from gateway.query.promql.engine import Engine
from gateway.query.promql.histogram import NO_BUCKETS, Histogram, ResetHint, Side, exponential_bound, was_reset
from gateway.query.series import CUSTOM_BOUNDS_SCHEMA, STALE
from tests.support.memory_series import MINUTE, MemoryQuerier, same, table


def native(
    positive: Sequence[float] = (),
    *,
    offset: int = 0,
    negative: Sequence[float] = (),
    zero: float = 0.0,
    threshold: float = 0.001,
    total: float = 0.0,
    schema: int = 0,
    hint: ResetHint = ResetHint.UNKNOWN,
) -> Histogram:
    count = float(sum(positive) + sum(negative) + zero)
    sides = [
        Side(at, np.array(counts, float)) if len(counts) else NO_BUCKETS
        for at, counts in ((offset, positive), (0, negative))
    ]
    return Histogram(schema, threshold, zero, count, total, sides[0], sides[1], None, hint)


def custom(bounds: Sequence[float], counts: Sequence[float], total: float = 0.0) -> Histogram:
    return Histogram(
        CUSTOM_BOUNDS_SCHEMA,
        0.0,
        0.0,
        float(sum(counts)),
        total,
        Side(0, np.array(counts, float)),
        NO_BUCKETS,
        np.array(bounds, float),
    )


def ask(query: str, time: int = 4 * MINUTE, **series: Sequence[float | Histogram | None]) -> object:
    store = MemoryQuerier()
    for name, values in series.items():
        store.add(name, values)
    return table(Engine(store).instant(query, time))


def warned(query: str, time: int = 4 * MINUTE, **series: Sequence[float | Histogram | None]) -> list[str]:
    store = MemoryQuerier()
    for name, values in series.items():
        store.add(name, values)
    annotations = Engine(store).instant(query, time).annotations
    return annotations.warnings + annotations.infos


# Per minute 2 more in (1, 2], 2 more in (2, 4], and 10 more in sum.
GROWING = [native([2 * n, 2 * n], offset=1, total=10.0 * n) for n in range(1, 6)]
WIDE = native([4, 4], offset=1, negative=[2], zero=2, total=7.0)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("h", {"h": GROWING[4]}),
        ("h offset 1m", {"h": GROWING[3]}),
        ("histogram_count(h)", {"{}": 20}),
        ("histogram_sum(h)", {"{}": 50}),
        ("histogram_avg(h)", {"{}": 2.5}),
        # Means of buckets: √2 and √8, ten of each; 2.5 from 2.5.
        ("histogram_stdvar(h)", {"{}": ((math.sqrt(2) - 2.5) ** 2 + (math.sqrt(8) - 2.5) ** 2) / 2}),
        ("histogram_stddev(h)", {"{}": math.sqrt(((math.sqrt(2) - 2.5) ** 2 + (math.sqrt(8) - 2.5) ** 2) / 2)}),
        # The middle of (1, 2] on a logarithmic scale.
        ("histogram_quantile(0.25, h)", {"{}": math.sqrt(2)}),
        ("histogram_quantile(0.75, h)", {"{}": math.sqrt(8)}),
        ("histogram_quantile(1, h)", {"{}": 4}),
        ("histogram_quantile(1.5, h)", {"{}": math.inf}),
        ('histogram_quantiles(h, "q", 0.25, 0.75)', {"{q=0.25}": math.sqrt(2), "{q=0.75}": math.sqrt(8)}),
        ("histogram_fraction(1, 2, h)", {"{}": 0.5}),
        ("histogram_fraction(-Inf, 2.8284271247461903, h)", {"{}": 0.75}),
        ("histogram_fraction(2, 1, h)", {"{}": 0}),
        ("h * 2", {"{}": GROWING[4].multiplied(2)}),
        ("0.5 * h", {"{}": GROWING[4].multiplied(0.5)}),
        ("h / 10", {"{}": GROWING[4].divided(10)}),
        ("-h", {"{}": GROWING[4].multiplied(-1)}),
        ("h + h", {"{}": GROWING[4].multiplied(2)}),
        ("h - (h offset 1m)", {"{}": native([2, 2], offset=1, total=10.0)}),
        ("h == h", {"h": GROWING[4]}),
        ("h != h", {}),
        ("h == bool h", {"{}": 1}),
        ("h > 1", {}),
        ("h and h", {"h": GROWING[4]}),
        ("h or on(none) vector(1)", {"h": GROWING[4]}),
        # From 1 to 4 minutes 3 steps of growth are seen, of a window of 4.
        ("increase(h[4m])", {"{}": native([8, 8], offset=1, total=40.0)}),
        ("rate(h[4m]) * 240", {"{}": native([8, 8], offset=1, total=40.0)}),
        ("irate(h[2m]) * 60", {"{}": native([2, 2], offset=1, total=10.0)}),
        ("idelta(h[2m])", {"{}": native([2, 2], offset=1, total=10.0)}),
        ("delta(h[4m])", {"{}": native([8, 8], offset=1, total=40.0)}),
        ("sum_over_time(h[2m])", {"{}": native([18, 18], offset=1, total=90.0)}),
        ("avg_over_time(h[2m])", {"{}": native([9, 9], offset=1, total=45.0)}),
        ("last_over_time(h[2m])", {"h": GROWING[4]}),
        ("first_over_time(h[2m])", {"h": GROWING[3]}),
        ("count_over_time(h[3m])", {"{}": 3}),
        ("present_over_time(h[3m])", {"{}": 1}),
        ("changes(h[3m])", {"{}": 2}),
        ("resets(h[3m])", {"{}": 0}),
        ("ts_of_first_over_time(h[3m])", {"{}": 120}),
        ("ts_of_last_over_time(h[3m])", {"{}": 240}),
        ("timestamp(h offset 1m)", {"{}": 180}),
        ("max_over_time(h[3m])", {}),
        ("abs(h)", {}),
        ("sum(h)", {"{}": GROWING[4]}),
        ("avg(h)", {"{}": GROWING[4]}),
        ("count(h)", {"{}": 1}),
        ("group(h)", {"{}": 1}),
        ("min(h)", {}),
        ("topk(1, h)", {}),
        ("limitk(1, h)", {"h": GROWING[4]}),
        ("absent(h)", {}),
        ("count_values('v', h)", {"{v={count:20, sum:50, (1,2]:10, (2,4]:10}}": 1}),
        ("last_over_time(h[2m:1m])", {"h": GROWING[4]}),
    ],
)
def test_a_native_histogram_is_a_value(query: str, expected: object) -> None:
    got = ask(query, h=GROWING)
    assert isinstance(got, dict)
    assert isinstance(expected, dict)
    assert list(got) == list(expected)
    for name, value in expected.items():
        if isinstance(value, Histogram):
            assert same_histogram(got[name], value), got[name]
        else:
            assert got[name] == pytest.approx(value, rel=1e-14)


def same_histogram(one: Histogram, two: Histogram) -> bool:
    """As equal as arithmetic leaves them."""
    buckets = [histogram.compact().buckets() for histogram in (one, two)]
    return (
        one.count == pytest.approx(two.count)
        and one.sum == pytest.approx(two.sum)
        and len(buckets[0]) == len(buckets[1])
        and all(a == pytest.approx(b) for a, b in zip(*buckets, strict=True))
    )


def test_a_range_query_has_numbers_and_histograms_side_by_side() -> None:
    store = MemoryQuerier()
    store.add("m", [1.0, GROWING[0], 2.0])
    result = table(Engine(store).range("m", 0, 2 * MINUTE, MINUTE))
    assert same(result, {"m": [1.0, GROWING[0], 2.0]})


def test_quantiles_in_zero_and_negative_buckets() -> None:
    # 12 observations: 2 in [-1, -0.5), 2 around zero, 4 in (1, 2] and 4 in (2, 4].
    assert ask("histogram_quantile(0, h)", h=[WIDE], time=0) == {"{}": -1.0}
    (middle,) = ask("histogram_quantile(0.25, h)", h=[WIDE], time=0).values()  # type: ignore[attr-defined]
    assert abs(middle) < 1e-18  # half of the zero bucket
    assert ask("histogram_fraction(-Inf, 0, h)", h=[WIDE], time=0) == {"{}": 3 / 12}
    only_zero = native([4], offset=1, zero=4)
    assert ask("histogram_quantile(0.25, h)", h=[only_zero], time=0) == {"{}": 0.0005}


def test_resets_of_counters_are_made_up_for() -> None:
    values = [native([10], offset=1), native([4], offset=1), native([8], offset=1)]
    assert ask("resets(h[5m])", time=2 * MINUTE, h=values) == {"{}": 1.0}
    (grown,) = ask("increase(h[3m])", time=2 * MINUTE, h=values).values()  # type: ignore[attr-defined]
    # 4 and 4 more in the 2 minutes between the first and the last sample, and as many in the minute before them.
    assert grown.count == pytest.approx(12)
    assert grown.hint is ResetHint.GAUGE


def test_a_reset_is_seen_in_any_bucket_and_by_the_layout() -> None:
    before = native([4, 4], offset=1, zero=2)
    assert not was_reset(before, before)
    assert was_reset(native([5, 3], offset=1, zero=2), before)
    assert was_reset(native([8], offset=2, zero=2), before)
    assert was_reset(native([4, 4], offset=1, zero=2, schema=1), before)
    assert was_reset(native([4, 4], offset=1, zero=2, threshold=0.0001), before)
    assert not was_reset(native([8], offset=1, zero=2, schema=-1), before)
    assert was_reset(dataclasses.replace(before, hint=ResetHint.RESET), before)
    assert not was_reset(dataclasses.replace(native(), hint=ResetHint.NOT_RESET), before)


def test_histograms_of_unlike_resolution_are_added_in_the_coarser_one() -> None:
    # Schema 1 has two buckets for each of schema 0: 3 and 4 are (2^1, 2^1.5] and (2^1.5, 2^2].
    fine, coarse = native([1, 2], offset=3, schema=1), native([10], offset=2)
    (total,) = ask("a + ignoring() b", a=[fine] * 5, b=[coarse] * 5).values()  # type: ignore[attr-defined]
    assert [(bucket.lower, bucket.upper, bucket.population) for bucket in total.buckets()] == [(2, 4, 13)]


def test_zero_buckets_grow_to_the_wider_one() -> None:
    narrow = native([3, 5], offset=0, zero=1, threshold=0.001)
    wide = native([7], offset=1, zero=2, threshold=0.7)  # ends within (0.5, 1]
    (total,) = ask("a + ignoring() b", a=[narrow] * 5, b=[wide] * 5).values()  # type: ignore[attr-defined]
    assert total.zero_threshold == 1
    assert total.zero_count == 6
    assert [(bucket.lower, bucket.population) for bucket in total.buckets()] == [(-1, 6), (1, 12)]


def test_bounds_of_their_own_are_reduced_to_what_both_have() -> None:
    one, two = custom([1, 2, 5], [1, 2, 3, 4]), custom([1, 5], [10, 20, 30])
    query = "sum({__name__=~'a|b'})"
    (total,) = ask(query, a=[one] * 5, b=[two] * 5).values()  # type: ignore[attr-defined]
    assert [(bucket.lower, bucket.upper, bucket.population) for bucket in total.buckets()] == [
        (-math.inf, 1, 11),
        (1, 5, 25),
        (5, math.inf, 34),
    ]
    assert warned(query, a=[one] * 5, b=[two] * 5) == [
        "PromQL info: mismatched custom buckets were reconciled during aggregation (1:5)"
    ]


def test_bounds_of_their_own_are_interpolated_evenly() -> None:
    histogram = custom([10, 20], [5, 10, 5])
    assert ask("histogram_quantile(0.5, h)", h=[histogram], time=0) == {"{}": 15.0}
    assert ask("histogram_quantile(0.125, h)", h=[histogram], time=0) == {"{}": 5.0}
    assert ask("histogram_quantile(0.99, h)", h=[histogram], time=0) == {"{}": 20.0}
    assert ask("histogram_fraction(-Inf, 15, h)", h=[histogram], time=0) == {"{}": 0.5}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sum({__name__=~'h|f'})", "encountered a mix of histograms and floats for aggregation (1:5)"),
        ("sum({__name__=~'h|c'})", "vector contains a mix of histograms with exponential and custom buckets schemas"),
        ("h + c", "incompatible bucket layout encountered for binary operator + (1:1)"),
        ("h > 1", 'incompatible sample types encountered for binary operator ">": histogram > float (1:1)'),
        ("max({__name__=~'h|f'})", "ignored histogram in max aggregation (1:5)"),
        ("delta(h[3m])", 'this native histogram metric is not a gauge: "h" (1:7)'),
        ("rate(g[3m])", 'this native histogram metric is not a counter: "g" (1:6)'),
        ("rate(mixed[5m])", 'encountered a mix of histograms and floats for metric name "mixed" (1:6)'),
        ("max_over_time(mixed[5m])", "ignored histograms in a range containing both floats and histograms"),
        (
            "histogram_quantile(0.5, skewed)",
            "input to histogram_quantile has NaN observations, result is skewed higher",
        ),
        ("histogram_fraction(0, 3, skewed)", "input to histogram_fraction has NaN observations"),
    ],
)
def test_what_does_not_fit_together_is_said(query: str, said: str) -> None:
    skewed = dataclasses.replace(native([6, 2], offset=1), count=10.0, sum=math.nan)
    found = warned(
        query,
        h=GROWING,
        f=[1.0] * 5,
        c=[custom([1], [1, 1])] * 5,
        g=[dataclasses.replace(one, hint=ResetHint.GAUGE) for one in GROWING],
        mixed=[1.0, 2.0, *GROWING[:3]],
        skewed=[skewed] * 5,
    )
    assert any(said in one for one in found), found


@pytest.mark.parametrize(
    ("query", "buckets"),
    [
        # All below 2 is the bucket (1, 2] with 10; of (2, 4] half is below √8 on a logarithmic scale.
        ("h </ 2", [(1, 2, 10)]),
        ("h >/ 2", [(2, 4, 10)]),
        ("h </ 2.8284271247461903", [(1, 2, 10), (2, 4, 5)]),
        ("h >/ 2.8284271247461903", [(2, 4, 5)]),
        ("h </ 100", [(1, 2, 10), (2, 4, 10)]),
        ("h </ 0", []),
        ("c </ 15", [(-math.inf, 10, 5), (10, 20, 5)]),
        ("c >/ 5", [(-math.inf, 10, 2.5), (10, 20, 10), (20, math.inf, 5)]),
        ("w </ 0", [(-1, -0.5, 2), (-0.001, 0.001, 1)]),
        ("w >/ 0", [(-0.001, 0.001, 1), (1, 2, 4), (2, 4, 4)]),
    ],
)
def test_histograms_are_trimmed_at_a_value(query: str, buckets: list[tuple[float, float, float]]) -> None:
    series = {"h": GROWING, "c": [custom([10, 20], [5, 10, 5])] * 5, "w": [WIDE] * 5}
    ((name, got),) = ask(query, **series).items()  # type: ignore[attr-defined]
    assert name == query[0]
    assert [tuple(bucket) for bucket in got.buckets()] == [pytest.approx(bucket) for bucket in buckets]
    assert got.count == pytest.approx(sum(population for _, _, population in buckets))


def test_only_histograms_can_be_trimmed() -> None:
    assert ask("f </ 1", f=[1.0] * 5) == {}
    assert warned("f </ 1", f=[1.0] * 5) == [
        'PromQL info: incompatible sample types encountered for binary operator "</": float </ float (1:1)'
    ]
    with pytest.raises(ExecutionError, match="not allowed for Scalar operations"):
        ask("1 </ 2")


def test_info_metrics_are_numbers() -> None:
    store = MemoryQuerier()
    store.add('up{job="a", instance="b"}', [1.0])
    store.add('target_info{job="a", instance="b"}', [GROWING[0]])
    with pytest.raises(ExecutionError, match="info metric, with float samples"):
        Engine(store).instant("info(up)", 0)


def test_a_stale_marker_ends_a_histogram() -> None:
    ended = dataclasses.replace(GROWING[1], sum=STALE)
    assert ask("h", time=MINUTE, h=[GROWING[0], ended]) == {}
    assert ask("count_over_time(h[5m])", time=MINUTE, h=[GROWING[0], ended]) == {"{}": 1.0}


@pytest.mark.parametrize(
    ("index", "schema", "bound"),
    [
        (1, 0, 2.0),
        (0, 3, 1.0),
        (8, 3, 2.0),
        (4, 3, math.sqrt(2)),
        (-8, 3, 0.5),
        (1, -2, 16.0),
        (1024, 0, 1.7976931348623157e308),
        (1025, 0, math.inf),
    ],
)
def test_bounds_follow_from_index_and_schema(index: int, schema: int, bound: float) -> None:
    assert exponential_bound(index, schema) == bound


@pytest.mark.parametrize(
    "query",
    ["rate(h[2m])", "sum_over_time(h[2m])", "idelta(h[2m])", "sum(h)", "h + h", "h * 2", "last_over_time(h[2m:1m])"],
)
def test_what_operators_make_is_bounded(query: str) -> None:
    """Histograms that are far apart become one with all buckets in between."""
    store = MemoryQuerier()
    store.add("h", [native([1], offset=at, hint=ResetHint.GAUGE) for at in (0, 400, 0, 400, 0)])
    with pytest.raises(LimitExceededError) as error:
        Engine(store, limits=Limits(buckets=40)).range(query, 0, 4 * MINUTE, MINUTE)
    assert error.value.limit == "buckets"
