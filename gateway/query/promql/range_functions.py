"""Functions of range vectors: what becomes of the samples in each window.

All windows of a block of series are done at once. Where the order of additions is part of Prometheus's result, the k-th
samples of all windows are added together, for each k.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from gateway.query.errors import ExecutionError
from gateway.query.promql import histogram_ranges, sums
from gateway.query.promql.context import Context
from gateway.query.promql.labels import metric_name
from gateway.query.promql.messages import bad_quantile
from gateway.query.promql.range_calls import MIXED, Cells, RangeCall, extrapolation, times_at, values_at
from gateway.query.promql.vectors import Bools, Floats
from gateway.query.promql.windows import Longs, Windows

_UNCHECKED = 64
"""Rounds over the samples of windows between two looks at whether the query is to end."""
_REDUCED = 1 << 22
"""Samples that are reduced between two such looks."""

RangeFunction = Callable[[Windows, RangeCall], Cells]

_IGNORED = "ignored histograms in a range containing both floats and histograms for metric name {name}"


def _only_numbers(windows: Windows, call: RangeCall, least: int = 1) -> Bools:
    """Return the cells with at least `least` numbers; says so where histograms beside them are ignored."""
    counts = windows.counts
    if windows.histograms:
        call.info(windows, (counts > 0) & (windows.histogram_counts > 0), _IGNORED)
    return counts >= least


# Rates.


def _extrapolated(windows: Windows, call: RangeCall, *, counter: bool, per_second: bool) -> Cells:
    """The increase between the first and the last sample of each window, extrapolated to its ends.

    It is taken to the end of the window where a sample is missing there for at most 1.1 of the average distance
    between samples, else by half of that distance; and for a counter never to before it would have been zero.
    """
    counts = windows.counts
    mixed = np.zeros(windows.shape, bool)
    if windows.histograms:
        mixed = (counts > 0) & (windows.histogram_counts > 0)
        call.warn(windows, mixed, MIXED)
    present = (counts >= 2) & ~mixed
    first, last = windows.first(), windows.last()
    first_value = values_at(windows, first)
    result = values_at(windows, last) - first_value
    if counter:
        _add_resets(windows, call, result)
    rows = slice(1 if windows.aligned else None)
    first_time, last_time = times_at(windows, first[rows]), times_at(windows, last[rows])
    factor = extrapolation(windows, first_time, last_time, counts[rows], first_value if counter else None, result)
    if per_second:
        factor /= windows.length / 1000
    cells = Cells(result * factor, present)
    if windows.histograms:
        return histogram_ranges.rates(windows, call, cells, mixed, counter=counter, per_second=per_second)
    return cells


def _add_resets(windows: Windows, call: RangeCall, result: Floats) -> None:
    """Add to each cell of `result` the values before resets in its window, in their order."""
    values = windows.values
    happened = values[1:] < values[:-1]
    resets = np.flatnonzero(happened) + 1
    before = _counted(happened)
    begin = before[np.minimum(windows.low + 1, windows.high)]  # the first sample of a window was not reset in it
    count = before[windows.high] - begin
    most = int(count.max(initial=0))
    if most > 1 and sums.whole(values):
        lost = np.concatenate([[0.0], np.cumsum(values[resets - 1])])
        result += lost[begin + count] - lost[begin]
        return
    for number in range(most):
        if number % _UNCHECKED == 0:
            call.context.check()
        cells = np.nonzero(count > number)
        result[cells] += values[resets[begin[cells] + number] - 1]


def rate(windows: Windows, call: RangeCall) -> Cells:
    """The average increase per second of a counter: extrapolated, with resets made up for."""
    cells = _extrapolated(windows, call, counter=True, per_second=True)
    _tell_of_gauges(windows, call, cells)
    return cells


def increase(windows: Windows, call: RangeCall) -> Cells:
    """The increase of a counter: extrapolated, with resets made up for."""
    cells = _extrapolated(windows, call, counter=True, per_second=False)
    _tell_of_gauges(windows, call, cells)
    return cells


def delta(windows: Windows, call: RangeCall) -> Cells:
    """The difference of a gauge between the ends of the window: extrapolated."""
    return _extrapolated(windows, call, counter=False, per_second=False)


def _tell_of_gauges(windows: Windows, call: RangeCall, cells: Cells) -> None:
    numbers = cells.present & (windows.counts > 0)
    rows = np.flatnonzero(numbers.any(axis=1)).tolist()
    for name in dict.fromkeys(metric_name(windows.labels[row]) for row in rows):
        if name and not name.endswith(("_total", "_sum", "_count", "_bucket")):
            call.context.info(
                call.arg,
                f'metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "{name}"',
            )


def _instant_value(windows: Windows, call: RangeCall, *, counter: bool) -> Cells:
    """The difference of the last two samples; for a counter per second, and from zero where it was reset."""
    counts = windows.counts
    last = windows.last()
    before = np.maximum(last - 1, 0)
    newest, previous = values_at(windows, last), values_at(windows, before)
    distance = times_at(windows, last) - times_at(windows, before)
    result = newest - previous
    if counter:
        result = np.where(newest < previous, newest, result) / (distance / 1000)
    cells = Cells(result, (counts >= 2) & (distance != 0))
    return histogram_ranges.instant_values(windows, call, cells, counter=counter) if windows.histograms else cells


def irate(windows: Windows, call: RangeCall) -> Cells:
    """The increase per second between the last two samples of a counter."""
    return _instant_value(windows, call, counter=True)


def idelta(windows: Windows, call: RangeCall) -> Cells:
    """The difference between the last two samples of a gauge."""
    return _instant_value(windows, call, counter=False)


# Counts of what happened.


def _counted(happened: Bools) -> Longs:
    """Return for each index of a sample how often it `happened` before it; ``happened[i]`` is of sample i + 1."""
    before = np.zeros(len(happened) + 2, np.int64)
    np.cumsum(happened, out=before[2:])
    return before


def _pairs(windows: Windows, happened: Bools) -> Floats:
    """Return for each window how many neighbours are in it for which `happened`."""
    before = _counted(happened)
    low, high = np.minimum(windows.low + 1, windows.high), windows.high
    return (before[high] - before[low]).astype(float)


def changes(windows: Windows, call: RangeCall) -> Cells:
    """How often the value differs from the one before it; from NaN to NaN is no change."""
    if windows.histograms:
        return histogram_ranges.changes(windows, call, resets=False)
    values = windows.values
    nan = np.isnan(values)
    happened = (values[1:] != values[:-1]) & ~(nan[1:] & nan[:-1])
    return Cells(_pairs(windows, happened), windows.counts > 0)


def resets(windows: Windows, call: RangeCall) -> Cells:
    """How often a counter was reset: the value is less than the one before it."""
    if windows.histograms:
        return histogram_ranges.changes(windows, call, resets=True)
    return Cells(_pairs(windows, windows.values[1:] < windows.values[:-1]), windows.counts > 0)


def count_over_time(windows: Windows, call: RangeCall) -> Cells:
    """How many samples there are."""
    counts = windows.counts + windows.histogram_counts
    return Cells(counts.astype(float), counts > 0)


def present_over_time(windows: Windows, call: RangeCall) -> Cells:
    """1 where there is any sample."""
    return Cells(np.ones(windows.shape), windows.counts + windows.histogram_counts > 0)


# One of the samples.


def last_over_time(windows: Windows, call: RangeCall) -> Cells:
    """The newest sample."""
    cells = Cells(values_at(windows, windows.last()), windows.counts > 0)
    return histogram_ranges.one_of(windows, cells, last=True) if windows.histograms else cells


def first_over_time(windows: Windows, call: RangeCall) -> Cells:
    """The oldest sample."""
    cells = Cells(values_at(windows, windows.first()), windows.counts > 0)
    return histogram_ranges.one_of(windows, cells, last=False) if windows.histograms else cells


def ts_of_last_over_time(windows: Windows, call: RangeCall) -> Cells:
    """The time of the newest sample, in seconds."""
    times = np.where(windows.counts > 0, times_at(windows, windows.last()), 0)
    if windows.histograms:
        own = windows.histogram_times[np.maximum(windows.histogram_high - 1, 0)]
        times = np.where(windows.histogram_counts > 0, np.maximum(times, own), times)
    return Cells(times / 1000, windows.counts + windows.histogram_counts > 0)


def ts_of_first_over_time(windows: Windows, call: RangeCall) -> Cells:
    """The time of the oldest sample, in seconds."""
    times = np.where(windows.counts > 0, times_at(windows, windows.first()), np.iinfo(np.int64).max)
    if windows.histograms:
        own = windows.histogram_times[np.minimum(windows.histogram_low, len(windows.histogram_times) - 1)]
        times = np.where(windows.histogram_counts > 0, np.minimum(times, own), times)
    return Cells(times / 1000, windows.counts + windows.histogram_counts > 0)


def _reduced(windows: Windows, call: RangeCall, ufunc: np.ufunc) -> Floats:
    """Return `ufunc` over the numbers of each window; anything for an empty one."""
    shape = windows.shape
    if not len(windows.values) or 0 in shape:
        return np.full(shape, np.nan)
    # Every second of the slices between borders is a window. Behind them all is one more value: borders must have one.
    values = np.append(windows.values, np.nan)
    low, high = windows.low.ravel(), windows.high.ravel()
    work = np.cumsum(high - low)
    result = np.empty(len(low))
    begin = 0
    while begin < len(low):
        call.context.check()
        done = work[begin - 1] if begin else 0
        end = max(int(np.searchsorted(work, done + _REDUCED, side="right")), begin + 1)
        borders = np.stack([low[begin:end], high[begin:end]], axis=-1).ravel()
        result[begin:end] = ufunc.reduceat(values, borders)[::2]
        begin = end
    return result.reshape(shape)


def max_over_time(windows: Windows, call: RangeCall) -> Cells:
    """The largest number; NaN only where there is nothing else."""
    return Cells(_reduced(windows, call, np.fmax), _only_numbers(windows, call))


def min_over_time(windows: Windows, call: RangeCall) -> Cells:
    """The smallest number; NaN only where there is nothing else."""
    return Cells(_reduced(windows, call, np.fmin), _only_numbers(windows, call))


def ts_of_max_over_time(windows: Windows, call: RangeCall) -> Cells:
    """The time of the largest number, in seconds; of the last one, if there are more."""
    return _time_of(windows, call, np.greater_equal)


def ts_of_min_over_time(windows: Windows, call: RangeCall) -> Cells:
    """The time of the smallest number, in seconds; of the last one, if there are more."""
    return _time_of(windows, call, np.less_equal)


def _time_of(windows: Windows, call: RangeCall, better: np.ufunc) -> Cells:
    present = _only_numbers(windows, call)
    fold = _Fold(windows, call.context)
    best, when = np.full(fold.size, np.nan), np.zeros(fold.size)
    for cells, values, times in fold.samples():
        takes = better(values, best[cells]) | np.isnan(best[cells])
        best[cells] = np.where(takes, values, best[cells])
        when[cells] = np.where(takes, times, when[cells])
    return Cells(fold.unsorted(when) / 1000, present)


# Sums of the samples.


class _Fold:
    """The samples of all windows, first the first ones, then the second ones, and so on.

    Cells are sorted by the number of their samples, the largest first: those that still have one are always a slice.
    """

    def __init__(self, windows: Windows, context: Context) -> None:
        self._windows = windows
        self._context = context
        counts = windows.counts.ravel()
        self.size = len(counts)
        self._order = np.argsort(-counts, kind="stable")
        self._low = windows.low.ravel()[self._order]
        self.counts = counts[self._order]
        most = int(self.counts[0]) if self.size else 0
        self._active = np.searchsorted(-self.counts, -np.arange(most), side="left").tolist()

    def samples(self) -> Iterator[tuple[slice, Floats, Longs]]:
        """Yield cells, and the next value and time (milliseconds) of each."""
        for number, active in enumerate(self._active):
            if number % _UNCHECKED == 0:
                self._context.check()
            index = self._low[:active] + number
            yield slice(0, active), self._windows.values[index], self._windows.times[index]

    def sorted(self, cells: NDArray[np.float64]) -> Floats:
        """Return n by m numbers in the order of the cells here."""
        result: Floats = np.broadcast_to(cells, self._windows.shape).ravel()[self._order]
        return result

    def unsorted(self, cells: Floats) -> Floats:
        """Return cells as n by m numbers."""
        result = np.empty(self.size)
        result[self._order] = cells
        return result.reshape(self._windows.shape)


def _exact_sums(windows: Windows) -> Floats:
    before = np.zeros(len(windows.values) + 1)
    np.cumsum(windows.values, out=before[1:])
    result: Floats = before[windows.high] - before[windows.low]
    return result


def sum_over_time(windows: Windows, call: RangeCall) -> Cells:
    """The sum of all samples."""
    if sums.whole(windows.values):
        total = _exact_sums(windows)
    else:
        fold = _Fold(windows, call.context)
        running, lost = np.zeros(fold.size), np.zeros(fold.size)
        for cells, values, _ in fold.samples():
            running[cells], lost[cells] = sums.add(values, running[cells], lost[cells])
        total = fold.unsorted(np.where(np.isinf(running), running, running + lost))
    cells_ = Cells(total, windows.counts > 0)
    return histogram_ranges.combined(windows, call, cells_, mean=False) if windows.histograms else cells_


def avg_over_time(windows: Windows, call: RangeCall) -> Cells:
    """The mean of all samples."""
    if sums.whole(windows.values):
        mean = _exact_sums(windows) / windows.counts
    else:
        fold = _Fold(windows, call.context)
        running = sums.Mean(fold.size)
        for cells, values, _ in fold.samples():
            running.add(cells, values)
        mean = fold.unsorted(running.result())
    cells_ = Cells(mean, windows.counts > 0)
    return histogram_ranges.combined(windows, call, cells_, mean=True) if windows.histograms else cells_


def stdvar_over_time(windows: Windows, call: RangeCall) -> Cells:
    """The population variance of the numbers."""
    present = _only_numbers(windows, call)
    fold = _Fold(windows, call.context)
    mean, mean_lost = np.zeros(fold.size), np.zeros(fold.size)
    squares, squares_lost = np.zeros(fold.size), np.zeros(fold.size)
    for number, (cells, values, _) in enumerate(fold.samples(), 1):
        difference = values - (mean[cells] + mean_lost[cells])
        mean[cells], mean_lost[cells] = sums.add(difference / number, mean[cells], mean_lost[cells])
        summand = difference * (values - (mean[cells] + mean_lost[cells]))
        squares[cells], squares_lost[cells] = sums.add(summand, squares[cells], squares_lost[cells])
    return Cells(fold.unsorted((squares + squares_lost) / fold.counts), present)


def stddev_over_time(windows: Windows, call: RangeCall) -> Cells:
    """The population standard deviation of the numbers."""
    cells = stdvar_over_time(windows, call)
    return cells._replace(values=np.sqrt(cells.values))


# Regressions.


def _regression(windows: Windows, call: RangeCall, intercepts: Floats) -> tuple[Floats, Floats]:
    """Return slope per second and value at the times `intercepts` (n by m, milliseconds) of a least squares line."""
    fold = _Fold(windows, call.context)
    at = fold.sorted(intercepts)
    totals = np.zeros((4, fold.size))
    lost = np.zeros((4, fold.size))
    first = np.full(fold.size, np.nan)
    constant = np.ones(fold.size, bool)
    for number, (cells, values, times) in enumerate(fold.samples()):
        if number == 0:
            first[cells] = values
        else:
            constant[cells] &= values == first[cells]
        x = (times - at[cells]) / 1e3
        for part, summand in enumerate((x, values, x * values, x * x)):
            totals[part, cells], lost[part, cells] = sums.add(summand, totals[part, cells], lost[part, cells])
    sum_x, sum_y, sum_xy, sum_x2 = totals + lost
    n = fold.counts.astype(float)
    covariance = sum_xy - sum_x * sum_y / n
    variance = sum_x2 - sum_x * sum_x / n
    slope = covariance / variance
    value = sum_y / n - slope * sum_x / n
    infinite = np.isinf(first)
    slope = np.where(constant, np.where(infinite, np.nan, 0.0), slope)
    value = np.where(constant, np.where(infinite, np.nan, first), value)
    return fold.unsorted(slope), fold.unsorted(value)


def _two_numbers(windows: Windows, call: RangeCall) -> Bools:
    return _only_numbers(windows, call, least=2)


def deriv(windows: Windows, call: RangeCall) -> Cells:
    """The slope per second of a straight line through the numbers, by least squares."""
    slope, _ = _regression(windows, call, times_at(windows, windows.first()).astype(float))
    return Cells(slope, _two_numbers(windows, call))


def predict_linear(windows: Windows, call: RangeCall) -> Cells:
    """The value so many seconds from now of a straight line through the numbers, by least squares."""
    slope, value = _regression(windows, call, windows.steps.astype(float)[None, :])
    return Cells(slope * call.scalars[0] + value, _two_numbers(windows, call))


def double_exponential_smoothing(windows: Windows, call: RangeCall) -> Cells:
    """The last value smoothed: newer values and trends weigh more, by a smoothing and by a trend factor."""
    smoothing, trend_factor = call.scalars
    for name, factors in (("smoothing", smoothing), ("trend", trend_factor)):
        wrong = factors[(factors <= 0) | (factors >= 1)]
        if len(wrong) and (windows.counts + windows.histogram_counts > 0).any():
            short = "sf" if name == "smoothing" else "tf"
            raise ExecutionError(f"invalid {name} factor. Expected: 0 < {short} < 1, got: {wrong[0]:f}")
    present = _two_numbers(windows, call)
    fold = _Fold(windows, call.context)
    by_value, by_trend = fold.sorted(smoothing[None, :]), fold.sorted(trend_factor[None, :])
    before, now, trend = np.zeros(fold.size), np.zeros(fold.size), np.zeros(fold.size)
    for number, (cells, values, _) in enumerate(fold.samples()):
        if number == 0:
            now[cells] = values
            continue
        if number == 1:
            trend[cells] = values - now[cells]
        else:
            change = by_trend[cells] * (now[cells] - before[cells])
            trend[cells] = change + (1 - by_trend[cells]) * trend[cells]
        smoothed = by_value[cells] * values + (1 - by_value[cells]) * (now[cells] + trend[cells])
        before[cells], now[cells] = now[cells].copy(), smoothed
    return Cells(fold.unsorted(now), present)


# Quantiles.


def sorted_quantile(values: Floats, quantile: Floats) -> Floats:
    """Return quantiles of rows that are sorted, NaN first: between two values, by their distance to the rank."""
    count = values.shape[1]
    rank = quantile * (count - 1)
    lower = np.clip(np.nan_to_num(np.floor(rank)), 0, count - 1).astype(np.intp)
    upper = np.minimum(lower + 1, count - 1)
    weight = rank - np.floor(rank)
    rows = np.arange(len(values))
    result = values[rows, lower] * (1 - weight) + values[rows, upper] * weight
    result = np.where(quantile < 0, -np.inf, np.where(quantile > 1, np.inf, result))
    return np.where(np.isnan(quantile), np.nan, result)


def nan_first(values: Floats) -> Floats:
    """Return the rows sorted as Prometheus sorts them: NaN is less than all else."""
    ordered = np.sort(values, axis=1)  # NaN last
    nans = np.isnan(ordered).sum(axis=1)
    if nans.any():
        index = (np.arange(values.shape[1])[None, :] - nans[:, None]) % values.shape[1]
        ordered = np.take_along_axis(ordered, index, axis=1)
    return ordered


_GATHERED = 1 << 20
"""Samples that are sorted between two looks at whether the query is to end."""


def _by_count(windows: Windows, call: RangeCall) -> Iterator[tuple[NDArray[np.intp], Floats]]:
    """Yield cells (flat indexes) that have as many numbers as each other, and those numbers, one row a cell."""
    counts, low = windows.counts.ravel(), windows.low.ravel()
    for count in np.unique(counts[counts > 0]).tolist():
        cells = np.flatnonzero(counts == count)
        for begin in range(0, len(cells), max(_GATHERED // count, 1)):
            call.context.check()
            part = cells[begin : begin + max(_GATHERED // count, 1)]
            yield part, windows.values[low[part][:, None] + np.arange(count)]


def quantile_over_time(windows: Windows, call: RangeCall) -> Cells:
    """The φ-quantile of the numbers, 0 to 1."""
    (quantiles,) = call.scalars
    present = _only_numbers(windows, call)
    bad = np.isnan(quantiles) | (quantiles < 0) | (quantiles > 1)
    for value in np.unique(quantiles[bad & present.any(axis=0)]).tolist():
        call.context.warn(call.scalar_nodes[0], bad_quantile(value))
    result = np.full(windows.shape, np.nan).ravel()
    of_cell = np.broadcast_to(quantiles, windows.shape).ravel()
    for cells, values in _by_count(windows, call):
        result[cells] = sorted_quantile(nan_first(values), of_cell[cells])
    return Cells(result.reshape(windows.shape), present)


def mad_over_time(windows: Windows, call: RangeCall) -> Cells:
    """The median absolute deviation of the numbers; NaN where one is NaN."""
    present = _only_numbers(windows, call)
    result = np.full(windows.shape, np.nan).ravel()
    for cells, values in _by_count(windows, call):
        half = np.full(len(cells), 0.5)
        median = sorted_quantile(np.sort(values, axis=1), half)
        deviation = sorted_quantile(np.sort(np.abs(values - median[:, None]), axis=1), half)
        result[cells] = np.where(np.isnan(values).any(axis=1), np.nan, deviation)
    return Cells(result.reshape(windows.shape), present)


RANGE_FUNCTIONS: dict[str, RangeFunction] = {
    function.__name__: function
    for function in (
        avg_over_time,
        changes,
        count_over_time,
        delta,
        deriv,
        double_exponential_smoothing,
        first_over_time,
        idelta,
        increase,
        irate,
        last_over_time,
        mad_over_time,
        max_over_time,
        min_over_time,
        predict_linear,
        present_over_time,
        quantile_over_time,
        rate,
        resets,
        stddev_over_time,
        stdvar_over_time,
        sum_over_time,
        ts_of_first_over_time,
        ts_of_last_over_time,
        ts_of_max_over_time,
        ts_of_min_over_time,
    )
}
KEEPS_NAME = frozenset({"first_over_time", "last_over_time"})
"""Functions whose result is a sample of the series, and has its name."""
