"""How many bytes a data point takes: number points in frames, histograms, exponential histograms and summaries.

    python -m tests.bench.sizes [--dsn ...] [--points 2000000]

Distributions are measured twice, as they are stored and as they were when each point had its bounds, quantiles and
counts of 8 bytes, with their index. On a server with TimescaleDB both are also measured in the columnstore.
"""

from __future__ import annotations

import argparse
from typing import Any

import psycopg

from gateway.store.layout import Connection, Layout
from tests.bench.database import fresh_database, make_store
from tests.bench.reads import fill, server

_SERIES, _STEPS = 200, 240

# Cumulative, as SDKs send them: counts that grow, most in the middle.
_COUNTS = "(SELECT array_agg((500 * n / (1 + abs(b - {0} / 2)))::{1} ORDER BY b) FROM generate_series(1, {0}) b)"
_HEAD = "time, series_id, time_ns, start_time, start_time_ns, count, sum"
_VALUES = (
    "SELECT now() - (%(steps)s - n) * interval '15 s', s.id, 417, now() - interval '3 hours', 205, 90 * n, 17.3 * n"
)
_FROM = " FROM generate_series(1, %(steps)s) n CROSS JOIN series s ORDER BY n, s.id"
_BOUNDS = "(SELECT array_agg(0.005 * 2 ^ b ORDER BY b) FROM generate_series(1, {}) b)"


def _histogram(bounds: int) -> tuple[str, str]:
    counts, its_bounds = bounds + 1, _BOUNDS.format(bounds)
    return (
        f"INSERT INTO histogram_sample ({_HEAD}, min, max, bounds_id, small_bucket_counts)"
        f" {_VALUES}, 0.001, 9.7, 1, {_COUNTS.format(counts, 'integer')}{_FROM}",
        f"INSERT INTO histogram_sample ({_HEAD}, min, max, explicit_bounds, bucket_counts)"
        f" {_VALUES}, 0.001, 9.7, {its_bounds}, {_COUNTS.format(counts, 'bigint')}{_FROM}",
    )


def _exponential(buckets: int) -> tuple[str, str]:
    head = f"INSERT INTO exp_histogram_sample ({_HEAD}, min, max, scale, zero_count, zero_threshold, positive_offset,"
    values = f"{_VALUES}, 0.001, 9.7, 3, 0, 0, -30,"
    return (
        f"{head} small_positive_bucket_counts) {values} {_COUNTS.format(buckets, 'integer')}{_FROM}",
        f"{head} positive_bucket_counts) {values} {_COUNTS.format(buckets, 'bigint')}{_FROM}",
    )


def _summary(quantiles: int) -> tuple[str, str]:
    values = f"(SELECT array_agg(n * 0.37 / b ORDER BY b) FROM generate_series(1, {quantiles}) b)"
    return (
        f"INSERT INTO summary_sample ({_HEAD}, quantiles_id, quantile_values) {_VALUES}, 1, {values}{_FROM}",
        f"INSERT INTO summary_sample ({_HEAD}, quantiles, quantile_values)"
        f" {_VALUES}, {_BOUNDS.format(quantiles)}, {values}{_FROM}",
    )


KINDS = {
    "histogram, 10 bounds": ("histogram_sample", _histogram(10)),
    "histogram, 14 bounds": ("histogram_sample", _histogram(14)),
    "histogram, 20 bounds": ("histogram_sample", _histogram(20)),
    "exponential histogram, 20 buckets": ("exp_histogram_sample", _exponential(20)),
    "exponential histogram, 160 buckets": ("exp_histogram_sample", _exponential(160)),
    "summary, 5 quantiles": ("summary_sample", _summary(5)),
}


def size(connection: Connection, present: Layout, table: str) -> int:
    """Return the bytes of a table with its indexes and all that belongs to it."""
    query = (
        "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = %s::regclass"
        if present.native
        else "SELECT total_bytes FROM hypertable_detailed_size(%s::regclass)"
    )
    row = connection.execute(query.encode(), (table,)).fetchone()
    return int(row[0] or 0) if row else 0


def in_columnstore(connection: Connection, table: str) -> None:
    """Convert all chunks of a hypertable."""
    for (chunk,) in connection.execute("SELECT show_chunks(%s::regclass)::text", (table,)).fetchall():
        connection.execute(f"CALL convert_to_columnstore('{chunk}')".encode())


def measured(connection: Connection, present: Layout, table: str, points: int) -> str:
    """Say how many bytes a point of a table takes, and in the columnstore, where there is one."""
    text = f"{size(connection, present, table) / points:8.1f}"
    if present.community:
        in_columnstore(connection, table)
        text += f" {size(connection, present, table) / points:8.2f} in the columnstore"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsn", help="a PostgreSQL server on which databases may be made; default: the embedded one")
    parser.add_argument("--points", type=int, default=2_000_000, help="number points (%(default)s)")
    parser.add_argument("--series", type=int, default=10_000, help="series they are of (%(default)s)")
    arguments = parser.parse_args()
    with server(arguments.dsn) as its_dsn, fresh_database(its_dsn) as dsn:
        present = make_store(dsn)
        print(present.describe())
        with psycopg.connect(dsn, autocommit=True) as connection:
            fill(connection, present, arguments.series, arguments.points)
            print(f"{'number points in frames':36} {measured(connection, present, 'frame', arguments.points)}")
            connection.execute("DELETE FROM sample")
            connection.execute("DELETE FROM series WHERE id NOT IN (SELECT id FROM series LIMIT %s)", (_SERIES,))
            if present.native:
                for table in ("histogram_sample", "exp_histogram_sample", "summary_sample"):
                    connection.execute(f"CREATE TABLE {table}_all PARTITION OF {table} DEFAULT".encode())
            parameters: dict[str, Any] = {"steps": _STEPS}
            for name, (table, statements) in KINDS.items():
                for which, statement in zip(("now", "before"), statements, strict=True):
                    if present.native:
                        connection.execute(f"TRUNCATE {table}".encode())
                    else:
                        connection.execute("SELECT drop_chunks(%s, now() + interval '2 days')", (table,))
                    connection.execute(statement.encode(), parameters)
                    its = measured(connection, present, table, _SERIES * _STEPS)
                    print(f"{f'{name}, {which}':45}{its}", flush=True)


if __name__ == "__main__":
    main()
