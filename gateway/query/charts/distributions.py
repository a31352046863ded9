"""Charts of histograms and summaries: how many measurements there were, and what they were on average."""

from __future__ import annotations

from typing import LiteralString

import numpy as np
from psycopg import sql

from gateway.query.charts.buckets import Source, Values, Window
from gateway.query.charts.lines import (
    Chart,
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
from gateway.query.charts.selection import Found
from gateway.query.metrics.catalogue import DELTA
from gateway.query.reading.arrays import ids, row_of
from gateway.query.reading.connection import Reading
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
    show = Show.RATE if question.show is Show.RATE else default_show(metric)
    delta = metric.temporality == DELTA
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
                total.append(sums[one.id].changes(window, began=began, delta=delta))
        matrix = np.stack(many)
        values = added(matrix)
        if total:
            with np.errstate(invalid="ignore", divide="ignore"):
                values = np.where(values > 0, added(np.stack(total)) / values, np.nan)
        lines.append(Line(labels, values))
        numbers.append(np.count_nonzero(~np.isnan(matrix), axis=0))
    return finished(Chart(question, metric, show, window, Source.POINTS, lines, spacing=spacing), numbers)


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
