"""``</`` and ``>/``: what a native histogram has below, or above, a value.

Observations are taken to be spread over the bucket that the value is in as for quantiles; the sum is estimated anew.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from gateway.query.promql.histogram import Bucket, Histogram, Side


class _Kept(NamedTuple):
    """What stays of a bucket: how many observations, and about what each is."""

    population: float
    middle: float


def trimmed(histogram: Histogram, value: float, *, below: bool) -> Histogram:
    """Return the observations `below` a value, or those above it."""
    count = total = 0.0
    sides: list[Side] = []
    for sign, side in ((1.0, histogram.positive), (-1.0, histogram.negative)):
        counts = side.counts.copy()
        for position in np.flatnonzero(counts).tolist():
            inner = histogram.bound(side.offset + position - 1)
            outer = histogram.bound(side.offset + position)
            lower, upper = (inner, outer) if sign > 0 else (-outer, -inner)
            bucket = Bucket(lower, upper, float(counts[position]))
            kept = _kept(bucket, value, sign, below=below, linear=histogram.custom)
            counts[position] = kept.population
            count += kept.population
            total += kept.middle * kept.population
        sides.append(Side(side.offset, counts))
    zero_count = histogram.zero_count
    if zero_count > 0:
        kept = _zero_kept(histogram, value, below=below)
        zero_count = kept.population
        total += kept.middle * kept.population
        count += kept.population
    if zero_count == histogram.zero_count and all(
        np.array_equal(new.counts, old.counts)
        for new, old in zip(sides, (histogram.positive, histogram.negative), strict=True)
    ):
        return histogram
    return dataclasses.replace(
        histogram, zero_count=zero_count, count=count, sum=total, positive=sides[0], negative=sides[1]
    ).compact()


def _kept(bucket: Bucket, value: float, sign: float, *, below: bool, linear: bool) -> _Kept:
    lower, upper, population = bucket
    if upper <= value if below else lower >= value:
        return _Kept(population, _middle(lower, upper, sign, linear=linear))
    if lower >= value if below else upper <= value:
        return _Kept(0.0, 0.0)
    if math.isinf(lower) or math.isinf(upper):
        return _of_endless(bucket, value, below=below)
    share = _share_below(lower, upper, value, linear=linear)
    if below:
        return _Kept(population * share, _middle(lower, value, sign, linear=linear))
    return _Kept(population - population * share, _middle(value, upper, sign, linear=linear))


def _of_endless(bucket: Bucket, value: float, *, below: bool) -> _Kept:
    """Return what stays of a bucket without a lower or upper bound: where its observations are is not known, but that
    the first one begins at zero where it ends above it."""
    lower, upper, population = bucket
    if lower == -math.inf:
        if below:
            if value > 0 and 0 < upper < math.inf:
                return _Kept(population * value / upper, value / 2)
            return _Kept(population, value) if upper <= 0 else _Kept(0.0, 0.0)
        if 0 <= value < upper < math.inf:
            return _Kept(population * (1 - value / upper), (value + upper) / 2)
        return _Kept(0.0, 0.0)
    return _Kept(0.0, 0.0) if below or value < lower else _Kept(population, value)


def _zero_kept(histogram: Histogram, value: float, *, below: bool) -> _Kept:
    lower, upper = -histogram.zero_threshold, histogram.zero_threshold
    positive, negative = histogram.positive.counts.any(), histogram.negative.counts.any()
    if negative and not positive:
        upper = 0.0
    if positive and not negative:
        lower = 0.0
    if value <= lower or value >= upper:
        stays = value >= upper if below else value <= lower
        return _Kept(histogram.zero_count, (lower + upper) / 2) if stays else _Kept(0.0, 0.0)
    share = (value - lower if below else upper - value) / (upper - lower)
    return _Kept(histogram.zero_count * share, ((lower if below else upper) + value) / 2)


def _share_below(lower: float, upper: float, value: float, *, linear: bool) -> float:
    if linear:
        return (value - lower) / (upper - lower)
    log_lower, log_upper, log_value = (math.log2(abs(one)) for one in (lower, upper, value))
    if value > 0:
        return (log_value - log_lower) / (log_upper - log_lower)
    return 1 - (log_value - log_upper) / (log_lower - log_upper)


def _middle(lower: float, upper: float, sign: float, *, linear: bool) -> float:
    if math.isinf(lower):
        if math.isinf(upper):
            return 0.0
        return upper / 2 if upper > 0 else upper
    if math.isinf(upper):
        return lower
    return (lower + upper) / 2 if linear else sign * math.sqrt(abs(lower * upper))
