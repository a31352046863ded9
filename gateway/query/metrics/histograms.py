"""Quantiles of histograms, with explicit bounds and exponential ones alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

QUANTILES = (0.5, 0.95, 0.99)
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Buckets:
    """How many measurements lie in each interval, and the smallest and largest of them where known."""

    counts: Counter[Interval]
    smallest: float | None = None
    largest: float | None = None

    @classmethod
    def of(cls, point: Mapping[str, Any]) -> Self:
        """Take them from a row of the view ``histograms``."""
        counts: Counter[Interval] = Counter()
        if point["explicit_bounds"] is not None:
            bounds = [-math.inf, *point["explicit_bounds"], math.inf]
            counts.update(dict(zip(pairwise(bounds), point["bucket_counts"], strict=False)))
        else:
            counts.update(_exponential(point))
        return cls(+counts, point["min"], point["max"])

    def since(self, before: Self) -> Self:
        """Return what was added to cumulative buckets; all of it when they began anew, or with another scale."""
        difference = self.counts.copy()
        difference.subtract(before.counts)
        if any(count < 0 for count in difference.values()):
            return self
        return type(self)(+difference)  # the smallest and largest are of all, not of what was added

    def with_(self, other: Self) -> Self:
        """Return both together."""
        return type(self)(
            self.counts + other.counts,
            _either(min, self.smallest, other.smallest),
            _either(max, self.largest, other.largest),
        )

    def quantile(self, q: float) -> float | None:
        """Return an estimate: the place in the bucket that holds it, as if measurements were spread evenly there."""
        total = sum(self.counts.values())
        if not total:
            return None
        rank = q * total
        below = 0
        for (low, high), count in sorted(self.counts.items()):
            if below + count >= rank:
                return self._within(low, high, (rank - below) / count)
            below += count
        return None

    def _within(self, low: float, high: float, part: float) -> float | None:
        if (low, high) == (-math.inf, math.inf) and (self.smallest is None or self.largest is None):
            return None  # a bucket without bounds says how many there were, and nothing of where they lie
        if low == -math.inf:
            low = self.smallest if self.smallest is not None else min(0.0, high)
        if high == math.inf:
            high = self.largest if self.largest is not None else low
        if not (math.isfinite(low) and math.isfinite(high)):
            return low if math.isfinite(low) else high
        estimate = low * (1 - part) + high * part
        if self.smallest is not None:
            estimate = max(estimate, self.smallest)
        return estimate if self.largest is None else min(estimate, self.largest)


def _exponential(point: Mapping[str, Any]) -> dict[Interval, int]:
    threshold = point["zero_threshold"]
    counts: dict[Interval, int] = {(-threshold, threshold): point["zero_count"]}
    for sign in ("positive", "negative"):
        first = point[f"{sign}_offset"] or 0
        for index, count in enumerate(point[f"{sign}_bucket_counts"] or (), first):
            if count:
                low, high = _bound(index, point["scale"]), _bound(index + 1, point["scale"])
                counts[(low, high) if sign == "positive" else (-high, -low)] = count
    return counts


def _bound(index: int, scale: int) -> float:
    """Return a bucket's lower bound: 2 ** (index * 2 ** -scale), as the OpenTelemetry data model has it."""
    try:
        return math.pow(2.0, math.ldexp(index, -scale))
    except OverflowError:
        return math.inf if index > 0 else 0.0


def _either(choose: Callable[[tuple[float, float]], float], one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return one if other is None else other
    return choose((one, other))


def quantiles(buckets: Buckets | None) -> Sequence[float | None]:
    """Return the `QUANTILES` of buckets."""
    estimates = [buckets.quantile(q) if buckets else None for q in QUANTILES]
    return [None if estimate is None or not math.isfinite(estimate) else estimate for estimate in estimates]
