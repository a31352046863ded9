"""Numbers out of the store: those that the content asks for, by the names that it gives them.

No text of the store goes through here but into the conditions of a query.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from gateway.publishing.content import Chart, Component, Content, Selection, Status
from gateway.publishing.uptime import History, Intervals, States, Was, history, judged
from gateway.query.metrics.catalogue import Metric, Series, series_of
from gateway.query.metrics.lines import Window, read_lines
from gateway.query.metrics.presence import means
from gateway.query.store import Store

SPANS = (2, 7, 30)
"""Days that charts go back."""

_POINTS = 168
"""Intervals of a chart: an hour each, of a week."""
_LATE = timedelta(minutes=2)
"""How long records may be on their way."""


@dataclass(frozen=True, slots=True)
class DrawnLine:
    """The values of a line, one an interval. ``name`` is the content's."""

    name: str
    values: list[float | None]


@dataclass(frozen=True, slots=True)
class Span:
    """A chart over some days."""

    days: int
    start: datetime
    end: datetime
    lines: list[DrawnLine]

    @property
    def known(self) -> bool:
        """Whether there is anything to draw."""
        return any(value is not None for line in self.lines for value in line.values)


@dataclass(frozen=True, slots=True)
class DrawnChart:
    """A chart, and whether its values are changes per second."""

    chart: Chart
    per_second: bool
    spans: list[Span]


@dataclass(frozen=True, slots=True)
class Readings:
    """What a store had to say. ``histories`` are by the names of components; those of which it knows nothing are not
    among them. ``notes`` tell whoever builds the page what the store does not have; they are not published."""

    charts: list[DrawnChart]
    histories: dict[str, History]
    notes: list[str] = field(default_factory=list)


def read(store: Store, content: Content, at: datetime, runs_since: datetime | None = None) -> Readings:
    """Read what the content asks for. Raises `QueryError`.

    ``runs_since`` is since when the hub runs, where it says so.
    """
    notes: list[str] = []
    charts = [_chart(store, chart, at, notes) for chart in content.charts.charts]
    return Readings(charts, _histories(store, content.status, at, runs_since, notes), notes)


def _found(
    store: Store, what: str, metric: str, selection: Selection, notes: list[str]
) -> tuple[Metric, list[Series]] | None:
    """Return the series that are selected: of the metric with most of them, should several be called so."""
    found = series_of(store, metric, selection.conditions)
    if not found:
        notes.append(f"{what}: the store has no such series of {metric}")
        return None
    return max(found, key=lambda each: len(each[1]))


def _chart(store: Store, chart: Chart, at: datetime, notes: list[str]) -> DrawnChart:
    selected = [
        (line, _found(store, f"chart '{chart.title}', line '{line.name}'", chart.metric, line, notes))
        for line in chart.lines
    ]
    metrics = [found[0] for _, found in selected if found is not None]
    per_second = chart.rate if chart.rate is not None else any(metric.is_counter for metric in metrics)
    spans = []
    for days in SPANS:
        window = Window(at - timedelta(days=days), at, _POINTS)
        lines = []
        for line, found in selected:
            values: list[float | None] = [None] * window.intervals
            if found is not None:
                metric, series = found
                read_ = read_lines(store, metric, series, window, rate=per_second and metric.is_number, by=[])
                wanted = [each for each in read_ if each.labels.get("quantile") in (None, line.quantile)]
                values = wanted[0].values if wanted else values
            lines.append(DrawnLine(line.name, values))
        spans.append(Span(days, window.start, window.end, lines))
    return DrawnChart(chart, per_second, spans)


def _histories(
    store: Store, status: Status, at: datetime, runs_since: datetime | None, notes: list[str]
) -> dict[str, History]:
    intervals = Intervals.until(at.astimezone(UTC), status.days, status.every, _LATE)
    heard = {
        component.name: _heard(store, component, intervals, notes)
        for component in status.components
        if component.records is not None
    }
    was = judged(heard, status.hub, None if runs_since is None else intervals.first_from(runs_since))
    return {name: history(states, intervals) for name, states in was.items() if states.any()}


def _heard(store: Store, component: Component, intervals: Intervals, notes: list[str]) -> States:
    """Return what came of a component in each interval, and what it said."""
    assert component.records is not None
    found = _found(store, f"component '{component.name}'", component.records.metric, component.records, notes)
    if found is None:
        return np.zeros(intervals.count, np.int8)
    metric, series = found
    if not metric.is_number:
        notes.append(f"component '{component.name}': {metric.name} is no gauge and no sum")
        return np.zeros(intervals.count, np.int8)
    values = means(store, [one.id for one in series], intervals.start, intervals.step, intervals.count)
    said = np.where(np.isnan(values), Was.UNKNOWN, Was.UP)
    if component.at_most is not None:
        said = np.where(values > component.at_most, Was[component.above.upper()], said)
    return said.astype(np.int8)
