"""Charts and days as the numbers of an SVG, and the classes that the style sheet has colours for.

Labels stand beside the drawings as HTML, which stays readable however small these become.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.publishing.content import Chart
from gateway.publishing.readings import DrawnLine, Span
from gateway.publishing.uptime import Day

_WIDTH, _HEIGHT = 700, 180
_DAY_WIDTH, _DAY_GAP, _DAY_HEIGHT = 10, 3, 40
_STUB = 6
_SEEN = 0.2
"""How high what is not up is drawn at least, in parts of the day's height: a minute is to be seen, too."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A line of a chart in numbers, as text."""

    name: str
    lowest: str
    mean: str
    highest: str
    latest: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart over some days: the drawing, its scales (from above, from the left), and its lines in numbers."""

    days: int
    box: str
    paths: list[tuple[str, str]]
    """Of each path its class and its way."""
    scale: list[str]
    times: list[tuple[str, str]]
    """Of each label its moment in ISO 8601 and how it is written."""
    figures: list[Figures]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar that stands on the ground."""

    kind: str
    left: int
    height: float
    width: int = _DAY_WIDTH - _DAY_GAP

    @property
    def top(self) -> float:
        """Where it ends, from above."""
        return round(_DAY_HEIGHT - self.height, 1)


@dataclass(frozen=True, slots=True)
class DaysDrawing:
    """Days as bars."""

    box: str
    bars: list[Bar]


def draw(chart: Chart, span: Span, *, per_second: bool) -> Drawing:
    """Draw a chart over some days."""
    known = [value for line in span.lines for value in line.values if value is not None]
    low, high = _scale(known)

    def shown(value: float) -> str:
        return written(value, chart, per_second=per_second)

    paths = [("grid", f"M0 {_HEIGHT * n / 2:g}H{_WIDTH}") for n in range(3)]
    if len(span.lines) == 1:
        paths.append(("area", _area(span.lines[0].values, low, high)))
    paths += [(f"line line-{number}", _path(line.values, low, high)) for number, line in enumerate(span.lines)]
    figures = [_figures(line, shown) for line in span.lines]
    # Of nothing but zeros, a scale would say something.
    scale = [shown(high), shown((low + high) / 2), shown(low)] if any(known) else ["", "", shown(0)]
    return Drawing(span.days, f"0 0 {_WIDTH} {_HEIGHT}", paths, scale, _times(span), figures)


def draw_days(days: Sequence[Day]) -> DaysDrawing:
    """Draw days: full height where a component worked, from below what it did not; a stub where nothing is known."""
    bars: list[Bar] = []
    for number, day in enumerate(days):
        left = number * _DAY_WIDTH
        if day.available is None:
            bars.append(Bar("unknown", left, _STUB))
            continue
        bars.append(Bar("up", left, _DAY_HEIGHT))
        for kind, share in (("degraded", day.degraded + day.down if day.degraded else 0), ("down", day.down)):
            if share:
                bars.append(Bar(kind, left, round(max(share / day.known, _SEEN) * _DAY_HEIGHT, 1)))
    return DaysDrawing(f"0 0 {max(len(days) * _DAY_WIDTH - _DAY_GAP, 1)} {_DAY_HEIGHT}", bars)


def written(value: float, chart: Chart, *, per_second: bool = False) -> str:
    """Write a value in a chart's unit, in a few letters."""
    suffix = f" {chart.suffix}" if chart.suffix else "/s" if per_second else ""
    match chart.unit:
        case "percent":
            return f"{_rounded(value * 100)} %{suffix}"
        case "bytes":
            return _prefixed(value, 1024, (" B", " KiB", " MiB", " GiB", " TiB", " PiB")) + suffix
        case "seconds":
            for least, factor, unit in ((86400, 86400, "d"), (3600, 3600, "h"), (60, 60, "min"), (1, 1, "s")):
                if abs(value) >= least:
                    return f"{_rounded(value / factor)} {unit}{suffix}"
            return f"{_rounded(value * 1000)} ms{suffix}" if value else f"0 s{suffix}"
        case _:
            return _prefixed(value, 1000, ("", " k", " M", " G", " T", " P")) + suffix


def percent(share: float | None) -> str:
    """Write a share of time. What is not all is never written as 100 %."""
    if share is None:
        return "-"
    if share == 1:
        return "100 %"
    return f"{min(math.floor(share * 10_000) / 100, 99.99):.2f} %"


def duration(length: timedelta) -> str:
    """Write how long something took, in its two largest units."""
    minutes = round(length / timedelta(minutes=1))
    days, rest = divmod(minutes, 1440)
    hours, rest = divmod(rest, 60)
    parts = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (rest, "min")) if count]
    return " ".join(parts[:2]) or "0 min"


def _scale(known: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and highest value of a chart: round ones, and 0 where that is not far."""
    low, high = min(known, default=0.0), max(known, default=1.0)
    if (low >= 0 and low < 0.7 * high) or low == high:
        low = min(low, 0.0)
    if low == high:
        high = low + 1
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    step = next(step * n for n in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if 2 * step * n >= (high - low) * 0.999)
    low = math.floor(low / step) * step
    return low, low + 2 * step if low + 2 * step >= high else low + 4 * step


def _place(index: int, value: float, count: int, low: float, high: float) -> str:
    x = (index + 0.5) * _WIDTH / count
    y = _HEIGHT - (value - low) / (high - low) * _HEIGHT
    return f"{x:.1f} {y:.1f}"


def _runs(values: Sequence[float | None]) -> list[list[int]]:
    """Return the intervals that have values, those beside each other together."""
    runs: list[list[int]] = []
    for index, value in enumerate(values):
        if value is not None:
            if runs and runs[-1][-1] == index - 1:
                runs[-1].append(index)
            else:
                runs.append([index])
    return runs


def _path(values: Sequence[float | None], low: float, high: float) -> str:
    path = ""
    for run in _runs(values):
        places = [_place(index, values[index] or 0.0, len(values), low, high) for index in run]
        path += f"M{places[0]}" + ("h0" if len(places) == 1 else "L" + " ".join(places[1:]))
    return path


def _area(values: Sequence[float | None], low: float, high: float) -> str:
    path = ""
    for run in _runs(values):
        places = [_place(index, values[index] or 0.0, len(values), low, high) for index in run]
        first, last = (_place(index, low, len(values), low, high) for index in (run[0], run[-1]))
        path += f"M{first}L{' '.join(places)} {last}Z"
    return path


def _figures(line: DrawnLine, shown: Callable[[float], str]) -> Figures:
    known = [value for value in line.values if value is not None]
    if not known:
        return Figures(line.name, "-", "-", "-", "-")
    mean = sum(value / len(known) for value in known)
    return Figures(line.name, shown(min(known)), shown(mean), shown(max(known)), shown(known[-1]))


def _times(span: Span) -> list[tuple[str, str]]:
    moments: list[datetime] = [span.start + (span.end - span.start) * n / 2 for n in range(3)]
    form = "%d %b %H:%M" if span.days <= 2 else "%d %b"
    return [(moment.isoformat(timespec="minutes"), moment.strftime(form).lstrip("0")) for moment in moments]


def _rounded(value: float) -> str:
    """Write three digits, or as many as a whole number has."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text if "e" not in text else f"{value:.1e}"


def _prefixed(value: float, step: int, prefixes: Sequence[str]) -> str:
    power = 0
    while abs(value) >= step * 0.9995 and power < len(prefixes) - 1:
        value /= step
        power += 1
    return _rounded(value) + prefixes[power]
