"""How the hub is: what runs and what waits, and what it has told about itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.extensions.api.page.shown import COLOURS, length_of
from gateway.extensions.api.page.view import Asked, Reader, View
from gateway.query.errors import QueryError
from gateway.query.metrics.catalogue import Metric, Series, series_of
from gateway.query.metrics.lines import Line, Window, filled, read_lines
from gateway.query.metrics.units import Unit
from gateway.query.store import Store

_INTERVALS = 60
_WIDTH, _HEIGHT = 600, 80
_MOST_LINES = 6


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that the hub tells: a metric of its own, added up by an attribute."""

    title: str
    metric: str
    by: tuple[str, ...]
    rate: bool = False
    note: str = ""
    quiet: str = "none"
    """What is said where there are no values."""


_TOLD = (
    Told("Records acknowledged", "obs_hub.records.accepted", ("signal",), rate=True),
    Told("Commits took", "obs_hub.commit.duration", ("exporter",), note="half, 95 % and 99 % of them at most"),
    Told("Records refused", "obs_hub.records.refused", ("reason",), rate=True, note="by reason"),
    Told("Requests refused", "obs_hub.requests.refused", ("reason",), rate=True, note="as a whole, by reason"),
    Told("Waiting in spools", "obs_hub.spool.size", ("exporter",)),
    Told("Dead letters", "obs_hub.dead_letters.count", ("exporter",)),
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A line: what it is called, its last value, and its path in a box of 600 by 80."""

    label: str
    last: str
    path: str
    colour: int


@dataclass(frozen=True, slots=True)
class Card:
    """A chart of one thing."""

    title: str
    metric: str
    note: str
    quiet: str
    lines: list[Drawn]


def read(reader: Reader, asked: Asked) -> Mapping[str, object]:
    """Return how the hub is. It is asked, not the store: that is true when the store is away as well.

    What the hub has told about itself is in the store, where there is one that can be read.
    """
    cards: list[Card] = []
    trouble = ""
    if reader.hub.dsn is not None:
        try:
            cards = _cards(Store.of(reader.reading), asked)
        except QueryError as error:
            trouble = str(error)
    status = reader.status()
    return {
        "status": status,
        "up_for": length_of(status.uptime_seconds),
        "cards": cards,
        "trouble": trouble,
        "tells": any(card.lines for card in cards),
    }


def _cards(store: Store, asked: Asked) -> list[Card]:
    window = Window(asked.range.start, asked.range.end, _INTERVALS)
    return [Card(told.title, told.metric, told.note, told.quiet, _lines(store, told, window)) for told in _TOLD]


def _lines(store: Store, told: Told, window: Window) -> list[Drawn]:
    found: list[tuple[Metric, Sequence[Series]]] = list(series_of(store, told.metric))
    lines: list[Line] = []
    unit = ""
    for metric, series in found:
        lines += read_lines(store, metric, series, window, rate=told.rate, by=told.by)
        unit = metric.unit
    lines = [line for line in lines if line.known]
    if all(not any(line.known) for line in lines) and told.rate and told.metric != _TOLD[0].metric:
        return []  # nothing but zeros: nothing was refused
    lines = sorted(lines, key=lambda line: -(line.mean or 0))[:_MOST_LINES]
    # Those that are most, but each with the colour that it had when another one was.
    lines.sort(key=lambda line: tuple(line.labels.values()))
    shown = Unit(unit, [value for line in lines for value in line.known], per_second=told.rate)
    largest = max((value for line in lines for value in line.known), default=0.0)
    return [
        Drawn(
            label=" · ".join(value for value in line.labels.values() if value != "-") or told.title,
            last=shown.show(line.last),
            path=_path(filled(line.values), largest),
            colour=number % COLOURS + 1,
        )
        for number, line in enumerate(lines)
    ]


def _path(values: Sequence[float | None], largest: float) -> str:
    """Return values as an SVG path, with a stroke wherever there are several in a row."""
    pieces = []
    drawing = False
    for n, value in enumerate(values):
        if value is None or not math.isfinite(value):
            drawing = False
            continue
        x, y = n / (len(values) - 1) * _WIDTH, _HEIGHT - value / (largest or 1) * (_HEIGHT - 4) - 2
        pieces.append(f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}" + ("" if drawing else "h.1"))
        drawing = True
    return "".join(pieces)


VIEW = View(path="/health", name="Health", template="live/health.html", read=read, every=10)
