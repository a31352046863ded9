"""Measurements behind samples, with the spans that they were made in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from psycopg import sql

from gateway.query.names import Part, text_of
from gateway.query.numbers_text import answered, shortest
from gateway.query.reading import distributions
from gateway.query.reading.arrays import ids
from gateway.query.reading.catalogue import Found
from gateway.query.reading.connection import Reading
from gateway.query.reading.querier import StoreQuerier
from gateway.query.reading.window import Window
from gateway.query.series import METRIC_NAME, Matcher

_MOST_CHARACTERS = 128
"""Of the names and values of an exemplar's labels in all: beyond, only the trace and span are told, as OpenMetrics
bounds them."""


class _Exemplar(NamedTuple):
    microseconds: int
    value: float
    labels: dict[str, str]

    def shown(self) -> dict[str, Any]:
        """Return it as the API has it."""
        return {
            "labels": dict(sorted(self.labels.items())),
            "value": answered(self.value),
            "timestamp": self.microseconds // 1000 / 1000,
        }


def read(
    reading: Reading, querier: StoreQuerier, selectors: Sequence[Sequence[Matcher]], start: int, end: int
) -> list[dict[str, Any]]:
    """Return the exemplars of series in a time range, both ends included, in milliseconds, by series."""
    window = Window(start - 1, end)
    result: dict[tuple[tuple[str, str], ...], list[_Exemplar]] = {}
    for matchers in selectors:
        for found in querier.found(matchers):
            if found.family.part in (Part.VALUE, Part.BUCKET, Part.NATIVE):
                for labels, exemplars in _of(reading, found, window):
                    result[tuple(sorted(labels.items()))] = exemplars
    return [
        {
            "seriesLabels": dict(labels),
            "exemplars": [each.shown() for each in sorted(exemplars, key=lambda one: one[:2])],
        }
        for labels, exemplars in sorted(result.items())
    ]


def _of(reading: Reading, found: Found, window: Window) -> Iterable[tuple[dict[str, str], list[_Exemplar]]]:
    by_series = _read(reading, found, window)
    is_bucket = found.family.part is Part.BUCKET
    with_some = np.array(sorted(by_series), np.int64)
    bounds = (
        distributions.read_bounds(reading, "histogram_point", "explicit_bounds", with_some, window)
        if is_bucket and by_series
        else {}
    )
    for key, labels in zip(found.ids.tolist(), found.labels, strict=True):
        its = {METRIC_NAME: found.name, **labels.labels}
        if key not in by_series:
            continue
        if not is_bucket:
            yield its, by_series[key]
            continue
        # A measurement is told of the bucket that it was counted in.
        buckets: defaultdict[str, list[_Exemplar]] = defaultdict(list)
        upper = sorted(bounds.get(key, ()))
        for exemplar in by_series[key]:
            bound = next((each for each in upper if exemplar.value <= each), None)
            buckets["+Inf" if bound is None else shortest(bound)].append(exemplar)
        for text, exemplars in buckets.items():
            yield {**its, "le": text}, exemplars


def _read(reading: Reading, found: Found, window: Window) -> dict[int, list[_Exemplar]]:
    query = sql.SQL(
        "SELECT series_id, (extract(epoch FROM coalesce(exemplar_time, time)) * 1000000)::bigint::text,"
        " coalesce(value, int_value)::text, trace_id, span_id, filtered_attributes::text FROM exemplar"
        " WHERE series_id = ANY({}::bigint[]) AND {}"
    ).format(ids(found.ids), window.on("time"))
    exemplars: defaultdict[int, list[_Exemplar]] = defaultdict(list)
    for key, at, value, trace_id, span_id, attributes in reading.texts(query):
        if key is None or at is None or value is None:
            continue
        reading.usage.add_samples(1)
        labels = {
            name: text.decode() for name, text in (("trace_id", trace_id), ("span_id", span_id)) if text is not None
        }
        more = {name: text_of(each) for name, each in msgspec.json.decode(attributes or b"{}").items()}
        if sum(len(name) + len(text) for name, text in (labels | more).items()) <= _MOST_CHARACTERS:
            labels = more | labels
        exemplars[int.from_bytes(key, "big", signed=True)].append(_Exemplar(int(at), float(value), labels))
    return exemplars
