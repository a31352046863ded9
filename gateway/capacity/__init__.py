"""What a load takes: gateways, PostgreSQL, disk, and what gives out first. Reckoned from costs that were measured.

`figures.json` has the costs: CPU seconds of the gateway and of PostgreSQL, bytes of write-ahead log and of disk, for a
request, a record in it and a commit. ``python -m tests.bench.capacity --write`` measures them anew, on the machine it
runs on. A plan is the sum of them, so it is only as good as that machine is like the one that is planned for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

FIGURES = Path(__file__).with_name("figures.json")

_DAY = timedelta(days=1)
_SECONDS_A_DAY = 86_400.0
_MEBIBYTE = 2**20
_GIBIBYTE = 2**30

_GATEWAY_BUSY = 0.6
"""The part of a core that a gateway process is to use: what is over is for backlogs, series that are new, and the hour
in which one of the others is away."""
_POSTGRES_BUSY = 0.5
"""The part of PostgreSQL's cores that writing is to use: the rest is for queries, vacuum and backups."""
_DISK_FULL = 0.75
"""How full a disk is to be."""
_LARGEST_REQUEST = 10_000
"""Points a request, at most, as clients cut them."""

_MOST_POSTGRES_CORES = 32
_MOST_WAL = 200 * 10**6
_MOST_DISK = 16 * 10**12
_MOST_SERIES = 1_000_000
_MOST_TEMPLATES = 128 * _MEBIBYTE / 140
_LOKI_SINGLE = 20 * 10**9
"""Bytes of logs a day up to which Loki's documentation has one process do."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured, where and when.

    ``costs`` are by signal, by what is spent (gateway, postgres: CPU seconds; wal, disk: bytes) and by what it is for
    (request, record, commit). ``wire`` is the bytes of a record as it is sent. ``rollup`` is for a point (gateway,
    postgres), and for a series and interval (wal, 1m_disk, 1h_disk). ``commit_seconds`` is how long a client waits for
    one. ``idle`` is what a hub takes whatever comes: cores of the gateway and of PostgreSQL, bytes a second of
    write-ahead log and of disk, and the gateway's memory in MiB.
    """

    machine: str
    load_average: float
    measured: str
    costs: Mapping[str, Mapping[str, Mapping[str, float]]]
    wire: Mapping[str, float]
    rollup: Mapping[str, float]
    series_disk: float
    series_memory: float
    receipt: float
    commit_seconds: float
    idle: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Demand:
    """What there is to take. ``logs`` and ``spans`` are records a second of all hosts together.

    ``retention`` says how long each kind is kept; None is for ever, which counts as a year.
    """

    hosts: int
    interval: timedelta
    series_per_host: int
    logs: float = 0.0
    spans: float = 0.0
    logs_to_loki: bool = False
    records_per_request: int = 100
    retention: Mapping[str, timedelta | None] = field(default_factory=dict)
    receipt_window: timedelta = _DAY

    @property
    def series(self) -> int:
        """How many series there are."""
        return self.hosts * self.series_per_host

    @property
    def points(self) -> float:
        """Points a second."""
        return self.series / self.interval.total_seconds()


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that gives out: at how many times the load, and what to do then."""

    what: str
    at: float
    advice: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load takes. Cores are CPU seconds a second, bytes are of ten thousands, not of 1,024s.

    ``disk`` is what each kind takes once retention drops as much as comes in. Memory is in bytes; that of a gateway is
    enough for the series of its hosts and its part of another's that is away, where each host keeps to one.
    """

    points_per_second: float
    requests_per_second: float
    commits_per_second: float
    series: int
    gateway_cores: float
    gateways: int
    gateway_memory: float
    postgres_cores: float
    postgres_cores_to_have: int
    postgres_memory: float
    wal_per_second: float
    disk_per_second: float
    disk: Mapping[str, float]
    disk_to_have: float
    loki_bytes_per_day: float
    limits: list[Limit]


def load_figures(path: Path = FIGURES) -> Figures:
    """Read what was measured."""
    return Figures(**json.loads(path.read_text("utf-8")))


def plan(demand: Demand, known: Figures) -> Plan:
    """Reckon what a load takes."""
    interval = demand.interval.total_seconds()
    share = {"logs": 0.0 if demand.logs_to_loki else 1.0}
    records = {"metrics": demand.points, "logs": demand.logs, "traces": demand.spans}
    requests = {
        "metrics": demand.hosts * math.ceil(demand.series_per_host / _LARGEST_REQUEST) / interval,
        "logs": demand.logs / demand.records_per_request,
        "traces": demand.spans / demand.records_per_request,
    }
    all_requests = sum(requests.values())

    def spent(what: str, signal: str, commits: float) -> float:
        its = known.costs[signal][what]
        stored = 1.0 if what == "gateway" else share.get(signal, 1.0)
        own = commits * requests[signal] / all_requests if all_requests else 0.0
        work = requests[signal] * its["request"] + records[signal] * its["record"] + own * its.get("commit", 0.0)
        return stored * work

    rolled_up = demand.series * min(1 / 60, 1 / interval)
    rolled_up_1h = demand.series * min(1 / 3600, 1 / interval)

    def cores(gateways: int) -> tuple[float, float, float]:
        commits = min(all_requests, gateways / known.commit_seconds)
        of_gateways = sum(spent("gateway", signal, commits) for signal in records)
        of_gateways += gateways * known.idle["gateway"] + demand.points * known.rollup["gateway"]
        of_postgres = sum(spent("postgres", signal, commits) for signal in records)
        of_postgres += known.idle["postgres"] + demand.points * known.rollup["postgres"]
        return commits, of_gateways, of_postgres

    gateways = 1
    while (needed := math.ceil(cores(gateways)[1] / _GATEWAY_BUSY)) > gateways:
        gateways = needed
    commits, gateway_cores, postgres_cores = cores(gateways)

    growth = {signal: spent("disk", signal, commits) for signal in records}
    growth |= {"rollup_1m": rolled_up * known.rollup["1m_disk"], "rollup_1h": rolled_up_1h * known.rollup["1h_disk"]}
    growth["receipts"] = all_requests * known.receipt
    growth["metrics"] += known.idle["disk"]
    kept = {**demand.retention, "receipts": demand.receipt_window}
    disk = {name: per_second * (kept.get(name) or 365 * _DAY).total_seconds() for name, per_second in growth.items()}
    disk["series"] = demand.series * known.series_disk
    wal = sum(spent("wal", signal, commits) for signal in records) + rolled_up * known.rollup["wal"] + known.idle["wal"]
    total = sum(disk.values())
    return Plan(
        points_per_second=demand.points,
        requests_per_second=all_requests,
        commits_per_second=commits,
        series=demand.series,
        gateway_cores=gateway_cores,
        gateways=gateways,
        gateway_memory=known.idle["memory"] * _MEBIBYTE + demand.series / max(gateways - 1, 1) * known.series_memory,
        postgres_cores=postgres_cores,
        postgres_cores_to_have=max(math.ceil(postgres_cores / _POSTGRES_BUSY), 1),
        postgres_memory=_postgres_memory(growth, disk),
        wal_per_second=wal,
        disk_per_second=sum(growth.values()),
        disk=disk,
        disk_to_have=total / _DISK_FULL,
        loki_bytes_per_day=demand.logs * known.wire["logs"] * _SECONDS_A_DAY if demand.logs_to_loki else 0.0,
        limits=sorted(
            _limits(demand, known, gateways, gateway_cores, postgres_cores, wal, total), key=lambda limit: limit.at
        ),
    )


def _postgres_memory(growth: Mapping[str, float], disk: Mapping[str, float]) -> float:
    """Return what memory a server is to have. A rule of thumb: dimensions, and what came within an hour, are read from
    memory, beside 1 GiB for processes."""
    return float(_GIBIBYTE + disk["series"] + disk["receipts"] + 3_600 * sum(growth.values()))


def _limits(
    demand: Demand, known: Figures, gateways: int, gateway_cores: float, postgres_cores: float, wal: float, disk: float
) -> Iterator[Limit]:
    """Yield what gives out, at how many times the load."""
    name = "one gateway process" if gateways == 1 else f"{gateways} gateway processes"
    yield Limit(f"{name}, a core each", gateways / gateway_cores, "run more gateways, or --workers")
    yield Limit(
        f"PostgreSQL's CPU ({_MOST_POSTGRES_CORES} cores, half of them for writing)",
        _MOST_POSTGRES_CORES * _POSTGRES_BUSY / postgres_cores,
        "a longer interval, fewer series, larger requests; or a second store, with hosts shared out",
    )
    yield Limit(
        "write-ahead log (200 MB/s, with replicas and an archive that follow)",
        _MOST_WAL / wal,
        "faster disks and network; or a second store",
    )
    yield Limit(
        "disk (16 TB in one server)",
        _MOST_DISK / disk,
        "shorter retention; TimescaleDB's columnstore; or a second store",
    )
    if demand.series:
        yield Limit(
            "series_limit_total (1,000,000 as it comes)",
            _MOST_SERIES / demand.series,
            "set exporters.timescale.series_limit_total and series_cache",
        )
        yield Limit(
            "templates of a gateway (128 MiB), where each host keeps to one",
            _MOST_TEMPLATES * gateways / demand.series,
            "run more gateways: what has no template costs ten times the CPU",
        )
    if demand.logs_to_loki and demand.logs:
        yield Limit(
            "Loki in one process (20 GB of logs a day)",
            _LOKI_SINGLE / (demand.logs * known.wire["logs"] * _SECONDS_A_DAY),
            "Loki's scalable mode, with object storage",
        )
