"""Calls of functions of range vectors: what they get besides the windows, and what they give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gateway.query.promql.context import Context
from gateway.query.promql.labels import metric_name
from gateway.query.promql.nodes import Node
from gateway.query.promql.vectors import Bools, Floats, Objects
from gateway.query.promql.windows import Longs, Windows

MIXED = "encountered a mix of histograms and floats for metric name {name}"


class Cells(NamedTuple):
    """What a function makes of windows: n by m, as in `Vectors`."""

    values: Floats
    present: Bools
    histograms: Objects | None = None


@dataclass(frozen=True, slots=True)
class RangeCall:
    """A call of a function of a range vector."""

    context: Context
    function: str
    arg: Node
    """The range vector."""
    scalars: tuple[Floats, ...]
    """The other arguments, a number for each step."""
    scalar_nodes: tuple[Node, ...]

    def warn(self, windows: Windows, where: Bools, text: str) -> None:
        """Warn of the series that have some cell in `where`; ``{name}`` is the quoted name of the metric."""
        for name in _names(windows, where):
            self.context.warn(self.arg, text.format(name=name))

    def info(self, windows: Windows, where: Bools, text: str) -> None:
        """Like `warn`, but an info."""
        for name in _names(windows, where):
            self.context.info(self.arg, text.format(name=name))


def _names(windows: Windows, where: Bools) -> list[str]:
    rows = np.flatnonzero(where.any(axis=1)).tolist()
    return list(dict.fromkeys(f'"{metric_name(windows.labels[row])}"' for row in rows))


def values_at(windows: Windows, index: Longs) -> Floats:
    """Return samples by their index; NaN where there are none at all."""
    return windows.values[index] if len(windows.values) else np.full(index.shape, np.nan)


def times_at(windows: Windows, index: Longs) -> Longs:
    """Return times of samples by their index (milliseconds); 0 where there are none at all."""
    return windows.times[index] if len(windows.times) else np.zeros(index.shape, np.int64)


def extrapolation(
    windows: Windows,
    first: Longs,
    last: Longs,
    counts: Longs,
    start: Floats | None,
    increase: Floats,
    ends: Longs | None = None,
) -> Floats:
    """Return what extrapolation multiplies by. `start`: the first value of a counter; `increase` is what it grew by.

    `ends`: where the windows end that all of these are of, if not at all steps.
    """
    ends = windows.ends if ends is None else ends
    to_start = (first - (ends - windows.length)) / 1000
    to_end = (ends - last) / 1000
    sampled = (last - first) / 1000
    average = sampled / (counts - 1)
    threshold = average * 1.1
    to_start = np.where(to_start >= threshold, average / 2, to_start)
    if start is not None:
        to_zero = np.where((increase > 0) & (start >= 0), sampled * (start / increase), to_start)
        to_start = np.where(to_zero < to_start, to_zero, to_start)
    to_end = np.where(to_end >= threshold, average / 2, to_end)
    factor: Floats = np.where(sampled != 0, (sampled + to_start + to_end) / sampled, 1.0)
    return factor
