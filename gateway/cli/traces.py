"""``obs-hub traces``: the recent traces, and one of them as a waterfall."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta
from typing import Any

import click

from gateway.base.instants import SECOND
from gateway.cli import empty_results
from gateway.cli.drawing.screen import Screen, ended_by_its_reader
from gateway.cli.drawing.waterfall import trace_list, waterfall
from gateway.cli.exploring import Places, color_option, loki_options, nanoseconds, store_options, time_options
from gateway.query.logs.merging import latest
from gateway.query.logs.records import LogFilter, LogRecord
from gateway.query.store import Store
from gateway.query.traces.spans import MOST_SPANS, Span, TraceSummary, recent_traces, spans_of, trace_ids
from gateway.query.values import as_json

_MOST_LOGS = 2_000
# Logs of a trace may be a little off its spans, made before the first or by another clock.
_AROUND = 300 * SECOND


@click.command()
@click.argument("trace_id", required=False)
@click.option("-s", "--service", "services", multiple=True, help="List traces with a span of this service. Repeatable.")
@time_options("1h")
@click.option(
    "--min-duration",
    "shortest",
    metavar="DURATION",
    callback=nanoseconds,
    help="List traces at least this long: 500ms.",
)
@click.option("--errors", "errors_only", is_flag=True, help="List traces with an error.")
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="List at most this many.")
@click.option("--logs", "with_logs", is_flag=True, help="Show the logs of the trace among its spans.")
@click.option("--show-attributes", is_flag=True, help="Show the attributes of its spans.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text",
    help="For people (the default), or as JSON: an object a line for the list, one object for a trace.",
)  # fmt: skip
@color_option
@loki_options
@store_options
def traces(
    trace_id: str | None,
    since: datetime | None,
    until: datetime | None,
    with_logs: bool,
    show_attributes: bool,
    output: str,
    color: str,
    **options: Any,
) -> None:
    """List the recent traces, newest first, or show TRACE_ID as a waterfall.

    The first digits of a trace id are enough, as long as no other trace has them.

    \b
    obs-hub traces --since 15m --errors
    obs-hub traces --service checkout --min-duration 500ms
    obs-hub traces 4bf92f35               its spans, when each ran, events, what is wrong
    obs-hub traces 4bf92f35 --logs        with what was logged meanwhile
    """
    places = Places.taken_from(options)
    screen = Screen(color)
    with ended_by_its_reader(), places.store() as store:
        if trace_id is None:
            start = since or datetime.now().astimezone() - timedelta(hours=1)
            found = recent_traces(store, start, until, **options)
            if not found:
                empty_results.show(
                    empty_results.about_traces(store, options["services"], start, until, places.data_dir)
                )
                return
            for line in map(_as_line, found) if output == "json" else trace_list(found, screen):
                screen.line(line)
            return
        trace_id = _whole_id(store, trace_id)
        spans = spans_of(store, trace_id)
        try:
            logs = _logs(places, trace_id, spans) if with_logs else []
            without: click.ClickException | None = None
        except click.ClickException as error:
            logs, without = [], error
        if len(spans) > MOST_SPANS:
            click.echo(f"(the first {MOST_SPANS:,} spans of a longer trace)", err=True)
            spans = spans[:MOST_SPANS]
        if output == "json":
            whole: dict[str, Any] = {"trace_id": trace_id, "spans": [span.as_json() for span in spans]}
            if with_logs and not without:
                whole["logs"] = [record.as_json() for record in logs]
            screen.line(as_json(whole))
        else:
            for line in waterfall(trace_id, spans, logs, screen, show_attributes):
                screen.line(line)
        if without:
            raise click.ClickException(f"these are the spans alone, for their logs cannot be read: {without.message}")


def _as_line(trace: TraceSummary) -> str:
    return as_json(trace.as_json())


def _whole_id(store: Store, text: str) -> str:
    prefix = text.lower()
    if not re.fullmatch("[0-9a-f]{1,32}", prefix):
        raise click.BadParameter(f"{text!r}: a trace id is up to 32 hexadecimal digits", param_hint="TRACE_ID")
    found = trace_ids(store, prefix, 6)
    if not found:
        raise click.ClickException(f"the store has no trace {prefix}; `obs-hub traces` lists the recent ones")
    if len(found) > 1:
        some = "".join(f"\n  {trace_id}" for trace_id in found[:5])
        raise click.ClickException(f"more than one trace begins with {prefix}; give more digits:{some}")
    return found[0]


def _logs(places: Places, trace_id: str, spans: list[Span]) -> list[LogRecord]:
    start = min(span.start for span in spans) - _AROUND
    end = min(max(span.end or span.start for span in spans) + _AROUND, time.time_ns() + _AROUND)
    with places.logs() as sources:
        return latest(sources, LogFilter(trace_id=trace_id), max(start, 0), end, _MOST_LOGS)
