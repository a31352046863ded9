"""Charts as templates show them: their values for the browser to draw, a drawing for who has no scripts, the words
around it, and what is behind it."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.extensions.api.page.ranges import RANGES, Range
from gateway.query.charts import texts
from gateway.query.charts.lines import Chart, Line, Show
from gateway.query.metrics.units import Unit
from gateway.query.names import Translation

Floats = npt.NDArray[np.float64]

_FACTORS = {"By": 1, "KiBy": 2**10, "MiBy": 2**20, "GiBy": 2**30, "kBy": 10**3, "MBy": 10**6, "GBy": 10**9}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_PLAIN = {"Cel": "°C", "%": "%", "rpm": "rpm"}
_KNOWN_UNITS = {"Hz", "W", "V", "A", "J", "bit"}


@dataclass(frozen=True, slots=True)
class Shown:
    """One line in the legend of a chart."""

    label: str
    last: str
    largest: str
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartView:
    """A chart as its template has it. ``data`` is JSON, ``drawing`` the path of each line in a box of 600 by 200."""

    id: str
    title: str
    note: str
    data: str
    drawing: Sequence[str]
    stacked: bool
    legend: Sequence[Shown]
    left_out: int
    sql: str
    grafana_sql: str
    promql: str | None
    logs: str = ""
    more: str = ""
    summary: str = ""


def chart_view(
    chart: Chart,
    asked: Range,
    translation: Translation,
    *,
    title: str,
    key: str = "",
    note: str = "",
    stacked: bool = False,
    least: float | None = None,
    most: float | None = None,
    names: Mapping[str, str] | None = None,
    logs: str = "",
    more: str = "",
    since: float = -math.inf,
) -> ChartView:
    """Return a chart for its template. ``names`` are what labels are called; the axis begins at ``since`` at the
    earliest, in seconds."""
    labels = [_label_of(line, names or {}) for line in chart.lines]
    per_second = chart.show is Show.RATE
    known = [float(value) for line in chart.lines for value in _extremes(line.values)]
    unit = Unit(chart.metric.unit, known, per_second=per_second)
    largest = [_extremes(line.values)[1] for line in chart.lines]
    ago = _ago(asked)
    axis = max(asked.start.timestamp(), min(since, asked.end.timestamp() - 60))
    data = {
        "first": chart.window.first,
        "step": chart.window.step,
        "count": chart.window.count,
        "start": math.floor(axis),
        "end": math.ceil(asked.end.timestamp()),
        "format": format_of(chart.metric.unit, known, per_second=per_second),
        "stacked": stacked,
        "least": least,
        "most": most,
        "lines": [
            {"label": label, "values": _compact(line.values)} for label, line in zip(labels, chart.lines, strict=True)
        ],
    }
    return ChartView(
        id=key or identifier(title),
        title=title,
        note=note,
        data=msgspec.json.encode(data).decode(),
        drawing=drawing([line.values for line in chart.lines], stacked=stacked, least=least, most=most),
        stacked=stacked,
        legend=[
            Shown(label, unit.show(_none(line.last)), unit.show(_none(most_of)))
            for label, line, most_of in zip(labels, chart.lines, largest, strict=True)
        ],
        left_out=chart.left_out,
        sql=texts.as_sql(chart, texts.time_condition(chart, ago)),
        grafana_sql=texts.as_sql(chart, texts.GRAFANA_TIME),
        promql=texts.as_promql(chart, translation),
        logs=logs,
        more=more,
        summary=_summary(title, labels, chart.lines, unit),
    )


def identifier(text: str) -> str:
    """Return an ``id`` for an element: the same for the same text, and with nothing in it that a sender chose."""
    return "c" + hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _label_of(line: Line, names: Mapping[str, str]) -> str:
    return " · ".join(names.get(each, each) or "(none)" for each in line.labels) or names.get("", "value")


def _summary(title: str, labels: Sequence[str], lines: Sequence[Line], unit: Unit) -> str:
    """Say in words what a chart shows, for who cannot see it."""
    said = [f"{label} {unit.show(_none(line.last))}" for label, line in zip(labels[:6], lines, strict=False)]
    return f"{title}, last: {', '.join(said)}"


def _ago(asked: Range) -> str | None:
    if asked.name is None:
        return None
    length = RANGES[asked.name]
    for size, word in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        if length % size == timedelta(0):
            count = length // size
            return f"{count} {word}{'' if count == 1 else 's'}"
    raise AssertionError(asked.name)


def _extremes(values: Floats) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)


def _none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _compact(values: Floats) -> list[float | None]:
    """Return values to seven digits of the largest, which is more than a screen shows, and None where there is none."""
    largest = max(map(abs, _extremes(values)))
    if math.isfinite(largest) and largest > 0:
        values = np.round(values, 6 - math.floor(math.log10(largest)))
    return [value if math.isfinite(value) else None for value in values.tolist()]


def format_of(unit: str, known: Sequence[float], *, per_second: bool) -> dict[str, Any]:
    """Return how the browser writes values, as `Unit` does here."""
    per = "/s" if per_second else ""
    sizes = [abs(value) for value in known if math.isfinite(value)]
    if unit == "1" and not per_second and sizes and max(sizes) <= 1 and any(value % 1 for value in sizes):
        return {"kind": "percent", "per": ""}
    if unit in _FACTORS:
        return {"kind": "bytes", "factor": _FACTORS[unit], "per": per}
    if unit in _SECONDS and not per_second:
        return {"kind": "seconds", "factor": _SECONDS[unit], "per": ""}
    if unit in _PLAIN:
        return {"kind": "plain", "unit": _PLAIN[unit], "per": per}
    bare = unit in ("1", "") or re.fullmatch(r"\{.*\}", unit)
    return {"kind": "number", "unit": "" if bare else unit, "per": per}


# -- drawings ----------------------------------------------------------------------------------------------------------


def drawing(
    lines: Sequence[Floats], *, stacked: bool = False, least: float | None = None, most: float | None = None
) -> list[str]:
    """Return an SVG path for each line, in a box of 600 by 200."""
    if stacked:
        total = np.zeros(len(lines[0]) if lines else 0)
        raised = []
        for values in lines:
            total = total + np.nan_to_num(values)
            raised.append(np.where(np.isnan(values), np.nan, total))
        lines = raised
    known = [value for values in lines for value in _extremes(values) if math.isfinite(value)]
    if not known:
        return []
    low = min(known) if least is None else least
    high = max(max(known), low if most is None else most)
    return [path(values, 600, 200, low if low < high else low - 1, high) for values in lines]


def path(values: Floats, width: int, height: int, low: float, high: float) -> str:
    """Return values as an SVG path in whole units: a stroke wherever there are several in a row, and else a dot."""
    there = np.flatnonzero(np.isfinite(values))
    if not len(there):
        return ""
    xs = np.rint(there * (width / max(len(values) - 1, 1))).astype(np.int64).tolist()
    # Halves, for the whole of what numbers can be is more than a number can be.
    parts = (high / 2 - np.clip(values[there], low, high) / 2) / (high / 2 - low / 2)
    ys = np.rint(parts * height).astype(np.int64).tolist()
    points = [f"{x} {y}" for x, y in zip(xs, ys, strict=True)]
    begins = np.flatnonzero(np.append(True, np.diff(there) > 1)).tolist()
    ends = [*begins[1:], len(points)]
    return "".join(
        f"M{' '.join(points[begin:end])}" + ("h.01" if end == begin + 1 else "")
        for begin, end in zip(begins, ends, strict=True)
    )


def sparkline(values: Floats, low: float | None = 0.0, high: float | None = None) -> str:
    """Return a path in a box of 240 by 56; empty where there are no values."""
    least, largest = _extremes(values)
    if not math.isfinite(least):
        return ""
    low = least if low is None else min(low, least)
    high = max(largest, low + 1e-9) if high is None else max(high, largest)
    return path(values, 240, 56, low, high if high > low else low + 1)
