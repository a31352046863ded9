"""Logs and spans are found by their attributes through an index, where ``attribute_index`` asks for one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from psycopg.conninfo import make_conninfo

from gateway.store.attribute_index import TABLES
from tests.support.databases import Database, Server
from tests.support.logged import Logged
from tests.support.stores import migrate, running_exporter, store
from tests.support.telemetry import DAY, logs, now, spans

INDEXES = (
    "SELECT i.indrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    " JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'gin' ORDER BY 1"
)


def indexed(database: Database) -> list[str]:
    """Everything that has the index: tables, and partitions or chunks."""
    return [name for (name,) in database.run(INDEXES)]


def start(database: Database, *, attribute_index: bool) -> Awaitable[None]:
    async def run() -> None:
        async with running_exporter(database, attribute_index=attribute_index):
            pass

    return run()


def plan(database: Database, query: str) -> str:
    with database.connect() as connection:
        connection.execute("SET enable_seqscan = off")  # of so few rows, reading all is quicker
        return "\n".join(line for (line,) in connection.execute(f"EXPLAIN {query}".encode()))


async def test_there_is_none_unless_it_is_asked_for(database: Database) -> None:
    await start(database, attribute_index=False)
    assert indexed(database) == []


async def test_attributes_are_looked_up_in_logs_and_spans(database: Database) -> None:
    async with running_exporter(database, attribute_index=True) as exporter:
        await store(exporter, logs("one", "two"), spans("three"))
        database.run('UPDATE log SET attributes = \'{"user": "ada", "n": [1, 2]}\' WHERE body = \'two\'')
        database.run('UPDATE span SET attributes = \'{"user": "ada"}\'')
    assert database.run('SELECT body FROM logs WHERE attributes @> \'{"user": "ada", "n": [2]}\'') == [("two",)]
    for view in ("logs", "spans"):
        its = plan(database, f'SELECT * FROM {view} WHERE attributes @> \'{{"user": "ada"}}\'')
        assert "Index Cond: (attributes @>" in its


async def test_what_is_there_already_is_left_and_what_comes_is_indexed(database: Database) -> None:
    """Nobody who stores records waits until an index on all that there is has been built."""
    async with running_exporter(database) as exporter:
        await store(exporter, logs("old"))
        (before,) = database.run("SELECT tableoid::regclass::text FROM log")
    async with running_exporter(database, attribute_index=True) as exporter:
        await store(exporter, logs("older", at=now() - 5 * DAY), spans("new"))
        await store(exporter, logs("old"))
        (of_before,) = database.run("SELECT tableoid::regclass::text FROM log WHERE body = 'older'")
        (of_spans,) = database.run("SELECT tableoid::regclass::text FROM span")
    its = indexed(database)
    assert {*TABLES, *of_before, *of_spans} <= set(its)
    assert before[0] not in its
    assert database.count("logs") == 3
    await start(database, attribute_index=True)
    assert indexed(database) == its
    await start(database, attribute_index=False)
    assert indexed(database) == []


async def test_partitions_that_were_made_ahead_get_it(native_database: Database) -> None:
    await start(native_database, attribute_index=False)
    await start(native_database, attribute_index=True)
    assert len(indexed(native_database)) == len(TABLES) * (1 + 3)
    valid = "SELECT bool_and(indisvalid) FROM pg_index WHERE indexrelid IN ('log_attributes_index'::regclass,"
    assert native_database.run(f"{valid} 'span_attributes_index'::regclass)") == [(True,)]


async def test_several_gateways_start_at_once(database: Database) -> None:
    await asyncio.gather(*(start(database, attribute_index=True) for _ in range(3)))
    assert {*TABLES} <= set(indexed(database))


async def test_a_store_whose_tables_are_held_is_used_without(native_database: Database, logged: Logged) -> None:
    migrate(native_database)
    server = native_database.server
    impatient = Server(server.layout, make_conninfo(server.dsn, options="-c lock_timeout=50ms"))
    with native_database.connect() as other, other.transaction():
        other.execute("LOCK TABLE span IN ROW EXCLUSIVE MODE")
        async with running_exporter(Database(impatient, native_database.name), attribute_index=True) as exporter:
            assert await store(exporter, logs("one")) == [True]
    assert "attribute_index=True" in logged.text
    assert indexed(native_database) == []
    await start(native_database, attribute_index=True)
    assert {*TABLES} <= set(indexed(native_database))
