"""The metric explorer: which metrics there are, and any of them as a chart, grouped and narrowed by its attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gateway.extensions.api.page.charts import chart_view, identifier
from gateway.extensions.api.page.view import Asked, Reader, View, link
from gateway.query.charts import distributions
from gateway.query.charts.buckets import Window, read
from gateway.query.charts.catalogue import entries
from gateway.query.charts.lines import Chart, Question, Show, default_show, draw
from gateway.query.charts.selection import Found, Series, find, first_seen
from gateway.query.errors import BadQueryError
from gateway.query.metrics.catalogue import Metric
from gateway.query.metrics.units import Unit

_MOST_LISTED = 500
_FEW = 12
"""Lines that tell themselves apart at a glance."""
_RESOURCE = ("host.name", "service.name")
_MOST_CHOICES = 200


@dataclass(frozen=True, slots=True)
class Choice:
    """Something to choose, as a link: ``chosen`` now or not."""

    text: str
    url: str
    chosen: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the chart in numbers. ``colour`` is that of the chart, from 1 to 8; ``url`` shows it alone."""

    id: str
    label: str
    url: str
    colour: int
    last: str
    mean: str
    least: str
    largest: str


def read_metrics(reader: Reader, asked: Asked) -> Mapping[str, object]:
    """Return the list of metrics, or the chart of one."""
    name = asked.text("name")
    host, service = asked.text("host") or None, asked.text("service") or None
    if not name:
        found = entries(reader.reading, asked.text("q"), host=host, service=service, most=_MOST_LISTED + 1)
        now = asked.now.timestamp()
        return {
            "name": "",
            "entries": [
                {
                    "id": identifier(f"metric {each.name}"),
                    "entry": each,
                    "url": asked.url(name=each.name, q=None),
                    "old": each.last_seen is not None and now - each.last_seen > 86_400,
                }
                for each in found[:_MOST_LISTED]
            ],
            "cut": len(found) > _MOST_LISTED,
            **_nothing(asked),
        }
    return _one(reader, asked, name, host, service)


def _nothing(asked: Asked) -> Mapping[str, object]:
    return {
        "q": asked.text("q"),
        "host": asked.text("host"),
        "service": asked.text("service"),
        "chart": None,
        "rows": [],
        "by_choices": [],
        "show_choices": [],
        "filters": [],
        "metric": None,
        "back": asked.url(name=None, by=None, show=None, where=None),
        "series": 0,
    }


def _one(reader: Reader, asked: Asked, name: str, host: str | None, service: str | None) -> Mapping[str, object]:
    only = tuple(_conditions(asked))
    everything = find(reader.reading, [name], host=host, service=service)
    found = {metric: [each for each in several if _has(each, only)] for metric, several in everything.items()}
    metric = max(found, key=lambda each: len(found[each]), default=None)
    base = {**_nothing(asked), "name": name, "metric": metric, "filters": _filters(asked, only)}
    if metric is None or not found[metric]:
        return base
    series = found[metric]
    keys = _keys(series)
    by = _by(asked, keys, series)
    question = Question(metric=name, host=host, service=service, only=only, by=by, show=_show(asked, metric))
    since = first_seen(found)
    during = asked.range
    window = Window.over(during.start.timestamp(), during.end.timestamp(), since)
    chart = _drawn(reader, question, found, metric, window)
    base |= {
        "series": len(series),
        "by_choices": [_by_choice(asked, key, count, by) for key, count in keys.items()],
        "show_choices": [_show_choice(asked, show, metric, question.show) for show in _shows(metric)],
    }
    if chart is None:
        return base
    logs = link("/logs", host=host, service=service, **asked.range.parameters) if host or service else ""
    unit = Unit(metric.unit, _known(chart), per_second=chart.show is Show.RATE)
    base |= {
        "chart": chart_view(
            chart,
            during,
            reader.service.settings.translation,
            title=_title(chart),
            key="explored",
            note=_note(chart),
            since=since,
            logs=logs or link("/logs", **asked.range.parameters),
        ),
        "rows": [_row(asked, chart, n, unit) for n in range(len(chart.lines))],
    }
    return base


def _drawn(reader: Reader, question: Question, found: Found, metric: Metric, window: Window) -> Chart | None:
    if not metric.is_number:
        return distributions.draw(reader.reading, question, {metric: found[metric]}, window)
    source, values = read(reader.reading, [one.id for one in found[metric]], window)
    return draw(question, {metric: found[metric]}, values, source, window)


# -- what the URL says -------------------------------------------------------------------------------------------------


def _conditions(asked: Asked) -> list[tuple[str, str]]:
    found = []
    for each in asked.all("where"):
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise BadQueryError(
                f"where={each[:60]!r} is none: expected an attribute and its value, as in cpu.mode=user"
            )
        found.append((key, value))
    return found


def _has(series: Series, only: Sequence[tuple[str, str]]) -> bool:
    return all(series.label(key) == value for key, value in only)


def _show(asked: Asked, metric: Metric) -> Show:
    text = asked.text("show")
    if not text:
        return default_show(metric)
    if text not in _shows(metric):
        raise BadQueryError(f"show={text[:40]!r} is none of {', '.join(_shows(metric))}, which this metric has")
    return Show(text)


def _shows(metric: Metric) -> tuple[Show, ...]:
    if not metric.is_number:
        return distributions.shows(metric)
    return (Show.VALUE, Show.RATE) if metric.type == "sum" else (Show.VALUE,)


def _keys(series: Sequence[Series]) -> dict[str, int]:
    """Return the attributes that tell series from each other, with how many values each has."""
    names = {key for one in series for key in one.attributes} | set(_RESOURCE)
    counts = {key: len({one.label(key) for one in series}) for key in sorted(names)}
    return {key: count for key, count in counts.items() if count > 1}


def _by(asked: Asked, keys: Mapping[str, int], series: Sequence[Series]) -> tuple[str, ...]:
    """Return what to group by: what the URL says, or else as much as makes a few lines."""
    if any(name == "by" for name, _ in asked.query):
        return tuple(key for each in asked.all("by") for key in each.split(",") if key)
    chosen: tuple[str, ...] = ()
    # Words before numbers: a state says more than which of several cores it is of.
    numbered = {key for one in series for key, value in one.attributes.items() if not isinstance(value, str)}
    for key in sorted(keys, key=lambda each: (each in numbered, keys[each])):
        more = (*chosen, key)
        if len({tuple(one.label(each) for each in more) for one in series}) <= _FEW:
            chosen = more
    return chosen


# -- what can be chosen ------------------------------------------------------------------------------------------------


def _by_choice(asked: Asked, key: str, count: int, by: Sequence[str]) -> Choice:
    changed = [each for each in by if each != key] if key in by else [*by, key]
    return Choice(key, asked.url(by=",".join(changed)), key in by, f"{count} values")


def _show_choice(asked: Asked, show: Show, metric: Metric, now: Show | None) -> Choice:
    words = {Show.RATE: "rate" if metric.is_number else "measurements a second"}
    return Choice(words.get(show, show.value), asked.url(show=show.value), show is now)


def _filters(asked: Asked, only: Sequence[tuple[str, str]]) -> list[Choice]:
    """Return what the series are narrowed to; each link takes one away."""
    found = [Choice(f"{key} = {value}", _without(asked, f"{key}={value}"), True) for key, value in only]
    for key, text in (("host", "host"), ("service", "service")):
        if value := asked.text(key):
            found.append(Choice(f"{text} = {value}", asked.url(**{key: None}), True))
    return found


def _without(asked: Asked, condition: str) -> str:
    kept = [each for each in asked.all("where") if each != condition]
    return _with_where(asked, kept)


def _with_where(asked: Asked, conditions: Sequence[str]) -> str:
    url = asked.url(where=None)
    more = "&".join(link("", where=each)[1:] for each in conditions)
    return url if not more else f"{url}{'&' if '?' in url else '?'}{more}"


def _row(asked: Asked, chart: Chart, n: int, unit: Unit) -> Row:
    line = chart.lines[n]
    known = line.values[np.isfinite(line.values)]
    by = chart.question.by
    conditions = [*asked.all("where"), *(f"{key}={value}" for key, value in zip(by, line.labels, strict=True) if value)]
    return Row(
        id=identifier(f"line {line.labels}"),
        label=" · ".join(label or "(none)" for label in line.labels) or "all series",
        url=_with_where(asked, list(dict.fromkeys(conditions))) if by else "",
        colour=n % 8 + 1,
        last=unit.show(float(known[-1])),
        mean=unit.show(float(known.mean())),
        least=unit.show(float(known.min())),
        largest=unit.show(float(known.max())),
    )


def _known(chart: Chart) -> list[float]:
    values = np.concatenate([line.values for line in chart.lines])
    known = values[np.isfinite(values)]
    return [float(known.min()), float(known.max())] if len(known) else [math.nan]


def _title(chart: Chart) -> str:
    return f"By {', '.join(chart.question.by)}" if chart.question.by else "All series"


def _note(chart: Chart) -> str:
    what = {
        Show.VALUE: "mean" if chart.metric.type == "gauge" else "sum",
        Show.RATE: "per second",
        Show.MEAN: "mean of what was measured",
    }.get(chart.show, f"{chart.show} of what was measured, as far as its buckets tell")
    step = chart.window.step
    length = next(f"{step // size} {unit}" for size, unit in ((3600, "h"), (60, "min"), (1, "s")) if step % size == 0)
    return f"{what}, every {length}"


VIEW = View(path="/metrics", name="Metrics", template="live/metrics.html", read=read_metrics, every=10)
