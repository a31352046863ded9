"""Recent traces, and one as a waterfall: what called what, when each span ran, and what went wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from gateway.base.instants import from_unix_nano, short_duration
from gateway.base.settings import parse_duration
from gateway.extensions.api.page.shown import Moment, ago, around, chosen, colours, exact, minute_of, pairs, trace_link
from gateway.extensions.api.page.view import Asked, Reader, View, link
from gateway.query import resources
from gateway.query.errors import BadQueryError
from gateway.query.store import Store
from gateway.query.traces.spans import MOST_SPANS, Span, TraceSummary, logs_of_spans, newest_traces, spans_of
from gateway.query.traces.tree import DEEPEST, Node, tree

MOST = 100
SHOWN_SPANS = 300
"""Spans of a trace on one page."""
_AHEAD = timedelta(days=1)
_LOOK_BACK = timedelta(days=400)
_AROUND = timedelta(minutes=5)
"""Logs of a trace may be a little off its spans, made before the first or by another clock."""
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_WIDTH = 1000
_HEIGHT = 160


@dataclass(frozen=True, slots=True)
class Row:
    """A trace in the list. ``share`` is its duration in thousandths of the longest that is shown."""

    url: str
    at: Moment
    name: str
    service: str
    others: list[str]
    duration: str
    share: int
    spans: int
    errors: int


@dataclass(frozen=True, slots=True)
class Dot:
    """A trace in the chart above the list: when, in per cent of the width, and how long, on a logarithmic scale of
    `_HEIGHT` pixels."""

    x: float
    y: float
    said: str
    failed: bool
    url: str


def read_list(reader: Reader, asked: Asked) -> Mapping[str, object]:
    """Return the newest traces that are wanted."""
    store = Store.of(reader.reading)
    services = asked.all("service")
    shortest, errors_only = asked.text("longer"), asked.text("errors") == "1"
    least = _nanoseconds(shortest) if shortest else None
    ahead = _AHEAD if asked.range.name is not None else timedelta(0)
    found, reached = newest_traces(store, asked.range.start, asked.range.end, MOST, ahead, services, least, errors_only)
    older = exact(from_unix_nano(found[-1].start)) if len(found) == MOST else reached and exact(reached)
    longest = max((trace.duration for trace in found), default=1) or 1
    return {
        "rows": [_row(trace, longest) for trace in found],
        "dots": _dots(found, asked),
        "height": _HEIGHT,
        "longest": short_duration(longest),
        "shortest": short_duration(min((trace.duration for trace in found), default=0)),
        "reached": reached,
        "older": older and asked.url(from_=exact(asked.range.start), to=older),
        "newest": None if found else _newest(store, asked),
        "is_narrowed": bool(services or shortest or errors_only),
        "services": chosen(resources.services(store), services),
        "longer": shortest,
        "errors_only": errors_only,
        "most": MOST,
        "endpoints": reader.hub.endpoints(),
    }


def _nanoseconds(text: str) -> int:
    try:
        return parse_duration(text) // timedelta(microseconds=1) * 1000
    except ValueError as error:
        raise BadQueryError(f"longer={text[:40]!r}: {error}") from error


def _row(trace: TraceSummary, longest: int) -> Row:
    return Row(
        url=link(f"/traces/{trace.trace_id}"),
        at=Moment.of(trace.start),
        name=trace.name,
        service=trace.service_name or "-",
        others=[service for service in trace.services if service != trace.service_name],
        duration=short_duration(trace.duration),
        share=max(round(trace.duration / longest * 1000), 4),
        spans=trace.spans,
        errors=trace.errors,
    )


def _dots(found: Sequence[TraceSummary], asked: Asked) -> list[Dot]:
    if len(found) < 2:
        return []
    first, last = min(trace.start for trace in found), max(trace.start for trace in found)
    logs = [math.log10(max(trace.duration, 1000)) for trace in found]
    low, high = min(logs), max(logs)
    return [
        Dot(
            x=round(1 + (trace.start - first) / max(last - first, 1) * 98, 2),
            y=round(_HEIGHT - 12 - (value - low) / max(high - low, 0.1) * (_HEIGHT - 24), 1),
            said=f"{short_duration(trace.duration)}, {trace.name}",
            failed=bool(trace.errors),
            url=link(f"/traces/{trace.trace_id}"),
        )
        for trace, value in zip(found, logs, strict=True)
    ]


def _newest(store: Store, asked: Asked) -> tuple[str, str] | None:
    found, _ = newest_traces(store, asked.now - _LOOK_BACK, asked.now, 1, _AHEAD)
    if not found:
        return None
    at = found[0].start
    hour = around(at, timedelta(minutes=30), timedelta(minutes=30))
    return ago(from_unix_nano(at), asked.now), link("/traces", **hour)


@dataclass(frozen=True, slots=True)
class Bar:
    """A span in the waterfall. ``x`` and ``width`` are thousandths of the trace; ``level`` is how deep it is drawn."""

    id: str
    name: str
    service: str
    colour: int
    kind: str
    failed: bool
    message: str
    level: int
    depth: int
    x: float
    width: float
    after: str
    duration: str
    notes: list[str]
    attributes: list[tuple[str, str]]
    events: list[tuple[str, str, list[tuple[str, str]]]]
    """When after the span's start, its name and its attributes."""
    links: list[tuple[str, str]]
    """The id of a trace, and its URL."""
    logs: str
    log_count: int
    host: str
    nearby: str
    """The URL of what its host logged while it ran."""
    opened: bool


def read_one(reader: Reader, asked: Asked) -> Mapping[str, object]:
    """Return one trace."""
    trace_id = asked.path["trace_id"].lower()
    if not _TRACE_ID.fullmatch(trace_id):
        raise BadQueryError(f"{trace_id[:40]!r} is no id of a trace, which has 32 hexadecimal digits")
    store = Store.of(reader.reading)
    spans = spans_of(store, trace_id)
    if not spans:
        return {"trace_id": trace_id, "bars": [], "found": False}
    nodes = list(tree(spans[:MOST_SPANS]))
    start = min(span.start for span in spans)
    end = max(span.start + (span.duration or 0) for span in spans)
    its_colours = colours(node.span.service_name or "-" for node in nodes)
    counts = logs_of_spans(store, trace_id)
    selected = asked.text("span").lower()
    first = _page(asked, nodes, selected)
    shown = nodes[first : first + SHOWN_SPANS]
    times = around(start, _AROUND, _AROUND + timedelta(microseconds=(end - start) // 1000))
    root = nodes[0].span
    return {
        "found": True,
        "trace_id": trace_id,
        "name": root.name,
        "service": root.service_name or "-",
        "at": Moment.of(start),
        "duration": short_duration(end - start),
        "count": len(nodes),
        "is_cut": len(spans) > MOST_SPANS,
        "errors": sum(span.status == "error" for span in spans),
        "services": [(service, colour) for service, colour in its_colours.items()],
        "bars": [_bar(node, start, end, its_colours, trace_id, times, counts, selected) for node in shown],
        "ticks": ["0", *(short_duration((end - start) * part / 4) for part in range(1, 5))],
        "before": asked.url(skip=str(max(first - SHOWN_SPANS, 0)), span=None) if first else None,
        "after": asked.url(skip=str(first + SHOWN_SPANS), span=None) if first + SHOWN_SPANS < len(nodes) else None,
        "logs": link("/logs", trace=trace_id, **times),
        "log_count": sum(counts.values()),
        "minute": link("/logs", host=root.host_name, **minute_of(start)),
    }


def _page(asked: Asked, nodes: Sequence[Node], selected: str) -> int:
    """Return which span is shown first: those of the page that has the selected one."""
    text = asked.text("skip", "0")
    if not text.isascii() or not text.isdigit():
        raise BadQueryError(f"skip={text[:40]!r} is no number")
    if selected:
        at = next((number for number, node in enumerate(nodes) if node.span.span_id == selected), 0)
        return at // SHOWN_SPANS * SHOWN_SPANS
    return min(int(text[:9]), max(len(nodes) - 1, 0))


def _bar(
    node: Node,
    start: int,
    end: int,
    its_colours: Mapping[str, int],
    trace_id: str,
    times: Mapping[str, str],
    counts: Mapping[str, int],
    selected: str,
) -> Bar:
    span = node.span
    total = max(end - start, 1)
    width = max((span.duration or 0) / total * _WIDTH, 2)
    return Bar(
        id=span.span_id,
        name=span.name,
        service=span.service_name or "-",
        colour=its_colours[span.service_name or "-"],
        kind="" if span.kind in ("unspecified", "internal") else span.kind,
        failed=span.status == "error",
        message=span.status_message or "",
        level=min(node.depth, DEEPEST),
        depth=node.depth,
        x=round(min((span.start - start) / total * _WIDTH, _WIDTH - width), 2),
        width=round(width, 2),
        after=short_duration(span.start - start),
        duration="?" if span.duration is None else short_duration(span.duration),
        notes=node.notes,
        attributes=pairs(span.attributes),
        events=[_event(event, span) for event in span.events],
        links=_links(span),
        logs=link("/logs", trace=trace_id, span=span.span_id, **times),
        log_count=counts.get(span.span_id, 0),
        host=span.host_name or "",
        nearby=link("/logs", host=span.host_name, service=span.service_name, **_while(span)),
        opened=span.span_id == selected,
    )


def _links(span: Span) -> list[tuple[str, str]]:
    linked = ((str(each.get("trace_id") or ""), each.get("span_id")) for each in span.links)
    return [(trace_id, trace_link(trace_id, its) or "") for trace_id, its in linked if trace_id]


def _while(span: Span) -> dict[str, str]:
    after = timedelta(microseconds=(span.duration or 0) // 1000) + timedelta(seconds=1)
    return around(span.start, timedelta(seconds=1), after)


def _event(event: Mapping[str, object], span: Span) -> tuple[str, str, list[tuple[str, str]]]:
    at = event.get("time_unix_nano")
    after = short_duration((at if isinstance(at, int) else span.start) - span.start)
    attributes = event.get("attributes")
    return after, str(event.get("name") or ""), pairs(attributes) if isinstance(attributes, Mapping) else []


LIST = View(path="/traces", name="Traces", template="live/traces.html", read=read_list, every=10)
ONE = View(
    path="/traces/{trace_id:str}", template="live/trace.html", read=read_one, under="/traces", default_range="30d"
)
