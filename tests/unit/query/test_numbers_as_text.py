"""Numbers are written as Go writes them, which is what Prometheus's clients compare."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.query.numbers_text import all_answered, answered, shortest


@pytest.mark.parametrize(
    ("value", "label", "answer"),
    [
        (1.0, "1", "1"),
        (-0.0, "-0", "-0"),
        (0.1, "0.1", "0.1"),
        (1e16, "10000000000000000", "10000000000000000"),
        (1.2345678901234568e20, "123456789012345680000", "123456789012345680000"),
        (1e21, "1000000000000000000000", "1e+21"),
        (1e-6, "0.000001", "0.000001"),
        (1.5e-7, "0.00000015", "1.5e-07"),
        (math.inf, "+Inf", "+Inf"),
        (-math.inf, "-Inf", "-Inf"),
        (math.nan, "NaN", "NaN"),
    ],
)
def test_numbers(value: float, label: str, answer: str) -> None:
    assert shortest(value) == label
    assert answered(value) == answer


@given(st.lists(st.floats()))
def test_many_at_once_are_written_as_each_by_itself(values: list[float]) -> None:
    assert all_answered(values) == [answered(value).encode() for value in values]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_nothing_is_lost(value: float) -> None:
    assert float(answered(value)) == float(shortest(value)) == value
