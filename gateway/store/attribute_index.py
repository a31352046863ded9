"""The index by which logs and spans are found by their attributes, where the settings ask for it.

It is of partitions and chunks that hold nothing yet and those made from then on, like a changed ``chunk_interval``: to
build it on what is there would keep writers waiting for as long as that takes.
"""

from __future__ import annotations

import psycopg
import structlog
from psycopg import sql

from gateway.store import layout
from gateway.store.locks import Lock, hold
from gateway.store.partitions import existing
from gateway.store.schema import may_maintain
from gateway.store.settings import StoreSettings

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

TABLES = ("log", "span")


def apply(connection: layout.Connection, present: layout.Layout, settings: StoreSettings) -> None:
    """Make the index, or drop it. What a later version keeps there is left alone.

    Where others do not let go of a table for so long that it cannot be done now, the next start does it. Raises
    `psycopg.Error`.
    """
    if not may_maintain(connection):
        return
    try:
        with connection.transaction():
            hold(connection, Lock.MIGRATION)
            for table in TABLES:
                index = f"{table}_attributes_index"
                is_there = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (index,)).fetchone() == (True,)
                if settings.attribute_index and not is_there:
                    _make(connection, present, table, sql.Identifier(index))
                elif is_there and not settings.attribute_index:
                    connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(index)))
    except psycopg.errors.LockNotAvailable:
        _log.warning(
            "others hold on to a table, so the index of attributes is not yet as it is set; the next start tries again",
            attribute_index=settings.attribute_index,
        )


def _make(connection: layout.Connection, present: layout.Layout, table: str, index: sql.Identifier) -> None:
    by = sql.SQL("USING gin (attributes jsonb_path_ops)")
    connection.execute(sql.SQL("CREATE INDEX {} ON ONLY {} {}").format(index, sql.Identifier(table), by))
    if not present.native:
        return
    for schema, name, *_ in existing(connection, table):  # some are made ahead
        partition, its_index = sql.Identifier(schema, name), f"{name}_attributes_index"
        if connection.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(partition)).fetchone() is not None:
            continue
        connection.execute(sql.SQL("CREATE INDEX {} ON {} {}").format(sql.Identifier(its_index), partition, by))
        connection.execute(
            sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(index, sql.Identifier(schema, its_index))
        )
