"""Several gateways on one database: what a record costs each of them, and what they do besides.

    python -m tests.bench.gateways [--gateways 1 2 4] [--signal metrics] [--rounds 3] [--requests 60]

Each gateway is a process of its own on the same database, and gets requests of its own, all at the same time; the
series are the same everywhere. Told are the records per CPU second of the gateways, all of them together: were a
gateway more expensive because others are there, that would fall with their number.

It falls for another reason, too: on a machine with fewer cores than there are processes, each of them finds the caches
of a processor cold that another has just used. So as many gateways are measured with a database each (`apart`), on the
same server: what they cost more on one database than so is what sharing it costs. Numbers are measured in turn, round
by round, so that whatever else the machine does meets all of them, and the CPU seconds of all rounds are added up.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway.component import Signal
from gateway.embedded import EmbeddedPostgres
from tests.bench.database import Store, fresh_database
from tests.bench.loader import Loader, job_for
from tests.bench.loads import RECORDS_PER_REQUEST, Load
from tests.bench.measure import RowsLostError
from tests.bench.payloads import first_time
from tests.bench.subject import Subject

_WARM_UP = 8
_SPOOL_SECONDS = 120.0


@contextlib.contextmanager
def server(dsn: str | None) -> Iterator[str]:
    """The server on which databases are made: the one that is named, or an embedded one."""
    if dsn is not None:
        yield dsn
        return
    with tempfile.TemporaryDirectory(prefix="obs-hub-bench-") as folder:
        Path(folder).chmod(0o711)
        with EmbeddedPostgres(Path(folder) / "postgres") as postgres:
            yield postgres.dsn


def measure(count: int, load: Load, requests: int, server_dsn: str, *, apart: bool = False) -> tuple[int, float]:
    """Return the records and CPU seconds of so many gateways on a fresh database, or on one each.

    Raises `RowsLostError`.
    """
    with contextlib.ExitStack() as stack:
        databases = [stack.enter_context(fresh_database(server_dsn)) for _ in range(count if apart else 1)]
        subjects = [stack.enter_context(Subject(databases[number % len(databases)])) for number in range(count)]
        each = _WARM_UP + requests
        began = first_time()
        jobs = [
            dataclasses.replace(
                job_for(load, subject.endpoint(load.protocol), began, first=number * each, warm_up=_WARM_UP, workers=1),
                requests=requests,
            )
            for number, subject in enumerate(subjects)
        ]
        loaders = [stack.enter_context(Loader(job)) for job in jobs]  # warm from here on
        before = [subject.usage() for subject in subjects]
        with ThreadPoolExecutor(count) as threads:
            sent = list(threads.map(Loader.run, loaders))
        stores = [stack.enter_context(Store(database)) for database in databases]
        expected = (sum(its.requests for its in sent) + count * _WARM_UP) * load.records
        deadline = time.monotonic() + _SPOOL_SECONDS
        while (rows := sum(store.rows(load.signal) for store in stores)) < expected and time.monotonic() < deadline:
            time.sleep(1)  # what was answered from a spool is on its way
        if rows != expected:
            raise RowsLostError(f"{count} gateways: {expected} records acknowledged, {rows} in the store")
        used = sum(subject.usage().since(then) for subject, then in zip(subjects, before, strict=True))
        return sum(its.requests for its in sent) * load.records, used


def main() -> None:
    """Measure, and print a line for each number of gateways."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gateways")
    parser.add_argument("--gateways", type=int, nargs="+", default=[1, 2, 4], metavar="N")
    parser.add_argument("--signal", choices=[signal.value for signal in Signal], default="metrics")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--requests", type=int, default=60, metavar="N", help="for each gateway (%(default)s)")
    parser.add_argument("--series", type=int, default=10_000, metavar="N")
    parser.add_argument("--dsn", help="a PostgreSQL server on which databases may be made and dropped")
    chosen = parser.parse_args()
    signal = Signal(chosen.signal)
    load = Load(signal, "grpc", RECORDS_PER_REQUEST[signal], in_flight=4, series=chosen.series)
    found: dict[tuple[int, bool], list[tuple[int, float]]] = {
        (count, apart): [] for count in chosen.gateways for apart in (False, True) if count > 1 or not apart
    }
    print(f"load average of the minute before: {os.getloadavg()[0]:.1f}, on {os.cpu_count()} cores")
    with server(chosen.dsn) as dsn:
        for _ in range(chosen.rounds):
            for (count, apart), rounds in found.items():
                rounds.append(measure(count, load, chosen.requests, dsn, apart=apart))
    rates = {
        key: sum(records for records, _ in rounds) / sum(used for _, used in rounds) for key, rounds in found.items()
    }
    first = rates[next(iter(rates))]
    for (count, apart), rate in rates.items():
        rounds = ", ".join(f"{records / used:,.0f}" for records, used in found[count, apart])
        where = "a database each" if apart else "one database"
        shared = f", shared {rates[count, False] / rate - 1:+.1%}" if apart else ""
        print(
            f"{count} gateways, {where}: {rate:,.0f} records per CPU second, {rate / first - 1:+.1%} to the first"
            f"{shared} (each round: {rounds})"
        )


if __name__ == "__main__":
    main()
