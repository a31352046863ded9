"""Vector selectors: what series are at each step, and in the range before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gateway.query.promql.context import Context
from gateway.query.promql.histogram import Histogram, ResetHint, histograms_of
from gateway.query.promql.labels import label_set
from gateway.query.promql.nodes import Selector, Subquery, Time
from gateway.query.promql.vectors import Objects, Vectors, empty
from gateway.query.promql.windows import Samples, blocks, positions
from gateway.query.series import Hints, Series, is_stale

Longs = NDArray[np.int64]


def reference_times(context: Context, steps: Longs, time: Time | None, offset: int) -> Longs:
    """Return the times that a selector looks back from, at each step: that of ``@``, else the step, less ``offset``."""
    if time is None:
        return steps - offset
    match time.at:
        case "start":
            at = context.start
        case "end":
            at = context.end
        case int(milliseconds):
            at = milliseconds
    return np.full(len(steps), at - offset, np.int64)


def instant(context: Context, node: Selector, steps: Longs, hints: Hints, times_only: bool = False) -> Vectors:
    """Return the newest sample of each series at each step, not older than the look-back; none where it is stale.

    ``times_only``: the times of the samples in seconds, instead of their values (for ``timestamp()``).
    """
    if not len(steps):
        return empty(0)
    times = reference_times(context, steps, node.time, node.offset)
    hints = replace(hints, range=context.lookback, last_only=True)
    series = context.select(node.matchers, int(times.min()) - context.lookback, int(times.max()), hints)
    return newest(context, series, times, times_only)


def newest(context: Context, series: Sequence[Series], times: Longs, times_only: bool = False) -> Vectors:
    """Return the newest samples of `series` that count at each of `times`."""
    context.check_size(len(series), len(times))
    if not series:
        return empty(len(times))
    shape = (len(series), len(times))
    result = Vectors(
        [label_set(one.labels) for one in series],
        np.empty(shape),
        np.empty(shape, bool),
        np.full(shape, None, object) if any(one.histograms is not None for one in series) else None,
    )
    begin = 0
    for block in blocks(series, len(times)):
        rows = slice(begin, begin + len(block))
        begin += len(block)
        context.check()
        _newest_numbers(context, block, times, result, rows, times_only)
        if result.histograms is not None:
            for row, one in enumerate(block, rows.start):
                if one.histograms is not None:
                    _newest_histograms(context, one, times, result, row, times_only)
    return result.filled()


def _newest_numbers(
    context: Context, series: Sequence[Series], times: Longs, result: Vectors, rows: slice, times_only: bool
) -> None:
    """Fill rows of `result` with numbers. Their times stand in the values meanwhile where histograms come, too."""
    counts = np.array([len(one.times) for one in series])
    starts = np.concatenate([[0], np.cumsum(counts)])
    if not starts[-1]:
        result.present[rows] = False
        result.values[rows] = np.nan
        return
    all_times = np.concatenate([one.times for one in series])
    all_values = np.concatenate([one.values for one in series])
    found = positions([one.times for one in series], times)
    index = np.minimum(found + (starts[:-1, None] - 1), len(all_times) - 1)
    values = all_values[index]
    seen = all_times[index]
    result.present[rows] = (found > 0) & (seen > times - context.lookback) & ~is_stale(values)
    result.values[rows] = seen / 1000 if times_only else values


def _newest_histograms(
    context: Context, one: Series, times: Longs, result: Vectors, row: int, times_only: bool
) -> None:
    """Put native histograms of a series where they, or a stale marker among them, are newer than its numbers."""
    assert one.histograms is not None
    assert result.histograms is not None
    own = one.histograms.times
    found = np.searchsorted(own, times, side="right")
    index = np.maximum(found - 1, 0)
    if not len(own):
        return
    numbers = np.searchsorted(one.times, times, side="right")
    number_times = one.times[np.maximum(numbers - 1, 0)] if len(one.times) else np.zeros(len(times), np.int64)
    newer = (found > 0) & ((numbers == 0) | (own[index] > number_times))
    there = newer & (own[index] > times - context.lookback) & ~is_stale(one.histograms.sums)[index]
    result.present[row] = np.where(newer, there, result.present[row])
    if times_only:
        result.values[row] = np.where(there, own[index] / 1000, result.values[row])
        return
    used, cells = np.unique(index[there], return_inverse=True)
    made: Objects = np.empty(len(used), object)
    made[:] = histograms_of(one.histograms, used)
    result.histograms[row, there] = made[cells]


def range_series(
    context: Context, node: Selector, steps: Longs, length: int, hints: Hints
) -> tuple[Sequence[Series], Longs]:
    """Return the series that a range selector needs for all steps, and where its windows end."""
    ends = reference_times(context, steps, node.time, node.offset)
    if not len(steps):
        return [], ends
    return context.select(node.matchers, int(ends.min()) - length, int(ends.max()), hints), ends


def subquery_steps(context: Context, node: Subquery, steps: Longs) -> tuple[Longs, Longs]:
    """Return the times that a subquery's expression is evaluated at, multiples of its step, and where windows end."""
    ends = reference_times(context, steps, node.time, node.offset)
    if not len(steps):
        return ends, ends
    step = node.step or context.default_step
    first = (int(ends.min()) - node.range) // step * step + step
    count = max((int(ends.max()) - first) // step + 1, 0)
    context.check_size(1, count)
    return first + step * np.arange(count, dtype=np.int64), ends


def as_samples(context: Context, vectors: Vectors, times: Longs) -> list[Samples]:
    """Return the elements of `vectors` as samples, for the windows of a subquery.

    Hints of native histograms are forgotten: resets between samples that a subquery did not return would be missed, and
    one that it returns twice would count twice.
    """
    numbers = vectors.numbers()
    result: list[Samples] = []
    for row, labels in enumerate(vectors.labels):
        context.check()
        there = numbers[row]
        histograms = np.flatnonzero(vectors.present[row] & ~there)
        result.append(
            Samples(
                labels,
                times if there.all() else times[there],
                vectors.values[row] if there.all() else vectors.values[row][there],
                times[histograms],
                []
                if vectors.histograms is None
                else [_forgetful(context, one) for one in vectors.histograms[row, histograms]],
            )
        )
    return result


def _forgetful(context: Context, histogram: Histogram) -> Histogram:
    context.make_histogram(histogram)
    return histogram if histogram.hint is ResetHint.GAUGE else histogram.hinted(ResetHint.UNKNOWN)
