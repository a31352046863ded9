"""Charts of histograms and summaries: how many measurements there were, and what they were on average.

Of histograms with explicit bounds also their quantiles, as PromQL's ``histogram_quantile`` has them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

import numpy as np
from psycopg import sql

from gateway.query.charts.buckets import Source, Values, Window
from gateway.query.charts.lines import (
    Chart,
    Floats,
    Line,
    Question,
    Show,
    added,
    chosen,
    default_show,
    finished,
    grouped,
    spaced,
)
from gateway.query.charts.selection import Found, Series
from gateway.query.metrics.catalogue import DELTA, Metric
from gateway.query.reading.arrays import ids, row_of
from gateway.query.reading.chunks import SharedTimes
from gateway.query.reading.connection import Reading
from gateway.query.reading.distributions import read_histograms
from gateway.query.reading.window import Window as TimeRange
from gateway.store import POSTGRES_EPOCH_US

_TABLES: dict[str, LiteralString] = {
    "histogram": "histogram_sample",
    "exponential_histogram": "exp_histogram_sample",
    "summary": "summary_sample",
}
_ROW = row_of(("series", ">i8"), ("time", ">i8"), ("count", ">f8"), ("sum", ">f8"))


def draw(reading: Reading, question: Question, found: Found, window: Window) -> Chart | None:
    """Return the chart of a question about a distribution; None where there is nothing."""
    counts, sums = _read(reading, found, question, window)
    metric, series = chosen(question, found, counts)
    if metric is None:
        return None
    window, spacing = spaced(window, series, counts)
    wanted = question.show
    show = wanted if wanted is not None and wanted in shows(metric) else default_show(metric)
    delta = metric.temporality == DELTA
    if show.quantile is not None:
        buckets = _buckets(reading, series, window, delta=delta)
    lines, numbers = [], []
    for labels, members in grouped(question.by, series).items():
        many, total = [], []
        for one in members:
            count = counts[one.id]
            began = np.append(False, count.values[1:] < count.values[:-1])
            if show is Show.RATE:
                many.append(count.rates(window, resets=True, delta=delta))
            else:
                many.append(count.changes(window, began=began, delta=delta))
            if show is Show.MEAN:
                total.append(sums[one.id].changes(window, began=began, delta=delta))
        matrix = np.stack(many)
        values = added(matrix)
        if show.quantile is not None:
            values = _quantile(show.quantile, [each for one in members for each in buckets[one.id]], window)
        elif show is Show.MEAN:
            with np.errstate(invalid="ignore", divide="ignore"):
                values = np.where(values > 0, added(np.stack(total)) / values, np.nan)
        lines.append(Line(labels, values))
        numbers.append(np.count_nonzero(~np.isnan(matrix), axis=0))
    return finished(Chart(question, metric, show, window, Source.POINTS, lines, spacing=spacing), numbers)


def shows(metric: Metric) -> tuple[Show, ...]:
    """Return what can be drawn of a distribution."""
    quantiles = (Show.P50, Show.P95, Show.P99) if metric.type == "histogram" else ()
    return (Show.MEAN, Show.RATE, *quantiles)


@dataclass(frozen=True, slots=True)
class _Buckets:
    """What came into the buckets of one series: their upper bounds, ascending to infinity, and a row for each, with the
    number of measurements in each interval."""

    bounds: Floats
    counts: Floats


def _buckets(
    reading: Reading, series: Sequence[Series], window: Window, *, delta: bool
) -> Mapping[int, Sequence[_Buckets]]:
    """Return the buckets of series; of one whose bounds have changed, several."""
    found: defaultdict[int, list[_Buckets]] = defaultdict(list)
    keys = np.array([one.id for one in series], np.int64)
    # A window of the reading layer is open at its start.
    asked = TimeRange(math.ceil(window.start * 1000) - 1, math.ceil(window.end * 1000) - 1)
    for points in read_histograms(reading, keys, asked, SharedTimes()):
        known = ~np.isnan(points.counts)
        upto = np.vstack((points.values, points.counts))[:, known]
        here = np.diff(upto, axis=0, prepend=0.0)  # in each bucket alone
        times = points.times[known] / 1000.0
        if not delta:
            began = upto[-1, 1:] < upto[-1, :-1]
            here, times = np.where(began, here[:, 1:], np.diff(here, axis=1)), times[1:]
        places = np.clip(((times - window.first) // window.step).astype(np.int64), 0, window.count - 1)
        counts = np.stack([np.bincount(places, each, window.count) for each in here]).astype(np.float64)
        found[points.series].append(_Buckets(np.append(points.bounds, np.inf), counts))
    return found


def _quantile(part: float, several: Sequence[_Buckets], window: Window) -> Floats:
    """Return a quantile of all measurements of each interval: its place in its bucket, as if they lay evenly there."""
    if not several:
        return np.full(window.count, np.nan)
    bounds = np.unique(np.concatenate([each.bounds for each in several]))
    counts = np.zeros((len(bounds), window.count))
    for each in several:
        counts[np.searchsorted(bounds, each.bounds)] += each.counts
    upto = np.cumsum(counts, axis=0)
    rank = part * upto[-1]
    place, columns = np.argmax(upto >= rank, axis=0), np.arange(window.count)
    lower = np.append(min(bounds[0], 0.0), bounds[:-1])
    its_lower, its_upper, its_count = lower[place], bounds[place], counts[place, columns]
    # Of the last bucket nothing is known but where it begins; and if it is the only one, not even that.
    its_upper = np.where(np.isinf(its_upper), its_lower if len(bounds) > 1 else np.nan, its_upper)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = its_lower + (its_upper - its_lower) * (rank - (upto[place, columns] - its_count)) / its_count
    return np.where(upto[-1] > 0, values, np.nan)


def _read(
    reading: Reading, found: Found, question: Question, window: Window
) -> tuple[dict[int, Values], dict[int, Values]]:
    """Return what has been counted and added up, by series."""
    counts: dict[int, Values] = {}
    sums: dict[int, Values] = {}
    for metric, series in found.items():
        if metric.name != question.metric or metric.type not in _TABLES or not series:
            continue
        query = sql.SQL(
            "SELECT series_id, time, count::float8, coalesce(sum, 'NaN') FROM {}"
            " WHERE series_id = ANY({}::bigint[]) AND time >= to_timestamp({}) AND time < to_timestamp({})"
        ).format(
            sql.Identifier(_TABLES[metric.type]),
            ids(np.array([one.id for one in series], np.int64)),
            window.start,
            window.end,
        )
        rows = reading.rows(query, _ROW)
        reading.usage.add_samples(len(rows))
        rows = rows[np.lexsort((rows["time"], rows["series"]))]
        own = rows["series"].astype(np.int64)
        times = (rows["time"].astype(np.int64) + POSTGRES_EPOCH_US) / 1e6
        begins = np.flatnonzero(np.append(True, own[1:] != own[:-1])[: len(own)]).tolist()
        for begin, end in zip(begins, [*begins[1:], len(own)][: len(begins)], strict=True):
            key = int(own[begin])
            counts[key] = Values(times[begin:end], rows["count"][begin:end].astype(np.float64))
            sums[key] = Values(times[begin:end], rows["sum"][begin:end].astype(np.float64))
    return counts, sums
