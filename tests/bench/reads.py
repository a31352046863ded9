"""How long it takes to read number points: what Grafana panels and people ask, of a large store.

    python -m tests.bench.reads [--points 20000000] [--series 10000] [--dsn ...] [--plans]

A store is made by COPY: series of hosts that report every 15 seconds, in frames, until now. Then each query runs a few
times, by the views that users read, and the quickest and the median are told, in milliseconds at the client.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg

from exporters.timescale.sets import Piece, compose, member_rows
from gateway.embedded import EmbeddedPostgres
from gateway.store import COPY_HEADER, COPY_TRAILER, Partitions, apply_policies
from gateway.store.layout import Connection, Layout
from gateway.store.settings import StoreSettings
from tests.bench.database import fresh_database, make_store
from tests.support.frames import FRAME_COLUMNS, encoded_frames

STEP = timedelta(seconds=15)
METRICS = 25
"""Metrics of each host. A metric has 8 series a host."""
ALIKE = 8

QUERIES = {
    "one series over 1 h": (
        5.0,
        "SELECT time, value FROM metrics WHERE name = 'bench.metric.07' AND host_name = 'host-003'"
        " AND attributes @> '{{\"device\": \"dev-5\"}}' AND time > {now} - interval '1 hour' ORDER BY time",
    ),
    "one series over 1 h, by its id": (
        5.0,
        "SELECT time, value FROM metrics WHERE series_id = (SELECT min(series_id) FROM metric_series"
        " WHERE name = 'bench.metric.07' AND host_name = 'host-003')"
        " AND time > {now} - interval '1 hour' ORDER BY time",
    ),
    "newest 100 of a metric of a host": (
        10.0,
        "SELECT * FROM metrics WHERE name = 'bench.metric.07' AND host_name = 'host-003' ORDER BY time DESC LIMIT 100",
    ),
    "latest of every series of a metric": (30.0, "SELECT * FROM metrics_latest WHERE name = 'bench.metric.07'"),
    "a metric by minute over 5 h, its mean": (
        300.0,
        "SELECT date_bin('1 minute', time, 'epoch') AS minute, avg(value) FROM metrics"
        " WHERE name = 'bench.metric.07' AND time > {now} - interval '5 hours' GROUP BY 1 ORDER BY 1",
    ),
    "a metric by minute over 5 h, for each series": (
        300.0,
        "SELECT date_bin('1 minute', time, 'epoch') AS minute, series_id, avg(value) FROM metrics"
        " WHERE name = 'bench.metric.07' AND time > {now} - interval '5 hours' GROUP BY 1, 2",
    ),
    "newest 100 of a metric of a host, by function": (
        10.0,
        "SELECT * FROM newest_points('bench.metric.07', 'host-003')",
    ),
    "what there is": (5.0, "SELECT * FROM metric_catalogue"),
}
"""Queries, each with what it is to take at most in milliseconds. ``{now}`` is when the points end."""


Floats = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Values = Callable[[int, int, int, int], Floats]
"""Makes the values of a set, from its number, the first of some steps, how many these are, and of how many members."""


def walking(number: int, first: int, steps: int, count: int) -> Floats:
    """Values that walk in steps, so that each is another and all are like those before."""
    dice = np.random.default_rng([number, first])
    return 50 + dice.integers(-5, 6, (steps, count)).cumsum(axis=0) / 8


def fill(
    connection: Connection,
    present: Layout,
    series: int,
    points: int,
    step: timedelta = STEP,
    values: Values = walking,
) -> datetime:
    """Store points of so many series in all, and statistics; return when the last was observed."""
    settings = StoreSettings()
    steps = max(points // series, 1)
    end = datetime.now(UTC).replace(microsecond=0)
    times = np.array([_microseconds(end - n * step) for n in range(steps - 1, -1, -1)], np.int64)
    pieces = _dimensions(connection, series)
    if present.native:
        its_partitions = Partitions(settings.chunk_interval)
        moments = [_microseconds(end - steps * step), *times.tolist()]
        numbers = {at // (settings.chunk_interval // timedelta(microseconds=1)) for at in moments}
        for table in ("frame", "sample"):
            its_partitions.ensure(connection, table, numbers)
    else:
        apply_policies(connection, present, settings)
    # In the order in which gateways write: collection by collection, here of some minutes at a time.
    with connection.cursor().copy(_COPY) as stream:
        stream.write(COPY_HEADER)
        for first in range(0, steps, 64):
            some = times[first : first + 64]
            rows = [
                encoded_frames(
                    piece.set_id, some * 1_000 + 417, values(number, first, len(some), piece.end - piece.first)
                )
                for number, piece in enumerate(pieces)
            ]
            for n in range(len(some)):
                stream.write(b"".join([its[n].tobytes() for its in rows]))
        stream.write(COPY_TRAILER)
    # Of a process's first collection, points are rows.
    connection.execute(
        "INSERT INTO sample (time, series_id, value, time_ns) SELECT %s, id, 1, 0 FROM series", (end - steps * step,)
    )
    for table in ("series", "member", "frame", "sample", "metric", "resource", "scope"):
        connection.execute(f"VACUUM (ANALYZE) {table}".encode())
    return end


_COPY = f"COPY frame ({FRAME_COLUMNS}) FROM STDIN (FORMAT binary)"


def _microseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _dimensions(connection: Connection, series: int) -> list[Piece]:
    """Store the dimensions of so many series; return their sets."""
    dice = np.random.default_rng(1)
    hosts = max(series // (METRICS * ALIKE), 1)
    host_ids, metric_ids = (dice.integers(-(2**62), 2**62, n) for n in (hosts, METRICS))
    connection.execute("INSERT INTO scope (id, name, epoch) VALUES (1, 'bench', 0)")
    connection.execute(
        "INSERT INTO resource (id, attributes, epoch) SELECT id, jsonb_build_object('host.name',"
        " format('host-%%s', to_char(n - 1, 'FM000')), 'service.name', 'bench', 'os.type', 'linux'), 0"
        " FROM unnest(%s::bigint[]) WITH ORDINALITY AS new (id, n)",
        (host_ids.tolist(),),
    )
    connection.execute(
        "INSERT INTO metric (id, name, type, unit, description, temporality, is_monotonic, epoch)"
        " SELECT id, format('bench.metric.%%s', to_char(n - 1, 'FM00')), 'gauge', '1', 'A metric.', 0, false, 0"
        " FROM unnest(%s::bigint[]) WITH ORDINALITY AS new (id, n)",
        (metric_ids.tolist(),),
    )
    count = hosts * METRICS * ALIKE
    ids = dice.integers(-(2**62), 2**62, count)
    whose = np.repeat(host_ids, METRICS * ALIKE)
    what = np.tile(np.repeat(metric_ids, ALIKE), hosts)
    connection.execute(
        "INSERT INTO series SELECT id, metric_id, resource_id, 1,"
        " jsonb_build_object('device', format('dev-%%s', n %% 8), 'state', 'used', 'mode', 'rw'), 0"
        " FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS new (id, metric_id, resource_id, n)",
        (ids.tolist(), what.tolist(), whose.tolist()),
    )
    pieces = compose(ids, np.zeros(count, np.uint8), whose, what).pieces
    connection.execute(
        "INSERT INTO series_set SELECT id, 0 FROM unnest(%s::bigint[]) AS new (id)",
        ([piece.set_id for piece in pieces],),
    )
    with connection.cursor().copy(
        "COPY member (set_id, series_id, ord, is_int, has_start) FROM STDIN (FORMAT binary)"
    ) as stream:
        stream.write(COPY_HEADER)
        for piece in pieces:
            stream.write(member_rows(piece.set_id, piece.members))
        stream.write(COPY_TRAILER)
    return pieces


def measure(connection: Connection, query: str, rounds: int) -> tuple[list[float], int]:
    """Run a query; return how long each time took, in milliseconds, and how many rows it has."""
    took, count = [], 0
    for _ in range(rounds):
        began = time.perf_counter()
        count = len(connection.execute(query.encode()).fetchall())
        took.append(1000 * (time.perf_counter() - began))
    return sorted(took), count


@contextlib.contextmanager
def server(dsn: str | None) -> Iterator[str]:
    """Yield how to connect to a server: the one that is named, or an embedded one for the length of a block."""
    if dsn is not None:
        yield dsn
        return
    with (
        tempfile.TemporaryDirectory(prefix="obs-hub-bench-") as directory,
        EmbeddedPostgres(Path(directory) / "postgres") as postgres,
    ):
        yield postgres.dsn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=20_000_000, help="points in all (%(default)s)")
    parser.add_argument("--series", type=int, default=10_000, help="series they are of (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="times that each query runs (%(default)s)")
    parser.add_argument("--dsn", help="a PostgreSQL server on which databases may be made; default: the embedded one")
    parser.add_argument("--plans", action="store_true", help="print how each query is planned")
    arguments = parser.parse_args()
    with server(arguments.dsn) as its_dsn, fresh_database(its_dsn) as dsn:
        present = make_store(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            began = time.perf_counter()
            end = fill(connection, present, arguments.series, arguments.points)
            print(f"{present.describe()}: made in {time.perf_counter() - began:.0f} s")
            for name, (target, query) in QUERIES.items():
                query = query.format(now=f"timestamptz '{end.isoformat()}'")
                took, rows = measure(connection, query, arguments.rounds)
                print(
                    f"{name:45} {took[0]:8.1f} ms at best, {statistics.median(took):8.1f} ms in the median"
                    f" ({target:g} wanted), {rows} rows"
                )
                if arguments.plans:
                    for (line,) in connection.execute(f"EXPLAIN (ANALYZE, BUFFERS) {query}".encode()):
                        print(f"    {line}")


if __name__ == "__main__":
    main()
