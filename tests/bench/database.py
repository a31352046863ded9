"""Databases of the benchmark: made fresh, looked into, dropped."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from gateway.component import Signal
from gateway.store import layout, schema
from gateway.store.connections import Connections

_SPOOL_TIMEOUT = 30.0
_POLL = 0.2

TABLES = {Signal.METRICS: "number_point", Signal.TRACES: "span", Signal.LOGS: "log"}

_OWN = "SELECT id FROM resource WHERE service_name = 'obs-hub'"
_IS_OWN = {
    Signal.METRICS: f"series_id IN (SELECT id FROM series WHERE resource_id IN ({_OWN}))",
    Signal.TRACES: f"resource_id IN ({_OWN})",
    Signal.LOGS: f"resource_id IN ({_OWN})",
}
"""Tells the gateway's telemetry about itself, which is stored beside the load."""


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
        return self.batches / max(self.transactions, 1)


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
        # One statement, one snapshot: the gateway's own telemetry may come in at any moment.
        return self._number(f"SELECT count(*) FILTER (WHERE NOT {_IS_OWN[signal]}) FROM {TABLES[signal]}")

    def size(self) -> int:
        """Return the size of the whole database in bytes, indexes and dimensions included."""
        return self._number("SELECT pg_database_size(current_database())")

    def commits(self, digests: Sequence[bytes]) -> Commits:
        """Return how the gateway has committed the batches with these digests, from its receipts.

        Waits a while for batches that are acknowledged and not committed yet, because a spool holds them.
        """
        query = "SELECT received_at, count(*) FROM receipt WHERE digest = ANY(%s) GROUP BY 1 ORDER BY 1"
        parameters = ([uuid.UUID(bytes=each) for each in digests],)
        deadline = time.monotonic() + _SPOOL_TIMEOUT
        while True:
            found = self._connection.execute(query, parameters).fetchall()
            batches = sum(count for _, count in found)
            if batches >= len(digests) or time.monotonic() > deadline:
                break
            time.sleep(_POLL)
        if len(found) < 2:
            return Commits(len(found), batches, 0.0)
        seconds = (found[-1][0] - found[0][0]).total_seconds()
        return Commits(len(found), batches, (batches - found[-1][1]) / seconds)

    def checkpoint(self) -> None:
        """Let the server write down what it owes, where it lets us, so that no measurement pays for an earlier one."""
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            self._connection.execute("CHECKPOINT")

    def _number(self, query: str) -> int:
        row = self._connection.execute(query.encode()).fetchone()
        assert row is not None
        return int(row[0])
