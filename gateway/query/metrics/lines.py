"""Values of metrics over time, in equal intervals, from the points or their rollups."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, LiteralString, TypedDict

from gateway.query.metrics.catalogue import CUMULATIVE, DELTA, Metric, Series
from gateway.query.metrics.histograms import QUANTILES, Buckets, quantiles
from gateway.query.store import Row, Store

Groups = defaultdict[tuple[tuple[str, str], ...], list[Series]]


@dataclass(frozen=True, slots=True)
class Window:
    """A time range in equal intervals."""

    start: datetime
    end: datetime
    intervals: int

    @property
    def step(self) -> float:
        """The length of an interval in seconds."""
        return (self.end - self.start).total_seconds() / self.intervals

    def starts(self) -> list[datetime]:
        """The start of each interval."""
        return [self.start + timedelta(seconds=self.step * n) for n in range(self.intervals)]


@dataclass(slots=True)
class Line:
    """Values over time, one an interval. `smallest` and `largest` are of the points behind them, where known."""

    labels: dict[str, str]
    values: list[float | None]
    smallest: float | None = None
    largest: float | None = None
    last: float | None = None

    def __post_init__(self) -> None:
        known = self.known
        if known:
            self.smallest = min(known) if self.smallest is None else self.smallest
            self.largest = max(known) if self.largest is None else self.largest
            self.last = known[-1] if self.last is None else self.last

    @property
    def known(self) -> list[float]:
        """The values there are."""
        return [value for value in self.values if value is not None]

    @property
    def mean(self) -> float | None:
        """The mean of the intervals, or None where none has a value."""
        known = self.known
        return sum(value / len(known) for value in known) if known else None


# Number points, and their rollups in the same shape. What no sum of PostgreSQL has room for is left out, like NaN.
_POINTS: dict[str, LiteralString] = {
    "sample": """
        SELECT series_id, time, time_ns AS ns, value AS sum, 1 AS count, value AS min, value AS max, value AS last,
            time AS at, start_time
        FROM number_point
        WHERE series_id = ANY(%(series)s) AND time >= %(lead)s AND time < %(end)s AND abs(value) < 1e290
        """,
    "sample_1m": """
        SELECT series_id, time, 0 AS ns, sum, count, min, max, last, coalesce(last_time, time) AS at,
            NULL::timestamptz AS start_time
        FROM rollup_1m
        WHERE series_id = ANY(%(series)s) AND time >= %(lead)s AND time < %(end)s AND abs(sum) < 1e290 AND count > 0
        """,
    "sample_1h": """
        SELECT series_id, time, 0 AS ns, sum, count, min, max, last, coalesce(last_time, time) AS at,
            NULL::timestamptz AS start_time
        FROM rollup_1h
        WHERE series_id = ANY(%(series)s) AND time >= %(lead)s AND time < %(end)s AND abs(sum) < 1e290 AND count > 0
        """,
}
# The coarsest that is still finer than an interval is read.
_LEAST_STEP = {"sample_1h": 7200.0, "sample_1m": 120.0, "sample": 0.0}

_VALUES: LiteralString = """
    SELECT series_id, floor(extract(epoch FROM time - %(start)s) / %(step)s)::integer AS n,
        sum(sum) / sum(count) AS value, min(min) AS smallest, max(max) AS largest,
        (array_agg(last ORDER BY time DESC, ns DESC))[1] AS last
    FROM points WHERE time >= %(start)s
    GROUP BY 1, 2 ORDER BY 1, 2
    """
_DELTAS: LiteralString = """
    SELECT series_id, floor(extract(epoch FROM time - %(start)s) / %(step)s)::integer AS n, sum(sum) / %(step)s AS value
    FROM points WHERE time >= %(start)s
    GROUP BY 1, 2 ORDER BY 1, 2
    """
# A counter that fell began anew, from zero, and so did one whose start time is later than the point before. What a
# first point has counted since its start is left out where that is no time at all, as SDKs have it: any rate would do.
_INCREASES: LiteralString = """
    SELECT series_id, floor(extract(epoch FROM time - %(start)s) / %(step)s)::integer AS n,
        sum(CASE WHEN %(monotonic)s AND (last < before OR start_time > since) THEN last ELSE last - before END)
            / nullif(sum(extract(epoch FROM at - since)::double precision), 0) AS value
    FROM (
        SELECT series_id, time, last, at, start_time,
            coalesce(lag(last) OVER earlier,
                CASE WHEN %(monotonic)s AND start_time >= %(start)s AND at - start_time >= interval '0.1 s' THEN 0 END
            ) AS before,
            coalesce(lag(at) OVER earlier, start_time) AS since
        FROM points
        WINDOW earlier AS (PARTITION BY series_id ORDER BY time, ns)
    ) AS compared
    WHERE before IS NOT NULL AND time >= %(start)s
    GROUP BY 1, 2 ORDER BY 1, 2
    """


def grouped(series: Sequence[Series], by: Sequence[str] | None) -> Groups:
    """Return series by the values that they have of some attributes, or of all."""
    groups: Groups = defaultdict(list)
    for one in series:
        keys = by if by is not None else sorted(one.own)
        groups[tuple((key, one.label(key) or "-") for key in keys)].append(one)
    return groups


def read_lines(
    store: Store, metric: Metric, series: Sequence[Series], window: Window, *, rate: bool, by: Sequence[str] | None
) -> list[Line]:
    """Return a line for each group of series, and for histograms and summaries one for each quantile.

    Series are grouped by the attributes `by`, or by all that they have. The values of a group are added up, those of
    gauges averaged. `rate` asks for the change per second instead of the value.
    """
    if not series:
        return []
    groups = grouped(series, by)
    if metric.type in ("histogram", "exponential_histogram"):
        return _histogram_lines(store, metric, groups, window)
    if metric.type == "summary":
        return _summary_lines(store, groups, window)
    read = _numbers(store, metric, series, window, rate)
    combine = _mean if metric.type == "gauge" else _sum
    lines = []
    for labels, members in groups.items():
        if present := [read[one.id] for one in members if one.id in read]:
            lines.append(_line(dict(labels), present, combine))
    return lines


def _numbers(store: Store, metric: Metric, series: Sequence[Series], window: Window, rate: bool) -> dict[int, Line]:
    """Return a line without labels for each series that has any value."""
    parameters = _parameters(series, window) | {"monotonic": metric.is_monotonic}
    reading = _VALUES if not rate else _DELTAS if metric.temporality == DELTA else _INCREASES
    for table, least in _LEAST_STEP.items():
        # A rollup may not be there yet for what has just come in: then the finer one has it.
        if window.step >= least and (
            rows := store.rows("WITH points AS (" + _POINTS[table] + ")" + reading, parameters)
        ):
            break
    by_series: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_series[row["series_id"]].append(row)
    return {series_id: _series_line(of_series, window) for series_id, of_series in by_series.items()}


def _parameters(series: Iterable[Series], window: Window) -> dict[str, Any]:
    # The first rate of a window needs the point before it.
    lead = window.start - timedelta(seconds=max(2 * window.step, 300))
    return {
        "series": [one.id for one in series],
        "start": window.start,
        "end": window.end,
        "lead": lead,
        "step": window.step,
    }


def _series_line(rows: Sequence[Row], window: Window) -> Line:
    values: list[float | None] = [None] * window.intervals
    for row in rows:
        values[min(row["n"], window.intervals - 1)] = row["value"]
    if "last" not in rows[0]:
        return Line({}, values)
    smallest, largest = min(row["smallest"] for row in rows), max(row["largest"] for row in rows)
    return Line({}, values, smallest, largest, rows[-1]["last"])


def _line(labels: dict[str, str], members: Sequence[Line], combine: Callable[[list[float]], float]) -> Line:
    if len(members) == 1:
        return replace(members[0], labels=labels)
    # A series that reports less often than there are intervals is there in between, too.
    columns = zip(*(filled(member.values) for member in members), strict=True)
    known = ([value for value in column if value is not None] for column in columns)
    return Line(labels, [combine(values) if values else None for values in known])


def _sum(values: list[float]) -> float:
    return sum(values)


def _mean(values: list[float]) -> float:
    return sum(value / len(values) for value in values)


def _histogram_lines(store: Store, metric: Metric, groups: Groups, window: Window) -> list[Line]:
    lines = []
    for labels, members in groups.items():
        buckets: list[Buckets | None] = [None] * window.intervals
        for n, added in _added(store, metric, members, window):
            n = min(n, window.intervals - 1)
            present = buckets[n]
            buckets[n] = added if present is None else present.with_(added)
        columns = [quantiles(one) for one in buckets]
        for q, values in zip(QUANTILES, zip(*columns, strict=True), strict=True):
            lines.append(Line({**dict(labels), "quantile": f"p{q * 100:g}"}, list(values)))
    return lines


_HISTOGRAMS: LiteralString = """
    SELECT series_id, floor(extract(epoch FROM time - %(start)s) / %(step)s)::integer AS n, start_time, min, max,
        explicit_bounds, bucket_counts, scale, zero_count, zero_threshold,
        positive_offset, positive_bucket_counts, negative_offset, negative_bucket_counts
    FROM histograms WHERE series_id = ANY(%(series)s) AND time >= %(lead)s AND time < %(end)s
    ORDER BY series_id, time, time_ns
    """
# Of cumulative points, the last of each interval says what the others said.
_LAST_HISTOGRAMS: LiteralString = """
    SELECT DISTINCT ON (series_id, n) *
    FROM (
        SELECT series_id, floor(extract(epoch FROM time - %(start)s) / %(step)s)::integer AS n, start_time, min, max,
            explicit_bounds, bucket_counts, scale, zero_count, zero_threshold,
            positive_offset, positive_bucket_counts, negative_offset, negative_bucket_counts, time, time_ns
        FROM histograms WHERE series_id = ANY(%(series)s) AND time >= %(lead)s AND time < %(end)s
    ) AS points
    ORDER BY series_id, n, time DESC, time_ns DESC
    """


class _Point(TypedDict):
    """A histogram of either kind."""

    series_id: int
    n: int
    start_time: datetime | None
    min: float | None
    max: float | None
    explicit_bounds: list[float] | None
    bucket_counts: list[int] | None
    scale: int | None
    zero_count: int | None
    zero_threshold: float | None
    positive_offset: int | None
    positive_bucket_counts: list[int] | None
    negative_offset: int | None
    negative_bucket_counts: list[int] | None


class _Summary(TypedDict):
    n: int
    quantiles: list[float]
    quantile_values: list[float]


def _added(store: Store, metric: Metric, series: Sequence[Series], window: Window) -> Iterator[tuple[int, Buckets]]:
    """Yield what was measured, with the interval it was measured in."""
    cumulative = metric.temporality == CUMULATIVE
    before: tuple[_Point, Buckets] | None = None
    for row in store.stream(_LAST_HISTOGRAMS if cumulative else _HISTOGRAMS, _parameters(series, window), _Point):
        buckets = Buckets.of(row)
        if not cumulative:
            added: Buckets | None = buckets
        elif before is not None and before[0]["series_id"] == row["series_id"]:
            added = buckets.since(before[1])
        else:  # the first point counts where it cannot count anything from before the window
            began = row["start_time"]
            added = buckets if began is not None and began >= window.start else None
        before = (row, buckets)
        if added is not None and row["n"] >= 0:
            yield row["n"], added


def _summary_lines(store: Store, groups: Groups, window: Window) -> list[Line]:
    lines = []
    for labels, members in groups.items():
        values: defaultdict[float, list[float | None]] = defaultdict(lambda: [None] * window.intervals)
        for row in store.stream(
            """
            SELECT floor(extract(epoch FROM time - %(start)s) / %(step)s)::integer AS n, quantiles, quantile_values
            FROM summaries WHERE series_id = ANY(%(series)s) AND time >= %(start)s AND time < %(end)s
            ORDER BY time, time_ns
            """,
            _parameters(members, window),
            _Summary,
        ):
            for q, value in zip(row["quantiles"], row["quantile_values"], strict=False):
                values[q][min(row["n"], window.intervals - 1)] = value if math.isfinite(value) else None
        lines += [Line({**dict(labels), "quantile": f"p{q * 100:g}"}, of_q) for q, of_q in sorted(values.items())]
    return lines


def filled(values: Sequence[float | None]) -> list[float | None]:
    """Return values with straight lines over the gaps that come from a source that reports less often than there are
    places; a gap three times as long as usual is one in the data, and stays."""
    known = [n for n, value in enumerate(values) if value is not None]
    gaps = sorted(after - before for before, after in pairwise(known))
    if not gaps:
        return list(values)
    longest = 3 * gaps[len(gaps) // 2]
    result = list(values)
    for before, after in pairwise(known):
        first, last = values[before], values[after]
        if 1 < after - before <= longest and first is not None and last is not None:
            for n in range(before + 1, after):
                part = (n - before) / (after - before)
                result[n] = first * (1 - part) + last * part
    return result
