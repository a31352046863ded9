"""How many bytes a point a day of host metrics takes: raw, by minute and by hour, with indexes and dimensions.

    python -m tests.bench.day [--dsn ...] [--hosts 2] [--step 15]

Values are those of a host: of five series, two are counters of whole numbers (one stands still most of the time, as of
an idle disk), one is a share that is never twice the same, one is an amount of memory in pages, and one is constant.
Rollups are made as the gateway makes them. With TimescaleDB, all is measured in the columnstore, too.
"""

from __future__ import annotations

import argparse
from datetime import timedelta

import numpy as np
import psycopg

from gateway.store import Maintenance
from gateway.store.layout import ROLLUPS, Connection, Layout
from gateway.store.settings import StoreSettings
from tests.bench.database import fresh_database, make_store
from tests.bench.reads import ALIKE, METRICS, Floats, fill, server
from tests.bench.sizes import in_columnstore, size

KINDS = 5
DIMENSIONS = ("resource", "scope", "metric", "series", "series_set", "member", "metric_seen")


class Hosts:
    """The values of hosts over some steps, made once for each set."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._made: dict[int, Floats] = {}

    def __call__(self, number: int, first: int, steps: int, count: int) -> Floats:
        """Return those of a set: a row a step, a column a member."""
        if number not in self._made:
            dice = np.random.default_rng(number)
            columns = [self._series(kind % KINDS, dice) for kind in range(count)]
            self._made[number] = np.stack(columns, axis=1)
        return self._made[number][first : first + steps]

    def _series(self, kind: int, dice: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        steps = self._steps
        if kind == 0:  # bytes of a network interface
            return 10**9 + dice.poisson(dice.integers(1_000, 1_000_000), steps).cumsum() * 1.0
        if kind == 1:  # operations of a disk that is seldom used
            return 5_000.0 + (dice.poisson(20, steps) * (dice.random(steps) < 0.05)).cumsum()
        if kind == 2:  # share of processor time, by ticks
            busy, all_of_it = dice.poisson(90, steps), dice.integers(1_495, 1_505, steps)
            return busy / all_of_it
        if kind == 3:  # bytes of memory, by pages
            return 4_096.0 * (500_000 + dice.integers(-200, 201, steps).cumsum())
        return np.full(steps, float(dice.integers(1, 10**9)))  # a limit


def roll_up(connection: Connection, present: Layout) -> None:
    """Make all rollups, as gateways do that were told of the points."""
    for pending, column, unit in (("rollup_pending", "minute", "minute"), ("rollup_pending_1h", "hour", "hour")):
        connection.execute(
            f"INSERT INTO {pending} ({column}) SELECT DISTINCT date_trunc('{unit}', time) FROM frame"
            f" WHERE time < date_trunc('{unit}', now())".encode()
        )
    Maintenance(StoreSettings(), present).roll_up(connection)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsn", help="a PostgreSQL server on which databases may be made; default: the embedded one")
    parser.add_argument("--hosts", type=int, default=2, help=f"of {METRICS * ALIKE} series each (%(default)s)")
    parser.add_argument("--step", type=int, default=15, help="seconds from one point to the next (%(default)s)")
    arguments = parser.parse_args()
    step = timedelta(seconds=arguments.step)
    steps, series = timedelta(days=1) // step, arguments.hosts * METRICS * ALIKE
    with server(arguments.dsn) as its_dsn, fresh_database(its_dsn) as dsn:
        present = make_store(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            fill(connection, present, series, series * steps, step, Hosts(steps))
            roll_up(connection, present)
            points = series * steps
            print(f"{present.describe()}: {points:,} points, one in {arguments.step} s")
            dimensions = sum(_plain(connection, table) for table in DIMENSIONS)
            for where in ("as rows of arrays", "in the columnstore")[: 1 + present.community]:
                tables = ("frame", *(table for table in ROLLUPS if table.startswith("frame")))
                if where != "as rows of arrays":
                    for table in tables:
                        in_columnstore(connection, table)
                single = sum(size(connection, present, table) for table in ("sample", "sample_1m", "sample_1h"))
                each = {table: size(connection, present, table) for table in tables}
                each |= {"rows": single, "dimensions": dimensions}
                listed = ", ".join(f"{name} {its / points:.2f}" for name, its in each.items())
                print(f"{where}: {sum(each.values()) / points:.2f} bytes a point ({listed})", flush=True)


def _plain(connection: Connection, table: str) -> int:
    row = connection.execute("SELECT pg_total_relation_size(%s::regclass)", (table,)).fetchone()
    return int(row[0]) if row else 0


if __name__ == "__main__":
    main()
