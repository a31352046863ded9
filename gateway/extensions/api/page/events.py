"""Events on a timeline, and what each says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from gateway.base.instants import from_unix_nano
from gateway.extensions.api.page.logs import MOST, Line, lines_of
from gateway.extensions.api.page.shown import ago, chosen, colours, exact, minute_of
from gateway.extensions.api.page.view import Asked, Reader, View, link
from gateway.query import resources
from gateway.query.logs.events import Timeline, timeline
from gateway.query.logs.records import LogFilter
from gateway.query.logs.search import search
from gateway.query.logs.store import StoreLogs
from gateway.query.store import Store

INTERVALS = 120
_LANES = 8
_AHEAD = timedelta(days=1)
_LOOK_BACK = timedelta(days=400)
_LANE_HEIGHT = 30
_LEAST_RADIUS, _LARGEST_RADIUS = 3.5, 11.0


@dataclass(frozen=True, slots=True)
class Mark:
    """So many events in one interval: where in the lane, in per cent of its width, and the URL of them."""

    x: float
    radius: float
    said: str
    url: str


@dataclass(frozen=True, slots=True)
class Lane:
    """The events of one name."""

    name: str
    colour: int
    total: int
    url: str
    marks: list[Mark]


def read(reader: Reader, asked: Asked) -> Mapping[str, object]:
    """Return when there were which events, and the newest of them."""
    store = Store.of(reader.reading)
    names = tuple(asked.all("name"))
    wanted = LogFilter(
        services=tuple(asked.all("service")), hosts=tuple(asked.all("host")), events_only=True, events=names
    )
    start, end = asked.range.start, asked.range.end
    live = asked.range.name is not None
    counted = timeline(store, wanted, start, end, INTERVALS)
    found = search([StoreLogs(store)], wanted, start, end, MOST, _AHEAD if live else timedelta(0))
    its_colours = colours(counted.counts)
    older = exact(from_unix_nano(found.records[-1].time_unix_nano)) if len(found.records) == MOST else None
    if older is None and found.reached is not None:
        older = exact(found.reached)
    return {
        "lanes": _lanes(counted, asked, its_colours),
        "more_lanes": max(len(counted.counts) - _LANES, 0),
        "counted_from": counted.reached,
        "lane_height": _LANE_HEIGHT,
        "ticks": _ticks(asked),
        "lines": _with_logs(lines_of(found.records)),
        "colours": its_colours,
        "older": older and asked.url(from_=exact(start), to=older),
        "reached": found.reached,
        "newest": None if found.records else _newest(store, asked),
        "is_narrowed": bool(wanted.services or wanted.hosts or names),
        "names": chosen(list(counted.counts), names),
        "hosts": chosen(resources.hosts(store), wanted.hosts),
        "services": chosen(resources.services(store), wanted.services),
        "most": MOST,
        "endpoints": reader.hub.endpoints(),
    }


def _lanes(counted: Timeline, asked: Asked, its_colours: Mapping[str, int]) -> list[Lane]:
    start, length = asked.range.start, (asked.range.end - asked.range.start) / INTERVALS
    largest = max((count for its in counted.counts.values() for count in its.values()), default=1)
    lanes = []
    for name, its in list(counted.counts.items())[:_LANES]:
        marks = []
        for n, count in sorted(its.items()):
            begins = start + n * length
            marks.append(
                Mark(
                    x=round((n + 0.5) / INTERVALS * 100, 2),
                    radius=round(_LEAST_RADIUS + (_LARGEST_RADIUS - _LEAST_RADIUS) * _part(count, largest), 1),
                    said=f"{count:,} event{'' if count == 1 else 's'}, {begins:%Y-%m-%d %H:%M} UTC",
                    url=asked.url(name=name, from_=exact(begins), to=exact(begins + length)),
                )
            )
        lanes.append(Lane(name, its_colours[name], sum(its.values()), asked.url(name=name), marks))
    return lanes


def _part(count: int, largest: int) -> float:
    """Return how large a mark is, from 0 to 1: its area is as the count."""
    return 0.0 if largest <= 1 else ((count - 1) / (largest - 1)) ** 0.5


def _ticks(asked: Asked) -> list[str]:
    start, end = asked.range.start, asked.range.end
    shown = "%H:%M" if end - start <= timedelta(days=2) else "%b %d"
    return [format(start + (end - start) * part / 4, shown) for part in range(5)]


def _with_logs(lines: list[Line]) -> list[Line]:
    """Return lines without the name of their event in front: it has a column of its own."""
    return [replace(line, id=f"event-{line.id}") for line in lines]


def _newest(store: Store, asked: Asked) -> tuple[str, str] | None:
    wanted = LogFilter(events_only=True)
    found = search([StoreLogs(store)], wanted, asked.now - _LOOK_BACK, asked.now, 1, _AHEAD)
    if not found.records:
        return None
    at = found.records[0].time_unix_nano
    return ago(from_unix_nano(at), asked.now), link("/events", **minute_of(at))


VIEW = View(path="/events", name="Events", template="live/events.html", read=read, every=10, default_range="24h")
