"""Charts of a metric: its series grouped by attributes, a line for each group."""

from __future__ import annotations

import enum
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gateway.query.charts.buckets import Source, Values, Window
from gateway.query.charts.selection import Found, Series
from gateway.query.metrics.catalogue import DELTA, Metric

Floats = npt.NDArray[np.float64]

MOST_LINES = 40


class Show(enum.StrEnum):
    """What of a metric is drawn."""

    VALUE = "value"
    """The mean in each interval; of several series, the mean of gauges, and the sum of sums."""
    RATE = "rate"
    """The change a second; of distributions, how many measurements there were a second."""
    MEAN = "mean"
    """The mean of the measurements of a distribution."""
    P50 = "p50"
    """The value that half of the measurements of a distribution are below, as far as its buckets tell."""
    P95 = "p95"
    P99 = "p99"

    @property
    def quantile(self) -> float | None:
        """Which part of the measurements is below what is drawn; None where that is no quantile."""
        return _QUANTILES.get(self)


_QUANTILES = {Show.P50: 0.5, Show.P95: 0.95, Show.P99: 0.99}


def default_show(metric: Metric) -> Show:
    """Return what says most of a metric."""
    if not metric.is_number:
        return Show.MEAN
    return Show.RATE if metric.is_counter else Show.VALUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a chart is to show: a metric, of one host or service, by attributes.

    Of its series those that have the values in ``only``, and not those in ``without``.
    """

    metric: str
    host: str | None = None
    service: str | None = None
    only: tuple[tuple[str, str], ...] = ()
    without: tuple[tuple[str, str], ...] = ()
    by: tuple[str, ...] = ()
    show: Show | None = None


@dataclass(slots=True)
class Line:
    """One group: its values of ``Question.by``, and a value for each interval; NaN where there is none."""

    labels: tuple[str, ...]
    values: Floats

    @property
    def last(self) -> float:
        """The latest value; NaN where there is none."""
        known = self.values[~np.isnan(self.values)]
        return float(known[-1]) if len(known) else math.nan


@dataclass(slots=True)
class Chart:
    """The answer to a question. ``source`` is where the values were read; ``left_out`` how many lines are not shown."""

    question: Question
    metric: Metric
    show: Show
    window: Window
    source: Source
    lines: list[Line] = field(default_factory=list)
    left_out: int = 0
    spacing: float = 0.0
    """Seconds between two points, mostly; 0 where that is not known."""


def draw(
    question: Question, found: Found, values: Mapping[int, Values], source: Source, window: Window
) -> Chart | None:
    """Return the chart of a question, of series and values that were read for it; None where there is nothing."""
    metric, series = chosen(question, found, values)
    if metric is None:
        return None
    window, spacing = spaced(window, series, values)
    show = question.show or default_show(metric)
    combine = _mean if metric.type == "gauge" and show is Show.VALUE else added
    lines, numbers = [], []
    for labels, members in grouped(question.by, series).items():
        matrix = np.stack([_values(metric, show, values[one.id], window) for one in members])
        lines.append(Line(labels, combine(matrix)))
        numbers.append(np.count_nonzero(~np.isnan(matrix), axis=0))
    return finished(Chart(question, metric, show, window, source, lines, spacing=spacing), numbers)


def finished(chart: Chart, numbers: Sequence[npt.NDArray[np.intp]]) -> Chart | None:
    """Return a chart with the largest of its lines; None where there is none.

    ``numbers`` are how many series each line has in each interval.
    """
    lines = chart.lines
    _drop_unfinished(lines, numbers)
    lines = [line for line in lines if not np.isnan(line.values).all()]
    if not lines:
        return None
    lines.sort(key=lambda line: (-abs(float(np.nanmean(line.values))), line.labels))
    # By name, so that each keeps its place and its colour while their sizes change.
    chart.lines = sorted(lines[:MOST_LINES], key=lambda line: line.labels)
    chart.left_out = max(len(lines) - MOST_LINES, 0)
    return chart


def spaced(window: Window, series: Sequence[Series], values: Mapping[int, Values]) -> tuple[Window, float]:
    """Return a window whose intervals are not shorter than the time between two points, and how long that is."""
    spacing = max((values[one.id].spacing for one in series), default=0.0)
    return (window.coarser(spacing) if spacing > window.step else window), spacing


def chosen(question: Question, found: Found, values: Mapping[int, Values]) -> tuple[Metric | None, list[Series]]:
    """Return the series to draw. Of metrics with one name and another type or unit, those with the most."""
    best: tuple[Metric | None, list[Series]] = None, []
    for metric, several in found.items():
        if metric.name != question.metric:
            continue
        matching = [
            one
            for one in several
            if one.id in values
            and all(one.label(name) == value for name, value in question.only)
            and all(one.label(name) != value for name, value in question.without)
        ]
        if len(matching) > len(best[1]):
            best = metric, matching
    return best


def grouped(by: Sequence[str], series: Sequence[Series]) -> dict[tuple[str, ...], list[Series]]:
    """Return series by the values that they have of some attributes."""
    groups: defaultdict[tuple[str, ...], list[Series]] = defaultdict(list)
    for one in series:
        groups[tuple(one.label(key) for key in by)].append(one)
    return groups


def _values(metric: Metric, show: Show, values: Values, window: Window) -> Floats:
    if show is Show.VALUE:
        return values.means(window)
    return values.rates(window, resets=metric.is_monotonic, delta=metric.temporality == DELTA)


def _mean(matrix: Floats) -> Floats:
    number = np.count_nonzero(~np.isnan(matrix), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(number > 0, np.nansum(matrix, axis=0) / number, np.nan)


def added(matrix: Floats) -> Floats:
    """Return the sum of series, NaN where none has a value."""
    return np.where(np.isnan(matrix).all(axis=0), np.nan, np.nansum(matrix, axis=0))


def _drop_unfinished(lines: list[Line], numbers: Sequence[npt.NDArray[np.intp]]) -> None:
    """Leave the last interval out where series are missing in it that the one before has: they are yet to come."""
    if not numbers:
        return
    present = np.sum(np.stack(numbers), axis=0)
    there = np.flatnonzero(present)
    if len(there) >= 2 and present[there[-1]] < present[there[-2]] and there[-1] == there[-2] + 1:
        for line in lines:
            line.values[there[-1]] = np.nan
