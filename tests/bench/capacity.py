"""``python -m tests.bench.capacity``: what a request, a record and a commit cost, which `obs-hub plan` reckons with.

The gateway and its embedded PostgreSQL are measured under loads of several sizes, from one request at a time to as many
as they take, and costs are fitted to what was found. `--write` puts them where the command reads them; `--check` lets
two sizes run at the pace of real hosts, and compares what they took with what the command says of them.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import numpy as np
import psutil
import psycopg
from rich.console import Console

from gateway.capacity import FIGURES, Demand, Figures, Plan, load_figures, plan
from gateway.component import Signal
from gateway.otlp.services import SERVICES
from gateway.store.connections import Connections
from gateway.store.maintenance import Maintenance
from gateway.store.schema import migrate
from gateway.store.settings import StoreSettings
from tests.bench.loader import Loader, job_for
from tests.bench.loads import Load
from tests.bench.payloads import Payloads, first_time
from tests.bench.subject import Subject

_MEBIBYTE = 2**20
_LIMIT = 0.2
"""How far what is said may be from what was measured."""
_SETTLED = 60.0
_WARM = 100.0
_INTERVAL = 10.0
_CYCLE = 300.0
"""Seconds from one checkpoint of PostgreSQL to the next, as it comes: pages are written whole after each, once."""
_SERIES = {10: 2_000, 100: 5_000, 500: 10_000, 10_000: 10_000}
"""How many series there are where a request has so many points."""
_MANY = 200_000
_WORK = ("request", "record", "commit")
_NEVER = {"maintenance_interval": "1d"}

_PACED = Demand(hosts=50, interval=timedelta(seconds=_INTERVAL), series_per_host=500, logs=50, spans=25)
_SIZES = (
    Demand(hosts=25, interval=timedelta(seconds=_INTERVAL), series_per_host=500, logs=25, spans=12),
    Demand(hosts=100, interval=timedelta(seconds=_INTERVAL), series_per_host=500, logs=100, spans=50),
)

Say = Callable[[str], None]


@dataclass(slots=True, frozen=True)
class Taken:
    """What was taken by how much work: CPU seconds, bytes of write-ahead log, bytes on disk without receipts."""

    requests: int
    records: int
    commits: int
    seconds: float
    gateway: float
    postgres: float
    wal: float
    disk: float
    receipts: float
    latency: float = 0.0


class _Meter:
    """Looks at a gateway and its PostgreSQL before and after a load."""

    def __init__(self, subject: Subject, *, checkpoint: bool = True) -> None:
        self.subject = subject
        self._connection = psycopg.connect(subject.dsn, autocommit=True)
        if checkpoint:
            self._connection.execute("CHECKPOINT")
        self._before = self._now()
        self._since = self._one("SELECT clock_timestamp()")

    def taken(self, requests: int, records: int, latency: float = 0.0) -> Taken:
        """Return what was taken since, once all that was sent is committed."""
        deadline = time.monotonic() + _SETTLED
        count = "SELECT count(*) FROM receipt WHERE received_at >= %s"
        while self._one(count, self._since) < requests and time.monotonic() < deadline:
            time.sleep(0.1)
        after = self._now()
        commits = self._one("SELECT count(DISTINCT received_at) FROM receipt WHERE received_at >= %s", self._since)
        self._connection.close()
        its = [now - then for now, then in zip(after, self._before, strict=True)]
        seconds, gateway, postgres, wal, disk, receipts = its
        return Taken(requests, records, commits, seconds, gateway, postgres, wal, disk - receipts, receipts, latency)

    def _now(self) -> tuple[float, ...]:
        sizes = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0'), pg_database_size(current_database()),"
        row = self._connection.execute(sizes.encode() + b" pg_total_relation_size('receipt')").fetchone()
        assert row is not None
        usage = self.subject.usage()
        return (usage.at, usage.cpu_seconds, cpu_seconds(self.subject.postmaster()), *map(float, row))

    def _one(self, query: str, *parameters: object) -> Any:
        row = self._connection.execute(query.encode(), parameters).fetchone()
        assert row is not None
        return row[0]


def cpu_seconds(postmaster: psutil.Process) -> float:
    """Return the CPU seconds of a server's processes, of those that have ended too."""
    total = 0.0
    for process in [postmaster, *postmaster.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            its = process.cpu_times()
            total += its.user + its.system
    ended = postmaster.cpu_times()
    return total + ended.children_user + ended.children_system


def measure(
    signal: Signal, records: int, in_flight: int, requests: int, say: Say, series: int = 0
) -> tuple[Taken, dict[str, float]]:
    """Measure one load; return what it took, and of points what rolling them up and a series take."""
    say(f"{signal.value}: {records} a request, {in_flight} in flight")
    series = series or _SERIES.get(records, 10_000)
    first_time_ns = first_time()
    load = Load(signal, "grpc", records, in_flight, series, connections=min(in_flight, 50))
    warm_up = max(20, 3 * series // records) if signal is Signal.METRICS else 20
    with Subject(settings=_NEVER) as subject:
        before = _size(subject.dsn, "series", "member", "series_set", "metric", "resource")
        job = job_for(load, subject.endpoint("grpc"), first_time_ns, first=0, warm_up=warm_up, workers=1)
        with Loader(dataclasses.replace(job, requests=requests)) as loader:
            meter = _Meter(subject)
            sent = loader.run()
            latency = sorted(sent.latencies)[len(sent.latencies) // 2]
            taken = meter.taken(sent.requests, sent.requests * records, latency)
        others = {"wire": sent.payload_bytes / max(sent.requests * records, 1), "memory": subject.memory() * _MEBIBYTE}
        if signal is Signal.METRICS and records == 10_000:
            after = _size(subject.dsn, "series", "member", "series_set", "metric", "resource")
            others["series_disk"] = (after - before) / series
            if series == _SERIES[records]:
                others |= _rolled_up(subject, (warm_up + sent.requests) * records, series)
        return taken, others


def _size(dsn: str, *tables: str) -> float:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(relid)) FROM unnest(%s::text[]) t,"
            " LATERAL (SELECT t::regclass AS relid UNION SELECT relid FROM pg_partition_tree(t::regclass)) AS parts",
            (list(tables),),
        ).fetchone()
    assert row is not None
    return float(row[0])


def _rolled_up(subject: Subject, points: int, series: int) -> dict[str, float]:
    """Roll up what was sent, as a gateway does; return what that takes by point, and by series and interval."""
    settings = StoreSettings.model_validate({"maintenance_interval": "1d"})
    maintenance = Maintenance(settings, migrate(Connections(subject.dsn)))
    connections = Connections(subject.dsn)
    before = {each: _size(subject.dsn, f"sample_{each}", f"frame_{each}") for each in ("1m", "1h")}
    with psycopg.connect(subject.dsn) as looking, connections.open() as connection:
        lsn = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"
        (wal,) = looking.execute(lsn).fetchone() or (0,)
        cpu, own = cpu_seconds(subject.postmaster()), time.process_time()
        while not maintenance.roll_up(connection):
            time.sleep(0.1)
        own, cpu = time.process_time() - own, cpu_seconds(subject.postmaster()) - cpu
        (after,) = looking.execute(lsn).fetchone() or (0,)
        count = "SELECT count(DISTINCT time) FROM rollup_"
        minutes, hours = (looking.execute((count + each).encode()).fetchone() or (0,) for each in ("1m", "1h"))
    sizes = {each: _size(subject.dsn, f"sample_{each}", f"frame_{each}") - before[each] for each in ("1m", "1h")}
    return {
        "rollup_gateway": own / points,
        "rollup_postgres": cpu / points,
        "rollup_wal": float(after - wal) / (series * minutes[0]),
        "rollup_1m_disk": sizes["1m"] / (series * minutes[0]),
        "rollup_1h_disk": sizes["1h"] / (series * max(hours[0], 1)),
    }


def fit(work: Sequence[Sequence[float]], found: Sequence[float]) -> list[float]:
    """Return the costs, none below zero, by which work comes closest to what was found, relative to that."""
    weights = 1 / np.maximum(np.asarray(found, float), 1e-12)
    matrix, wanted = np.asarray(work, float) * weights[:, None], np.asarray(found, float) * weights
    best, least = [0.0] * matrix.shape[1], float("inf")
    for count in range(1, matrix.shape[1] + 1):
        for chosen in itertools.combinations(range(matrix.shape[1]), count):
            costs, *_ = np.linalg.lstsq(matrix[:, list(chosen)], wanted, rcond=None)
            off = float(np.square(matrix[:, list(chosen)] @ costs - wanted).sum())
            if (costs >= 0).all() and off < least:
                least = off
                best = [float(costs[chosen.index(place)]) if place in chosen else 0.0 for place in range(len(best))]
    return best


def figures(share: float, say: Say) -> Figures:
    """Measure all that a plan is made of, with this share of the requests that are worth it."""
    load_average = os.getloadavg()[0]
    others: dict[str, float] = {}
    costs: dict[str, dict[str, dict[str, float]]] = {}
    wire: dict[str, float] = {}
    receipts: list[float] = []
    latency = 0.0
    for signal, sizes in (
        (
            Signal.METRICS,
            ((10, 1, 250), (10, 64, 1_500), (100, 1, 200), (500, 1, 200), (500, 16, 500), (10_000, 4, 80)),
        ),
        (Signal.LOGS, ((100, 1, 150), (100, 16, 300), (2_000, 4, 30))),
        (Signal.TRACES, ((100, 1, 150), (100, 16, 300), (2_000, 4, 30))),
    ):
        taken = []
        for records, in_flight, requests in sizes:
            its, more = measure(signal, records, in_flight, max(round(share * requests), 4), say)
            taken.append(its)
            others |= {name: value for name, value in more.items() if signal is Signal.METRICS}
            receipts.append(its.receipts / its.requests)
            wire[signal.value] = more["wire"]
            if (records, in_flight) == (100, 1) and signal is Signal.METRICS:
                latency = its.latency
        work = [(its.requests, its.records, its.commits) for its in taken]
        costs[signal.value] = {
            name: dict(
                zip(("request", "record", "commit"), fit(work, [getattr(its, name) for its in taken]), strict=True)
            )
            for name in ("gateway", "postgres", "wal")
        }
        disk = fit([(its.requests, its.records) for its in taken], [its.disk for its in taken])
        costs[signal.value]["disk"] = dict(zip(_WORK, disk, strict=False))
    _, many = measure(Signal.METRICS, 10_000, 4, 10, say, series=_MANY)
    idle, memory = _idle(say)
    known = Figures(
        machine=f"{os.cpu_count()} cores of {platform.machine()}, Python {platform.python_version()}",
        load_average=round(load_average, 1),
        measured=datetime.now(UTC).strftime("%Y-%m-%d"),
        costs=costs,
        wire=wire,
        rollup={name.removeprefix("rollup_"): others[name] for name in others if name.startswith("rollup_")},
        series_disk=others["series_disk"],
        series_memory=max(many["memory"] - others["memory"], 0.0) / (_MANY - _SERIES[10_000]),
        receipt=sum(receipts) / len(receipts),
        commit_seconds=latency,
        idle={
            "gateway": idle.gateway / idle.seconds,
            "postgres": idle.postgres / idle.seconds,
            "wal": idle.wal / idle.seconds,
            "disk": (idle.disk + idle.receipts) / idle.seconds,
            "memory": memory,
        },
    )
    return _with_pauses(known, paced(_PACED, _CYCLE, say))


def _with_pauses(known: Figures, measured: Mapping[str, float]) -> Figures:
    """Let a commit cost both sides what it does at the pace of hosts: after a pause it is more than back to back."""
    found = plan(_PACED, known)
    reckoned = said(found)
    costs = {signal: {name: dict(its) for name, its in of_signal.items()} for signal, of_signal in known.costs.items()}
    for side, name in (("gateway", "gateway cores"), ("postgres", "PostgreSQL cores")):
        more = max(measured[name] - reckoned[name], 0.0) / found.commits_per_second
        for of_signal in costs.values():
            of_signal[side]["commit"] += more
    return dataclasses.replace(known, costs=costs)


def _idle(say: Say) -> tuple[Taken, float]:
    """Return what is taken when nobody sends, of a store that has series to look after, and the gateway's memory."""
    say("idle")
    load = Load(Signal.METRICS, "grpc", 500, 1, _SERIES[500])
    with Subject() as subject:
        memory = subject.memory()
        job = job_for(load, subject.endpoint("grpc"), first_time(), first=0, warm_up=60, workers=1)
        with Loader(dataclasses.replace(job, requests=60)) as loader:
            loader.run()
        time.sleep(75)  # a round of maintenance
        meter = _Meter(subject, checkpoint=False)
        time.sleep(_CYCLE)
        return meter.taken(0, 0), memory


# -- at the pace of real hosts -----------------------------------------------------------------------------------------


def paced(demand: Demand, seconds: float, say: Say) -> dict[str, float]:
    """Let hosts send as they do, each in its turn; return what gateway and PostgreSQL took a second."""
    interval = demand.interval.total_seconds()
    say(f"{demand.hosts} hosts for {seconds:g} s")
    now = time.time_ns()
    sources = [(Signal.METRICS, demand.hosts / interval, demand.series_per_host, demand.hosts * demand.series_per_host)]
    for signal, rate in ((Signal.LOGS, demand.logs), (Signal.TRACES, demand.spans)):
        if rate:
            sources.append((signal, rate / demand.records_per_request, demand.records_per_request, 0))
    with Subject() as subject, grpc.insecure_channel(subject.endpoint("grpc")) as channel:
        calls = {signal: channel.unary_unary(f"/{SERVICES[signal].grpc_name}/Export") for signal, *_ in sources}
        made = [
            (signal, rate, Payloads(signal, records, series or 1, now)) for signal, rate, records, series in sources
        ]
        count = dict.fromkeys(calls, 0)

        def send_for(length: float) -> None:
            began, due = time.monotonic(), [(0.0, place) for place in range(len(made))]
            pending: list[Any] = []
            while True:
                due.sort()
                at, place = due[0]
                if at >= length:
                    break
                time.sleep(max(began + at - time.monotonic(), 0.0))
                signal, rate, payloads = made[place]
                pending.append(calls[signal].future(payloads.request(count[signal])))
                count[signal] += 1
                due[0] = (at + 1 / rate, place)
                pending = [each for each in pending if not (each.done() and each.result() is not None)]
            for each in pending:
                each.result()

        # By then every series is known, and a minute is rolled up, which reads and so writes dimensions once.
        send_for(max(3 * interval, _WARM))
        before = dict(count)
        meter = _Meter(subject, checkpoint=False)
        send_for(seconds)
        requests = sum(count.values()) - sum(before.values())
        its = meter.taken(requests, 0)
    return {
        "gateway cores": its.gateway / its.seconds,
        "PostgreSQL cores": its.postgres / its.seconds,
        "WAL, bytes/s": its.wal / its.seconds,
        "disk, bytes/s": (its.disk + its.receipts) / its.seconds,
    }


def said(of: Plan) -> dict[str, float]:
    """Return what the command says of the same."""
    return {
        "gateway cores": of.gateway_cores,
        "PostgreSQL cores": of.postgres_cores,
        "WAL, bytes/s": of.wal_per_second,
        "disk, bytes/s": of.disk_per_second,
    }


def check(seconds: float, say: Say) -> Iterator[tuple[str, str, float, float, bool]]:
    """Yield size, measure, what was measured, what was said, and whether that is near enough."""
    known = load_figures()
    for demand in _SIZES:
        measured, reckoned = paced(demand, seconds, say), said(plan(demand, known))
        for name, value in measured.items():
            near = abs(reckoned[name] - value) <= _LIMIT * value
            yield f"{demand.hosts} hosts", name, value, reckoned[name], near


def main() -> int:
    """Measure, and write or compare; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.capacity", description=__doc__)
    parser.add_argument(
        "--share", type=float, default=1.0, metavar="PART", help="of the requests worth it (%(default)g)"
    )
    parser.add_argument("--write", action="store_true", help=f"write {FIGURES.name}, which obs-hub plan reckons with")
    parser.add_argument("--check", action="store_true", help="compare with two sizes at the pace of real hosts")
    parser.add_argument("--check-seconds", type=float, default=_CYCLE, metavar="S", help="of each size (%(default)g)")
    arguments = parser.parse_args()
    progress = Console(stderr=True)
    with progress.status("starting") as status:
        if arguments.write or not arguments.check:
            text = json.dumps(dataclasses.asdict(figures(arguments.share, status.update)), indent=2)
            if arguments.write:
                FIGURES.write_text(f"{text}\n", "utf-8")
            else:
                print(text)
        if not arguments.check:
            return 0
        rows = list(check(arguments.check_seconds, status.update))
    for size, name, measured, reckoned, near in rows:
        off = reckoned / measured - 1
        print(f"{size:<12}{name:<20}{measured:>16,.4g}{reckoned:>16,.4g}{off:>+8.0%}  {'' if near else 'TOO FAR'}")
    return 0 if all(near for *_, near in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
