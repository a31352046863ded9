"""A host: what it does and how full it is, as live charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gateway.extensions.api.page.charts import ChartView, chart_view
from gateway.extensions.api.page.ranges import Range
from gateway.extensions.api.page.view import Asked, Reader, View, link
from gateway.query.charts.buckets import Window, read
from gateway.query.charts.lines import Chart, Line, Question, draw
from gateway.query.charts.selection import Found, find, first_seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One way in which a host may tell something: a metric, and the attribute that its lines are of."""

    metric: str
    by: tuple[str, ...] = ()
    only: tuple[tuple[str, str], ...] = ()
    without: tuple[tuple[str, str], ...] = ()
    most: float | None = None
    stacked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A chart of the view. The first of its ``readings`` that the host has is drawn.

    The hub's own host metrics come first, and then what the OpenTelemetry Collector and Alloy send by default.
    """

    title: str
    readings: tuple[Reading, ...]
    note: str = ""
    least: float | None = 0.0
    names: Mapping[str, str] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    """What its lines are called that come first: those that say most lie at the bottom of a pile."""


PANELS = (
    Panel(
        title="CPU",
        note="share of all cores",
        order=("user", "system", "iowait", "nice"),
        readings=(
            Reading(
                metric="system.cpu.utilization", by=("cpu.mode",), without=(("cpu.mode", "idle"),), most=1, stacked=True
            ),
            Reading(metric="system.cpu.utilization", by=("state",), without=(("state", "idle"),), most=1, stacked=True),
            Reading(metric="system.cpu.time", by=("cpu.mode",), without=(("cpu.mode", "idle"),), stacked=True),
            Reading(metric="system.cpu.time", by=("state",), without=(("state", "idle"),), stacked=True),
        ),
    ),
    Panel(
        title="Memory",
        note="share of what there is",
        order=("used", "cached", "buffers"),
        readings=(
            Reading(
                metric="system.memory.utilization",
                by=("system.memory.state",),
                without=(("system.memory.state", "free"),),
                most=1,
                stacked=True,
            ),
            Reading(
                metric="system.memory.utilization", by=("state",), without=(("state", "free"),), most=1, stacked=True
            ),
            Reading(metric="system.memory.usage", by=("state",), without=(("state", "free"),), stacked=True),
        ),
    ),
    Panel(
        title="Load",
        note="threads that run or wait, over 1 minute",
        readings=(Reading(metric="system.cpu.load_average.1m"),),
        names={"": "load"},
    ),
    Panel(
        title="Filesystems",
        note="how full",
        readings=(
            Reading(metric="system.filesystem.utilization", by=("system.filesystem.mountpoint",), most=1),
            Reading(metric="system.filesystem.utilization", by=("mountpoint",), most=1),
            Reading(metric="system.filesystem.usage", by=("mountpoint",), only=(("state", "used"),)),
        ),
    ),
    Panel(
        title="Network",
        note="all interfaces",
        readings=(
            Reading(metric="system.network.io", by=("network.io.direction",)),
            Reading(metric="system.network.io", by=("direction",)),
        ),
        names={"receive": "received", "transmit": "sent"},
    ),
    Panel(
        title="Disk",
        note="all disks",
        readings=(
            Reading(metric="system.disk.io", by=("disk.io.direction",)),
            Reading(metric="system.disk.io", by=("direction",)),
        ),
        names={"read": "read", "write": "written"},
    ),
    Panel(
        title="Temperatures",
        readings=(Reading(metric="hw.temperature", by=("hw.name",)), Reading(metric="hw.temperature", by=("hw.id",))),
        least=None,
    ),
)
METRICS = sorted({each.metric for panel in PANELS for each in panel.readings})


def read_host(reader: Reader, asked: Asked) -> Mapping[str, object]:
    """Return a host's charts, and whether it is known at all."""
    name = asked.path.get("name") or asked.text("name")
    found = find(reader.reading, METRICS, host=name)
    return {"host": name, "charts": host_charts(reader, name, asked.range, found), "known": bool(found)}


def host_charts(reader: Reader, name: str, during: Range, found: Found) -> list[ChartView]:
    """Return the charts of a host whose series of `METRICS` these are. All of them are of one reading of the store."""
    if not found:
        return []
    since = first_seen(found)
    window = Window.over(during.start.timestamp(), during.end.timestamp(), since)
    source, values = read(reader.reading, [one.id for several in found.values() for one in several], window)
    translation = reader.service.settings.translation
    charts: list[ChartView] = []
    for panel in PANELS:
        drawn, reading = _first(panel, name, lambda question: draw(question, found, values, source, window))
        if drawn is None or reading is None:
            continue
        drawn.lines.sort(key=lambda line: (_rank(panel, line), line.labels))
        charts.append(
            chart_view(
                drawn,
                during,
                translation,
                title=panel.title,
                note=panel.note,
                stacked=reading.stacked,
                least=panel.least,
                most=reading.most,
                names=panel.names,
                since=since,
                logs=link("/logs", host=name, **during.parameters),
                more=_more(drawn, name, during),
            )
        )
    return charts


def _first(
    panel: Panel, host: str, drawn_of: Callable[[Question], Chart | None]
) -> tuple[Chart | None, Reading | None]:
    for each in panel.readings:
        question = Question(metric=each.metric, host=host, by=each.by, only=each.only, without=each.without)
        chart = drawn_of(question)
        # An attribute that none of the series has tells that they are of the other kind.
        if chart is not None and (not each.by or any(any(line.labels) for line in chart.lines)):
            return chart, each
    return None, None


def _rank(panel: Panel, line: Line) -> int:
    name = line.labels[0] if line.labels else ""
    return panel.order.index(name) if name in panel.order else len(panel.order)


def _more(chart: Chart, host: str, during: Range) -> str:
    """Return the URL of the metric explorer with what a chart shows."""
    return link("/metrics", name=chart.metric.name, host=host, by=",".join(chart.question.by), **during.parameters)


VIEW = View(path="/hosts/{name:path}", template="live/host.html", read=read_host, under="/", every=10)
BY_QUERY = replace(VIEW, path="/hosts")
"""The same for names that cannot stand in a path: see `host_link`."""
