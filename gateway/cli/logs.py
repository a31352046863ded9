"""``obs-hub logs``: log records and events at a terminal, from the store and Loki alike."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from gateway.base.instants import unix_nano
from gateway.cli import empty_results
from gateway.cli.drawing.log_lines import log_line
from gateway.cli.drawing.screen import Screen, ended_by_its_reader
from gateway.cli.exploring import (
    Places,
    color_option,
    loki_options,
    nanoseconds,
    pairs,
    store_options,
    time_options,
)
from gateway.cli.severity import SEVERITY
from gateway.query.logs.merging import Follower, latest, merged
from gateway.query.logs.records import LogFilter, LogRecord, LogSource, TemporarySourceError
from gateway.query.values import as_json

_PAUSE = 1.0
"""Seconds between two looks for what came in."""

_Show = Callable[[Iterable[LogRecord]], int]

_ALL = -1


def _limit(_context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Read how many are wanted; ``all`` is `_ALL`."""
    if text is None:
        return None
    if text.lower() == "all":
        return _ALL
    if not (text.isascii() and text.isdigit()):
        raise click.BadParameter(f"{text!r} is neither a number nor all", param=option)
    return int(text)


@click.command()
@click.option("-s", "--service", "services", multiple=True, help="Only of this service.name. May be repeated.")
@click.option("--host", "hosts", multiple=True, help="Only of this host.name. May be repeated.")
@time_options("1h; with --trace, 7d")
@click.option("--severity", type=SEVERITY, help="Only of this severity and above.")
@click.option("-g", "--grep", metavar="REGEX", help="Only with a body that this regular expression is found in.")
@click.option("-i", "--ignore-case", is_flag=True, help="Let --grep take capital and small letters alike.")
@click.option("-e", "--event", "events", multiple=True, metavar="NAME", help="Only events named so. May be repeated.")
@click.option("--events", "events_only", is_flag=True, help="Only events.")
@click.option("--trace", "trace_id", metavar="TRACE_ID", help="Only of this trace.")
@click.option(
    "-a", "--attribute", "attributes", multiple=True, metavar="KEY=VALUE", callback=pairs,
    help="Only with this attribute, of the record or its resource. May be repeated; all must hold.",
)  # fmt: skip
@click.option(
    "-n", "--limit", metavar="N|all", callback=_limit,
    help="The newest this many, or all; 0 is all too, but none with --follow. Default: 200; with --follow and no "
    "--since, 10.",
)  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes in, until Ctrl-C.")
@click.option(
    "--late", default="1m", show_default=True, metavar="DURATION", callback=nanoseconds,
    help="With --follow: how late a record may come in and still be shown.",
)  # fmt: skip
@click.option(
    "--source", type=click.Choice(["all", "store", "loki"]), default="all",
    help="Where to read. Default: all, the store and Loki where one is known; what both have is shown once.",
)  # fmt: skip
@click.option("--show-attributes", is_flag=True, help="Show the attributes of each record, as of events always.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text",
    help="Lines for people (the default), or one JSON object a line.",
)  # fmt: skip
@color_option
@loki_options
@store_options
def logs(
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    follow: bool,
    late: int,
    show_attributes: bool,
    output: str,
    color: str,
    **options: Any,
) -> None:
    """Show log records and events, oldest first, in local time.

    They are read from the store, and from Loki where one is configured or named by --loki. Control characters in them
    are spelled out, so that no record can do anything to the terminal.

    \b
    obs-hub logs --since 15m                            the newest 200 of the last 15 minutes
    obs-hub logs -f --service backup --host nas         go on with what comes in
    obs-hub logs --severity warn --grep 'time(d )?out' -i
    obs-hub logs --event order.placed -a customer=42    events, with their attributes
    obs-hub logs --trace 4bf92f3577b34da6a3ce929d0e0e4736
    obs-hub logs --since 1d --limit all -o json | jq .body
    """
    places = Places.taken_from(options)
    options["trace_id"] = _trace_id(options["trace_id"])
    wanted = LogFilter(**options)
    if follow and until is not None:
        raise click.UsageError("--follow goes on for ever; leave --until out")
    if limit is None:
        limit = 10 if follow and since is None else 200
    now = datetime.now().astimezone()
    start = unix_nano(since or now - (timedelta(days=7) if wanted.trace_id else timedelta(hours=1)))
    end = unix_nano(until or now + timedelta(days=1))  # some clocks are ahead
    if start >= end:
        raise click.UsageError("--since is not before --until")
    screen = Screen(color)

    def show(records: Iterable[LogRecord]) -> int:
        shown = 0
        for record in records:
            shown += 1
            screen.line(as_json(record.as_json()) if output == "json" else log_line(record, screen, show_attributes))
        return shown

    with ended_by_its_reader(), places.logs() as sources:
        if follow:
            _follow(sources, wanted, start, limit, late, screen, show)
        if limit in (0, _ALL):
            limit = _ALL
            records: Iterable[LogRecord] = merged([source.between(wanted, start, end) for source in sources])
        else:
            records = latest(sources, wanted, start, end, limit)
        if not (shown := show(records)):
            empty_results.show(empty_results.about_logs(sources, wanted, start, end, places.data_dir))
    if shown == limit and screen.is_terminal:
        click.echo(f"(the newest {limit}; --limit all shows all)", err=True)


def _follow(
    sources: Sequence[LogSource], wanted: LogFilter, start: int, limit: int, late: int, screen: Screen, show: _Show
) -> None:
    """Show the newest records, and go on with what comes in, for ever."""
    follower = Follower(sources, wanted, late)

    def failed(error: TemporarySourceError) -> None:
        raise error

    # What the follower finds first is what it will not find again, and the rest of the past ends where that begins.
    recent = [record for record in follower.poll(failed) if record.time_unix_nano >= start]
    if limit == _ALL:
        shown = show(merged([source.between(wanted, start, follower.since) for source in sources])) + show(recent)
    elif len(recent) >= limit:
        shown = show(recent[len(recent) - limit :])
    else:
        shown = show(latest(sources, wanted, start, follower.since, limit - len(recent))) + show(recent)
    if not shown and screen.is_terminal:
        click.echo("(nothing yet; what comes in is shown here, until Ctrl-C)", err=True)
    away: set[str] = set()
    while True:
        screen.flush()
        time.sleep(_PAUSE)
        troubles: list[TemporarySourceError] = []
        show(record for record in follower.poll(troubles.append) if record.time_unix_nano >= start)
        for error in troubles:
            if str(error) not in away:
                click.echo(f"{error}; trying again", err=True)
        away = {str(error) for error in troubles}


def _trace_id(text: str | None) -> str | None:
    if text is None or re.fullmatch("[0-9a-fA-F]{32}", text):
        return text and text.lower()
    raise click.BadParameter(f"{text!r} is no trace id, which has 32 hexadecimal digits", param_hint="--trace")
