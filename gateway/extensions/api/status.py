"""How the hub is: each part with its state."""

from __future__ import annotations

import asyncio
import enum
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import psycopg

from gateway import __version__
from gateway.base.settings import ExporterSettings
from gateway.data_paths import dead_letter_directory, spool_directory
from gateway.extensions.view import HubView
from gateway.pipeline.dead_letters import DeadLetters
from gateway.pipeline.spool import status as spool_status
from gateway.store import UnusableServerError, connect_async

_STORE_SECONDS = 2.0
_FRESH_SECONDS = 1.0
"""How long what was found out is good: whoever asks more often costs nothing more."""
_FULL = 0.9
"""The part of a spool from which on it counts as full: it refuses a batch that does not fit, however much is left."""


_TRIED_BYTES = 2**18
"""What the disk of a spool has to take, as a large request of a client is."""


class State(enum.StrEnum):
    """``degraded``: it does its work, and something it needs does not; nothing is lost."""

    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"


class Dependency(msgspec.Struct):
    """One part that has to work."""

    name: str
    state: State
    detail: str = ""


class Readiness(msgspec.Struct):
    """Whether telemetry is taken, and what stands in the way."""

    status: State
    dependencies: list[Dependency]


class ExporterStatus(msgspec.Struct):
    """An exporter: what waits for it. ``circuit_open`` is null where another process would have to be asked.

    ``spool_dropped_records`` are those that were dropped because the spool was full, ever. ``spool_disk_problem`` says
    why the disk of the spool takes no more; null where it does, and where nothing has to be kept on it.
    """

    signals: list[str]
    state: State
    spool_bytes: Annotated[int, msgspec.Meta(ge=0)]
    spool_max_bytes: Annotated[int, msgspec.Meta(ge=0)]
    dead_letters: Annotated[int, msgspec.Meta(ge=0)]
    spool_dropped_records: Annotated[int, msgspec.Meta(ge=0)] = 0
    circuit_open: bool | None = None
    spool_disk_problem: str | None = None


class ProcessorStatus(msgspec.Struct):
    """A processor of a pipeline. ``dropped_records`` counts what it left out since the start; null with several
    workers, each of which tells its own by the metric ``obs_hub.records.dropped``."""

    name: str
    dropped_records: Annotated[int, msgspec.Meta(ge=0)] | None = None


class PipelineStatus(msgspec.Struct, omit_defaults=True):
    """The way of one signal. ``processors`` are in the order in which batches go through them."""

    receivers: list[str]
    exporters: list[str]
    processors: list[ProcessorStatus] = []


class HubStatus(msgspec.Struct):
    """The hub at a glance. ``uptime_seconds`` is of the process that answers."""

    version: str
    status: State
    uptime_seconds: Annotated[float, msgspec.Meta(ge=0)]
    endpoints: dict[str, str]
    pipelines: dict[str, PipelineStatus]
    exporters: dict[str, ExporterStatus]
    store: Dependency


class Probe:
    """Looks at a hub."""

    def __init__(self, view: HubView) -> None:
        self._view = view
        self._looking = asyncio.Lock()
        self._found: tuple[float, Readiness, dict[str, ExporterStatus]] | None = None

    async def readiness(self) -> Readiness:
        """Say how each part is. Takes as long as the store takes to answer, two seconds at most."""
        readiness, _ = await self._look()
        return readiness

    async def _look(self) -> tuple[Readiness, dict[str, ExporterStatus]]:
        async with self._looking:
            if self._found is None or time.monotonic() - self._found[0] >= _FRESH_SECONDS:
                exporters = await self._exporters()
                self._found = (time.monotonic(), await self._readiness(exporters), exporters)
            return self._found[1:]

    async def _readiness(self, exporters: dict[str, ExporterStatus]) -> Readiness:
        endpoints = self._view.endpoints()
        listening = any(name.endswith((" grpc", " http")) for name in endpoints)
        dependencies = [
            Dependency(
                "receivers",
                State.OK if listening else State.DOWN,
                ", ".join(f"{name} on {address}" for name, address in endpoints.items()) or "nothing listens",
            ),
            await self.check_store(),
        ]
        for name, exporter in exporters.items():
            detail = f"{exporter.spool_bytes} of {exporter.spool_max_bytes} bytes in the spool"
            if exporter.spool_dropped_records:
                detail += f", {exporter.spool_dropped_records} records were dropped because it was full"
            if exporter.spool_disk_problem:
                detail += f", and the disk takes no more: {exporter.spool_disk_problem}"
            dependencies.append(Dependency(f"exporter {name}", exporter.state, detail))
        # Without its store the hub still takes telemetry, as long as the spools have room.
        essential = [each.state for each in dependencies if each.name != "store"]
        worst = State.DEGRADED if any(each.state is not State.OK for each in dependencies) else State.OK
        return Readiness(State.DOWN if State.DOWN in essential else worst, dependencies)

    async def status(self) -> HubStatus:
        """Return everything at a glance."""
        config = self._view.config
        readiness, exporters = await self._look()
        return HubStatus(
            __version__,
            readiness.status,
            round(time.monotonic() - self._view.started_at, 1),
            dict(self._view.endpoints()),
            {
                name: PipelineStatus(
                    pipeline.receivers, pipeline.exporters, self._processors(name, pipeline.processors)
                )
                for name, pipeline in config.service.pipelines.items()
            },
            exporters,
            next(each for each in readiness.dependencies if each.name == "store"),
        )

    def _processors(self, pipeline: str, names: Sequence[str]) -> list[ProcessorStatus]:
        dropped = self._view.dropped().get(pipeline, {})
        return [ProcessorStatus(name, None if self._view.shared else dropped.get(name, 0)) for name in names]

    async def check_store(self) -> Dependency:
        """Say how the store is."""
        if self._view.dsn is None:
            return Dependency("store", State.OK, "none is configured")
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                connection = await connect_async(self._view.dsn, connect_timeout=2, reading=True)
                async with connection:
                    detail = await _describe(connection)
        except TimeoutError:
            return Dependency("store", State.DOWN, "it does not answer")
        except _UnfinishedError:
            return Dependency(
                "store", State.DOWN, "it is not whole: a restore or a copy is under way, or was broken off"
            )
        except UnusableServerError as error:
            return Dependency("store", State.DOWN, str(error))
        except psycopg.Error as error:
            return Dependency("store", State.DOWN, type(error).__name__)  # the message may hold the connection string
        return Dependency("store", State.OK, detail)

    async def _exporters(self) -> dict[str, ExporterStatus]:
        """Return what waits for each exporter, as the disk tells."""
        found = {}
        for name, signals in self._view.config.used_exporters.items():
            settings = self._view.config.exporters[name]
            assert isinstance(settings, ExporterSettings)
            size, letters, dropped = await asyncio.to_thread(_on_disk, self._view.data_dir, name)
            delivery = self._view.deliveries.get(name)
            circuit_open = None if delivery is None else delivery.circuit_open
            limit = settings.spool.max_size if settings.spool.enabled else 0
            state, problem = State.OK, None
            if size or circuit_open:
                state = State.DEGRADED
                if self._view.config.when_full(name) == "refuse":
                    problem = await asyncio.to_thread(_disk_problem, self._view.data_dir, name)
                    state = State.DOWN if problem or size >= limit * _FULL else state
            found[name] = ExporterStatus(
                sorted(signal.value for signal in signals), state, size, limit, letters, dropped, circuit_open, problem
            )
        return found


class _UnfinishedError(Exception):
    """The store is marked as not whole by who restores it."""


async def _describe(connection: psycopg.AsyncConnection[Any]) -> str:
    """Say what the store is: its versions, and how it is laid out."""
    cursor = await connection.execute(
        "SELECT current_setting('server_version'), to_regclass('store_setting') IS NOT NULL,"
        " (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),"
        " to_regclass('store_restoring') IS NOT NULL"
    )
    server, made, timescale, unfinished = await cursor.fetchone() or ("", False, None, False)
    if unfinished:
        raise _UnfinishedError
    detail = f"PostgreSQL {server}" + (f" with TimescaleDB {timescale}" if timescale else "")
    if not made:
        return f"{detail}, without a schema yet"
    row = await (await connection.execute("SELECT value #>> '{}' FROM store_setting WHERE key = 'layout'")).fetchone()
    return f"{detail}, layout {row[0]}" if row else detail


def _disk_problem(data_dir: Path | None, exporter: str) -> str | None:
    """Return why the disk does not take what a spool would write, None if it does: a file without a name tries it."""
    if data_dir is None:
        return None
    own = spool_directory(data_dir, exporter)
    folder = next((each for each in (own, *own.parents) if each.is_dir()), data_dir)
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            left = _TRIED_BYTES
            while left:
                left -= file.write(bytes(left))
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _on_disk(data_dir: Path | None, exporter: str) -> tuple[int, int, int]:
    """Return of an exporter the bytes in its spools, how many dead letters it has, and the records dropped."""
    if data_dir is None:
        return 0, 0, 0
    spools = [each for each in spool_directory(data_dir, exporter).glob("*") if each.is_dir()]
    letters = DeadLetters(dead_letter_directory(data_dir, exporter))
    found = [spool_status(each) for each in spools]
    return sum(each.size for each in found), letters.usage().count, sum(each.dropped.records for each in found)
