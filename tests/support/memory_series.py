"""Series in memory, for PromQL: written as ``name{label="value"}`` and a list of values a step apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from gateway.query.matching import all_match, conditions
from gateway.query.promql.histogram import Histogram, histograms_of
from gateway.query.promql.labels import label_set
from gateway.query.promql.parser import parse_selector
from gateway.query.promql.results import Matrix, Result, Scalar, String, Vector
from gateway.query.series import STALE, Buckets, Hints, Labels, Matcher, NativeHistograms, Series

MINUTE = 60_000
Value = float | Histogram | None
"""None: no sample."""
stale = STALE


class MemoryQuerier:
    """Answers from series that were put in."""

    def __init__(self) -> None:
        self._series: list[Series] = []
        self.selected: list[tuple[int, int]] = []
        """The ranges that were asked for."""

    def add(self, selector: str, values: Sequence[Value], *, step: int = MINUTE, start: int = 0) -> None:
        """Add a series: `values`, the first at `start`, milliseconds."""
        labels = {matcher.name: matcher.value for matcher in parse_selector(selector)}
        samples = [(start + number * step, value) for number, value in enumerate(values) if value is not None]
        numbers = [(time, value) for time, value in samples if not isinstance(value, Histogram)]
        histograms = [(time, value) for time, value in samples if isinstance(value, Histogram)]
        self._series.append(
            Series(
                labels,
                np.array([time for time, _ in numbers], np.int64),
                np.array([value for _, value in numbers], np.float64),
                columns(histograms) if histograms else None,
            )
        )

    def select(self, matchers: Sequence[Matcher], start: int, end: int, hints: Hints) -> Sequence[Series]:
        self.selected.append((start, end))
        asked = conditions(matchers)
        return [_between(series, start, end) for series in self._series if all_match(asked, series.labels)]

    def series(self, matchers: Sequence[Sequence[Matcher]], start: int, end: int, limit: int = 0) -> list[Labels]:
        raise NotImplementedError

    def label_names(self, matchers: Sequence[Sequence[Matcher]], start: int, end: int, limit: int = 0) -> list[str]:
        raise NotImplementedError

    def label_values(
        self, name: str, matchers: Sequence[Sequence[Matcher]], start: int, end: int, limit: int = 0
    ) -> list[str]:
        raise NotImplementedError


def _between(series: Series, start: int, end: int) -> Series:
    inside = (series.times > start) & (series.times <= end)
    native = series.histograms
    if native is not None:
        rows = np.flatnonzero((native.times > start) & (native.times <= end))
        found = list(zip(native.times[rows].tolist(), histograms_of(native, rows), strict=True))
        native = columns(found) if found else None
    return Series(series.labels, series.times[inside], series.values[inside], native)


def columns(histograms: Sequence[tuple[int, Histogram]]) -> NativeHistograms:
    """Return native histograms, each with its time, in columns."""

    def buckets(name: str) -> Buckets:
        sides = [getattr(one, name) for _, one in histograms]
        starts = np.cumsum([0, *(len(side.counts) for side in sides)])
        return Buckets(
            np.array([side.offset for side in sides], np.int32),
            starts.astype(np.int64),
            np.concatenate([side.counts for side in sides]),
        )

    def column(name: str) -> np.ndarray:  # type: ignore[type-arg]
        return np.array([getattr(one, name) for _, one in histograms], np.float64)

    return NativeHistograms(
        np.array([time for time, _ in histograms], np.int64),
        np.array([one.schema for _, one in histograms], np.int8),
        column("zero_threshold"),
        column("zero_count"),
        column("count"),
        column("sum"),
        buckets("positive"),
        buckets("negative"),
        np.array([int(one.hint) for _, one in histograms], np.uint8),
        [np.zeros(0) if one.bounds is None else one.bounds for _, one in histograms]
        if any(one.custom for _, one in histograms)
        else None,
    )


def shown(labels: Mapping[str, str]) -> str:
    """Return labels as they are written in tests: ``name{a=1,b=2}``."""
    rest = ",".join(f"{name}={value}" for name, value in label_set(labels) if name != "__name__")
    return labels.get("__name__", "") + ("{" + rest + "}" if rest or "__name__" not in labels else "")


def table(result: Result) -> object:
    """Return a result as plain Python: a number, a text, or for each series (as `shown`) its value or its values."""
    match result.value:
        case Scalar(value=value):
            return value
        case String(value=text):
            return text
        case Vector(samples=samples):
            return {shown(one.labels): one.value if one.histogram is None else one.histogram for one in samples}
        case Matrix(series=series):
            return {
                shown(one.labels): [
                    value
                    for _, value in sorted(
                        [
                            *zip(one.times.tolist(), one.values.tolist(), strict=True),
                            *zip(one.histogram_times.tolist(), one.histograms, strict=True),
                        ],
                        key=lambda point: point[0],
                    )
                ]
                for one in series
            }


def same(one: object, two: object) -> bool:
    """Return whether two tables are equal, a NaN with a NaN."""
    if isinstance(one, dict) and isinstance(two, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, float) and isinstance(two, float | int):
        return one == two or (math.isnan(one) and math.isnan(two))
    if isinstance(one, Histogram) and isinstance(two, Histogram):
        return one.equals(two)
    return one == two
