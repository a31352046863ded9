"""Databases of the benchmark: made fresh, looked into, dropped."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from exporters.timescale import layout, schema
from exporters.timescale.connections import Connections
from gateway.pipeline import Signal

TABLES = {Signal.METRICS: "sample", Signal.TRACES: "span", Signal.LOGS: "log"}

_OWN = "SELECT id FROM resource WHERE service_name = 'obs-hub'"
"""The gateway's telemetry about itself is stored beside the load, and not counted."""
_OWN_ROWS = {
    Signal.METRICS: f"SELECT count(*) FROM sample WHERE series_id IN (SELECT id FROM series WHERE resource_id IN ({_OWN}))",
    Signal.TRACES: f"SELECT count(*) FROM span WHERE resource_id IN ({_OWN})",
    Signal.LOGS: f"SELECT count(*) FROM log WHERE resource_id IN ({_OWN})",
}


@contextlib.contextmanager
def fresh_database(server_dsn: str) -> Iterator[str]:
    """Make a database on a server for the length of a block; yield its connection string."""
    name = f"obs_hub_bench_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield make_conninfo(server_dsn, dbname=name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def make_store(dsn: str) -> layout.Layout:
    """Make the schema, the same that the gateway makes."""
    return schema.migrate(Connections(dsn))


def describe_server(dsn: str) -> str:
    """Say what the store is."""
    with psycopg.connect(dsn) as connection:
        present = layout.current(connection)
    return "no store" if present is None else present.describe()


@dataclass(slots=True, frozen=True)
class Commits:
    """What was committed in a time: how many transactions, of how many batches, and how fast.

    The rate is taken from the beginning of the first transaction to the beginning of the last, by the server's clock;
    the last one's batches do not count, as its end is not known.
    """

    transactions: int
    batches: int
    batches_per_second: float

    @property
    def batches_per_transaction(self) -> float:
        """How many batches one transaction had on average."""
        return self.batches / self.transactions


class Store:
    """Looks into a store from outside."""

    def __init__(self, dsn: str) -> None:
        self._connection: layout.Connection = psycopg.connect(dsn, autocommit=True)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def rows(self, signal: Signal) -> int:
        """Count the rows of a signal, the gateway's telemetry about itself left out."""
        return int(self._one(f"SELECT count(*) FROM {TABLES[signal]}")) - int(self._one(_OWN_ROWS[signal]))

    def size(self) -> int:
        """Return the size of the whole database in bytes, indexes and dimensions included."""
        return int(self._one("SELECT pg_database_size(current_database())"))

    def commits(self, digests: Sequence[bytes]) -> Commits:
        """Return how the gateway has committed the batches with these digests, from its receipts."""
        query = "SELECT received_at, count(*) FROM receipt WHERE digest = ANY(%s) GROUP BY 1 ORDER BY 1"
        found = self._connection.execute(query, ([uuid.UUID(bytes=each) for each in digests],)).fetchall()
        batches = sum(count for _, count in found)
        if len(found) < 2:
            return Commits(len(found), batches, 0.0)
        seconds = (found[-1][0] - found[0][0]).total_seconds()
        return Commits(len(found), batches, (batches - found[-1][1]) / seconds)

    def checkpoint(self) -> None:
        """Let the server write down what it owes, where it lets us, so that no measurement pays for an earlier one."""
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            self._connection.execute("CHECKPOINT")

    def _one(self, query: str) -> object:
        row = self._connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]
