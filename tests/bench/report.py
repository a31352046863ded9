"""The report: one table for people, or JSON for machines."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from gateway.component import Signal
from tests.bench.loads import Options
from tests.bench.measure import Report, Result

_MOST_MEMORY_LOADED = 300.0
_MOST_MEMORY_IDLE = 150.0
_MOST_CPU_IDLE = 0.01
_MOST_CPU_SECONDS = {Signal.METRICS: 0.3, Signal.TRACES: 8.0, Signal.LOGS: 8.0}
"""Of the gateway for a million records, in requests of the usual size."""
_MOST_CPU_OF_REQUEST = {200: 0.2, 1: 1.0}
"""Milliseconds for a request of ten points, by how many are in flight."""

WIDTH = 140


@dataclass(slots=True, frozen=True)
class Target:
    """Something to reach, and whether it was."""

    what: str
    wanted: str
    found: str
    met: bool


COLUMNS: dict[str, tuple[str, Callable[[Result], float], str]] = {
    "records_per_second": ("records/s\nend to end", lambda its: its.records_per_second, ",.0f"),
    "committed_per_second": ("records/s\ncommitted", lambda its: its.committed_per_second, ",.0f"),
    "limit_per_second": ("records/s\nbare COPY", lambda its: its.limit_per_second, ",.0f"),
    "ratio": ("committed /\nbare COPY", lambda its: its.ratio, ".2f"),
    "records_per_cpu_second": ("records per\nCPU second", lambda its: its.records_per_cpu_second, ",.0f"),
    "cpu_seconds_per_million": ("CPU s per\nmillion", lambda its: 1e6 / its.records_per_cpu_second, ".2f"),
    "latency_p50_ms": ("p50\nms", lambda its: its.latency(0.5) * 1000, ",.0f"),
    "latency_p99_ms": ("p99\nms", lambda its: its.latency(0.99) * 1000, ",.0f"),
    "peak_memory_mib": ("peak\nMiB", lambda its: its.peak_memory, ".0f"),
    "bytes_per_record": ("bytes per\nrecord", lambda its: its.bytes_per_record, ".0f"),
}
"""The measures, by their name in JSON: heading, value and format in the table."""


def targets(report: Report) -> list[Target]:
    """Return the targets that this report can tell something about."""
    found = []
    for result in report.results:
        load = result.load
        if load.protocol == "grpc":
            spent, most = 1e6 / result.records_per_cpu_second, _MOST_CPU_SECONDS[load.signal]
            found.append(_at_most(f"{load.title}: CPU of the gateway a million", spent, most, ".2f", " s"))
    for result in report.regimes:
        load = result.load
        if load.protocol == "grpc" and load.records == 10:
            spent, most = 1e3 * load.records / result.records_per_cpu_second, _MOST_CPU_OF_REQUEST[load.in_flight]
            found.append(_at_most(f"{load.title}: CPU of the gateway a request", spent, most, ".2f", " ms"))
    if report.options.workers > 1:
        return found  # what follows is about one process
    if report.results:
        loads = (*report.results, *([report.small] if report.small else []), *report.regimes)
        peak = max(result.peak_memory for result in loads)
        found.append(_at_most("resident memory under load", peak, _MOST_MEMORY_LOADED, ".0f", " MiB"))
    if report.idle:
        found.append(_at_most("resident memory idle", report.idle.memory, _MOST_MEMORY_IDLE, ".0f", " MiB"))
        share = report.idle.cpu_share
        found.append(_at_most("CPU idle, of one core", share * 100, _MOST_CPU_IDLE * 100, ".2f", " %"))
    return found


def _at_most(what: str, value: float, most: float, form: str, unit: str) -> Target:
    return Target(what, f"< {most:g}{unit}", f"{value:{form}}{unit}", value < most)


def show(report: Report, console: Console) -> None:
    """Print the report as a table."""
    lines = [f"{_machine()}. {report.server}.", _conditions(report.options)]
    if _is_disturbed(report):
        lines.append(
            f"The machine was not idle before (load average {report.load_average:.1f}): rates and ratios are "
            "unreliable, CPU seconds and sizes much less so."
        )
    console.print("", *lines, "", sep="\n", highlight=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("load", no_wrap=True)
    for heading, _, _ in COLUMNS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for result in (*report.results, *([report.small] if report.small else []), *report.regimes):
        table.add_row(result.load.title, *(format(value(result), form) for _, value, form in COLUMNS.values()))
    if report.idle:
        cells = {"peak_memory_mib": f"{report.idle.memory:.0f}", "records_per_cpu_second": "of a core"}
        cells["cpu_seconds_per_million"] = f"{report.idle.cpu_share:.2%}"
        table.add_row("idle", *(cells.get(name, "") for name in COLUMNS))
    console.print(table)
    if report.small:
        refused = f", {report.small.refused} told to try again" if report.small.refused else ""
        console.print(
            f"{report.small.load.title}: {report.small.requests_per_second:,.0f} requests/s{refused}", highlight=False
        )
    console.print("Rows in the store = records acknowledged, for every load.\n", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("target", "wanted", "measured", "met"):
        table.add_column(heading, no_wrap=True)
    for target in targets(report):
        table.add_row(target.what, target.wanted, target.found, "yes" if target.met else "[bold]no[/bold]")
    console.print(table)


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as JSON values."""
    options = report.options
    return {
        "machine": _machine(),
        "load_average_before": report.load_average,
        "server": report.server,
        "workers": options.workers,
        "rounds": options.rounds,
        "loads": [_result_json(result) for result in report.results],
        "small": _result_json(report.small) if report.small else None,
        "regimes": [_result_json(result) for result in report.regimes],
        "idle": {"memory_mib": report.idle.memory, "cpu_share": report.idle.cpu_share} if report.idle else None,
        "targets": [
            {"what": target.what, "wanted": target.wanted, "measured": target.found, "met": target.met}
            for target in targets(report)
        ],
    }


def _result_json(result: Result) -> dict[str, Any]:
    load = result.load
    return {
        "load": load.title,
        "signal": load.signal.value,
        "protocol": load.protocol,
        "records_per_request": load.records,
        "in_flight": load.in_flight,
        **{name: value(result) for name, (_, value, _) in COLUMNS.items()},
        "ratio_of_each_round": [its.committed_per_second / its.limit_per_second for its in result.rounds],
        "requests_per_second": result.requests_per_second,
        "batches_per_commit": result.median(lambda its: its.batches_per_commit),
        "loader_cores": result.median(lambda its: its.loader_cpu_seconds / its.seconds),
        "gateway_cores": result.median(lambda its: its.cpu_seconds / its.seconds),
        "refused": result.refused,
        "acknowledged": result.acknowledged,
        "rows": result.rows,
    }


def _is_disturbed(report: Report) -> bool:
    return report.load_average > 0.25 * (os.cpu_count() or 1)


def _machine() -> str:
    return f"{os.cpu_count()} cores, shared by the gateway, PostgreSQL and the load; Python {platform.python_version()}"


def _conditions(options: Options) -> str:
    bound = f"{options.requests} requests" if options.requests else f"{options.seconds:g} s"
    workers = f"{options.workers} workers" if options.workers > 1 else "1 process"
    return f"The gateway in {workers}; medians of {options.rounds} rounds of {bound}, each with its bare COPY after it."
