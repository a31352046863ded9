"""Samples of range vectors: every window of every step as a slice of flat arrays.

Series that came together share one array of times; where their windows begin and end is looked for once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gateway.query.promql.histogram import Histogram, histograms_of
from gateway.query.promql.labels import LabelSet, label_set
from gateway.query.series import Series, is_stale

Longs = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of one series, ascending by time."""

    labels: LabelSet
    times: Longs
    values: Floats
    histogram_times: Longs
    histograms: list[Histogram]


_NO_TIMES = np.empty(0, np.int64)


def samples_of(series: Series) -> Samples:
    """Return the samples of a series that was read, without stale native histograms."""
    if series.histograms is None:
        return Samples(label_set(series.labels), series.times, series.values, _NO_TIMES, [])
    rows = np.flatnonzero(~is_stale(series.histograms.sums))
    return Samples(
        label_set(series.labels),
        series.times,
        series.values,
        series.histograms.times[rows],
        histograms_of(series.histograms, rows),
    )


Timed = TypeVar("Timed", Series, Samples)

_BLOCK_CELLS = 1 << 16
_BLOCK_SAMPLES = 1 << 20


@dataclass(slots=True)
class Windows:
    """The windows of some series at m steps: n by m slices of the samples, (end - length, end] each."""

    labels: list[LabelSet]
    """n."""
    times: Longs
    """Of all samples of all series, one series after the other; no stale markers."""
    values: Floats
    low: Longs
    """n by m: index of the first sample of a window."""
    high: Longs
    """n by m: index behind the last sample of a window."""
    ends: Longs
    """m: where the windows end, milliseconds."""
    length: int
    """Milliseconds."""
    steps: Longs
    """m: the times that the query is evaluated at."""
    aligned: bool
    """Whether all series have samples at the same times: what follows from these alone is the same for each."""
    histogram_times: Longs
    histograms: list[Histogram]
    histogram_low: Longs
    histogram_high: Longs

    @property
    def counts(self) -> Longs:
        """Numbers in each window (n by m)."""
        return self.high - self.low

    @property
    def histogram_counts(self) -> Longs:
        """Native histograms in each window (n by m)."""
        return self.histogram_high - self.histogram_low

    @property
    def shape(self) -> tuple[int, int]:
        """Series and steps."""
        return len(self.labels), len(self.ends)

    def first(self) -> Longs:
        """Return indexes of the first sample of each window; any index for an empty one."""
        return np.minimum(self.low, max(len(self.values) - 1, 0))

    def last(self) -> Longs:
        """Return indexes of the last sample of each window; any index for an empty one."""
        return np.maximum(self.high - 1, 0)


@dataclass(frozen=True, slots=True)
class _Flat:
    """Samples of some series one after the other. ``kept[i]``: how many of the first i are no stale markers."""

    times: Longs
    values: Floats
    starts: Longs
    kept: Longs | None


def blocks(series: Sequence[Timed], steps: int) -> Iterator[Sequence[Timed]]:
    """Yield the series in parts that are small enough to be evaluated in the processor's caches."""
    begin = cells = samples = 0
    for at, one in enumerate(series):
        if at > begin and (cells + steps > _BLOCK_CELLS or samples + len(one.times) > _BLOCK_SAMPLES):
            yield series[begin:at]
            begin, cells, samples = at, 0, 0
        cells += steps
        samples += len(one.times)
    if begin < len(series):
        yield series[begin:]


def positions(times: Sequence[Longs], points: Longs) -> Longs:
    """Return for each array of times how many of them are up to each point (n by m)."""
    found: dict[int, Longs] = {}
    rows = []
    for array in times:
        row = found.get(id(array))
        if row is None:
            row = found[id(array)] = np.searchsorted(array, points, side="right")
        rows.append(row)
    if len(found) == 1:
        return np.broadcast_to(rows[0], (len(rows), len(points)))
    return np.array(rows, np.int64).reshape(len(rows), len(points))


def windows(series: Sequence[Samples], ends: Longs, length: int, steps: Longs) -> Windows:
    """Return the windows (end - length, end] of `series`. `steps` are the times of evaluation that they belong to."""
    flat = _flat(series)
    times_of = [one.times for one in series]
    low = positions(times_of, ends - length) + flat.starts[:-1, None]
    high = positions(times_of, ends) + flat.starts[:-1, None]
    if flat.kept is not None:
        low, high = flat.kept[low], flat.kept[high]
    histograms = [histogram for one in series for histogram in one.histograms]
    histogram_low = histogram_high = np.broadcast_to(np.int64(0), low.shape)
    if histograms:
        starts = _starts([len(one.histograms) for one in series])
        histogram_times_of = [one.histogram_times for one in series]
        histogram_low = positions(histogram_times_of, ends - length) + starts[:-1, None]
        histogram_high = positions(histogram_times_of, ends) + starts[:-1, None]
    return Windows(
        [one.labels for one in series],
        flat.times,
        flat.values,
        low,
        high,
        ends,
        length,
        steps,
        flat.kept is None and len({id(times) for times in times_of}) == 1,
        np.concatenate([one.histogram_times for one in series]) if histograms else _NO_TIMES,
        histograms,
        histogram_low,
        histogram_high,
    )


def _starts(counts: Sequence[int]) -> Longs:
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def _flat(series: Sequence[Samples]) -> _Flat:
    starts = _starts([len(one.times) for one in series])
    times = np.concatenate([one.times for one in series]) if series else _NO_TIMES
    values = np.concatenate([one.values for one in series]) if series else np.empty(0)
    stale = is_stale(values)
    if not stale.any():
        return _Flat(times, values, starts, None)
    keep = ~stale
    kept = np.zeros(len(keep) + 1, np.int64)
    np.cumsum(keep, out=kept[1:])
    return _Flat(times[keep], values[keep], starts, kept)
