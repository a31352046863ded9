"""Native histograms that have the same exponential buckets, as the rows of a matrix: worked out all at once.

Most that meet are such: those of one series, and those of several that measure the same, in the wider buckets of the
least schema. What differs in its zero bucket, has bounds of its own, or says something of resets is left to
`histogram`, one after the other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.query.promql import sums
from gateway.query.promql.histogram import NO_BUCKETS, Histogram, ResetHint, Side, exponential_bound

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]
Bools = NDArray[np.bool_]

_SCALARS = 3
"""Columns before those of buckets: the population of the zero bucket, the count, and the sum."""
_ZERO, COUNT, SUM = range(_SCALARS)
_SPARSE = 4
"""How many times as many columns as populations there may be: buckets that are far from each other are no matrix."""


class Layout(NamedTuple):
    """What the columns of a stack are, and what all of its histograms have in common."""

    schema: int
    zero_threshold: float
    hint: ResetHint
    positive: int
    """The bucket of the first positive column."""
    positives: int
    negative: int
    negatives: int

    @property
    def width(self) -> int:
        """How many columns there are."""
        return _SCALARS + self.positives + self.negatives


class Stack(NamedTuple):
    """n histograms. ``has_positive`` and ``has_negative``: which have buckets on that side, populated or not."""

    layout: Layout
    rows: Floats
    has_positive: Bools
    has_negative: Bools

    @property
    def positive(self) -> Floats:
        """Populations of positive buckets (n by m)."""
        return self.rows[:, _SCALARS : _SCALARS + self.layout.positives]

    @property
    def negative(self) -> Floats:
        """Populations of negative buckets (n by m)."""
        return self.rows[:, _SCALARS + self.layout.positives :]


def stacked(histograms: Sequence[Histogram]) -> Stack | None:
    """Return histograms as rows; None where they are not alike."""
    if not histograms:
        return None
    first = histograms[0]
    if first.custom or first.hint not in (ResetHint.UNKNOWN, ResetHint.GAUGE):
        return None
    common = first.schema, first.zero_threshold, first.hint
    if any((one.schema, one.zero_threshold, one.hint) != common for one in histograms):
        return None
    sides = [[one.positive for one in histograms], [one.negative for one in histograms]]
    extents = [_extent(side) for side in sides]
    layout = Layout(*common, *extents[0], *extents[1])
    populations = sum(len(side.counts) for both in sides for side in both)
    if len(histograms) * layout.width > _SPARSE * (_SCALARS * len(histograms) + populations):
        return None
    rows = np.zeros((len(histograms), layout.width))
    rows[:, :_SCALARS] = [(one.zero_count, one.count, one.sum) for one in histograms]
    for side, first_bucket, column in (
        (sides[0], layout.positive, _SCALARS),
        (sides[1], layout.negative, _SCALARS + layout.positives),
    ):
        _fill(rows, side, first_bucket, column)
    has = [np.array([len(side.counts) > 0 for side in both]) for both in sides]
    return Stack(layout, rows, *has)


def stacks(histograms: Sequence[Histogram]) -> Iterator[tuple[Longs, Stack]]:
    """Yield those that are alike, each kind as one stack, with their places; those that no stack takes are left out."""
    kinds: defaultdict[tuple[int, float, ResetHint], list[int]] = defaultdict(list)
    for place, one in enumerate(histograms):
        kinds[one.schema, one.zero_threshold, one.hint].append(place)
    for places in kinds.values():
        if (stack := stacked([histograms[place] for place in places])) is not None:
            yield np.array(places), stack


def _extent(sides: Sequence[Side]) -> tuple[int, int]:
    """Return the first bucket of all, and how many there are up to the last."""
    some = [side for side in sides if len(side.counts)]
    if not some:
        return 0, 0
    first = min(side.offset for side in some)
    return first, max(side.offset + len(side.counts) for side in some) - first


def _fill(rows: Floats, sides: Sequence[Side], first: int, column: int) -> None:
    lengths = np.array([len(side.counts) for side in sides])
    starts = np.cumsum(lengths) - lengths
    begins = np.array([side.offset - first if len(side.counts) else 0 for side in sides]) + column
    which = np.repeat(np.arange(len(sides)), lengths)
    at = np.repeat(begins - starts, lengths) + np.arange(len(which))
    rows[which, at] = np.concatenate([side.counts for side in sides])


def unstacked(
    layout: Layout, rows: Floats, like: Floats | None = None, hints: Sequence[ResetHint] = ()
) -> list[Histogram]:
    """Return rows as histograms, without empty buckets at the ends of both sides: those that are empty in ``like``."""
    like = rows if like is None else like
    border = _SCALARS + layout.positives
    positives = _sides(rows[:, _SCALARS:border], like[:, _SCALARS:border], layout.positive)
    negatives = _sides(rows[:, border:], like[:, border:], layout.negative)
    scalars = rows[:, :_SCALARS].tolist()
    hints = hints or [layout.hint] * len(rows)
    return [
        Histogram(layout.schema, layout.zero_threshold, zero, count, total, positive, negative, None, hint)
        for (zero, count, total), positive, negative, hint in zip(scalars, positives, negatives, hints, strict=True)
    ]


def _sides(counts: Floats, like: Floats, first: int) -> list[Side]:
    populated = like != 0
    some = populated.any(axis=1).tolist() if populated.shape[1] else [False] * len(counts)
    if not any(some):
        return [NO_BUCKETS] * len(counts)
    begins = populated.argmax(axis=1).tolist()
    ends = (populated.shape[1] - populated[:, ::-1].argmax(axis=1)).tolist()
    return [
        Side(first + begin, row[begin:end]) if there else NO_BUCKETS
        for there, row, begin, end in zip(some, counts, begins, ends, strict=True)
    ]


def increases(stack: Stack, low: Longs, high: Longs) -> Floats:
    """Return the last less the first of the rows from ``low`` to before ``high``, at least two each, as of a counter:
    with what there was before each reset added, in the order in which they were."""
    rows = stack.rows
    fell = rows[1:] < rows[:-1]
    fell[:, SUM] = False
    reset = np.concatenate([[False], fell.any(axis=1)])  # between a row and the one before it
    # Before a reset right after the first row there was nothing.
    result = rows[high - 1] - np.where(reset[low + 1][:, None], 0.0, rows[low])
    resets = np.flatnonzero(reset)
    counted = np.concatenate([[0], np.cumsum(reset)])
    begin = counted[low + 2]
    count = counted[high] - begin
    for number in range(int(count.max(initial=0))):
        which = np.flatnonzero(count > number)
        result[which] += rows[resets[begin[which] + number] - 1]
    return result


def totals(stack: Stack, steps: Longs, order: Longs, count: int, *, mean: bool) -> Floats | None:
    """Return the sum or the mean of the rows of each of ``count`` steps, in ``order``; None where it overflows.

    ``steps`` and ``order`` say of each row what it belongs to, and as the how manieth.
    """
    total, lost = np.zeros((count, stack.layout.width)), np.zeros((count, stack.layout.width))
    for turn in range(int(order.max(initial=-1)) + 1):
        which = order == turn
        at = steps[which]
        if turn == 0:
            total[at] = stack.rows[which]
        else:
            total[at], lost[at] = sums.add(stack.rows[which], total[at], lost[at])
    return _ended(total, lost, np.bincount(steps, minlength=count), mean=mean)


def totals_of_runs(stack: Stack, low: Longs, high: Longs, *, mean: bool) -> Floats | None:
    """Return the sum or the mean of the rows from ``low`` to before ``high``, at least one each; None where it
    overflows."""
    total, lost = stack.rows[low], np.zeros((len(low), stack.layout.width))
    number = high - low
    for turn in range(1, int(number.max(initial=0))):
        at = np.flatnonzero(number > turn)
        total[at], lost[at] = sums.add(stack.rows[low[at] + turn], total[at], lost[at])
    return _ended(total, lost, number, mean=mean)


def _ended(total: Floats, lost: Floats, number: Longs, *, mean: bool) -> Floats | None:
    if not np.isfinite(total).all():
        return None
    several = number > 1
    if mean:
        by = np.maximum(number, 1)[:, None]
        total, lost = total / by, lost / by
    total[several] += lost[several]
    return total


def quantiles(stack: Stack, wanted: Floats) -> tuple[Floats, Bools]:
    """Return the quantile of each row that is ``wanted`` of it, and which of them are to be looked at by themselves:
    those with observations that are no number, without any bucket, and with a quantile that is none.

    Observations are spread evenly over their bucket: on a logarithmic scale, but for the zero bucket.
    """
    rows = stack.rows
    counts = rows[:, COUNT]
    populations = _populations(stack)
    lower, upper = _bounds(stack.layout)
    populated = populations != 0
    alone = np.isnan(rows[:, SUM]) | ~populated.any(axis=1) | ~((wanted >= 0) & (wanted <= 1)) | (counts == 0)
    forward = wanted < 0.5
    rank = np.where(forward, wanted, 1 - wanted) * counts
    at, seen = np.zeros(len(rows), np.int64), np.zeros(len(rows))
    for which, order in ((forward, slice(None)), (~forward, slice(None, None, -1))):
        running = np.add.accumulate(populations[which, order], axis=1)
        there = populated[which, order]
        reached = there & (running >= rank[which, None])
        last = there.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
        found = np.where(reached.any(axis=1), reached.argmax(axis=1), last)
        seen[which] = running[np.arange(len(found)), found]
        at[which] = found if order.step is None else there.shape[1] - 1 - found
    low, high, population = lower[at], upper[at], populations[np.arange(len(rows)), at]
    zero = (low < 0) & (high > 0)
    # The zero bucket ends at zero where there are buckets on one side only.
    low = np.where(zero & stack.has_positive & ~stack.has_negative, 0.0, low)
    high = np.where(zero & stack.has_negative & ~stack.has_positive, 0.0, high)
    seen = np.minimum(seen, counts)
    beyond = seen < rank
    share = np.where(forward, rank - (seen - population), seen - rank) / population
    linear = low + (high - low) * share
    log_low, log_high = (
        np.array([math.log2(abs(one)) if one else -math.inf for one in bound.tolist()])[at] for bound in (lower, upper)
    )
    above = np.exp2(log_low + (log_high - log_low) * share)
    below = -np.exp2(log_high + (log_low - log_high) * (1 - share))
    values = np.where((low <= 0) & (high >= 0), linear, np.where(low > 0, above, below))
    return np.where(beyond, high, values), alone


def variances(stack: Stack) -> Floats:
    """Return the estimated variance of each row: every observation is taken to be in the geometric middle of its
    bucket, and those of the zero bucket to be zero."""
    populations = _populations(stack)
    lower, upper = _bounds(stack.layout)
    middle = np.where((lower <= 0) & (upper >= 0), 0.0, np.copysign(np.sqrt(upper * lower), upper))
    mean = stack.rows[:, SUM] / stack.rows[:, COUNT]
    total, lost = np.zeros(len(mean)), np.zeros(len(mean))
    for at in range(len(middle)):
        population, difference = populations[:, at], middle[at] - mean
        summand = np.where(population != 0, population * difference * difference, sums.NOTHING)
        total, lost = sums.add(summand, total, lost)
    result: Floats = (total + lost) / stack.rows[:, COUNT]
    return result


def deviations(stack: Stack) -> Floats:
    """Return the estimated standard deviation of each row."""
    variance = variances(stack)
    return np.where(variance >= 0, np.sqrt(variance), np.nan)


def _populations(stack: Stack) -> Floats:
    """Return the populations of all buckets, from the lowest to the highest."""
    zero = np.maximum(stack.rows[:, _ZERO : _ZERO + 1], 0.0)
    return np.concatenate([stack.negative[:, ::-1], zero, stack.positive], axis=1)


def _bounds(layout: Layout) -> tuple[Floats, Floats]:
    """Return the bounds of all buckets, from the lowest to the highest."""
    limit = layout.zero_threshold
    negative = [exponential_bound(layout.negative + n - 1, layout.schema) for n in range(layout.negatives + 1)]
    positive = [exponential_bound(layout.positive + n - 1, layout.schema) for n in range(layout.positives + 1)]
    pairs = [(-outer, min(-inner, -limit)) for inner, outer in reversed([*pairwise(negative)])]
    pairs.append((-limit, limit))
    pairs += [(max(inner, limit), outer) for inner, outer in pairwise(positive)]
    lower, upper = np.array(pairs).T
    return lower, upper
