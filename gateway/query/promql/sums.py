"""Sums and means as Prometheus does them: with Neumaier's compensation, so that results agree to the last digit.

Each takes arrays, one running sum a cell. The order of the summands is part of the result.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NOTHING = -0.0
"""The summand that changes no sum, not even a negative zero."""

_EXACT = 2.0**53


def add(summand: Floats, total: Floats, lost: Floats) -> tuple[Floats, Floats]:
    """Return `total` + `summand`, and what is lost to rounding so far. An infinite sum has lost nothing."""
    # What is lost is exact without asking which is larger (Knuth's TwoSum), and so the same as Neumaier's.
    result = total + summand
    kept = result - total
    error = summand - kept
    np.subtract(result, kept, out=kept)
    np.subtract(total, kept, out=kept)
    error += kept
    error += lost
    infinite = np.isinf(result)
    if infinite.any():
        error[infinite] = 0.0
    return result, error


_ROWS = 256
"""Rows that are added at once: their running sums stay in the processor's caches."""


def add_rows(rows: Floats, total: Floats, lost: Floats) -> tuple[Floats, Floats]:
    """Return what `add` comes to when it is given all rows of a matrix, one after the other."""
    for begin in range(0, len(rows), _ROWS):
        some = rows[begin : begin + _ROWS]
        # Running sums are added up one by one, too; what each addition loses can then be told of all at once.
        running = np.add.accumulate(np.concatenate([total[None], some]), axis=0)
        before, after = running[:-1], running[1:]
        kept = after - before
        error = some - kept
        np.subtract(after, kept, out=kept)
        np.subtract(before, kept, out=kept)
        error += kept
        error[0] += lost
        lost = np.add.accumulate(error, axis=0, out=error)[-1]
        total = after[-1]
        # A sum that is infinite has lost nothing, and never becomes finite again.
        lost = np.where(np.isinf(total), 0.0, lost)
    return total, lost


def add_one(summand: float, total: float, lost: float) -> tuple[float, float]:
    """Return what `add` does, of single numbers."""
    result = total + summand
    if math.isinf(result):
        return result, 0.0
    kept = result - total
    return result, lost + ((total - (result - kept)) + (summand - kept))


class Mean:
    """Running means: a compensated sum divided at the end, or where the sum overflows, a mean kept up from then on."""

    __slots__ = ("_any_incremental", "_incremental", "_lost", "_mean", "_total", "count")

    def __init__(self, cells: int | tuple[int, ...]) -> None:
        self._total = np.full(cells, NOTHING)
        self._lost = np.zeros(cells)
        self._mean = np.zeros(cells)
        self._incremental = np.zeros(cells, bool)
        self._any_incremental = False
        self.count = np.zeros(cells)

    def add(self, cells: slice, values: Floats, present: NDArray[np.bool_] | None = None) -> None:
        """Add `values` to the means of `cells` (those that are `present`; None: all)."""
        count = self.count[cells]
        count += 1 if present is None else present
        total, lost, incremental = self._total[cells], self._lost[cells], self._incremental[cells]
        result, rest = add(values if present is None else np.where(present, values, NOTHING), total, lost)
        infinite = np.isinf(result)
        if not infinite.any() and not self._any_incremental:
            total[...], lost[...] = result, rest
            return
        there = np.ones(values.shape, bool) if present is None else present
        overflows = infinite & there & (count > 1)
        self._any_incremental |= bool(overflows.any())
        mean = self._mean[cells]
        begins = overflows & ~incremental
        mean[begins] = total[begins] / (count[begins] - 1)
        lost[begins] /= count[begins] - 1
        plain = ~incremental & ~begins
        incremental |= begins
        total[plain], lost[plain] = result[plain], rest[plain]
        further = incremental & there
        share = (count[further] - 1) / count[further]
        mean[further], lost[further] = add(
            values[further] / count[further], share * mean[further], share * lost[further]
        )

    def result(self) -> Floats:
        """Return the means; NaN without values."""
        plain = self._total / self.count + self._lost / self.count
        return np.where(self._incremental, self._mean + self._lost, plain)


def whole(values: Floats) -> bool:
    """Return whether sums of `values` are exact in whatever order: whole numbers, small enough all together."""
    return bool(np.abs(values).sum() < _EXACT) and bool(np.all(values == np.floor(values)))
