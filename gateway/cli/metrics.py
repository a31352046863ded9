"""``obs-hub metrics``: which metrics there are, and one of them as a chart."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from gateway.cli import empty_results
from gateway.cli.drawing.metric_charts import SPARKLINE_WIDTH, chart_width, charts, metric_list
from gateway.cli.drawing.screen import Screen, ended_by_its_reader
from gateway.cli.exploring import Places, color_option, nanoseconds, pairs, store_options, time_options
from gateway.cli.options import reading_dsn
from gateway.query.metrics.catalogue import CatalogueRow, Metric, Series, catalogue, series_of
from gateway.query.metrics.lines import Line, Window, grouped, read_lines
from gateway.query.values import as_json
from gateway.suggestions import suggestion
from gateway.terminal import safe, shown_row

_MOST_SERIES = 5_000
_MOST_INTERVALS = 10_000
_EXPORTED = 120
"""Intervals that a program gets unless it asks for more by ``--step``."""


@click.command()
@click.argument("name", required=False)
@time_options("1h")
@click.option(
    "-w", "--where", multiple=True, metavar="KEY=VALUE", callback=pairs,
    help="Only series with this attribute, of the point or its resource; host_name and service_name too. Repeatable.",
)  # fmt: skip
@click.option(
    "-b", "--by", metavar="KEY[,KEY]…",
    help="One line for each value of these, series added up (gauges averaged). Default: a line for each series.",
)  # fmt: skip
@click.option(
    "--promql",
    metavar="QUERY",
    help="Draw what a query of PromQL comes to, by Prometheus's names of metrics and labels.",
)
@click.option("--total", is_flag=True, help="One line for all series.")
@click.option("--rate/--no-rate", default=None, help="Change per second, or the value. Default: rate for counters.")
@click.option(
    "--step", metavar="DURATION", callback=nanoseconds, help="Length of an interval. Default: fits the width."
)
@click.option(
    "-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="Draw at most this many lines."
)
@click.option(
    "-o", "--output", type=click.Choice(["text", "csv", "json"]), default="text",
    help="Charts (the default), CSV with a row for each value, or one JSON object a line.",
)  # fmt: skip
@color_option
@store_options
def metrics(
    name: str | None,
    since: datetime | None,
    until: datetime | None,
    where: tuple[tuple[str, str], ...],
    by: str | None,
    promql: str | None,
    total: bool,
    rate: bool | None,
    step: int | None,
    limit: int,
    output: str,
    color: str,
    **options: Any,
) -> None:
    """List the metrics that the store has, or chart one.

    NAME with * or ? lists the metrics named like it. Counters are shown as rates, and begin anew without harm;
    histograms as their quantiles p50, p95 and p99. Long times are read from the rollups by minute or hour.

    \b
    obs-hub metrics 'system.*'
    obs-hub metrics system.memory.utilization --where system.memory.state=used
    obs-hub metrics system.network.io --by host_name,network.io.direction --since 1d
    obs-hub metrics http.server.request.duration --where http.route=/cart
    obs-hub metrics system.cpu.time --total -o csv > cpu.csv
    obs-hub metrics --promql 'sum by (host_name) (rate(system_cpu_time_seconds_total[5m]))'
    """
    if by is not None and total:
        raise click.UsageError("--by and --total ask for different things; give one")
    keys = [] if total else None if by is None else [key for key in by.split(",") if key]
    screen = Screen(color)
    places = Places.taken_from(options)
    if promql is not None:
        if name is not None or where or by is not None or total or rate is not None:
            raise click.UsageError(
                "--promql says all of what to draw; leave NAME, --where, --by, --total and --rate away"
            )
        with ended_by_its_reader():
            _draw_query(promql, since, until, step, limit, output, screen, places)
        return
    with ended_by_its_reader(), places.store() as store:
        if name is None or any(sign in name for sign in "*?"):
            if rows := catalogue(store, name):
                _list(rows, output, screen)
            else:
                empty_results.show(empty_results.about_metrics(store, name, places.data_dir))
            return
        every = series_of(store, name)
        if not every:
            raise click.ClickException(safe(empty_results.unknown_metric(store, name, places.data_dir)))
        _check_keys(name, every, where, keys or ())
        found = series_of(store, name, where)
        if not found:
            raise click.ClickException(safe(_unmatched(name, every, where)))
        start, end = _time_range(since, until)
        for metric, series in found:
            if len(series) > _MOST_SERIES:
                raise click.ClickException(
                    f"{len(series):,} series are more than can be read at once; narrow by --where"
                )
            window = Window(start, end, _intervals(metric, series, keys, end - start, step, output, screen))
            as_rate = metric.is_counter if rate is None else rate and metric.is_number
            lines = read_lines(store, metric, series, window, rate=as_rate, by=keys)
            if not any(line.known for line in lines):
                empty_results.show(empty_results.about_values(store, metric, start, end, rate=as_rate))
            if output == "text":
                for text in charts(metric, lines, window, screen, rate=as_rate, limit=limit):
                    screen.line(text)
            else:
                _export(metric, lines, window, output, as_rate)


def _time_range(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    end = until or datetime.now().astimezone()
    start = since or end - timedelta(hours=1)
    if start >= end:
        raise click.UsageError("--since is not before --until")
    return start, end


def _draw_query(
    query: str,
    since: datetime | None,
    until: datetime | None,
    step: int | None,
    limit: int,
    output: str,
    screen: Screen,
    places: Places,
) -> None:
    from gateway.cli.promql import lines_of  # which takes a while to import

    start, end = _time_range(since, until)
    intervals = _stepped(end - start, step) or (chart_width(screen) if output == "text" else _EXPORTED)
    milliseconds = max(math.ceil((end - start) / timedelta(milliseconds=1) / intervals), 1)
    if step is not None:
        milliseconds = max(step // 1_000_000, 1)
    dsn = reading_dsn(places.dsn, places.config_path, places.data_dir)
    lines, window = lines_of(query, end, milliseconds, intervals, dsn, places.config_path)
    metric = Metric(query, "PromQL", "", 0, is_monotonic=False)
    if output == "text":
        for text in charts(metric, lines, window, screen, rate=False, limit=limit):
            screen.line(text)
    else:
        _export(metric, lines, window, output, rate=False)


def _stepped(length: timedelta, step: int | None) -> int | None:
    """Return how many intervals ``--step`` makes; None without it."""
    if step is None:
        return None
    if not 0 < (intervals := math.ceil(length / timedelta(microseconds=max(step // 1000, 1)))) <= _MOST_INTERVALS:
        raise click.UsageError(f"--step would make {intervals:,} intervals; {_MOST_INTERVALS:,} are the most")
    return intervals


def _intervals(
    metric: Metric,
    series: Sequence[Series],
    by: Sequence[str] | None,
    length: timedelta,
    step: int | None,
    output: str,
    screen: Screen,
) -> int:
    if (stepped := _stepped(length, step)) is not None:
        return stepped
    if output != "text":
        return _EXPORTED
    one = metric.is_number and len(grouped(series, by)) == 1
    return 2 * chart_width(screen) if one else SPARKLINE_WIDTH


def _check_keys(
    name: str, found: Sequence[tuple[Metric, Sequence[Series]]], where: Sequence[tuple[str, str]], by: Sequence[str]
) -> None:
    """End the command when no series of a metric has an attribute that is asked for."""
    known = {key for _, series in found for one in series for key in (*one.own, *one.resource)}
    for option, key in [*(("--where", key) for key, _ in where), *(("--by", key) for key in by)]:
        if key not in known:
            raise click.ClickException(
                safe(f"{option}: no series of {name} has an attribute {key}{suggestion(key, known)}")
            )


def _unmatched(name: str, found: Sequence[tuple[Metric, Sequence[Series]]], where: Sequence[tuple[str, str]]) -> str:
    """Say which value no series has, or that none has them all together."""
    series = [one for _, each in found for one in each]
    for key, value in where:
        values = {label for one in series if (label := one.label(key)) is not None}
        if value not in values:
            return f"no series of {name} has {key}={value}{suggestion(value, values)}"
    asked = " ".join(f"{key}={value}" for key, value in where)
    return f"no series of {name} has {asked}; `obs-hub metrics {name}` shows which there are"


def _list(rows: list[CatalogueRow], output: str, screen: Screen) -> None:
    if output == "text":
        for text in metric_list(rows, screen):
            screen.line(text)
    elif output == "json":
        for row in rows:
            screen.line(as_json({**row, "last_seen": row["last_seen"] and row["last_seen"].isoformat()}))
    else:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["name", "type", "unit", "series", "last_seen", "attributes"])
        for row in rows:
            seen = row["last_seen"] and row["last_seen"].isoformat()
            attributes = " ".join(row["attributes"])
            writer.writerow(shown_row([row["name"], row["type"], row["unit"], row["series"], seen, attributes]))


def _export(metric: Metric, lines: Sequence[Line], window: Window, output: str, rate: bool) -> None:
    """Write values for programs, in the metric's own unit."""
    unit = f"{metric.unit}/s" if rate else metric.unit
    times = [instant.isoformat(timespec="milliseconds") for instant in window.starts()]
    if output == "json":
        for line in lines:
            points = [pair for pair in zip(times, line.values, strict=True) if pair[1] is not None]
            figures = {"min": line.smallest, "avg": line.mean, "max": line.largest, "last": line.last}
            click.echo(as_json({"name": metric.name, "unit": unit, "labels": line.labels, **figures, "points": points}))
        return
    keys = list(dict.fromkeys(key for line in lines for key in line.labels))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(shown_row(["time", "name", "unit", *keys, "value"]))
    for line in lines:
        labels = [line.labels.get(key, "") for key in keys]
        for instant, value in zip(times, line.values, strict=True):
            if value is not None:
                writer.writerow(shown_row([instant, metric.name, unit, *labels, value]))
