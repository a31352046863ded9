"""The log stream: what was logged, newest first, found by text, severity, host, service, trace and time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from gateway.base.instants import SECOND, from_unix_nano
from gateway.extensions.api.page.shown import Moment, ago, bounded, chosen, exact, minute_of, pairs, trace_link
from gateway.extensions.api.page.view import Asked, Reader, View, host_link, link
from gateway.query import resources
from gateway.query.errors import BadQueryError, QueryError
from gateway.query.logs.records import (
    SEVERITIES,
    LogFilter,
    LogRecord,
    LogSource,
    SourceError,
    literally,
    severity_range,
)
from gateway.query.logs.search import search
from gateway.query.logs.store import StoreLogs
from gateway.query.store import Store

MOST = 100
_AHEAD = timedelta(days=1)
"""How far clocks may be ahead that stamp what is logged, where the range goes up to now."""
_LOOK_BACK = timedelta(days=400)
_MINUTE = 60 * SECOND


@dataclass(frozen=True, slots=True)
class Line:
    """A record as it is shown. ``id`` is its own, and stays what it is while others come."""

    id: str
    at: Moment
    severity: str
    """One of `SEVERITIES`, or empty."""
    severity_text: str
    host: str
    service: str
    event: str
    body: str
    attributes: list[tuple[str, str]]
    resource: list[tuple[str, str]]
    trace: str | None
    minute: str
    """The URL of what the same host logged in that minute."""
    only: str
    """The URL of what the same service logged on the same host."""
    charts: str
    """The URL of its host."""
    source: str


def read(reader: Reader, asked: Asked) -> Mapping[str, object]:
    """Return the newest records that are wanted."""
    wanted = _filter(asked)
    store = Store.of(reader.reading)
    sources: list[LogSource] = [StoreLogs(store)]
    troubles = []
    try:
        if (loki := reader.service.loki) is not None:
            sources.append(loki)
    except SourceError as error:
        troubles.append(str(error))
    live = asked.range.name is not None
    ahead = _AHEAD if live else timedelta(0)
    found = search(sources, wanted, asked.range.start, asked.range.end, MOST, ahead)
    older = None
    if len(found.records) == MOST:
        older = exact(from_unix_nano(found.records[-1].time_unix_nano))
    elif found.reached is not None:
        older = exact(found.reached)
    return {
        "lines": lines_of(found.records),
        "troubles": troubles + found.troubles,
        "reached": found.reached,
        "older": older and asked.url(from_=exact(asked.range.start), to=older),
        "newest": None if found.records else _newest(sources, asked),
        "is_narrowed": wanted != LogFilter(),
        "severities": SEVERITIES,
        "hosts": chosen(resources.hosts(store), wanted.hosts),
        "services": chosen(resources.services(store), wanted.services),
        "wanted": wanted,
        "q": asked.text("q"),
        "most": MOST,
        "endpoints": reader.hub.endpoints(),
    }


def _filter(asked: Asked) -> LogFilter:
    severity = asked.text("severity").lower()
    if severity and severity not in SEVERITIES:
        raise BadQueryError(f"severity={severity[:40]!r} is none of {', '.join(SEVERITIES)}")
    text = asked.text("q")
    return LogFilter(
        services=tuple(asked.all("service")),
        hosts=tuple(asked.all("host")),
        severity=severity or None,
        grep=literally(text) if text else None,
        ignore_case=bool(text),
        events=tuple(asked.all("event")),
        trace_id=asked.text("trace").lower() or None,
        span_id=asked.text("span").lower() or None,
    )


def lines_of(records: list[LogRecord]) -> list[Line]:
    """Return records as they are shown."""
    alike: Counter[int] = Counter()
    lines = []
    for record in reversed(records):  # the oldest first, for whose number nothing can come in between
        at = record.time_unix_nano
        alike[at] += 1
        lines.append(
            Line(
                id=f"log-{at}-{alike[at]}",
                at=Moment.of(at),
                severity=severity_range(record.severity_number, record.severity) or "",
                severity_text=(record.severity or "")[:12],
                host=record.host_name or "",
                service=record.service_name or "",
                event=record.event_name or "",
                body=bounded(record.body),
                attributes=pairs(record.attributes),
                resource=pairs(record.resource),
                trace=trace_link(record.trace_id, record.span_id),
                minute=_minute(record.host_name, at // _MINUTE),
                only=_only(record.host_name, record.service_name),
                charts=_charts(record.host_name),
                source=record.source,
            )
        )
    return lines[::-1]


@lru_cache(1024)
def _minute(host: str | None, minute: int) -> str:
    return link("/logs", host=host, **minute_of(minute * _MINUTE))


@lru_cache(1024)
def _only(host: str | None, service: str | None) -> str:
    return link("/logs", host=host, service=service)


@lru_cache(1024)
def _charts(host: str | None) -> str:
    return host_link(host)


def _newest(sources: list[LogSource], asked: Asked) -> tuple[str, str] | None:
    """Return how old the newest record of all is, and where it is shown; None where there is none."""
    try:
        found = search(sources[:1], LogFilter(), asked.now - _LOOK_BACK, asked.now, 1, _AHEAD)
    except (QueryError, SourceError):
        return None
    if not found.records:
        return None
    at = found.records[0].time_unix_nano
    return ago(from_unix_nano(at), asked.now), link("/logs", **minute_of(at))


VIEW = View(path="/logs", name="Logs", template="live/logs.html", read=read, every=3)
