"""The Timescale exporter: batches in, rows out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

import psycopg
import structlog
from google.protobuf.message import DecodeError

from exporters.timescale import limits
from exporters.timescale.config import TimescaleConfig
from exporters.timescale.copy import Rows, Texts
from exporters.timescale.dimensions import Dimensions
from exporters.timescale.dimensions import Rows as DimensionRows
from exporters.timescale.limits import SeriesLimits
from exporters.timescale.logs import encode_logs
from exporters.timescale.metrics import MetricsEncoder, add_moment
from exporters.timescale.rejections import Acceptance, Rejections
from exporters.timescale.sets import Sets
from exporters.timescale.sets import read as read_sets
from exporters.timescale.traces import encode_traces
from exporters.timescale.writer import DimensionsCollectedError, PreparedRows, Writer
from gateway.base.slices import StaleError, Steps, at_once, in_slices
from gateway.component import (
    ACCEPTED,
    Batch,
    MalformedPayloadError,
    RefusedError,
    Signal,
    TimedOutError,
    UnavailableError,
)
from gateway.otlp.bounds import ATTRIBUTE, RECORD, Budget
from gateway.store import (
    Connections,
    Layout,
    LayoutError,
    Maintenance,
    Partitions,
    SchemaError,
    UnusableServerError,
    apply_attribute_index,
    apply_policies,
    describe_retention,
    migrate,
)

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
_T = TypeVar("_T")

# A batch encoded anew meets a third epoch only if dimensions are collected faster than batches are committed.
_ATTEMPTS = 3

_SMALL_REQUEST = 16 * 2**10
_LARGE_REQUEST = 2**20
_LONG_AT_ONCE = 4
"""What takes long to encode goes on among so many others only: a turn of the event loop would be as long as all their
slices, and a request that needs ten turns and no time would wait for hundreds."""

_MOST_SETS = 1_000
_SERIES_A_SET = 8
"""What bounds the sets that the store is to know: where collections are alike, there are a tenth of them."""

_ROWS_A_SLICE = 5_000
_MANY_DIMENSIONS = 1_000


class TimescaleExporter:
    """Implements `gateway.pipeline.Exporter` for TimescaleDB and PostgreSQL.

    Encoding runs on the event loop, which owns all state; commits run in threads that are given what they need, one
    thread and one connection for each of ``config.connections``.
    """

    def __init__(self, name: str, config: TimescaleConfig, dsn: str) -> None:
        self.name = name
        self.concurrency = config.connections
        self.batches_per_commit = None
        self._config = config
        self._connections = Connections(dsn)
        self._acceptance = Acceptance(config)
        self._limits = SeriesLimits(config.series_limit, config.series_limit_total)
        self._dimensions = Dimensions(config.series_cache, self._limits)
        self._sets = Sets(self._dimensions, _MOST_SETS + config.series_limit_total // _SERIES_A_SET)
        self._texts = Texts()
        self._interval = config.chunk_interval // timedelta(microseconds=1)
        self._layout: Layout | None = None
        self._preparing: asyncio.Task[Layout] | None = None
        # One large request at a time is encoded: several together would need no less time, and more memory.
        self._large = asyncio.Lock()
        self._long = asyncio.Semaphore(_LONG_AT_ONCE)
        self._encoding = 0
        self._writers: asyncio.Queue[Writer] = asyncio.Queue()
        self._all_writers: list[Writer] = []
        self._threads = ThreadPoolExecutor(config.connections + 1, thread_name_prefix=name)
        self._maintenance: asyncio.Task[None] | None = None

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Migrate the schema and get ready to write.

        A database that is not reachable yet is not an error: the first commit tries again. Raises
        `SchemaError` and `LayoutError` for what only a person can mend.
        """
        try:
            await self._ensure_ready()
        except UnavailableError as error:
            _log.warning("batches are refused until the store answers", exporter=self.name, reason=str(error))
        self._maintenance = asyncio.create_task(self._maintain())

    async def stop(self) -> None:
        """Break off what runs on the database, which stores nothing, and close the connections."""
        self._connections.interrupt()
        if tasks := [task for task in (self._maintenance, self._preparing) if task is not None]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        for writer in self._all_writers:
            writer.close()

    def reconfigure(self, config: TimescaleConfig) -> bool:
        """Use the connection string of these settings, for a password was rotated. Open connections stay."""
        if (dsn := config.connection_string) is not None:
            self._connections.dsn = dsn
        return True

    async def _ensure_ready(self) -> Layout:
        """Migrate, apply the settings and open the connections, once. Raises `UnavailableError`.

        All who wait for that wait for the same: it may take longer than an attempt to commit is given, and whoever
        gives up leaves it to the others.
        """
        if self._layout is not None:
            return self._layout
        if self._preparing is None or self._preparing.done():
            self._preparing = asyncio.create_task(self._prepare())
            self._preparing.add_done_callback(lambda task: task.cancelled() or task.exception())  # seen, if by nobody
        return await asyncio.shield(self._preparing)

    async def _prepare(self) -> Layout:
        try:
            present, epoch, stored, stored_sets = await self._in_thread(self._set_up)
        except UnusableServerError as error:
            raise SchemaError(str(error)) from error
        except psycopg.Error as error:
            raise UnavailableError(f"PostgreSQL is not available: {_first_line(error)}") from error
        self._dimensions.forget(epoch)
        self._limits.load(stored, ())
        self._sets.load(stored_sets)
        _log.info(
            "the store is ready",
            exporter=self.name,
            layout=present.describe(),
            retention=describe_retention(self._config),
        )
        partitions = Partitions(self._config.chunk_interval)
        columnstore = self._config.columnstore
        direct_copy_points = columnstore.direct_copy_points if columnstore.enabled else None
        for _ in range(self._config.connections):
            writer = Writer(
                self._connections,
                present,
                partitions,
                self._config.timeout,
                direct_copy_points,
                self._config.synchronous_commit,
            )
            self._all_writers.append(writer)
            self._writers.put_nowait(writer)
        self._layout = present
        return present

    def _set_up(self) -> tuple[Layout, int, limits.StoredSeries, set[int]]:
        present = migrate(self._connections, self._config.layout)
        with self._connections.lasting() as connection:
            apply_attribute_index(connection, present, self._config)  # before there are partitions
            if present.native:
                Maintenance(self._config, present).make_partitions(connection)
            else:
                apply_policies(connection, present, self._config)
            row = connection.execute(
                "SELECT (SELECT epoch FROM dimension_epoch), current_setting('search_path')"
            ).fetchone()
            epoch, path = row or (0, None)
            # The store stays where it was found, whatever is set for database or role while this runs.
            self._connections.search_path = path
            return present, epoch or 0, limits.read(connection), read_sets(connection)

    async def _maintain(self) -> None:
        pause = self._config.maintenance_interval.total_seconds()
        maintenance: Maintenance | None = None
        while True:
            try:
                if maintenance is None:
                    maintenance = Maintenance(self._config, await self._ensure_ready())
                stored, stored_sets = await self._in_thread(functools.partial(self._maintain_once, maintenance))
                if stored is not None:
                    self._limits.load(stored, self._dimensions.pending().get("series", {}).values())
                self._sets.load(stored_sets)
            except (psycopg.Error, UnavailableError) as error:
                _log.warning("maintenance is put off", exporter=self.name, reason=_first_line(error))
            except (SchemaError, LayoutError) as error:
                _log.error("the store cannot be maintained", exporter=self.name, reason=str(error))
            except Exception:  # a bug must not end maintenance for good: partitions would run out
                _log.exception("maintenance failed unexpectedly; it is tried again", exporter=self.name)
            await asyncio.sleep(pause)

    def _maintain_once(self, maintenance: Maintenance) -> tuple[limits.StoredSeries | None, set[int]]:
        """Do the maintenance; return the series that the store has, where others than are known, and its sets."""
        # Its locks keep writers waiting: who cannot go on with them, since the network is away, does not keep them.
        with self._connections.lasting({"idle_in_transaction_session_timeout": "60s"}) as connection:
            maintenance.run(connection)
            have_changed = self._limits.have_changed(limits.count(connection))
            stored = limits.read(connection, self._limits.stored) if have_changed else None
            return stored, read_sets(connection)

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    # -- batches -------------------------------------------------------------------------------------------------

    async def prepare(self, batch: Batch) -> PreparedRows:
        """Encode a batch as rows. Raises `MalformedPayloadError` when it is not a valid request."""
        if len(batch.payload) <= _LARGE_REQUEST:
            return await self._encode_relieved(batch)
        async with self._large:
            return await self._encode_relieved(batch)

    def prepare_at_once(self, batch: Batch) -> PreparedRows | None:
        """Encode a small batch without giving way to others; None for one that may take long."""
        if len(batch.payload) > _SMALL_REQUEST:
            return None
        if not self._encoding:
            self._dimensions.relieve()
        return self._encode_moment(batch) or at_once(self._encode(batch))

    def _encode_moment(self, batch: Batch) -> PreparedRows | None:
        """Encode points of one moment in a request like others before; None where it is none, or to be looked at."""
        if batch.signal is not Signal.METRICS:
            return None
        fit = self._dimensions.templates.find(batch.payload)
        if fit is None or fit.template.opaque:
            return None
        rows = Rows(self._interval)
        window = self._acceptance.window(batch.signal, batch.received_at)
        Budget.of(batch, kept=True).take(fit.template.weight, RECORD, "records")
        if not add_moment(fit, self._sets, window, rows):
            return None
        fit.template.share(batch.soundness)
        return PreparedRows(batch, rows.count, ACCEPTED, rows, self._dimensions.generation)

    def _encode_relieved(self, batch: Batch) -> Coroutine[None, None, PreparedRows]:
        if not self._encoding:
            self._dimensions.relieve()
        return self._encode_in_slices(batch)

    async def _encode_in_slices(self, batch: Batch) -> PreparedRows:
        """Encode a batch; give way to others whenever that has taken a while."""
        self._encoding += 1
        try:
            for _ in range(_ATTEMPTS):
                generation = self._dimensions.generation
                # What was encoded so far refers to dimensions that are forgotten, when they are.
                is_current = functools.partial(self._is_generation, generation)
                with contextlib.suppress(StaleError):
                    return await in_slices(self._encode(batch), is_current, self._long)
            return at_once(self._encode(batch))
        finally:
            self._encoding -= 1

    def _is_generation(self, generation: int) -> bool:
        return self._dimensions.generation == generation

    def _encode(self, batch: Batch) -> Steps[PreparedRows]:
        """Encode a batch, with pauses in which it may be given up."""
        rows = Rows(self._interval)
        rejections = Rejections(batch.signal)
        window = self._acceptance.window(batch.signal, batch.received_at)
        generation = self._dimensions.generation
        dimensions, texts = self._dimensions, self._texts
        budget = Budget.of(batch, kept=True)
        encoding: Steps[bool | None]
        match batch.signal:
            case Signal.METRICS:
                encoder = MetricsEncoder(dimensions, self._sets, window, rows, rejections, budget)
                encoding = encoder.encode(batch.payload, batch.soundness)
            case Signal.LOGS:
                events_only = self._config.logs == "events"
                encoding = encode_logs(
                    batch, dimensions, texts, window, rows, rejections, budget, events_only=events_only
                )
            case Signal.TRACES:
                encoding = encode_traces(batch.payload, dimensions, texts, window, rows, rejections, budget)
        try:
            timestamped = yield from self._weighed(encoding, budget)
        except DecodeError as error:
            raise MalformedPayloadError(
                f"the body is not a valid {_REQUESTS[batch.signal]} protobuf message: {str(error).rpartition(': ')[2]}"
            ) from error
        return PreparedRows(batch, rows.count, rejections.outcome(), rows, generation, timestamped is not False)

    def _weighed(self, encoding: Steps[_T], budget: Budget) -> Steps[_T]:
        """Encode, and take the weight of the attributes at each pause."""
        fragments = self._dimensions.fragments
        advance: Callable[[], Callable[[], object] | None] = encoding.__next__
        while True:
            fragments.counted = 0
            try:
                work = advance()
            except StopIteration as ended:
                budget.take(fragments.counted, ATTRIBUTE, "attributes")
                result: _T = ended.value
                return result
            budget.take(fragments.counted, ATTRIBUTE, "attributes")
            try:
                done = yield work
            except Exception as error:
                advance = functools.partial(encoding.throw, error)
            else:
                advance = functools.partial(encoding.send, done)

    async def commit(self, prepared: Sequence[PreparedRows]) -> list[bool]:
        """Store the batches in one transaction, each once, and return which were new.

        Raises `UnavailableError` or `RefusedError`.
        """
        try:
            await self._ensure_ready()
        except (SchemaError, LayoutError) as error:
            raise UnavailableError(str(error), retry_after=30) from error
        writer = await self._writers.get()
        try:
            return await self._write(writer, prepared)
        except RefusedError:
            # What was refused may be a dimension, which every later commit would declare again.
            self._dimensions.forget(self._dimensions.epoch)
            if len(prepared) > 1:
                raise
            # And it may be one of another batch that has only been encoded: encoded anew, this one declares its own.
            return await self._write_alone(writer, prepared)
        except (TimedOutError, asyncio.CancelledError):
            # Many new dimensions may be what took too long, and every later commit would declare them again. Few are
            # not: to forget them would cost all that is known.
            if self._dimensions.pending_count > _MANY_DIMENSIONS:
                self._dimensions.forget(self._dimensions.epoch)
            raise
        finally:
            self._writers.put_nowait(writer)

    async def _write_alone(self, writer: Writer, prepared: Sequence[PreparedRows]) -> list[bool]:
        try:
            return await self._write(writer, prepared)
        except RefusedError:
            self._dimensions.forget(self._dimensions.epoch)
            raise

    async def _write(self, writer: Writer, prepared: Sequence[PreparedRows]) -> list[bool]:
        dimensions = self._dimensions
        seconds = max((each.seconds for each in prepared), default=0.0)
        for _ in range(_ATTEMPTS):
            prepared = [
                batch if batch.generation == dimensions.generation else await self._encode_in_slices(batch.batch)
                for batch in prepared
            ]
            if any(batch.generation != dimensions.generation for batch in prepared):
                continue  # forgotten meanwhile
            pending, epoch, generation = dimensions.pending(), dimensions.epoch, dimensions.generation
            try:
                new = await self._write_in_thread(writer, prepared, pending, epoch, seconds)
            except DimensionsCollectedError as error:
                if dimensions.epoch != error.epoch:
                    dimensions.forget(error.epoch)
                continue
            await self._note_stored(pending, generation)
            return new
        raise UnavailableError("dimensions are being collected over and over; trying again may help")

    async def _note_stored(self, pending: DimensionRows, generation: int) -> None:
        """Note that a commit has inserted dimensions, unless they are to be declared again whatever it did."""
        for table, rows in pending.items():
            items = iter(rows.items())
            while self._dimensions.generation == generation and (some := dict(itertools.islice(items, _ROWS_A_SLICE))):
                self._dimensions.stored({table: some})
                if len(some) == _ROWS_A_SLICE:
                    await asyncio.sleep(0)

    async def _write_in_thread(
        self,
        writer: Writer,
        prepared: Sequence[PreparedRows],
        pending: DimensionRows,
        epoch: int | None,
        seconds: float,
    ) -> list[bool]:
        """Write, and when that is cancelled break the connection, so that the thread does not go on by itself."""
        writer.get_ready()
        write = functools.partial(writer.write, prepared, pending, epoch, seconds)
        writing = asyncio.get_running_loop().run_in_executor(self._threads, write)
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            writer.interrupt()
            await asyncio.wait({writing})
            if not writing.cancelled():
                writing.exception()  # seen: the caller has stopped waiting for it
            raise

    def gauges(self) -> dict[str, float]:
        """Return the size of the series cache, the series there are, and how often one was turned away."""
        return {
            "obs_hub.series_cache.size": len(self._dimensions.series_known),
            "obs_hub.series.count": self._limits.count,
            "obs_hub.series.turned_away": self._limits.turned_away,
        }


_REQUESTS = {
    Signal.METRICS: "ExportMetricsServiceRequest",
    Signal.LOGS: "ExportLogsServiceRequest",
    Signal.TRACES: "ExportTraceServiceRequest",
}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
