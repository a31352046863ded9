"""A trace as a waterfall: its spans as a tree, and beside each a bar for when it ran."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.base.instants import local_time, short_duration
from gateway.cli.drawing.log_lines import log_line, pairs
from gateway.cli.drawing.screen import Screen, fitted, safe, width_of
from gateway.query.logs.records import LogRecord
from gateway.query.traces.spans import Span, TraceSummary
from gateway.query.traces.tree import DEEPEST, Node, tree

_DURATION_WIDTH = 9
_LEAST_BAR = 12
_COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green", "bright_magenta")


def waterfall(
    trace_id: str, spans: Sequence[Span], logs: Sequence[LogRecord], screen: Screen, attributes: bool = False
) -> Iterator[str]:
    """Yield the lines of a trace that has at least one span, fitted to the screen's width."""
    nodes = list(tree(spans))
    start = min(span.start for span in spans)
    end = max(span.start + (span.duration or 0) for span in spans)
    services = list(dict.fromkeys(span.service_name or "-" for span in spans))
    colours = {service: _COLOURS[n % len(_COLOURS)] for n, service in enumerate(services)}
    labels = [_label(node) for node in nodes]
    label_width = min(max(map(width_of, labels)), screen.width * 11 // 20)
    bar_width = max(screen.width - label_width - _DURATION_WIDTH - 2, _LEAST_BAR)
    of_span = defaultdict(list)
    for record in logs:
        of_span[record.span_id].append(record)

    errors = sum(span.status == "error" for span in spans)
    yield screen.paint(f"Trace {trace_id}", bold=True)
    yield (
        f"{local_time(start)}, {short_duration(end - start)}, {_count(len(spans), 'span')} of "
        f"{', '.join(screen.paint(safe(service), fg=colours[service]) for service in services)}"
        + (screen.paint(f", {_count(errors, 'error')}", fg="red") if errors else "")
    )
    for node, label in zip(nodes, labels, strict=True):
        span = node.span
        failed = span.status == "error"
        duration = "?" if span.duration is None else short_duration(span.duration)
        bar = _bar(span.start - start, span.duration or 0, end - start, bar_width)
        yield (
            f"{screen.paint(fitted(label, label_width), **({'fg': 'red'} if failed else {}))} "
            f"{duration:>{_DURATION_WIDTH}} "
            f"{screen.paint(bar, fg='red' if failed else colours[span.service_name or '-'])}"
        )
        # The first span of an id has its logs: they cannot be told apart.
        for line in _details(node, of_span.pop(span.span_id, []), screen, attributes):
            yield _cut(f"{_guide(node)}   {line}", screen)
    rest = sorted((record for records in of_span.values() for record in records), key=lambda r: r.time_unix_nano)
    if rest:
        yield "Logs of no span above:"
        yield from (f"  {log_line(record, screen)}" for record in rest)


def _guide(node: Node, levels: int = DEEPEST) -> str:
    """Return the lines that go on below a span."""
    return "".join("   " if last else "│  " for last in node.lasts[:levels])


def _branch(node: Node) -> str:
    """Return what leads to a span."""
    if node.depth == 0:
        return ""
    if node.depth > DEEPEST:
        return f"{_guide(node)}({node.depth}) "
    return _guide(node, node.depth - 1) + ("└─ " if node.lasts[-1] else "├─ ")


def _label(node: Node) -> str:
    span = node.span
    kind = "" if span.kind in ("unspecified", "internal") else f" ({span.kind})"
    mark = {"error": " ✗", "ok": " ✓"}.get(span.status, "")
    return f"{_branch(node)}{safe(span.service_name or '-')}: {safe(span.name)}{safe(kind)}{mark}"


def _bar(offset: int, length: int, total: int, width: int) -> str:
    """Return a bar, at least one cell long."""
    if not total:
        return "█" * width
    first = min(offset * width // total, width - 1)
    last = -(-(offset + length) * width // total)
    return " " * first + "█" * max(last - first, 1)


def _details(node: Node, logs: Sequence[LogRecord], screen: Screen, attributes: bool) -> Iterator[str]:
    span = node.span
    for note in node.notes:
        yield screen.paint(f"⚠ {safe(note)}", fg="yellow")
    if span.status_message:
        yield screen.paint(f"✗ {safe(span.status_message)}", fg="red")
    if attributes and span.attributes:
        yield screen.paint(pairs(span.attributes), dim=True)
    for link in span.links:
        yield f"→ linked to span {safe(str(link.get('span_id')))} of trace {safe(str(link.get('trace_id')))}"
    happened = [
        (int(event.get("time_unix_nano") or 0), _event(event, span, screen, attributes)) for event in span.events
    ]
    happened += [(record.time_unix_nano, f"» {log_line(record, screen)}") for record in logs]
    for _, text in sorted(happened, key=lambda pair: pair[0]):
        yield from text.split("\n")


def _event(event: Mapping[str, Any], span: Span, screen: Screen, attributes: bool) -> str:
    shown = {
        key: value
        for key, value in (event.get("attributes") or {}).items()
        if attributes or key != "exception.stacktrace"  # longer than the trace
    }
    after = short_duration(int(event.get("time_unix_nano") or 0) - span.start)
    return f"• +{after} {safe(str(event.get('name')))} {screen.paint(pairs(shown), dim=True)}".rstrip()


def _cut(line: str, screen: Screen) -> str:
    """Return a line as one of a terminal. A colour that is cut off before its end would not end."""
    return line if not screen.is_terminal or "\x1b" in line else fitted(line, screen.width).rstrip()


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def trace_list(traces: Sequence[TraceSummary], screen: Screen) -> Iterator[str]:
    """Yield a header and a line for each trace."""
    yield screen.paint(f"{'START':<23} {'DURATION':>9} {'SPANS':>6} {'ERRORS':>6} {'TRACE':<32} ROOT", bold=True)
    for trace in traces:
        others = [safe(service) for service in trace.services if service != trace.service_name]
        root = f"{safe(trace.service_name or '-')}: {safe(trace.name)}"
        errors = screen.paint(f"{trace.errors:>6}", **({"fg": "red", "bold": True} if trace.errors else {"dim": True}))
        yield (
            f"{local_time(trace.start)} {short_duration(trace.duration):>9} {trace.spans:>6} {errors} {trace.trace_id} "
            + root
            + screen.paint(f" → {', '.join(others)}" if others else "", dim=True)
        )
