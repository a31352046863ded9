"""Functions of histograms: of native ones, and of classic ones, whose buckets are series with the label ``le``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.query.promql import labels as label_sets
from gateway.query.promql import sums
from gateway.query.promql.context import Context
from gateway.query.promql.histogram import Bucket, Histogram
from gateway.query.promql.histogram_stacks import Stack, deviations, stacks, variances
from gateway.query.promql.histogram_stacks import quantiles as stack_quantiles
from gateway.query.promql.labels import LabelSet, without_metadata
from gateway.query.promql.messages import bad_quantile, short
from gateway.query.promql.nodes import Node
from gateway.query.promql.vectors import Bools, Floats, Vectors, empty, merged
from gateway.query.series import METRIC_NAME

Rows = NDArray[np.intp]

BUCKET_LABEL = "le"
_TOLERANCE = 1e-12
"""Relative difference between counts of buckets that is taken for rounding."""


# Functions of each native histogram.


def mapped(context: Context, vectors: Vectors, name: str) -> Vectors:
    """Return what a function of native histograms makes of them; numbers are left out."""
    function, of_stack = OF_NATIVE[name]
    where = vectors.is_histogram()
    values = np.full(where.shape, np.nan)
    for row in np.flatnonzero(where.any(axis=1)).tolist():
        context.check()
        assert vectors.histograms is not None
        steps = np.flatnonzero(where[row])
        histograms = vectors.histograms[row, steps].tolist()
        found, alone = np.empty(len(steps)), np.ones(len(steps), bool)
        if of_stack is not None:
            for places, stack in stacks(histograms):
                found[places], alone[places] = of_stack(stack), False
        for place in np.flatnonzero(alone).tolist():
            found[place] = function(histograms[place])
        values[row, steps] = found
    labels = [label_sets.without(one, {METRIC_NAME}) for one in vectors.labels]
    return merged(Vectors(labels, values, where).filled())


def _ratio(dividend: float, divisor: float) -> float:
    return float(np.float64(dividend) / np.float64(divisor))


def _average(histogram: Histogram) -> float:
    return _ratio(histogram.sum, histogram.count)


def _variance(histogram: Histogram) -> float:
    """Return the estimated variance: every observation is taken to be in the middle of its bucket, the geometric one
    for exponential buckets."""
    mean = _average(histogram)
    total, lost = 0.0, 0.0
    for bucket in histogram.buckets():
        if histogram.custom:
            middle = (bucket.upper + bucket.lower) / 2
        elif bucket.lower <= 0 <= bucket.upper:
            middle = 0.0
        else:
            middle = math.copysign(math.sqrt(bucket.upper * bucket.lower), bucket.upper)
        difference = middle - mean
        total, lost = sums.add_one(bucket.population * difference * difference, total, lost)
    return _ratio(total + lost, histogram.count)


def _deviation(histogram: Histogram) -> float:
    variance = _variance(histogram)
    return math.sqrt(variance) if variance >= 0 else math.nan


OF_NATIVE: dict[str, tuple[Callable[[Histogram], float], Callable[[Stack], Floats] | None]] = {
    "histogram_avg": (_average, None),
    "histogram_count": (lambda histogram: histogram.count, None),
    "histogram_stddev": (_deviation, deviations),
    "histogram_stdvar": (_variance, variances),
    "histogram_sum": (lambda histogram: histogram.sum, None),
}
"""Functions of a native histogram, and of a stack of them where that is quicker; numbers beside them are left out.

- histogram_count(), histogram_sum(): how many observations there are, and what they add up to.
- histogram_avg(): their mean, the sum by the count.
- histogram_stddev(), histogram_stdvar(): their estimated standard deviation and variance, as if each observation were
  in the middle of its bucket.
"""


# Classic histograms.


@dataclass(slots=True)
class _Classic:
    """A classic histogram: its labels, and the series of its buckets, sorted by their upper bounds."""

    labels: LabelSet
    bounds: Floats
    counts: Floats
    """Buckets by steps: cumulative; NaN where absent."""
    present: Bools
    """Buckets by steps."""


def _split(context: Context, vectors: Vectors, node: Node) -> tuple[list[_Classic], Bools]:
    """Return the classic histograms of a vector, and which of its cells are native ones.

    Where both are under the same labels at one step, neither counts.
    """
    native = vectors.is_histogram().copy()
    numbers = vectors.numbers()
    rows: dict[LabelSet, list[tuple[float, int]]] = {}
    for row, labels in enumerate(vectors.labels):
        if not numbers[row].any():
            continue
        text = label_sets.get(labels, BUCKET_LABEL)
        bound = _bound(text)
        if bound is None:
            context.warn(node, f'bucket label "{BUCKET_LABEL}" is missing or has a malformed value of "{text}"')
            continue
        rows.setdefault(label_sets.without(labels, {BUCKET_LABEL}), []).append((bound, row))
    for row in np.flatnonzero(native.any(axis=1)).tolist():
        of_same = rows.get(vectors.labels[row])
        if of_same is not None:
            clash = native[row] & numbers[[one for _, one in of_same]].any(axis=0)
            if clash.any():
                context.warn(node, "vector contains a mix of classic and native histograms")
                native[row] &= ~clash
                for _, one in of_same:
                    numbers[one] &= ~clash
    classic = []
    for labels, found in rows.items():
        found.sort(key=lambda bucket: bucket[0])
        index = [row for _, row in found]
        classic.append(
            _Classic(
                labels,
                np.array([bound for bound, _ in found]),
                np.where(numbers[index], vectors.values[index], np.nan),
                numbers[index],
            )
        )
    return classic, native


def _bound(text: str) -> float | None:
    try:
        return float(text.replace("_", "x"))
    except ValueError:
        return None


def _same_buckets(classic: _Classic) -> list[tuple[Rows, Rows]]:
    """Return (buckets, steps) with the same buckets present at all of these steps."""
    if classic.present.all():
        return [(np.arange(len(classic.bounds)), np.arange(classic.present.shape[1]))]
    patterns, of_step = np.unique(classic.present.T, axis=0, return_inverse=True)
    of_step = of_step.ravel()
    return [
        (np.flatnonzero(pattern), np.flatnonzero(of_step == number))
        for number, pattern in enumerate(patterns)
        if pattern.any()
    ]


def _coalesced(bounds: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Return buckets with those of the same bound made one."""
    unique, first = np.unique(bounds, return_index=True)
    return (bounds, counts) if len(unique) == len(bounds) else (unique, np.add.reduceat(counts, first, axis=0))


def _monotonic(counts: Floats, bounds: Floats) -> tuple[Floats, Bools, Bools, Floats]:
    """Return cumulative counts that never fall; where they were forced to be (buckets by steps; steps); by how much.

    Differences as small as those of rounding are taken away silently.
    """
    forced: Bools = np.zeros(counts.shape, bool)
    largest: Floats = np.zeros(counts.shape[1])
    below, above = counts[:-1], counts[1:]
    if ((below == above) | ((below < above) & ~_almost_equal(below, above))).all():
        return counts, forced, np.zeros(counts.shape[1], bool), largest  # as most are
    result = counts.copy()
    before = result[0].copy()
    for bucket in range(1, len(counts)):
        now = counts[bucket]
        near = _almost_equal(before, now)
        falls = (now < before) & ~near
        result[bucket] = np.where(near | falls, before, now)
        forced[bucket] = falls
        largest = np.maximum(largest, np.where(falls, before - now, 0))
        before = result[bucket]
    return result, forced, np.logical_or.reduce(forced, axis=0), largest


def _almost_equal(one: Floats, two: Floats) -> Bools:
    difference = np.abs(one - two)
    total = np.abs(one) + np.abs(two)
    smallest = np.finfo(float).tiny
    tiny = (one == 0) | (two == 0) | (total < smallest)
    limit = np.where(tiny, _TOLERANCE * smallest, _TOLERANCE * np.minimum(total, np.finfo(float).max))
    near: Bools = (one == two) | (difference < limit) | (np.isnan(one) & np.isnan(two))
    return near


def _classic_quantiles(context: Context, classic: _Classic, quantiles: Floats, node: Node, steps: Floats) -> Floats:
    """Return quantiles of a classic histogram at each step: observations are spread evenly over their bucket."""
    result = np.full(len(quantiles), np.nan)
    forced: list[tuple[Floats, Floats, Floats]] = []
    for buckets, at in _same_buckets(classic):
        quantile = quantiles[at]
        bounds, counts = _coalesced(classic.bounds[buckets], classic.counts[np.ix_(buckets, at)])
        if bounds[-1] != math.inf:
            values = np.full(len(at), np.nan)
        else:
            counts, fixes, any_fix, largest = _monotonic(counts, bounds)
            asked = (quantile >= 0) & (quantile <= 1)
            if (any_fix & asked).any():
                where = any_fix & asked
                forced.append((bounds[fixes[:, where].any(axis=1)], steps[at][where], largest[where]))
            values = _interpolated(bounds, counts, quantile)
        values = np.where(quantile < 0, -np.inf, np.where(quantile > 1, np.inf, values))
        result[at] = np.where(np.isnan(quantile), np.nan, values)
    if forced:
        _tell_of_forced(context, node, forced)
    return result


def _interpolated(bounds: Floats, counts: Floats, quantile: Floats) -> Floats:
    if len(bounds) < 2:
        return np.full(len(quantile), np.nan)
    observations = counts[-1]
    rank = quantile * observations
    # The first bucket but the last one whose cumulative count reaches the rank; they never fall.
    bucket = (counts[:-1] < rank).sum(axis=0)
    bucket = np.where(np.isnan(counts[-1]) | np.isnan(rank), len(bounds) - 1, bucket)
    at = np.arange(len(quantile))
    within = np.minimum(bucket, len(bounds) - 2)
    before = np.maximum(within - 1, 0)
    first = within == 0
    start = np.where(first, 0.0, bounds[before])
    count = counts[within, at] - np.where(first, 0.0, counts[before, at])
    rank = rank - np.where(first, 0.0, counts[before, at])
    values = start + (bounds[within] - start) * (rank / count)
    values = np.where(first & (bounds[0] <= 0), bounds[0], values)
    values = np.where(bucket == len(bounds) - 1, bounds[-2], values)
    return np.where(observations == 0, np.nan, values)


def _tell_of_forced(context: Context, node: Node, forced: Sequence[tuple[Floats, Floats, Floats]]) -> None:
    bounds = np.concatenate([one for one, _, _ in forced])
    times = np.concatenate([one for _, one, _ in forced])
    largest = max(float(one.max()) for _, _, one in forced)

    def at(milliseconds: float) -> str:
        return f"{np.datetime64(int(milliseconds) // 1000, 's')}Z"

    context.info(
        node,
        "input to histogram_quantile needed to be fixed for monotonicity (see "
        "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile), "
        f"from buckets {short(float(bounds.min()))} to {short(float(bounds.max()))}, with a max diff of "
        f"{largest:.2g}, over {len(times)} samples from {at(times.min())} to {at(times.max())}",
    )


def _classic_fractions(classic: _Classic, lower: Floats, upper: Floats) -> Floats:
    """Return the share of the observations of a classic histogram between two values, at each step."""
    result = np.full(len(lower), np.nan)
    for buckets, at in _same_buckets(classic):
        bounds, counts = _coalesced(classic.bounds[buckets], classic.counts[np.ix_(buckets, at)])
        if bounds[-1] != math.inf:
            continue
        for position, step in enumerate(at.tolist()):
            result[step] = _classic_fraction(
                bounds.tolist(), counts[:, position].tolist(), float(lower[step]), float(upper[step])
            )
    return result


def _classic_fraction(bounds: list[float], counts: list[float], lower: float, upper: float) -> float:
    total = counts[-1]
    if total == 0 or math.isnan(lower) or math.isnan(upper):
        return math.nan
    if lower >= upper:
        return 0.0

    def rank_of(value: float) -> float:
        start, before = (0.0 if bounds[0] > 0 else -math.inf), 0.0
        for end, count in zip(bounds, counts, strict=True):
            if start >= value:
                return before
            if value < end:
                if start == -math.inf:
                    return count
                return before + (count - before) * (value - start) / (end - start)
            start, before = end, count
        return total

    return (min(rank_of(upper), total) - min(rank_of(lower), total)) / total


# Quantiles and fractions of both.


def quantile(context: Context, vectors: Vectors, quantiles: Floats, nodes: tuple[Node, Node], steps: Floats) -> Vectors:
    """histogram_quantile(): the value that a share of the observations is not above, at each step."""
    _warn_of_quantiles(context, quantiles, nodes[0])
    classic, native = _split(context, vectors, nodes[1])

    def of_natives(steps: Rows, histograms: list[Histogram]) -> Floats:
        wanted = quantiles[steps]
        values, alone = np.full(len(steps), np.nan), np.ones(len(steps), bool)
        for places, stack in stacks(histograms):
            values[places], alone[places] = stack_quantiles(stack, wanted[places])
        for at in np.flatnonzero(alone).tolist():
            values[at] = _native_quantile(context, float(wanted[at]), histograms[at], nodes[0])
        return values

    return _results(
        context,
        vectors,
        native,
        classic,
        of_natives,
        lambda one: _classic_quantiles(context, one, quantiles, nodes[1], steps),
    )


def quantiles(
    context: Context,
    vectors: Vectors,
    label: str,
    all_quantiles: Sequence[tuple[Floats, Node]],
    node: Node,
    steps: Floats,
) -> Vectors:
    """histogram_quantiles(): several quantiles, each with its number as a label."""
    from gateway.query.promql.binary import stacked

    result = empty(vectors.values.shape[1])
    for wanted, own_node in all_quantiles:
        values = quantile(context, vectors, wanted, (own_node, node), steps)
        for number in np.unique(wanted).tolist():
            where = np.isnan(wanted) if math.isnan(number) else wanted == number
            text = short(number)
            text = text if not text.lstrip("-").isdigit() else text + ".0"
            labels = [label_sets.replaced(one, [(label, text)]) for one in values.labels]
            result = stacked(result, Vectors(labels, values.values, values.present & where))
    return merged(result.filled())


def fraction(context: Context, vectors: Vectors, lower: Floats, upper: Floats, nodes: tuple[Node, Node]) -> Vectors:
    """histogram_fraction(): the share of the observations between two values, at each step."""
    classic, native = _split(context, vectors, nodes[1])

    def of_natives(steps: Rows, histograms: list[Histogram]) -> Floats:
        asked = zip(lower[steps].tolist(), upper[steps].tolist(), histograms, strict=True)
        return np.array([_native_fraction(context, low, high, one, nodes[0]) for low, high, one in asked])

    return _results(context, vectors, native, classic, of_natives, lambda one: _classic_fractions(one, lower, upper))


def _results(
    context: Context,
    vectors: Vectors,
    native: Bools,
    classic: Sequence[_Classic],
    of_natives: Callable[[Rows, list[Histogram]], Floats],
    of_classic: Callable[[_Classic], Floats],
) -> Vectors:
    rows = np.flatnonzero(native.any(axis=1)).tolist()
    shape = (len(rows) + len(classic), vectors.values.shape[1])
    values, present = np.full(shape, np.nan), np.zeros(shape, bool)
    labels = [without_metadata(vectors.labels[row]) for row in rows]
    for at, row in enumerate(rows):
        context.check()
        present[at] = native[row]
        there = np.flatnonzero(native[row])
        assert vectors.histograms is not None
        values[at, there] = of_natives(there, vectors.histograms[row, there].tolist())
    for at, one in enumerate(classic, len(rows)):
        context.check()
        labels.append(without_metadata(one.labels))
        present[at] = one.present.any(axis=0)
        values[at] = of_classic(one)
    return merged(Vectors(labels, values, present).filled())


def _warn_of_quantiles(context: Context, quantiles: Floats, node: Node) -> None:
    for value in np.unique(quantiles[np.isnan(quantiles) | (quantiles < 0) | (quantiles > 1)]).tolist():
        context.warn(node, bad_quantile(value))


def _native_quantile(context: Context, quantile: float, histogram: Histogram, node: Node) -> float:
    """Return a quantile of a native histogram: observations are spread evenly over their bucket, on a logarithmic
    scale but for the zero bucket and buckets with bounds of their own."""
    if quantile < 0 or quantile > 1:
        return math.copysign(math.inf, quantile)
    if histogram.count == 0 or math.isnan(quantile):
        return math.nan
    unknown = math.isnan(histogram.sum)  # NaN was observed: it counts, but is in no bucket
    buckets = histogram.buckets()
    forward = unknown or quantile < 0.5
    rank = (quantile if forward else 1 - quantile) * histogram.count
    bucket, count, seen = Bucket(0.0, 0.0, 0.0), 0.0, 0
    order = buckets if forward else buckets[::-1]
    for bucket in order:
        seen += 1
        count += bucket.population
        if count >= rank:
            break
    lower, upper = bucket.lower, bucket.upper
    if histogram.custom:
        if lower == -math.inf:
            if upper <= 0:
                return upper
            lower = 0.0
        elif upper == math.inf:
            return lower
    elif lower < 0 < upper:
        lower, upper = _zero_bucket(histogram, lower, upper)
    count = min(count, histogram.count)
    if count < rank:
        if unknown:
            context.info(node, "input to histogram_quantile has NaN observations, result is NaN")
            return math.nan
        return upper
    rank = rank - (count - bucket.population) if forward else count - rank
    if unknown and count + sum(one.population for one in order[seen:]) < histogram.count:
        context.info(node, "input to histogram_quantile has NaN observations, result is skewed higher")
    share = _ratio(rank, bucket.population)
    if histogram.custom or lower <= 0 <= upper:
        return lower + (upper - lower) * share
    log_lower, log_upper = math.log2(abs(lower)), math.log2(abs(upper))
    if lower > 0:
        return float(np.exp2(log_lower + (log_upper - log_lower) * share))
    return -float(np.exp2(log_upper + (log_lower - log_upper) * (1 - share)))


def _zero_bucket(histogram: Histogram, lower: float, upper: float) -> tuple[float, float]:
    """Return the bounds of the zero bucket: it ends at zero where there are buckets on one side only."""
    negative, positive = len(histogram.negative.counts) > 0, len(histogram.positive.counts) > 0
    if positive and not negative:
        return 0.0, upper
    if negative and not positive:
        return lower, 0.0
    return lower, upper


def _native_fraction(context: Context, lower: float, upper: float, histogram: Histogram, node: Node) -> float:
    """Return the share of the observations of a native histogram between two values."""
    if histogram.count == 0 or math.isnan(lower) or math.isnan(upper):
        return math.nan
    if lower >= upper:
        return 0.0
    buckets = histogram.buckets()
    total = histogram.count
    if math.isnan(histogram.sum):
        total = sum(bucket.population for bucket in buckets)
        if total < histogram.count:
            context.info(
                node, "input to histogram_fraction has NaN observations, which are excluded from all fractions"
            )

    def rank_of(value: float) -> float:
        before = 0.0
        for start, end, population in buckets:
            linear = histogram.custom
            if start <= 0 <= end:
                linear = True
                start, end = _zero_bucket(histogram, start, end)
            if start >= value:
                return before
            if value < end:
                if linear and start == -math.inf:
                    return population
                return before + population * _share_below(start, end, value, linear=linear)
            before += population
        return total

    return (min(rank_of(upper), total) - min(rank_of(lower), total)) / histogram.count


def _share_below(start: float, end: float, value: float, *, linear: bool) -> float:
    if linear:
        return (value - start) / (end - start)
    log_start, log_end, log_value = (math.log2(abs(one)) for one in (start, end, value))
    if value > 0:
        return (log_value - log_start) / (log_end - log_start)
    return 1 - (log_value - log_end) / (log_start - log_end)
