"""Metrics as charts, and as a catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from gateway.base.instants import SECOND, local_time, short_duration, unix_nano
from gateway.cli.drawing.charts import line_chart, sparkline
from gateway.cli.drawing.screen import Screen, fitted, safe, width_of
from gateway.query.metrics.catalogue import CatalogueRow, Metric
from gateway.query.metrics.lines import Line, Window, filled
from gateway.query.metrics.units import Unit

SPARKLINE_WIDTH = 40
_HEIGHT = 10
_LABELS_OF_CHART = 14
_FIGURE = 10


def chart_width(screen: Screen) -> int:
    """Return how many characters a chart may be wide."""
    return min(screen.width - _LABELS_OF_CHART, 160)


def charts(
    metric: Metric, lines: Sequence[Line], window: Window, screen: Screen, *, rate: bool, limit: int
) -> Iterator[str]:
    """Yield a chart of one line, or a sparkline of each of several, the largest `limit` of them."""
    common = _common(lines)
    what = f"{safe(metric.name)} ({safe(metric.type)}{', per second' if rate else ''}) {_labels(common)}"
    yield screen.paint(what.rstrip(), bold=True)
    every = short_duration(window.step * SECOND)
    yield f"{_minute(window.start)} to {_minute(window.end)}, {every} a step"
    if not any(line.known for line in lines):
        yield "no values in this time"
        return
    if len(lines) == 1:
        unit = Unit(safe(metric.unit), [lines[0].smallest, lines[0].largest], per_second=rate)
        if len(lines[0].known) == 1 and lines[0].smallest == lines[0].largest:
            yield f"{unit.show(lines[0].last)}, the only value, {_when(lines[0], window)}"
            return
        if len(lines[0].known) == 1:
            yield f"all values are in one step, {_when(lines[0], window)}; a shorter --since or --step draws them"
        else:
            for text in line_chart(filled(lines[0].values), _HEIGHT, unit.show):
                yield screen.paint(text, fg="cyan")
        yield "  ".join(f"{name} {unit.show(value)}" for name, value in _figures(lines[0]).items())
        return
    shown = sorted(lines, key=lambda line: abs(line.mean or 0), reverse=True)[:limit]
    kept = [line for line in lines if any(line is one for one in shown)]
    unit = Unit(safe(metric.unit), [value for line in kept for value in (line.smallest, line.largest)], per_second=rate)
    keys = [key for key in kept[0].labels if key not in common]
    if all(line.labels.keys() == kept[0].labels.keys() for line in kept):
        yield screen.paint(f"by {', '.join(map(safe, keys))}", dim=True)
        labels = [" ".join(safe(line.labels[key]) for key in keys) for line in kept]
    else:
        labels = [_labels({key: value for key, value in line.labels.items() if key not in common}) for line in kept]
    drawn = any(len(line.known) > 1 for line in kept)
    spark_width = SPARKLINE_WIDTH if drawn else 0
    label_width = min(max(map(width_of, labels)), max(screen.width - spark_width - 4 * (_FIGURE + 1) - 1, 20))
    names = "".join(f" {name:>{_FIGURE}}" for name in _figures(kept[0]))
    yield screen.paint(f"{'':{label_width}} {'':{spark_width}}{names}", dim=True)
    for line, label in zip(kept, labels, strict=True):
        numbers = "".join(f" {unit.show(value):>{_FIGURE}}" for value in _figures(line).values())
        flat = len({unit.show(value) for value in line.known}) == 1
        spark = screen.paint(sparkline(filled(line.values), flat=flat), fg="cyan") if drawn else ""
        yield f"{fitted(label, label_width)} {spark}{numbers}"
    yield from _left_out(kept, lines)


def _left_out(kept: Sequence[Line], lines: Sequence[Line]) -> Iterator[str]:
    if len(kept) < len(lines):
        yield f"(the largest {len(kept)} of {len(lines)}: --limit shows more, --where fewer, --by adds them up)"


def _when(line: Line, window: Window) -> str:
    """Say in which interval the only value of a line is."""
    at = next(n for n, value in enumerate(line.values) if value is not None)
    return f"of about {local_time(unix_nano(window.starts()[at]))[:-4]}"


def _figures(line: Line) -> dict[str, float | None]:
    return {"min": line.smallest, "avg": line.mean, "max": line.largest, "last": line.last}


def _common(lines: Sequence[Line]) -> dict[str, str]:
    """Return the labels that all lines have alike."""
    if not lines:
        return {}
    first, *others = (line.labels for line in lines)
    return {key: value for key, value in first.items() if all(labels.get(key) == value for labels in others)}


def _labels(labels: Mapping[str, str]) -> str:
    return " ".join(f"{safe(key)}={safe(value)}" for key, value in labels.items())


def _minute(instant: datetime) -> str:
    return local_time(unix_nano(instant))[:-4]


def metric_list(metrics: Sequence[CatalogueRow], screen: Screen) -> Iterator[str]:
    """Yield a header and a line for each metric of a catalogue."""
    heads = ("METRIC", "TYPE", "UNIT")
    whats = [tuple(map(safe, (row["name"], row["type"], row["unit"]))) for row in metrics]
    widths = [min(max(map(width_of, column)), 60) for column in zip(heads, *whats, strict=True)]
    head = " ".join(map(fitted, heads, widths))
    yield screen.paint(f"{head} {'SERIES':>7} {'SEEN':>10} ATTRIBUTES", bold=True)
    now = datetime.now(UTC)
    for row, what in zip(metrics, whats, strict=True):
        seen = row["last_seen"]
        ago = "-" if seen is None else f"{short_duration(max(round((now - seen).total_seconds()), 1) * SECOND)} ago"
        cells = " ".join(map(fitted, what, widths))
        yield f"{cells} {row['series']:>7} {ago:>10} {safe(', '.join(row['attributes']))}".rstrip()
