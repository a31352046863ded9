"""Copying a store into another database, so that it can be broken off at any moment and gone on with.

A slice of a table, and the note that it is copied, are one transaction of the target: whoever begins again goes on
with the next. When all is there, every slice is read in both stores and compared by its number of rows and a sum of
hashes of them. One that differs, because the source was written to since, is copied anew; if it differs then, that is
an error.

Nothing is kept in memory but what is on its way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.abc import Buffer

from gateway.base.settings import parse_duration
from gateway.store import layout, locks, partitions
from gateway.store.connections import Connections
from gateway.store.copying import CopyError, source, tables, target
from gateway.store.dropped_before import note_dropped
from gateway.store.postgres import break_off
from gateway.store.schema import status

_MEBIBYTE = 2**20
_PIECE = 2**18
_SHOWN_EVERY = 0.5
_PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds to wait before each new attempt, while connections are lost and nothing gets on."""

_MODULUS = 2**64
_TAKEN = "taken_before_"
"""Begins the settings that say what retention took (see `dropped_before`)."""

_DATABASE = """
SELECT (SELECT oid FROM pg_database WHERE datname = current_database()), pg_postmaster_start_time(), %s::text
"""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Copied:
    """A table as it is in both stores. ``checksum`` is a sum over all rows, whatever their order."""

    name: str
    rows: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Result:
    """What was copied. ``finished``: the target is whole, and as the source is; else gateways write to that."""

    present: layout.Layout
    tables: list[Copied]
    rows: int
    seconds: float
    finished: bool


class _Sum(NamedTuple):
    rows: int
    hashes: int

    def __str__(self) -> str:
        return f"{self.rows} rows with the checksum {self.checksum}"

    @property
    def checksum(self) -> str:
        return f"{self.hashes:016x}"


def copy(
    source_dsn: str,
    target_dsn: str,
    *,
    wanted_layout: str = "auto",
    chunk_interval: timedelta = timedelta(days=1),
    while_running: bool = False,
    say: Say,
    show: Say,
    pauses: tuple[float, ...] = _PAUSES,
    revive: Callable[[], object] | None = None,
) -> Result:
    """Copy a store into a database that has none, or none with records, or into which a copy was begun.

    Nothing is changed in the source. ``say`` is told each step, ``show`` how far the present one has come. With
    ``while_running`` gateways may write to the source; the target is then not finished. Lost connections are made anew,
    after ``revive``, which starts a server of one's own again, or raises why it cannot.

    Raises `CopyError`, `SchemaError` and `LayoutError` for what only a person can mend, and `psycopg.Error`.
    """
    work = _Work(Connections(source_dsn), Connections(target_dsn), say, show, chunk_interval)
    failures = 0
    while True:
        before = work.done
        try:
            return work.run(wanted_layout, while_running=while_running)
        except psycopg.errors.DiskFull as error:
            raise CopyError(
                f"a disk is full ({error.diag.message_primary}); free some space, and run this again: it goes on where "
                "it was"
            ) from error
        except psycopg.errors.OutOfMemory as error:
            raise CopyError(
                f"{error.diag.message_primary}: {error.diag.message_hint or 'look into the log of the server'}"
            ) from error
        except psycopg.OperationalError as error:
            away = error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
            # A job of TimescaleDB's, perhaps. One that waits to drop a chunk goes on as soon as nothing is held.
            in_the_way = isinstance(error, psycopg.errors.DeadlockDetected | psycopg.errors.LockNotAvailable)
            failures = 0 if work.done > before else failures + 1
            if not (away or in_the_way) or not work.begun or failures >= len(pauses):
                raise
            pause = pauses[failures]
            said = (error.diag.message_primary or str(error)).strip().splitlines()[0]
            what = "a connection was lost" if away else "somebody was in the way"
            say(f"{what} ({said}); going on in {pause:g} s")
            time.sleep(pause)
            if revive is not None:
                revive()


class _Work:
    def __init__(
        self, of_source: Connections, of_target: Connections, say: Say, show: Say, chunk_interval: timedelta
    ) -> None:
        self.begun = False
        """Whether anything was done: what cannot be reached from the start is not waited for."""
        self.done = 0
        """Steps that need not be done again."""
        self._of_source = of_source
        self._of_target = of_target
        self._say = say
        self._show = show
        self._chunk_interval = chunk_interval
        self._partitions = partitions.Partitions(chunk_interval)
        self._rows = 0
        self._began = time.monotonic()

    def run(self, wanted_layout: str, *, while_running: bool) -> Result:
        """Do, or go on with, all of it."""
        from_layout = self._check_source()
        with ExitStack() as stack:
            reading = stack.enter_context(self._of_source.open({"application_name": source.APPLICATION}))
            self._check_different(reading)
            if not while_running:
                locks.make(reading)
                source.check_quiet(reading)
            if target.begin(self._of_target) and not self.begun:
                self._say("going on with a copy that was broken off")
            self.begun = True
            present = target.make(self._of_target, wanted_layout, self._chunk_interval)
            guard = stack.enter_context(target.alone(self._of_target))
            writing = stack.enter_context(self._of_target.open({"application_name": source.APPLICATION}))
            self._partitions.forget()
            wanted = self._tables(reading, writing, from_layout, present)
            if while_running:
                self._copy(reading, writing, from_layout, present, wanted)
                return self._result(present, [], finished=False)
            holding = stack.enter_context(self._of_source.open({"application_name": source.APPLICATION}))
            stack.enter_context(holding.transaction())
            source.hold(holding, from_layout, wanted)
            self._copy(reading, writing, from_layout, present, wanted)
            compared = [self._compare(reading, writing, from_layout, present, table) for table in wanted]
            self._settings(reading, guard)
            if others := source.waiting(reading):
                raise CopyError(
                    f"all of the store is copied, and {', '.join(others)} is about to write to the old one. Stop it, "
                    "and run this again, which copies what it writes"
                )
            target.finish(guard)
        self._say("analyzing")
        with self._of_target.open() as connection:
            connection.execute("ANALYZE")
        return self._result(present, compared, finished=True)

    def _result(self, present: layout.Layout, compared: list[Copied], *, finished: bool) -> Result:
        return Result(present, compared, self._rows, time.monotonic() - self._began, finished)

    def _check_source(self) -> layout.Layout:
        found = status(self._of_source)
        if found.unfinished:
            raise CopyError("the store that is to be copied is itself not whole: a restore or a copy was broken off")
        if found.layout is None:
            raise CopyError("there is no store in the database that is to be copied")
        if found.pending:
            raise CopyError(
                f"the store that is to be copied is of an earlier version: it lacks {found.pending[0]}. Bring it up to "
                "date first, by `obs-hub db migrate` or by starting the gateway of this version once"
            )
        return found.layout

    def _check_different(self, reading: layout.Connection) -> None:
        with self._of_target.open() as writing:
            both = [
                connection.execute(_DATABASE, (target.schema_of(connection),)).fetchone()
                for connection in (reading, writing)
            ]
        if both[0] == both[1]:
            raise CopyError("the target is the store that is to be copied: name another database")

    def _tables(
        self,
        reading: layout.Connection,
        writing: layout.Connection,
        from_layout: layout.Layout,
        present: layout.Layout,
    ) -> list[tables.Table]:
        """Return the tables that both stores have, and say which the source alone has."""
        there = {table.name: table for table in tables.find(writing, present)}
        wanted, others = [], []
        for table in tables.find(reading, from_layout):
            if (its := there.get(table.name)) is None:
                others.append(table.name)
            elif its.columns != table.columns or its.by_time != table.by_time:
                raise CopyError(
                    f"the table {table.name} is not laid out alike in both stores ({', '.join(table.columns)}; "
                    f"{', '.join(its.columns)}): undo what was changed by hand"
                )
            else:
                wanted.append(table)
        if others:
            self._say(f"not copied, for they are not the store's: {', '.join(others)}")
        return wanted

    def _copy(
        self,
        reading: layout.Connection,
        writing: layout.Connection,
        from_layout: layout.Layout,
        present: layout.Layout,
        wanted: list[tables.Table],
    ) -> None:
        copied = target.copied(writing)
        for table in wanted:
            parts = tables.slices(reading, from_layout, table)
            missing = [part for part in parts if (table.name, part) not in copied]
            if not missing:
                continue
            began, rows = time.monotonic(), 0
            for number, part in enumerate(missing, len(parts) - len(missing) + 1):
                where = table.name if len(parts) == 1 else f"{table.name}, {number} of {len(parts)} ({part})"
                rows += self._copy_slice(reading, writing, present, table, part, where)
                self.done += 1
            self._rows += rows
            seconds = time.monotonic() - began
            rate = f", {rows / seconds:,.0f} a second" if rows and seconds > 0 else ""
            self._say(f"copied {table.name}: {rows:,} rows{rate}")

    def _copy_slice(
        self,
        reading: layout.Connection,
        writing: layout.Connection,
        present: layout.Layout,
        table: tables.Table,
        part: tables.Slice,
        where: str,
    ) -> int:
        """Copy one slice in the place of what the target has of it; return how many rows that were."""
        self._make_partitions(writing, present, table, part)
        out = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(table.rows(part, of_source=True))
        into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(table.name), table.listed)
        sent, shown = 0, 0.0
        with writing.transaction(), reading.transaction():
            writing.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table.name)) + table.where(part))
            with writing.cursor() as writer, reading.cursor() as reader:
                with reader.copy(out) as blocks, writer.copy(into) as copying:
                    for block in _joined(blocks):
                        copying.write(block)
                        sent += len(block)
                        if time.monotonic() - shown > _SHOWN_EVERY:
                            shown = time.monotonic()
                            self._show(f"copying {where}: {sent / _MEBIBYTE:,.0f} MiB ")
                rows = writer.rowcount
            target.note(writing, table.name, part, rows)
        return rows

    def _make_partitions(
        self, writing: layout.Connection, present: layout.Layout, table: tables.Table, part: tables.Slice
    ) -> None:
        if not present.native or part.lower is None or part.upper is None:
            return
        first = partitions.interval_of(part.lower, self._chunk_interval)
        last = partitions.interval_of(part.upper - timedelta(microseconds=1), self._chunk_interval)
        self._partitions.ensure(writing, table.name, range(first, last + 1))

    def _compare(
        self,
        reading: layout.Connection,
        writing: layout.Connection,
        from_layout: layout.Layout,
        present: layout.Layout,
        table: tables.Table,
    ) -> Copied:
        """Compare a table in both stores by slices, and copy anew those that have changed since they were copied."""
        parts = tables.slices(reading, from_layout, table)
        total = _Sum(0, 0)
        anew = 0
        for number, part in enumerate(parts, 1):
            where = table.name if len(parts) == 1 else f"{table.name}, {number} of {len(parts)} ({part})"
            self._show(f"comparing {where} ")
            theirs, ours = self._sums(reading, writing, table, part)
            if theirs != ours:
                self._rows += self._copy_slice(reading, writing, present, table, part, where)
                anew += 1
                theirs, ours = self._sums(reading, writing, table, part)
            if theirs != ours:
                raise CopyError(
                    f"{table.name} ({part}) differs: the source has {theirs}, the target {ours}. Look into the logs of "
                    "both servers for damage, and run this again"
                )
            total = _Sum(total.rows + theirs.rows, (total.hashes + theirs.hashes) % _MODULUS)
        if anew:
            self._say(f"copied what has changed in {table.name} since: {anew} of {len(parts)} parts")
        self._remove_gone(writing, table, parts)
        for name, connection in (("source", reading), ("target", writing)):
            self._check_count(connection, table, name, total.rows)
        return Copied(table.name, total.rows, total.checksum)

    def _remove_gone(self, writing: layout.Connection, table: tables.Table, parts: list[tables.Slice]) -> None:
        """Remove slices that the source has dropped since they were copied."""
        kept = [(part.lower, part.upper) for part in parts if part.lower is not None and part.upper is not None]
        for name, part in target.copied(writing):
            if name != table.name or part in parts or part.lower is None or part.upper is None:
                continue
            with writing.transaction():
                for gap in partitions.gaps(part.lower, part.upper, kept):
                    delete = sql.SQL("DELETE FROM {}").format(sql.Identifier(name)) + table.where(tables.Slice(*gap))
                    writing.execute(delete)
                target.note(writing, name, part, None)

    def _check_count(self, connection: layout.Connection, table: tables.Table, where: str, expected: int) -> None:
        """Raise `CopyError` where there are rows outside of all slices."""
        rows = table.rows(tables.Slice(), of_source=where == "source")
        row = connection.execute(sql.SQL("SELECT count(*) FROM ({}) AS rows").format(rows)).fetchone()
        assert row is not None
        if row[0] != expected:
            raise CopyError(
                f"{table.name} has {row[0]} rows in the {where}, and {expected} were compared: somebody changes it, or "
                "has given it a partition without bounds. See that nobody does, and run this again"
            )

    def _sums(
        self, reading: layout.Connection, writing: layout.Connection, table: tables.Table, part: tables.Slice
    ) -> tuple[_Sum, _Sum]:
        """Count and sum up a slice in both stores, at the same time."""
        with ThreadPoolExecutor(1) as other:
            theirs = other.submit(_sum, reading, table, part, of_source=True)
            try:
                ours = _sum(writing, table, part, of_source=False)
            except BaseException:
                break_off(reading)  # nobody waits for its answer any more
                raise
            return theirs.result(), ours

    def _settings(self, reading: layout.Connection, guard: layout.Connection) -> None:
        """Take over what the source has noted: what retention took, for rollups are never made of what is left; and
        since when points are kept as now.
        """
        query = "SELECT key, value FROM store_setting WHERE starts_with(key, %s) OR key = %s"
        for key, value in reading.execute(query, (_TAKEN, "compact_since")):
            layout.write_setting(guard, key, json.dumps(value))
        applied = layout.read_setting(reading, "policies") or {}
        if not applied.get("community"):
            return
        for table, name in (("sample", "metrics"), ("sample_1m", "rollup_1m")):
            kept = (applied.get("retention") or {}).get(name)
            if kept is not None:  # TimescaleDB drops chunks by itself, and notes it nowhere
                note_dropped(guard, table, datetime.now(UTC) - parse_duration(kept))


def _joined(blocks: Iterable[Buffer]) -> Iterator[bytes]:
    """Yield what comes a row at a time in larger pieces."""
    gathered = bytearray()
    for block in blocks:
        gathered += block
        if len(gathered) >= _PIECE:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


def _sum(connection: layout.Connection, table: tables.Table, part: tables.Slice, *, of_source: bool) -> _Sum:
    rows = table.rows(part, of_source=of_source)
    query = sql.SQL("SELECT count(*), coalesce(sum(hash_record_extended(ROW({}), 0)), 0) FROM ({}) AS rows")
    row = connection.execute(query.format(table.listed, rows)).fetchone()
    assert row is not None
    return _Sum(row[0], int(row[1]) % _MODULUS)
