"""Charts of the page, of whatever range and whatever values."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from gateway.extensions.api.page.charts import drawing
from gateway.query.charts.buckets import STEPS, Window, step_for

YEAR = 365 * 86_400


@pytest.mark.parametrize("seconds", [1, 60, 3600, 30 * 86_400, 5 * YEAR, 6 * YEAR, 292 * YEAR])
def test_a_chart_has_a_bounded_number_of_intervals(seconds: int) -> None:
    """With thousands of series, the numbers of a chart would else fill the memory."""
    window = Window.over(0.0, seconds)
    assert window.count <= 262, "the first and the last may not be whole"
    assert window.coarser(3600).count <= window.count
    assert window.coarser(3600).step >= window.step
    assert step_for(seconds, 260) in STEPS or step_for(seconds, 260) % STEPS[-1] == 0


def test_a_drawing_stays_in_its_box_whatever_the_values_are() -> None:
    values = np.array([1e308, -1e308, 5e-324, np.nan, np.inf, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (path,) = drawing([values])
    heights = [int(y) for y in re.findall(r"\d (-?\d+)", path)]
    assert heights[:3] == [0, 200, 100]
    assert all(0 <= height <= 200 for height in heights)
