"""Functions of range vectors, where windows hold native histograms: increases, sums and means of a series all at once
where these are alike, else one window after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

import numpy as np

from gateway.query.promql.histogram import (
    NO_BUCKETS,
    Histogram,
    IncompatibleHistogramsError,
    ResetHint,
    added,
    hints_collide,
    mean_of,
    subtracted,
    sum_of,
    was_reset,
)
from gateway.query.promql.histogram_stacks import COUNT, Stack, increases, stacked, totals_of_runs, unstacked
from gateway.query.promql.range_calls import MIXED, Cells, RangeCall, extrapolation, times_at
from gateway.query.promql.vectors import Bools, Objects, cell
from gateway.query.promql.windows import Longs, Windows

_EXPONENTIAL_AND_CUSTOM = (
    "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {name}"
)
_NOT_COUNTER = "this native histogram metric is not a counter: {name}"
_NOT_GAUGE = "this native histogram metric is not a gauge: {name}"
COLLISION = "conflicting counter resets during histogram "
RECONCILED = "mismatched custom buckets were reconciled during "


_VALUES = 1 << 18
"""Values of increases that are made at once."""


class _Notes:
    """What is to be said about cells, gathered until all were looked at."""

    def __init__(self, windows: Windows, call: RangeCall) -> None:
        self._windows = windows
        self._call = call
        self._warnings: dict[str, Bools] = {}
        self._infos: dict[str, Bools] = {}

    def warn(self, row: int, step: int, text: str) -> None:
        self._warnings.setdefault(text, np.zeros(self._windows.shape, bool))[row, step] = True

    def info(self, row: int, step: int, text: str) -> None:
        self._infos.setdefault(text, np.zeros(self._windows.shape, bool))[row, step] = True

    def say(self) -> None:
        for text, where in self._warnings.items():
            self._call.warn(self._windows, where, text)
        for text, where in self._infos.items():
            self._call.info(self._windows, where, text)


def _cells(windows: Windows, call: RangeCall, where: Bools) -> Iterator[tuple[int, int, list[Histogram]]]:
    """Yield row, step and histograms of cells."""
    for number, (row, step) in enumerate(zip(*(index.tolist() for index in np.nonzero(where)), strict=True)):
        if number % 64 == 0:
            call.context.check()
        low, high = windows.histogram_low[row, step], windows.histogram_high[row, step]
        yield row, step, windows.histograms[low:high]


def _objects(windows: Windows) -> Objects:
    return np.full(windows.shape, None, object)


def rates(windows: Windows, call: RangeCall, cells: Cells, mixed: Bools, *, counter: bool, per_second: bool) -> Cells:
    """Put into `cells` the extrapolated increase of native histograms."""
    counts = windows.histogram_counts
    where = (counts >= 2) & ~mixed
    result = _objects(windows)
    present = cells.present.copy()
    increases = np.zeros(windows.shape)
    notes = _Notes(windows, call)
    one_by_one = where.copy()
    for row, steps, alike in _alike_rates(windows, call, where, per_second=per_second) if counter else ():
        result[row, steps] = alike
        present[row, steps] = True
        one_by_one[row, steps] = False
    for row, step, histograms in _cells(windows, call, one_by_one):
        grown = _increase(histograms, notes, row, step, counter=counter)
        if grown is not None:
            call.context.make_histogram(grown)
            result[row, step] = grown
            present[row, step] = True
            increases[row, step] = grown.count
    notes.say()
    first = windows.histogram_times[np.minimum(windows.histogram_low, len(windows.histogram_times) - 1)]
    last = windows.histogram_times[np.maximum(windows.histogram_high - 1, 0)]
    all_counts = np.array([histogram.count for histogram in windows.histograms])
    start = all_counts[np.minimum(windows.histogram_low, len(all_counts) - 1)]
    factor = extrapolation(windows, first, last, counts, start if counter else None, increases)
    if per_second:
        factor /= windows.length / 1000
    for row, step in zip(*(index.tolist() for index in np.nonzero(one_by_one)), strict=True):
        if (histogram := cell(result, row, step)) is not None:
            result[row, step] = histogram.multiplied(float(factor[row, step]))
    return cells._replace(present=present, histograms=result)


def _alike_rates(
    windows: Windows, call: RangeCall, where: Bools, *, per_second: bool
) -> Iterator[tuple[int, Longs, Objects]]:
    """Yield what `rates` does, of windows whose histograms are alike: a row, some of its steps, and what is there."""
    for row, steps, stack, low, high in _alike(windows, call, where):
        if stack.layout.hint is not ResetHint.UNKNOWN:
            continue
        grown = increases(stack, low, high)
        factor = extrapolation(
            windows,
            windows.histogram_times[windows.histogram_low[row, steps]],
            windows.histogram_times[windows.histogram_high[row, steps] - 1],
            high - low,
            stack.rows[low, COUNT],
            grown[:, COUNT],
            windows.ends[steps],
        )
        if per_second:
            factor = factor / (windows.length / 1000)
        layout = stack.layout._replace(hint=ResetHint.GAUGE)
        yield row, steps, _made(call, unstacked(layout, grown * factor[:, None], like=grown))


def _alike_totals(
    windows: Windows, call: RangeCall, where: Bools, *, mean: bool
) -> Iterator[tuple[int, Longs, Objects]]:
    """Yield what `combined` does, of windows whose histograms are alike; like `_alike_rates`."""
    for row, steps, stack, low, high in _alike(windows, call, where):
        total = totals_of_runs(stack, low, high, mean=mean)
        if total is not None:
            yield row, steps, _made(call, unstacked(stack.layout, total))


def _alike(windows: Windows, call: RangeCall, where: Bools) -> Iterator[tuple[int, Longs, Stack, Longs, Longs]]:
    """Yield windows whose histograms are alike: a row, some of its steps, a stack, and where in it each is."""
    for row in np.flatnonzero(where.any(axis=1)).tolist():
        steps = np.flatnonzero(where[row])
        low, high = windows.histogram_low[row, steps], windows.histogram_high[row, steps]
        for first, last in _runs(windows.histograms, int(low.min()), int(high.max())):
            inside = np.flatnonzero((low >= first) & (high <= last))
            if not len(inside) or (stack := stacked(windows.histograms[first:last])) is None:
                continue
            at_once = max(_VALUES // stack.layout.width, 1)
            for begin in range(0, len(inside), at_once):
                call.context.check()
                some = inside[begin : begin + at_once]
                yield row, steps[some], stack, low[some] - first, high[some] - first


def _runs(histograms: Sequence[Histogram], first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield where histograms in a row that have one schema, zero threshold and hint begin and end."""
    for _, run in groupby(histograms[first:last], lambda one: (one.schema, one.zero_threshold, one.hint)):
        end = first + sum(1 for _ in run)
        yield first, end
        first = end


def _made(call: RangeCall, histograms: list[Histogram]) -> Objects:
    """Count histograms that were made, and return them as cells."""
    for histogram in histograms:
        call.context.make_histogram(histogram)
    cells: Objects = np.empty(len(histograms), object)
    cells[:] = histograms
    return cells


def _increase(histograms: list[Histogram], notes: _Notes, row: int, step: int, *, counter: bool) -> Histogram | None:
    """Return the last histogram less the first, with all before resets added; None where they do not fit together."""
    first, last = histograms[0], histograms[-1]
    if counter and any(one.hint is ResetHint.GAUGE for one in histograms):
        notes.warn(row, step, _NOT_COUNTER)
    if not counter and (first.hint is not ResetHint.GAUGE or last.hint is not ResetHint.GAUGE):
        notes.warn(row, step, _NOT_GAUGE)
    second = histograms[1]
    if counter and was_reset(second, first):
        # Its buckets do not matter then.
        first = Histogram(second.schema, 0.0, 0.0, 0.0, 0.0, NO_BUCKETS, NO_BUCKETS, second.bounds, ResetHint.UNKNOWN)
    used = [first, *histograms[1:]] if counter else [first, last]
    if any(one.custom != last.custom for one in used):
        notes.warn(row, step, _EXPONENTIAL_AND_CUSTOM)
        return None
    schema = min(one.schema for one in used)
    grown, _, reconciled = subtracted(last.reduced(schema), first)
    if reconciled:
        notes.info(row, step, RECONCILED + "subtraction")
    if counter:
        before = first
        for one in histograms[1:]:
            if was_reset(one, before):
                grown, _, reconciled = added(grown, before)
                if reconciled:
                    notes.info(row, step, RECONCILED + "addition")
            before = one
    return grown.hinted(ResetHint.GAUGE).compact()


def instant_values(windows: Windows, call: RangeCall, cells: Cells, *, counter: bool) -> Cells:
    """Put into `cells` the difference of the last two samples where native histograms are among them."""
    result = _objects(windows)
    present = cells.present.copy()
    notes = _Notes(windows, call)
    for row, step, histograms in _cells(windows, call, windows.histogram_counts > 0):
        low, high = int(windows.low[row, step]), int(windows.high[row, step])
        at = int(windows.histogram_high[row, step])
        own = [
            (int(windows.histogram_times[at - back]), histograms[-back]) for back in (2, 1) if back <= len(histograms)
        ]
        numbers = [(int(windows.times[index]), None) for index in range(max(low, high - 2), high)]
        newest = sorted([*numbers, *own], key=lambda sample: sample[0])[-2:]
        if len(newest) < 2:
            present[row, step] = False
            continue
        (before_time, before), (time, last) = newest
        if last is None and before is None:
            continue
        present[row, step] = False
        if last is None or before is None:
            notes.warn(row, step, MIXED)
            continue
        if time == before_time:
            continue
        gauges = [one.hint is ResetHint.GAUGE for one in (before, last)]
        if counter and any(gauges):
            notes.warn(row, step, _NOT_COUNTER)
        if not counter and not all(gauges):
            notes.warn(row, step, _NOT_GAUGE)
        difference = last
        if not counter or not was_reset(last, before):
            try:
                difference, _, reconciled = subtracted(last, before)
            except IncompatibleHistogramsError:
                notes.warn(row, step, _EXPONENTIAL_AND_CUSTOM)
                continue
            if reconciled:
                notes.info(row, step, RECONCILED + "subtraction")
        if counter:
            difference = difference.divided((time - before_time) / 1000)
        call.context.make_histogram(difference)
        result[row, step] = difference.hinted(ResetHint.GAUGE).compact()
        present[row, step] = True
    notes.say()
    return cells._replace(present=present, histograms=result)


def changes(windows: Windows, call: RangeCall, *, resets: bool) -> Cells:
    """Count changes or resets between samples, numbers and native histograms among each other."""
    result = np.zeros(windows.shape)
    present = windows.counts + windows.histogram_counts > 0
    for row, step, histograms in _cells(windows, call, present):
        low, high = int(windows.low[row, step]), int(windows.high[row, step])
        first = int(windows.histogram_low[row, step])
        numbers: list[tuple[int, float | Histogram]] = list(
            zip(windows.times[low:high].tolist(), windows.values[low:high].tolist(), strict=True)
        )
        own = windows.histogram_times[first : first + len(histograms)].tolist()
        samples = sorted([*numbers, *zip(own, histograms, strict=True)], key=lambda sample: sample[0])
        values = [value for _, value in samples]
        result[row, step] = sum(_differs(one, two, resets) for one, two in pairwise(values))
    return Cells(result, present)


def _differs(before: float | Histogram, now: float | Histogram, resets: bool) -> bool:
    if isinstance(before, Histogram) and isinstance(now, Histogram):
        return was_reset(now, before) if resets else not now.equals(before)
    if isinstance(before, Histogram) or isinstance(now, Histogram):
        return True
    return now < before if resets else now != before and not (now != now and before != before)


def one_of(windows: Windows, cells: Cells, *, last: bool) -> Cells:
    """Put into `cells` the first or last native histogram where it is before or behind all numbers."""
    counts = windows.histogram_counts
    if last:
        index = np.maximum(windows.histogram_high - 1, 0)
        other = times_at(windows, windows.last())
        wins = windows.histogram_times[index] >= other
    else:
        index = np.minimum(windows.histogram_low, len(windows.histograms) - 1)
        other = times_at(windows, windows.first())
        wins = windows.histogram_times[index] <= other
    where = (counts > 0) & (wins | (windows.counts == 0))
    result = _objects(windows)
    for row, step in zip(*(at.tolist() for at in np.nonzero(where)), strict=True):
        result[row, step] = windows.histograms[index[row, step]]
    return cells._replace(present=cells.present | where, histograms=result)


def combined(windows: Windows, call: RangeCall, cells: Cells, *, mean: bool) -> Cells:
    """Put into `cells` the sum or the mean of native histograms; where there are numbers, too, there is no result."""
    mixed = (windows.counts > 0) & (windows.histogram_counts > 0)
    call.warn(windows, mixed, MIXED)
    result = _objects(windows)
    present = cells.present & ~mixed
    notes = _Notes(windows, call)
    one_by_one = (windows.histogram_counts > 0) & ~mixed
    for row, steps, alike in _alike_totals(windows, call, one_by_one.copy(), mean=mean):
        result[row, steps] = alike
        present[row, steps] = True
        one_by_one[row, steps] = False
    for row, step, histograms in _cells(windows, call, one_by_one):
        try:
            total, reconciled = (mean_of if mean else sum_of)(histograms)
        except IncompatibleHistogramsError:
            notes.warn(row, step, _EXPONENTIAL_AND_CUSTOM)
            continue
        if hints_collide(histograms):
            notes.warn(row, step, COLLISION + "aggregation")
        if reconciled:
            notes.info(row, step, RECONCILED + "aggregation")
        call.context.make_histogram(total)
        result[row, step] = total.compact()
        present[row, step] = True
    notes.say()
    return cells._replace(present=present, histograms=result)
