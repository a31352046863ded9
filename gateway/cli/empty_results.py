"""What is said when there is nothing to show: that there is nothing, how come, and what to do about it.

It goes to standard error, for programs may read standard output.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypedDict

import click

from gateway.base.instants import SECOND, local_time, short_duration, unix_nano
from gateway.cli.options import running_hub
from gateway.datadir import DataDirError
from gateway.query.logs.merging import latest
from gateway.query.logs.records import LogFilter, LogRecord, LogSource, SourceError
from gateway.query.metrics.catalogue import Metric, catalogue, metric_names
from gateway.query.store import Store
from gateway.query.values import text_of
from gateway.suggestions import near, suggestion
from gateway.terminal import safe

_LOOKED_AT = 500
"""How many log records are looked at for what a filter may have meant."""
_LOOK_BACK = 30 * 86_400 * SECOND
"""How far back the last record is looked for. Loki refuses to look much further in one query."""


def show(text: str) -> None:
    """Say something about what is not there."""
    click.echo(safe(text), err=True)


def about_logs(sources: Sequence[LogSource], wanted: LogFilter, start: int, end: int, data_dir: Path | None) -> str:
    """Say why no log record from `start` to `end` (nanoseconds since the Unix epoch) is wanted."""
    try:
        present = latest(sources, LogFilter(), start, end, _LOOKED_AT)
        if present:
            return f"Nothing to show: none of the log records {_between(start, end)} matches{_meant(wanted, present)}."
        before = latest(sources, LogFilter(), max(start - _LOOK_BACK, 0), start, 1)
    except SourceError:  # it was read a moment ago, and may have bounds of its own for how far one looks back
        return f"Nothing to show: there are no log records {_between(start, end)}."
    if before:
        return f"Nothing to show: there are no log records {_between(start, end)}{_newest(before[0].time_unix_nano)}."
    return f"{_none_yet('logs', end)} {_send('log hello', data_dir)}"


class _Seen(TypedDict):
    time: datetime


def about_traces(
    store: Store, services: Sequence[str], start: datetime, end: datetime | None, data_dir: Path | None
) -> str:
    """Say why no trace of a time range is wanted."""
    first, last = unix_nano(start), None if end is None else unix_nano(end)
    within = "time >= %(start)s AND (%(end)s::timestamptz IS NULL OR time < %(end)s)"
    if store.rows(f"SELECT 1 FROM span WHERE {within} LIMIT 1", {"start": start, "end": end}):  # noqa: S608
        meant = _unknown("--service", services, _services(store))
        return f"Nothing to show: none of the traces {_between(first, last)} matches{meant}."
    before = "SELECT time FROM span WHERE time < %(start)s ORDER BY time DESC LIMIT 1"
    if newest := store.rows(before, {"start": start}, _Seen):
        return f"Nothing to show: there are no traces {_between(first, last)}{_newest(unix_nano(newest[0]['time']))}."
    return f"{_none_yet('traces', last)} {_send('span hello', data_dir)}"


def about_metrics(store: Store, pattern: str | None, data_dir: Path | None) -> str:
    """Say why a catalogue of metrics is empty."""
    names = metric_names(store) if pattern is not None else []
    if not names:
        return f"{_none_yet('metrics', None)} {_send('metric room.temperature 21.5', data_dir)}"
    return f"Nothing to show: the store has no metric {pattern}{_alike((pattern or '').strip('*?'), names)}"


def about_values(store: Store, metric: Metric, start: datetime, end: datetime, *, rate: bool) -> str:
    """Say why a metric has nothing to draw in a time range."""
    seen = [
        row["last_seen"]
        for row in catalogue(store, metric.name)
        if (row["type"], row["unit"]) == (metric.type, metric.unit) and row["last_seen"] is not None
    ]
    between = _between(unix_nano(start), unix_nano(end))
    if seen and max(seen) < start:
        return f"Nothing to show: {metric.name} has no values {between}{_newest(unix_nano(max(seen)))}."
    if rate:
        return (
            f"Nothing to show: {metric.name} has no two values {between} to compare for a rate; --no-rate shows "
            "the values themselves."
        )
    return f"Nothing to show: {metric.name} has no values {between} that are finite numbers."


def unknown_metric(store: Store, name: str, data_dir: Path | None) -> str:
    """Say that a metric is not known, and which may be meant."""
    names = metric_names(store)
    if not names:
        return f"the store has no metric {name}, nor any other yet. {_send(f'metric {shlex.quote(name)} 1', data_dir)}"
    return f"the store has no metric {name}{_alike(name, names)}"


def _alike(word: str, names: Sequence[str]) -> str:
    if found := near(word, names, 5):
        return f"; did you mean {', '.join(found)}?"
    return "; `obs-hub metrics` lists what there is"


def _between(start: int, end: int | None) -> str:
    return f"from {_minute(start)} to {'now' if end is None or end >= time.time_ns() else _minute(end)}"


def _none_yet(what: str, end: int | None) -> str:
    past = end is not None and end < time.time_ns()
    return f"Nothing to show: no {what} have come in {'before that' if past else 'yet'}."


def _newest(at: int) -> str:
    """Say when the newest record is from, and how it is shown."""
    ago = max(time.time_ns() - at, SECOND)
    units = (("d", 86_400), ("h", 3600), ("m", 60))
    unit, seconds = next(((unit, size) for unit, size in units if ago >= size * SECOND), units[-1])
    since = f"{ago // (seconds * SECOND) + 1}{unit}"
    return f"; the newest before is {short_duration(ago)} old, --since {since} shows it"


def _meant(wanted: LogFilter, present: Sequence[LogRecord]) -> str:
    """Say which part of a filter nothing that is there could match, and what may be meant."""
    found = _unknown("--service", wanted.services, (record.service_name for record in present))
    found += _unknown("--host", wanted.hosts, (record.host_name for record in present))
    found += _unknown("--event", wanted.events, (record.event_name for record in present))
    attributes = [{**record.resource, **record.attributes} for record in present]
    keys = {key for each in attributes for key in each}
    for key, value in wanted.attributes:
        if key not in keys:
            found += _unknown("--attribute", [key], keys)
        else:
            values = {text_of(each[key]) for each in attributes if key in each}
            found += _unknown(f"--attribute {key}=", [value], values)
    return found


def _unknown(option: str, asked: Iterable[str], present: Iterable[str | None]) -> str:
    known = {each for each in present if each is not None}
    gap = "" if option.endswith("=") else " "
    return "".join(
        f"; nothing there has {option}{gap}{word}{suggestion(word, known).rstrip('?')}"
        for word in asked
        if word not in known
    )


def _services(store: Store) -> list[str]:
    return [row["service_name"] for row in store.rows("SELECT DISTINCT service_name FROM resource")]


def _send(what: str, data_dir: Path | None) -> str:
    """Say how something comes in."""
    try:
        hub = running_hub(data_dir)
    except (click.ClickException, DataDirError):
        hub = None
    endpoints = hub.endpoints if hub is not None else {}
    doors = [
        f"{address} ({protocol})"
        for end, protocol in ((" grpc", "gRPC"), (" http", "HTTP"))
        for name, address in endpoints.items()
        if name.endswith(end)
    ]
    where = f" at {' or '.join(doors)}" if doors else ""
    command = f"obs-hub send {what}" + ("" if data_dir is None else f" --data-dir {shlex.quote(str(data_dir))}")
    return f"Send one by `{command}`, or let any OpenTelemetry SDK, Alloy or Collector send to the hub{where}."


def _minute(at: int) -> str:
    return local_time(at)[:16]
