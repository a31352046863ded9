"""How many bytes a log record and a span take, what indexes for searching in them cost, and what they bring.

    python -m tests.bench.records [--dsn ...] [--records 200000]

The rows of the benchmark's load (8 attributes, of which one is unique and one has 5,000 values) are encoded as the
gateway does, and copied within the server into tables with other indexes, or ids in binary. CPU seconds are of the
server's process, where that is on this machine. Trigrams are measured where the server has the extension pg_trgm.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from gateway.component import Signal
from gateway.store.layout import Connection
from tests.bench.database import fresh_database, make_store
from tests.bench.limit import Limit
from tests.bench.payloads import Payloads
from tests.bench.reads import server

_A_REQUEST = 1_000
_TICKS = 100
"""Of Linux, a second."""

_IDS = {"log": ("trace_id", "span_id"), "span": ("trace_id", "span_id", "parent_span_id")}
_ATTRIBUTES = "USING gin (attributes jsonb_path_ops)"
SEARCHES = {
    "attributes": (
        _ATTRIBUTES,
        """attributes @> (SELECT jsonb_build_object('enduser.id', attributes -> 'enduser.id') FROM t LIMIT 1)""",
    ),
    "words of the body": (
        "USING gin (to_tsvector('simple', body))",
        "to_tsvector('simple', body) @@ plainto_tsquery('simple', '13 handled')",
    ),
    "trigrams of the body": ("USING gin (body gin_trgm_ops)", "body ILIKE '%worker 13%'"),
}
"""What may be indexed for searching: the index, and what it is for."""


class Server:
    """The CPU seconds of the process behind a connection."""

    def __init__(self, connection: Connection) -> None:
        self._stat = Path(f"/proc/{connection.info.backend_pid}/stat")

    @contextmanager
    def spent(self) -> Iterator[list[float]]:
        """Yield a list that has the seconds at the end of the block; of the clock, where the process is elsewhere."""
        took: list[float] = []
        began = self._now()
        yield took
        took.append(self._now() - began)

    def _now(self) -> float:
        try:
            fields = self._stat.read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            return time.perf_counter()
        return (int(fields[11]) + int(fields[12])) / _TICKS


def fill(connection: Connection, dsn: str, table: str, signal: Signal, records: int) -> None:
    """Store the load of a signal, and have it in a table without indexes, in the order in which it came."""
    payloads = Payloads(signal, _A_REQUEST, _A_REQUEST, time.time_ns())
    present = make_store(dsn)
    with Limit(dsn, present, payloads) as limit:
        for first in range(0, records // _A_REQUEST, 20):
            limit.copy(limit.encode(range(first, min(first + 20, records // _A_REQUEST))), 20)
    connection.execute(f"CREATE TABLE came AS SELECT * FROM {table} ORDER BY time, resource_id".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsn", help="a PostgreSQL server on which databases may be made; default: the embedded one")
    parser.add_argument("--records", type=int, default=200_000, help="of each signal (%(default)s)")
    arguments = parser.parse_args()
    with server(arguments.dsn) as its_dsn:
        for table, signal in (("log", Signal.LOGS), ("span", Signal.TRACES)):
            with fresh_database(its_dsn) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
                fill(connection, dsn, table, signal, arguments.records)
                connection.execute("SET max_parallel_workers_per_gather = 0")
                with suppress(psycopg.Error):
                    connection.execute("CREATE EXTENSION pg_trgm")
                _measure(connection, table)


def _measure(connection: Connection, table: str) -> None:
    def line(name: str, indexes: list[str], source: str = "SELECT * FROM came") -> None:
        connection.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t AS {source} LIMIT 0".encode())
        for index in indexes:
            connection.execute(f"CREATE INDEX ON t {index}".encode())
        with process.spent() as took:
            count = connection.execute(f"INSERT INTO t {source}".encode()).rowcount
        (heap, its) = connection.execute("SELECT pg_relation_size('t'), pg_indexes_size('t')").fetchone() or (0, 0)
        print(
            f"{table:5} {name:32} {took[0] / count * 1e6:7.1f} CPU s/M {(heap + its) / count:7.0f} bytes a record,"
            f" of it indexes {its / count:5.0f}",
            flush=True,
        )

    process = Server(connection)
    indexes = [
        definition.partition("USING btree ")[2]
        for (definition,) in connection.execute("SELECT indexdef FROM pg_indexes WHERE tablename = %s", (table,))
        if "USING btree" in definition
    ]
    columns = ", ".join(
        f"decode({name}, 'hex') AS {name}" if name in _IDS[table] else name
        for (name,) in connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'came'::regclass AND attnum > 0 ORDER BY attnum"
        )
    )
    line("no index", [])
    line("as stored", indexes)
    line("times in indexes ascending", [each.replace(" DESC", "") for each in indexes])
    line("ids in binary", indexes, f"SELECT {columns} FROM came")
    for name, (index, condition) in SEARCHES.items():
        if table == "span" and "body" in index:
            continue
        connection.execute("DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT * FROM came")
        connection.execute("VACUUM ANALYZE t")
        without = _search(connection, process, condition)
        try:
            line(f"with {name}", [*indexes, index])
        except psycopg.errors.UndefinedObject:
            continue  # no pg_trgm
        connection.execute("VACUUM ANALYZE t")
        print(f"      {condition[:40]}…: {without:.0f} ms/M, by index {_search(connection, process, condition):.0f}")


def _search(connection: Connection, process: Server, condition: str) -> float:
    """Return the milliseconds that a search takes of a million records."""
    (records,) = connection.execute("SELECT count(*) FROM t").fetchone() or (0,)
    with process.spent() as took:
        for _ in range(5):
            connection.execute(f"SELECT count(*) FROM t WHERE {condition}".encode())
    return took[0] / 5 * 1e3 / records * 1e6


if __name__ == "__main__":
    main()
