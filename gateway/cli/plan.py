"""``obs-hub plan``: what a load takes, before there is one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from gateway.base.settings import format_duration, parse_duration

if TYPE_CHECKING:
    from gateway.capacity import Demand, Figures, Plan

_KINDS = ("metrics", "logs", "traces", "rollup_1m", "rollup_1h")
_NAMES = {
    "metrics": "points",
    "logs": "log records",
    "traces": "spans",
    "rollup_1m": "rollup by minute",
    "rollup_1h": "rollup by hour",
    "receipts": "receipts",
    "series": "series and sets",
}
_SHOWN_LIMITS = 4


_MOST = 10**9
"""Beyond any load there is, and nothing is reckoned that is no number any more."""


def _rate(_context: click.Context, _option: click.Parameter, value: float) -> float:
    if not 0 <= value <= _MOST:  # which NaN is not, either
        raise click.BadParameter(f"{value:g}: expected records a second, from 0 to {_MOST:,}")
    return value


def _interval(_context: click.Context, _option: click.Parameter, text: str) -> timedelta:
    try:
        value = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if value < timedelta(seconds=1):
        raise click.BadParameter("at least 1s; what comes more often, plan as 1s and so many more series")
    return value


def _retention(_context: click.Context, _option: click.Parameter, given: Sequence[str]) -> dict[str, timedelta | None]:
    found: dict[str, timedelta | None] = {}
    for each in given:
        kind, equals, text = each.partition("=")
        if kind not in _KINDS or not equals:
            raise click.BadParameter(f"{each!r}: expected one of {', '.join(_KINDS)}, as in logs=90d or logs=none")
        try:
            found[kind] = None if text in ("none", "null") else parse_duration(text)
        except ValueError as error:
            raise click.BadParameter(f"{each!r}: {error}") from None
    return found


@click.command()
@click.option("--hosts", type=click.IntRange(1, _MOST), required=True, help="How many hosts send metrics.")
@click.option("--interval", default="15s", show_default=True, callback=_interval, help="How often each does.")
@click.option(
    "--series-per-host",
    type=click.IntRange(1, _MOST),
    default=500,
    show_default=True,
    help="Time series of a host; the hub's own host metrics have 200 to 800.",
)
@click.option("--logs", type=float, default=0.0, callback=_rate, help="Log records a second, of all hosts together.")
@click.option("--spans", type=float, default=0.0, callback=_rate, help="Spans a second, of all hosts together.")
@click.option(
    "--logs-to", type=click.Choice(["store", "loki"]), default="store", show_default=True, help="Who keeps logs."
)
@click.option(
    "--records-per-request",
    type=click.IntRange(1, _MOST),
    default=100,
    show_default=True,
    help="Log records or spans that come in one request.",
)
@click.option(
    "--retention",
    multiple=True,
    metavar="KIND=TIME",
    callback=_retention,
    help="How long a kind is kept, as in metrics=90d; logs=none for ever. Kinds: metrics, logs, traces, rollup_1m, "
    "rollup_1h. Default: that of the settings.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(
    hosts: int,
    interval: timedelta,
    series_per_host: int,
    logs: float,
    spans: float,
    logs_to: str,
    records_per_request: int,
    retention: dict[str, timedelta | None],
    as_json: bool,
) -> None:
    """Reckon what to run for a load: gateways, PostgreSQL, disk, and what gives out first.

    From costs that were measured, on a machine that it names; docs/scaling.md says how near that comes.

    \b
    obs-hub plan --hosts 100 --interval 15s --series-per-host 500 --logs 200 --spans 100
    obs-hub plan --hosts 10000 --series-per-host 300 --logs 20000 --logs-to loki --retention metrics=14d
    """
    from gateway.capacity import Demand, load_figures
    from gateway.capacity import plan as reckon
    from gateway.store import StoreSettings

    defaults = StoreSettings()
    kept = {kind: getattr(defaults.retention, kind) for kind in _KINDS} | retention
    demand = Demand(
        hosts,
        interval,
        series_per_host,
        logs,
        spans,
        logs_to_loki=logs_to == "loki",
        records_per_request=records_per_request,
        retention=kept,
        receipt_window=defaults.receipt_window,
    )
    known = load_figures()
    found = reckon(demand, known)
    if as_json:
        origin = {"machine": known.machine, "load_average": known.load_average, "measured": known.measured}
        click.echo(json.dumps({**asdict(found), "figures": origin}, indent=2))
        return
    for line in _lines(demand, known, found):
        click.echo(line)


def _lines(demand: Demand, known: Figures, found: Plan) -> list[str]:
    days = {
        kind: "for ever, here a year" if kept is None else format_duration(kept)
        for kind, kept in demand.retention.items()
    }
    days["receipts"] = format_duration(demand.receipt_window)
    several = "s" if found.gateways > 1 else ""
    return [
        f"Load         {found.points_per_second:,.0f} points/s of {found.series:,} series, {demand.logs:,.0f} log "
        f"records/s, {demand.spans:,.0f} spans/s, in {found.requests_per_second:,.1f} requests/s",
        "",
        f"Gateways     {found.gateways:,} process{'es' if several else ''}, {_cores(found.gateway_cores)} cores in "
        f"all, {_bytes(found.gateway_memory)} of memory each"
        + ("" if several else "; a second one, where none may be missed"),
        f"PostgreSQL   {_cores(found.postgres_cores)} cores for writing: have {found.postgres_cores_to_have:,}, and "
        f"{_bytes(found.postgres_memory)} of memory (a rule of thumb); {_small(found.commits_per_second)} commits/s",
        f"             write-ahead log {_bytes(found.wal_per_second)}/s, {_bytes(found.wal_per_second * 86_400)} a day",
        f"Disk         have {_bytes(found.disk_to_have)}; it grows by {_bytes(found.disk_per_second * 86_400)} a day "
        "until retention drops as much",
        *(
            f"             {_bytes(size):>10}  {_NAMES[kind]}" + (f", kept {days[kind]}" if kind in days else "")
            for kind, size in found.disk.items()
            if size
        ),
        *_loki(found),
        "",
        *_needed(found),
        "Gives out first",
        *(
            f"  at {_times(limit.at)} times this load: {limit.what}. {limit.advice[0].upper()}{limit.advice[1:]}."
            for limit in [each for each in found.limits if each.at >= 1][:_SHOWN_LIMITS]
        ),
        "",
        f"Reckoned from what was measured on {known.machine} ({known.measured}, load average {known.load_average:g}); "
        "PostgreSQL in the native layout, before any compression. More in docs/scaling.md.",
    ]


def _needed(found: Plan) -> list[str]:
    """Return the lines on what has given out before this load is reached."""
    lines = [
        f"  {each.advice[0].upper()}{each.advice[1:]}. ({each.what}: at {_times(each.at)} times this load.)"
        for each in found.limits
        if each.at < 1
    ]
    return ["Needed for this load", *lines, ""] if lines else []


def _loki(found: Plan) -> list[str]:
    if not found.loki_bytes_per_day:
        return []
    mode = "one process" if found.loki_bytes_per_day <= 20 * 10**9 else "its scalable mode, with object storage"
    return [f"Loki         {_bytes(found.loki_bytes_per_day)} of logs a day, before compression: {mode}"]


def _times(factor: float) -> str:
    return f"{factor:,.0f}" if factor >= 100 else f"{factor:.2g}"


def _cores(number: float) -> str:
    return f"{number:,.2f}" if number >= 0.1 else f"{number:.2g}"


def _small(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB" if size < 999.5 else f"{size:,.0f} TB"
