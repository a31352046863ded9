"""One hub on one data directory: its lock, its embedded PostgreSQL, its processes, its end.

With several workers, each is a process of its own that listens on the same ports (``SO_REUSEPORT``); the kernel spreads
connections over them. They are forked by a `ForkServer`, which is made before anything is opened. What must run once
(emitters, the embedded PostgreSQL) stays in the first process.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog

from gateway import logs
from gateway.addresses import check_free
from gateway.assembly import (
    Hub,
    Role,
    check_destinations,
    configured_dsn,
    embedded_port,
    import_all,
    needs_embedded,
    warn_of_spools_without_exporter,
)
from gateway.base.collector import keep_what_is_loaded
from gateway.base.process_name import name_process
from gateway.config import Config
from gateway.data_paths import spools
from gateway.datadir import DataDir, Running
from gateway.embedded import EmbeddedPostgres, EmbeddedPostgresError, Step
from gateway.files.ownership import holder
from gateway.fork_server import ForkedProcess, ForkServer
from gateway.parent import end_at_once, end_with_parent
from gateway.store import LayoutError, SchemaError, secrets_of_dsn
from gateway.systemd.notify import Notifier
from gateway.systemd.watchdog import Heartbeats, beat, feed_watchdog

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_RESTART_PAUSE = 1.0
_WATCH_INTERVAL = 1.0
_OPEN_FILES = 65_536
_FORMER_PATIENCE = 5.0
_FORMER_PAUSE = 0.05
"""How many seconds a start waits at most for the workers of a hub that was killed, and how often it looks."""
_STOP_MARGIN = 90.0
"""Seconds that a stop may take beside the graces of the first process and of the workers: PostgreSQL's, mostly."""

Announce = Callable[[dict[str, str], str | None], None]
"""Is told the endpoints and the connection string of the store once everything runs."""


def run(
    config: Config, data_dir: DataDir, workers: int, announce: Announce, step: Step = contextlib.nullcontext
) -> bool:
    """Run a hub until SIGINT, SIGTERM or SIGHUP, then stop it cleanly. False when it was told to before it was up.

    Raises `AlreadyRunningError` when a hub runs on the data directory, `EmbeddedPostgresError` when the embedded server
    does not start, `OSError` when an address is taken (which is looked for before anything is made), `WorkerError` when
    a worker cannot start, `DestinationError` when the environment names a destination that cannot be used.
    """
    check_destinations(config)
    allow_many_files()
    notifier = Notifier.from_environment()
    with _fork_server(config, workers) as forks, data_dir.locked():
        _wait_for_former_workers(data_dir.path)
        check_free(config)
        warn_of_spools_without_exporter(config, data_dir.path)
        postgres = None
        if needs_embedded(config):
            postgres = EmbeddedPostgres(data_dir.postgres, port=embedded_port(config))
        # From here on a signal must not leave a database behind.
        with _StopSignals() as stop:
            try:
                if postgres is not None:
                    notifier.status("starting the embedded PostgreSQL")
                    postgres.start(step)
                if stop.requested:
                    return False
                return asyncio.run(_serve(config, data_dir, workers, announce, postgres, stop, notifier, step, forks))
            finally:
                if postgres is not None:
                    postgres.stop()


@contextlib.contextmanager
def _fork_server(config: Config, workers: int) -> Iterator[ForkServer | None]:
    """Make what workers are forked by, where there are several and forking is safe; end it afterwards."""
    server = ForkServer.begin(_worker, lambda: import_all(config)) if workers > 1 else None
    try:
        yield server
    finally:
        if server is not None:
            server.close()


def _wait_for_former_workers(data_dir: Path) -> None:
    """Wait a moment for the workers of a hub that was killed: they end by themselves, and listen until they have.

    One that cannot end, because it waits for a disk, holds up nothing: its spools are taken over when it has.
    """
    deadline = time.monotonic() + _FORMER_PATIENCE
    while held := [(directory, who) for _, directory in spools(data_dir) if (who := holder(directory))]:
        if time.monotonic() > deadline:
            for directory, who in held:
                _log.warning(
                    "a spool is still written to; it is taken over once that ended", spool=str(directory), by=who
                )
            return
        time.sleep(_FORMER_PAUSE)


def allow_many_files() -> None:
    """Raise the limit of open files to what this process may have, within reason: each connection is one.

    Shells and service managers leave it at 1024, for the sake of programs that cannot deal with more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _StopSignals:
    """Notes that the process was asked to stop, before and while an event loop runs."""

    def __init__(self) -> None:
        self.requested = False
        self._wake: Callable[[], None] | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _StopSignals:
        for number in _STOP_SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: object) -> None:
        self.requested = True
        if self._wake is not None:
            self._wake()

    async def wait(self) -> None:
        """Return when a signal has come."""
        loop = asyncio.get_running_loop()
        event = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(event.set)

        self._wake = wake
        try:
            if not self.requested:
                await event.wait()
        finally:
            self._wake = None


async def _serve(
    config: Config,
    data_dir: DataDir,
    workers: int,
    announce: Announce,
    postgres: EmbeddedPostgres | None,
    stop: _StopSignals,
    notifier: Notifier,
    step: Step,
    forks: ForkServer | None,
) -> bool:
    dsn = postgres.dsn if postgres else None
    grace = config.service.delivery.shutdown_grace.total_seconds()
    heartbeats = Heartbeats()
    role = Role.ALL if workers == 1 else Role.EMITTERS
    # Beside workers its spools are numbered after theirs.
    number = 0 if workers == 1 else workers
    hub = Hub(config, embedded_dsn=dsn, data_dir=data_dir.path, role=role, worker=number, processes=number + 1)
    watchdog = notifier.watchdog
    pool = _Workers(config, dsn, data_dir.path, workers, heartbeats, watchdog, forks) if workers > 1 else None
    notifier.status("starting receivers and exporters")
    try:
        with step("starting receivers and exporters"):
            if pool is not None:
                await pool.start()
            await hub.start()
        if stop.requested:
            return False
        keep_what_is_loaded()  # to look through it would hold the loop for 20 ms at a time
        endpoints = hub.endpoints | (pool.endpoints if pool else {})

        def record() -> None:
            data_dir.record(description(config, dsn or configured_dsn(config), endpoints))

        record()
        hub.rotated = record
        announce(endpoints, dsn or configured_dsn(config))
        notifier.ready("serving " + ", ".join(f"{name} on {address}" for name, address in endpoints.items()))
        telling = asyncio.create_task(feed_watchdog(notifier, heartbeats.silent))
        guard = asyncio.create_task(_keep_running(postgres)) if postgres else None
        await stop.wait()
        notifier.stopping("storing what is in flight", 2 * grace + _STOP_MARGIN)
        telling.cancel()
        if guard is not None:
            guard.cancel()
            await asyncio.wait({guard})
        _log.info("stopping: nothing new is taken, what is in flight is stored and answered for")
        return True
    finally:
        await hub.stop()
        if pool is not None:
            await pool.stop(grace)


def description(config: Config, store: str | None, endpoints: dict[str, str]) -> Running:
    """Return what is written down of a running hub: no secret, which would be an old one after a rotation."""
    without_secret = store if store and not secrets_of_dsn(store) else None
    source = None if config.source is None else str(config.source.absolute())
    return Running(os.getpid(), without_secret, endpoints, source)


class WorkerError(Exception):
    """A worker could not start."""


async def _keep_running(postgres: EmbeddedPostgres) -> None:
    """Start the embedded PostgreSQL again when it ends by itself: killed for want of memory, say."""
    while True:
        await asyncio.sleep(_WATCH_INTERVAL)
        if postgres.pid is not None:
            continue
        _log.error("the embedded PostgreSQL ended; starting it again")
        starting = asyncio.ensure_future(asyncio.to_thread(postgres.start))
        try:
            await asyncio.shield(starting)
        except EmbeddedPostgresError as error:
            _log.error("the embedded PostgreSQL cannot be started again", reason=str(error))
        except Exception:
            _log.exception("the embedded PostgreSQL could not be started again")
        except asyncio.CancelledError:
            await asyncio.wait({starting})  # it must not be stopped in the middle of its start
            raise


class _Workers:
    """Worker processes, started again when one dies."""

    def __init__(
        self,
        config: Config,
        dsn: str | None,
        data_dir: Path,
        count: int,
        heartbeats: Heartbeats,
        watchdog: float | None,
        forks: ForkServer | None,
    ) -> None:
        self.endpoints: dict[str, str] = {}
        self._config = config
        self._dsn = dsn
        self._data_dir = data_dir
        self._count = count
        self._heartbeats = heartbeats
        self._watchdog = watchdog
        self._forks = forks
        self._watchers: list[asyncio.Task[None]] = []
        self._processes: set[ForkedProcess | _NewInterpreter] = set()

    async def start(self) -> None:
        """Start all workers and wait until each listens.

        Raises `OSError` when an address is taken, `WorkerError` when a worker cannot start for another reason.
        """
        check_free(self._config)
        started = await asyncio.gather(*(self._start_one(number) for number in range(self._count)))
        self._watchers = [asyncio.create_task(self._watch(each, number)) for number, each in enumerate(started)]

    async def stop(self, grace: float) -> None:
        """Let every worker stop as a hub does, and end those that do not."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for process in self._processes:
            process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace + 5):
                await asyncio.gather(*(process.ended() for process in self._processes))
        for process in self._processes:
            if process.is_alive():
                _log.error("a worker did not stop in time and is killed", pid=process.pid)
                process.kill()

    async def _start_one(self, number: int) -> ForkedProcess | _NewInterpreter:
        ours, theirs = multiprocessing.Pipe()
        process = self._start_process(
            theirs, self._config, self._dsn, self._data_dir, number, self._watchdog, self._count
        )
        theirs.close()
        self._processes.add(process)
        try:
            answer = await asyncio.to_thread(ours.recv)
        except EOFError:
            answer = WorkerError("a worker ended before it listened; see the log above")
        if isinstance(answer, Exception):
            raise answer
        self.endpoints = answer
        if self._watchdog is not None:
            self._heartbeats.follow(number, os.dup(ours.fileno()))
        return process

    def _start_process(self, connection: Connection, *arguments: Any) -> ForkedProcess | _NewInterpreter:
        if self._forks is not None:
            try:
                return self._forks.fork(connection, *arguments)
            except OSError as error:
                _log.error("workers can be forked no more; they are new interpreters from now on", reason=str(error))
                self._forks = None
        return _NewInterpreter(*arguments, connection)

    async def _watch(self, process: ForkedProcess | _NewInterpreter, number: int) -> None:
        while True:
            await process.ended()
            self._processes.discard(process)
            _log.error("a worker ended; starting another", pid=process.pid, exit_code=process.exitcode)
            await asyncio.sleep(_RESTART_PAUSE)
            try:
                process = await self._start_one(number)
            except Exception as error:
                _log.error("a worker cannot be started", reason=str(error))


class _NewInterpreter:
    """A worker that is not forked: where that is not safe, or what forks has ended."""

    def __init__(self, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_worker, args=arguments, daemon=True)
        self._process.start()
        self.is_alive, self.terminate, self.kill = self._process.is_alive, self._process.terminate, self._process.kill

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def exitcode(self) -> int | None:
        return self._process.exitcode

    async def ended(self) -> None:
        """Return when it has ended. Takes no thread to wait in: there are few, and workers may be many."""
        loop = asyncio.get_running_loop()
        end = asyncio.Event()
        loop.add_reader(self._process.sentinel, end.set)
        try:
            await end.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()


def _worker(
    config: Config,
    dsn: str | None,
    data_dir: Path,
    number: int,
    watchdog: float | None,
    count: int,
    parent: Connection,
) -> None:
    """Run the listeners of a hub in a process of its own, one of ``count``, until SIGTERM.

    It ends at once, in the middle of whatever it does, when its parent ends.
    """
    end_with_parent()
    name_process("obs-hub-worker")
    logs.configure(config.service.telemetry.logs.level, config.service.telemetry.logs.format)
    # Ctrl-C reaches the whole process group; the parent says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_work(config, dsn, data_dir, number, watchdog, count, parent))


async def _work(
    config: Config,
    dsn: str | None,
    data_dir: Path,
    number: int,
    watchdog: float | None,
    count: int,
    parent: Connection,
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    its_parent = multiprocessing.parent_process()
    if its_parent is not None:
        loop.add_reader(int(its_parent.sentinel), end_at_once)
    hub = Hub(
        config,
        embedded_dsn=dsn,
        data_dir=data_dir,
        role=Role.LISTENERS,
        worker=number,
        processes=count + 1,  # the first process delivers, too
        reuse_port=True,
    )
    beating = None
    try:
        try:
            await hub.start()
        except (OSError, SchemaError, LayoutError) as error:
            parent.send(OSError(str(error)) if isinstance(error, OSError) else WorkerError(str(error)))
            return
        keep_what_is_loaded()
        with contextlib.suppress(BrokenPipeError):
            parent.send(hub.endpoints)
        _log.info("a worker listens", pid=os.getpid())
        beating = asyncio.create_task(beat(parent.fileno(), watchdog)) if watchdog is not None else None
        await stop.wait()
        await hub.stop()
    finally:
        if beating is not None:
            beating.cancel()
        # Now a signal may just end the process. asyncio closes the pipe of its handlers before it removes them, and one
        # that came between (the parent ends all workers when one cannot start) would print a traceback.
        for each in (signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(each)
