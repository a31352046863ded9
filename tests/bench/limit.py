"""The limit: the same rows, encoded before the clock starts, sent by a bare COPY from one connection.

No receipts, no dimensions, no rollups, no requests: what is left is what the database takes. The transactions have the
size that the gateway's had on average, the chunks are the exporter's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

import psycopg
from psycopg import sql

from exporters.timescale.config import TimescaleConfig
from exporters.timescale.copy import COLUMNS, Rows
from exporters.timescale.exporter import TimescaleExporter
from exporters.timescale.points import sample_rows
from exporters.timescale.writer import PreparedRows
from gateway.component import Batch
from gateway.store import COPY_HEADER as HEADER
from gateway.store import COPY_TRAILER as TRAILER
from gateway.store import layout
from gateway.store.partitions import Partitions
from tests.bench.payloads import Payloads


class Limit:
    """Copies requests' rows into a store of its own."""

    def __init__(self, dsn: str, present: layout.Layout, payloads: Payloads) -> None:
        self._connection: layout.Connection = psycopg.connect(dsn, autocommit=True)
        self._layout = present
        self._payloads = payloads
        self._partitions = Partitions(timedelta(days=1))
        # Only ever asked to encode, so it never connects.
        self._exporter = TimescaleExporter("timescale", TimescaleConfig(), dsn)

    def __enter__(self) -> Limit:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def encode(self, requests: Iterable[int]) -> list[PreparedRows]:
        """Encode the requests of these numbers as the gateway does."""
        batches = (Batch.of(self._payloads.signal, self._payloads.request(number)) for number in requests)
        return asyncio.run(self._prepare(batches))

    async def _prepare(self, batches: Iterable[Batch]) -> list[PreparedRows]:
        return [await self._exporter.prepare(batch) for batch in batches]

    def copy(self, prepared: Sequence[PreparedRows], batches_per_transaction: float) -> float:
        """Copy the rows of these batches, and return how many a second were committed."""
        rows = [batch.rows for batch in prepared if batch.rows is not None]
        for its_rows in rows:
            for points in its_rows.points:
                its_rows.chunks.setdefault("sample", []).extend(sample_rows(points))
        if self._layout.native:
            for its_rows in rows:
                for table, intervals in its_rows.intervals.items():
                    self._partitions.ensure(self._connection, table, intervals)
        began = time.perf_counter()
        for group in _groups(rows, batches_per_transaction):
            with self._connection.transaction():
                self._copy(group)
        return sum(its_rows.count for its_rows in rows) / (time.perf_counter() - began)

    def _copy(self, rows: Sequence[Rows]) -> None:
        for table in sorted({table for its_rows in rows for table in its_rows.chunks}):
            columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS[table]))
            query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(table), columns)
            with self._connection.cursor().copy(query) as stream:
                stream.write(HEADER)
                for its_rows in rows:
                    for chunk in its_rows.chunks.get(table, ()):
                        stream.write(chunk)
                stream.write(TRAILER)


def _groups(rows: Sequence[Rows], average: float) -> Iterator[Sequence[Rows]]:
    """Divide into groups of this size on average."""
    count = max(round(len(rows) / average), 1)
    for number in range(count):
        yield rows[number * len(rows) // count : (number + 1) * len(rows) // count]
