"""The Timescale exporter at work on a test's database."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeter
from opentelemetry.trace import NoOpTracer

from exporters.timescale.config import TimescaleConfig
from exporters.timescale.exporter import TimescaleExporter
from exporters.timescale.writer import PreparedRows
from gateway.component import Batch, Outcome, Signal
from gateway.pipeline import Delivery, Instruments, Pipeline
from gateway.query.limits import UNBOUNDED, Limits, Usage
from gateway.query.reading.connection import Readers
from gateway.query.store import Store
from gateway.store import schema
from gateway.store.connections import Connections
from gateway.store.layout import METRIC_FACTS, ROLLUPS, Layout
from gateway.store.maintenance import Maintenance
from gateway.store.migrations import all_migrations
from gateway.store.turns import Turn
from tests.support.databases import Database
from tests.support.waiting import PATIENCE


def settings(**changes: Any) -> TimescaleConfig:
    """The default settings with these changes, with maintenance left to the test, and patience with a busy machine."""
    return TimescaleConfig.model_validate({"maintenance_interval": "1h", "timeout": f"{PATIENCE:g}s", **changes})


@asynccontextmanager
async def running_exporter(database: Database, **changes: Any) -> AsyncIterator[TimescaleExporter]:
    """An exporter that was started, and is stopped at the end of the block."""
    exporter = TimescaleExporter("timescale", settings(**changes), database.dsn)
    await exporter.start()
    try:
        yield exporter
    finally:
        await exporter.stop()


@asynccontextmanager
async def running_pipeline(database: Database, **changes: Any) -> AsyncIterator[Pipeline]:
    """A pipeline of all signals into one exporter, with natural batching between."""
    instruments = Instruments(NoOpMeter("tests"))
    its_settings = settings(**changes)
    exporter = TimescaleExporter("timescale", its_settings, database.dsn)
    delivery = Delivery(exporter, instruments, NoOpTracer(), settings=its_settings)
    await delivery.start()
    try:
        yield Pipeline({signal: [delivery] for signal in Signal}, 2**30, instruments)
    finally:
        await delivery.stop()


@contextmanager
def asked(database: Database, limits: Limits = UNBOUNDED) -> Iterator[Store]:
    """A database's store, to be read from as the commands and the page do."""
    with contextlib.closing(Readers(lambda: database.dsn)) as readers:
        yield Store.by(readers, Usage(limits))


async def store(exporter: TimescaleExporter, *batches: Batch) -> list[bool]:
    """Store batches in one commit; return, for each, whether it was new."""
    return await exporter.commit([await exporter.prepare(batch) for batch in batches])


def prepare(exporter: TimescaleExporter, batch: Batch) -> PreparedRows:
    """Encode a batch, for tests that need no event loop otherwise."""
    return asyncio.run(exporter.prepare(batch))


def outcome(exporter: TimescaleExporter, batch: Batch) -> Outcome:
    """What the sender of a batch is told about it."""
    return prepare(exporter, batch).outcome


def migrate(database: Database, layout: str = "auto") -> Layout:
    return schema.migrate(Connections(database.dsn), layout)


def make_store(database: Database) -> None:
    """Make a store as a first start leaves it: with the present partitions, which take longer than all the rest."""
    present = migrate(database)
    if present.native:
        with Connections(database.dsn).open() as connection:
            Maintenance(settings(), present).make_partitions(connection)


def make_earlier(database: Database, revision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a store as a version of the gateway whose last migration is this one."""
    known = [migration for migration in all_migrations() if migration.revision <= revision]
    with monkeypatch.context() as patched:
        patched.setattr(schema, "all_migrations", lambda: known)
        migrate(database)


def maintain(database: Database, **changes: Any) -> None:
    """Do one round of maintenance, now. Another one may just be under way: the exporter's, which begins with one."""
    maintenance = Maintenance(settings(**changes), migrate(database))
    with Connections(database.dsn).open() as connection:
        while True:
            connection.execute("DELETE FROM store_setting WHERE key = %s", (Turn.MAINTENANCE.value,))
            if maintenance.run(connection):
                return
            time.sleep(0.01)


ORPHANS = "\nUNION ALL\n".join(
    [f"SELECT '{table}' FROM {table} f WHERE NOT EXISTS (SELECT FROM series d WHERE d.id = f.series_id)"
     for table in (*METRIC_FACTS, *ROLLUPS, "member") if not table.startswith("frame")]
    + [f"SELECT '{table}' FROM {table} f WHERE NOT EXISTS (SELECT FROM {other} d WHERE d.{key} = f.set_id)"
       for table in ("frame", "frame_1m", "frame_1h") for other, key in (("series_set", "id"), ("member", "set_id"))]
    + ["SELECT 'member' FROM member f WHERE NOT EXISTS (SELECT FROM series_set d WHERE d.id = f.set_id)"]
    + [f"SELECT '{table}' FROM {table} f WHERE NOT EXISTS (SELECT FROM {dimension} d WHERE d.id = f.{dimension}_id)"
       for table in ("log", "span", "series") for dimension in ("resource", "scope")]
    + ["SELECT 'series' FROM series f WHERE NOT EXISTS (SELECT FROM metric d WHERE d.id = f.metric_id)"]
)  # fmt: skip
"""Finds the rows that refer to a dimension that is not there."""
