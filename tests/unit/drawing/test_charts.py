"""Numbers as charts, with their units; histograms as quantiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.drawing.charts import line_chart, sparkline
from gateway.query.metrics.histograms import Buckets, quantiles
from gateway.query.metrics.lines import filled
from gateway.query.metrics.units import Unit

VALUES = st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=60)


def test_a_sparkline_goes_from_the_smallest_to_the_largest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([-10, None, 10]) == "▁ █"
    assert sparkline([3, 3]) == "▄▄"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([None]) == " "


def test_a_line_chart_has_a_labelled_axis_and_no_holes() -> None:
    assert line_chart([0, 1, 2, 3, 4, 5, 6, 7], 2, "{:g}".format) == ["7 ┤⠀⠀⡠⠊", "0 ┤⡠⠊⠀⠀"]
    assert line_chart([0, 7], 2, "{:g}".format) == ["7 ┤⢸", "0 ┤⡸"]


@pytest.mark.parametrize("values", [[5.0, 5.0], [5.0, 5.0000001, 4.9999999], [0.1 + 0.2, 0.3], [0, 0]])
def test_values_that_the_labels_do_not_tell_apart_are_a_flat_line(values: Sequence[float]) -> None:
    label = "{:.3g}".format
    above, line, below = line_chart(values, 10, label)
    width = len(label(values[0]))
    assert line.startswith(f"{label(values[0])} ┤")
    assert len(set(line[width + 2 :])) <= 2  # one for two values, and one for the last alone
    assert above.strip(" │⠀") == below.strip(" │⠀") == ""
    assert len(set(sparkline(values, flat=True))) == 1


@given(VALUES)
def test_every_list_of_values_can_be_drawn(values: list[float | None]) -> None:
    assert len(sparkline(values)) == len(values)
    chart = line_chart(values, 10, "{:g}".format)
    labels = {f"{value:g}" for value in values if value is not None}
    assert len(chart) == (10 if len(labels) > 1 else 3 if labels else 0)
    assert len({len(line) for line in chart}) <= 1
    assert len(filled(values)) == len(values)


def test_gaps_of_a_slow_source_are_filled_and_outages_are_not() -> None:
    assert filled([1, None, 3, None, 5]) == [1, 2, 3, 4, 5]
    long = [1, None, 3, None, 5, *[None] * 9, 15.0]
    assert filled(long)[5:14] == [None] * 9
    assert filled([None, 7, None]) == [None, 7, None]


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        ("By", 1536, "1.5 KiB"),
        ("By", 3 * 2**40, "3 TiB"),
        ("KiBy", 2048, "2 MiB"),
        ("s", 0.0123, "12.3 ms"),
        ("ms", 90_000, "1m 30s"),
        ("Cel", 48.25, "48.2 °C"),
        ("%", 12.5, "12.5 %"),
        ("{thread}", 12_345, "12.3 k"),
        ("Hz", 2.4e9, "2.4 GHz"),
        ("1", 42, "42"),
        ("1", 0.25, "25 %"),
        ("furlong", 8, "8 furlong"),
        ("furlong", -1e308, "-1e+293 Pfurlong"),
        ("", 5, "5"),
        ("By", None, "-"),
        ("By", math.inf, "inf"),
    ],
)
def test_values_are_scaled_by_their_unit(unit: str, value: float | None, shown: str) -> None:
    assert Unit(unit, [value]).show(value) == shown


def test_rates_are_per_second() -> None:
    assert Unit("By", per_second=True).show(2**20) == "1 MiB/s"
    assert Unit("s", per_second=True).show(0.25) == "0.25 s/s"
    assert Unit("{request}", per_second=True).show(1500) == "1.5 k/s"


def test_a_ratio_is_in_per_cent_as_long_as_none_is_above_one() -> None:
    assert Unit("1", [0.1, 0.9]).show(1) == "100 %"
    assert Unit("1", [0.5, 7]).show(1) == "1"
    assert Unit("1", [0, 1]).show(1) == "1"


def explicit(
    bounds: Sequence[float], counts: Sequence[int], smallest: float | None = None, largest: float | None = None
) -> Buckets:
    return Buckets.of({"explicit_bounds": bounds, "bucket_counts": counts, "min": smallest, "max": largest})


def exponential(scale: int, offset: int, counts: Sequence[int], **fields: Any) -> Buckets:
    return Buckets.of(
        {
            "explicit_bounds": None, "scale": scale, "zero_count": 0, "zero_threshold": 0.0, "min": None, "max": None,
            "positive_offset": offset, "positive_bucket_counts": counts,
            "negative_offset": None, "negative_bucket_counts": None,
        } | fields
    )  # fmt: skip


def test_a_quantile_lies_in_its_bucket_in_proportion() -> None:
    buckets = explicit([10, 20, 30], [0, 10, 10, 0])
    assert [buckets.quantile(q) for q in (0, 0.25, 0.5, 0.75, 1)] == [10, 15, 20, 25, 30]


def test_open_buckets_end_at_the_smallest_and_largest_where_known() -> None:
    assert explicit([10], [4, 0]).quantile(0.5) == 5
    assert explicit([10], [0, 4]).quantile(0.5) == 10
    assert explicit([10], [0, 4], 12, 20).quantile(0.5) == 15
    assert explicit([10], [4, 0], 8, 9).quantile(0.5) == 9
    assert explicit([], []).quantile(0.5) is None


def test_a_bucket_without_bounds_has_quantiles_only_where_the_smallest_and_largest_are_known() -> None:
    first, then = explicit([], [4], 1, 9), explicit([], [8], 1, 9)
    assert first.quantile(0.5) == 5
    assert quantiles(then.since(first)) == [None, None, None]
    assert quantiles(explicit([], [4], smallest=1)) == quantiles(explicit([], [4], largest=9)) == [None, None, None]


def test_exponential_buckets_are_powers_of_their_base() -> None:
    assert exponential(0, 2, [4]).quantile(0.5) == 6  # between 4 and 8
    assert exponential(1, 0, [1]).quantile(1) == pytest.approx(math.sqrt(2))
    below_zero = exponential(0, 0, [], negative_offset=0, negative_bucket_counts=[2], zero_count=2)
    assert below_zero.quantile(0.25) == -1.5
    assert below_zero.quantile(1) == 0
    assert exponential(-10, 5, [1]).quantile(1) is not None


def test_cumulative_buckets_are_compared_with_those_before() -> None:
    before, after = explicit([10, 20], [5, 0, 0]), explicit([10, 20], [5, 4, 0])
    assert after.since(before).quantile(0.5) == 15
    assert explicit([10, 20], [0, 2, 0]).since(before).quantile(0.5) == 15
    assert before.with_(after).counts[(10, 20)] == 4
