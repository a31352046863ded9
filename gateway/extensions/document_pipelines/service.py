"""Pipelines as a service of the hub: asks for runs when there is something to read, and does them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from opentelemetry.trace import Span

from gateway.component import Consumer, Signal
from gateway.component.documents import NoChangeStreamsError, SourceError
from gateway.extensions.document_pipelines.config import Pipeline, PipelinesConfig, source_of
from gateway.extensions.document_pipelines.run import KIND, PipelineRun
from gateway.net.remote import close, consumer_of
from gateway.operations import Operations, ids_of
from gateway.runs import Outcome, Progress, Request, Run, Runs, RunState, RunsUnavailableError, Trace, Worker

if TYPE_CHECKING:
    from litestar import Router

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_AWAY_SECONDS = 10.0
"""After how long a change stream that broke is begun again."""


class UnknownPipelineError(Exception):
    """No pipeline of that name is configured."""


class PipelinesService:
    """Runs the pipelines of a configuration. ``consumer`` is the hub's own, for where the
    settings name no other."""

    def __init__(
        self,
        name: str,
        config: PipelinesConfig,
        runs: Runs,
        operations: Operations,
        consumer: Consumer,
    ) -> None:
        self.name = name
        self.endpoints: dict[str, str] = {}
        self.config = config
        self.runs = runs
        self.operations = operations
        self._consumer = consumer
        self._run = PipelineRun(operations)
        names = list(config.pipelines)
        self._worker = Worker(runs, KIND, names, self._execute, operations, kept=config.keep_runs)
        self._sources = {name: source_of(name, each) for name, each in config.pipelines.items()}
        self._due = {name: asyncio.Event() for name in names}
        self._busy: set[str] = set()
        self._away: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to look for documents and to do runs. A database or a store that is away is waited for."""
        for name, source in self._sources.items():
            try:
                source.check()
            except ValueError as error:
                _log.error("pipeline: its runs will fail", pipeline=name, reason=str(error))
        await self._worker.start()
        for name, pipeline in self.config.pipelines.items():
            self._tasks.append(asyncio.create_task(self._look_again_and_again(name, pipeline)))
            if pipeline.schedule.watch:
                self._tasks.append(asyncio.create_task(self._follow(name, pipeline)))

    async def stop(self, grace: float) -> None:
        """Let runs under way end within ``grace`` seconds; others are resumed by the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._worker.stop(grace)
        await self.runs.close()
        await asyncio.gather(*(source.close() for source in self._sources.values()))

    def routers(self) -> list[Router]:
        """Return what the API front serves for it."""
        from gateway.extensions.document_pipelines.routes import make_router

        return [make_router(self)]

    def reconfigure(self, settings: Any) -> bool:
        """Use the connection strings and headers of new settings, for connections made from now on."""
        if not isinstance(settings, PipelinesConfig):
            return False
        pipelines = dict(self.config.pipelines)
        for name, before in self.config.pipelines.items():
            after = settings.pipelines.get(name)
            if after is None or (rotated := before.rotated(after)) is None:
                continue
            pipelines[name] = rotated
            if name not in self._busy:  # else it is closed at the end of that run
                self._tasks.append(asyncio.create_task(self._sources[name].close()))
            self._sources[name] = source_of(name, rotated)
            self._due[name].set()
        self.config = self.config.model_copy(update={"pipelines": pipelines, "headers": settings.headers})
        return True

    # -- asking --------------------------------------------------------------------------------------------------

    async def ask(self, name: str, trigger: dict[str, Any], span: Span | None = None) -> UUID:
        """Ask for a run; the one that waits already, if any, is as good.

        Raises `UnknownPipelineError`, and `RunsUnavailableError` when the store is away.
        """
        if name not in self.config.pipelines:
            known = ", ".join(sorted(self.config.pipelines))
            raise UnknownPipelineError(f"no pipeline is called {name!r}; configured: {known}")
        ids = None if span is None else ids_of(span)
        request = Request(KIND, name, trigger, None if ids is None else Trace(*ids))
        identity = await self.runs.enqueue(request, supersede=False)
        self._worker.wake()
        return identity

    async def _look_again_and_again(self, name: str, pipeline: Pipeline) -> None:
        """Ask for a run whenever there is something to read."""
        schedule, due = pipeline.schedule, self._due[name]
        if schedule.every is None and not schedule.watch:
            return
        while True:
            due.clear()
            asked_at = time.monotonic()
            # Once more afterwards: a run that began meanwhile reads what was found, and is followed by another look.
            if name not in self._busy and await self._is_waiting(name) and name not in self._busy:
                await self._ask_by_schedule(name)
                await asyncio.sleep(schedule.at_most_every.total_seconds())
            pause = None
            if schedule.every is not None:
                seconds = schedule.every.total_seconds() * random.uniform(0.9, 1.1)  # noqa: S311 - hides nothing
                pause = max(asked_at + seconds - time.monotonic(), 0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await due.wait()

    async def _is_waiting(self, name: str) -> bool:
        try:
            found = await self._sources[name].waiting()
        except SourceError as error:
            if name not in self._away:
                _log.warning(
                    "pipeline: its database cannot be read; it is tried again", pipeline=name, reason=str(error)
                )
            self._away.add(name)
            return False
        except Exception:
            _log.exception("looking for documents failed", pipeline=name)
            return False
        if name in self._away:
            self._away.discard(name)
            _log.info("pipeline: its database can be read again", pipeline=name)
        return found

    async def _ask_by_schedule(self, name: str) -> None:
        with self.operations.tracer.start_as_current_span(
            "pipeline.schedule", attributes={"obs_hub.run.name": name}
        ) as span:
            try:
                await self.ask(name, {"source": "schedule"}, span)
            except RunsUnavailableError as error:
                _log.warning("a run could not be asked for", pipeline=name, reason=str(error))

    async def _follow(self, name: str, pipeline: Pipeline) -> None:
        """Look for documents as soon as the server tells that one was written."""
        while True:
            try:
                changes = await self._sources[name].changes()
                self._due[name].set()  # what was written before the stream began
                while True:
                    if await changes.wait():
                        self._due[name].set()
            except NoChangeStreamsError as error:
                every = pipeline.schedule.every
                _log.info(
                    "pipeline: no change stream",
                    pipeline=name,
                    reason=str(error),
                    instead="it runs only when asked to: set schedule.every"
                    if every is None
                    else f"it looks every {every}",
                )
                return
            except SourceError as error:
                _log.info("pipeline: the change stream broke; it is begun again", pipeline=name, reason=str(error))
            except Exception:
                _log.exception("following a change stream failed; it is begun again", pipeline=name)
            await asyncio.sleep(_AWAY_SECONDS)

    # -- doing ---------------------------------------------------------------------------------------------------

    async def _execute(self, run: Run, progress: Progress) -> Outcome:
        name = run.name
        try:
            consumer = consumer_of(self.config, [Signal.LOGS], self._consumer)
        except (ValueError, OSError) as error:
            return Outcome(RunState.FAILED, error=str(error))
        self._busy.add(name)
        source = self._sources[name]
        try:
            outcome = await self._run.do(name, self.config.pipelines[name], source, consumer, progress)
        finally:
            await close(consumer)
            self._busy.discard(name)
            if source is not self._sources[name]:
                await source.close()
        if outcome.state is RunState.SUCCEEDED:
            self._due[name].set()  # more may have come meanwhile; what failed is tried again by and by
        return outcome
