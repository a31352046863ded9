"""Does runs: claims them, keeps them alive while they last, writes down how they ended, and tells about each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode, set_span_in_context

from gateway.operations import Operations, ids_of, parent_context
from gateway.runs.model import Run, RunState, Trace
from gateway.runs.repository import STALE_AFTER, RunLostError, Runs, RunsUnavailableError
from gateway.runs.text import Output

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_POLL = 2.0
_HEARTBEAT = 5.0
_PRUNE = 3600.0
_MARGIN = 15.0
"""Seconds before others may take a run over at which a gateway that cannot say that it goes on breaks it off."""


@dataclass(slots=True)
class Progress:
    """How far a run is, for who runs it to fill in. What is here is in the store a few seconds later.

    ``context`` is the run's span, the parent of whatever spans it makes.
    """

    context: Context
    counts: dict[str, int] = field(default_factory=dict)
    output: Output = field(default_factory=Output)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: ``SUCCEEDED`` or ``FAILED``, and then why."""

    state: RunState = RunState.SUCCEEDED
    result: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


Execute = Callable[[Run, Progress], Awaitable[Outcome]]
"""Does a run. It may be broken off at any await, and done again from its beginning: see `Run.resumed`."""


class Worker:
    """Does the runs of one kind and these names: of each name one at a time, of different names at once.

    Runs of this kind that ended longer than ``kept`` ago are removed; None: none are.
    """

    def __init__(
        self,
        runs: Runs,
        kind: str,
        names: Sequence[str],
        execute: Execute,
        operations: Operations,
        *,
        kept: timedelta | None = timedelta(days=90),
    ) -> None:
        self._runs = runs
        self._kind = kind
        self._names = list(names)
        self._execute = execute
        self._operations = operations
        self._kept = kept
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._finished = operations.meter.create_counter("obs_hub.run.finished", "{run}", "Runs that ended, by state")
        self._duration = operations.meter.create_histogram(
            "obs_hub.run.duration",
            "s",
            "Time a run took",
            explicit_bucket_boundaries_advisory=[0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600],
        )

    def wake(self) -> None:
        """Look for runs now: one was just asked for."""
        self._wake.set()

    async def start(self) -> None:
        """Begin to look for runs."""
        self._loop = asyncio.create_task(self._work())

    async def stop(self, grace: float) -> None:
        """Start no further run, wait ``grace`` seconds for those under way, and leave the others to be resumed."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait({self._loop})
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def _work(self) -> None:
        away, prune_at = False, 0.0
        while True:
            self._wake.clear()
            try:
                while run := await self._runs.claim(self._kind, self._names):
                    task = asyncio.create_task(self._perform(run))
                    self._running.add(task)
                    task.add_done_callback(self._ended)
                if self._kept is not None and time.monotonic() >= prune_at:
                    prune_at = time.monotonic() + _PRUNE
                    await self._runs.prune(self._kept, self._kind)
                if away:
                    _log.info("runs are looked for again", kind=self._kind)
                away = False
            except RunsUnavailableError as error:
                if not away:
                    _log.warning("runs wait for the store", kind=self._kind, reason=str(error))
                away = True
            except Exception:
                _log.exception("looking for runs failed", kind=self._kind)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL):
                    await self._wake.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()

    async def _perform(self, run: Run) -> None:
        """Do one run, from its claim to its end."""
        attributes = {"obs_hub.run.kind": run.kind, "obs_hub.run.name": run.name, "obs_hub.run.id": str(run.id)}
        parent = Context()
        if run.trace is not None and run.trace.span_id is not None:
            parent = parent_context(run.trace.trace_id, run.trace.span_id)
        with self._operations.tracer.start_as_current_span(
            f"{run.kind}.run",
            parent,
            attributes={**attributes, "obs_hub.run.attempt": run.attempt},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:  # which is current, so that whatever is logged meanwhile belongs to it
            try:
                await self._perform_within(run, span, attributes)
            finally:
                self._runs.forget(run)

    async def _perform_within(self, run: Run, span: Span, attributes: dict[str, str]) -> None:
        progress = Progress(set_span_in_context(span))
        log = _log.bind(kind=run.kind, name=run.name, run=str(run.id), trace_id=(ids_of(span) or (run.trace_id,))[0])
        log.info("run resumed" if run.resumed else "run started", attempt=run.attempt)
        began = time.monotonic()
        try:
            await self._remember_trace(run, span)
            outcome = await self._outcome(run, progress)
            await self._finish(run, progress, outcome)
        except asyncio.CancelledError:
            log.warning("run interrupted by the end of this gateway; it is resumed with the next start")
            span.set_status(StatusCode.ERROR, "interrupted by the end of the gateway")
            with contextlib.suppress(Exception):
                await asyncio.shield(asyncio.wait_for(self._runs.release(run), 2))
            raise
        except RunLostError as error:
            log.warning("run given up", reason=str(error))
            span.set_status(StatusCode.ERROR, str(error))
        except Exception as error:
            log.exception("run left behind; it is resumed later")
            span.set_status(StatusCode.ERROR, str(error))
        else:
            seconds = time.monotonic() - began
            self._tell(run, outcome, attributes, seconds, span)
            log.info("run finished", state=outcome.state.value, seconds=round(seconds, 3), error=outcome.error)

    async def _remember_trace(self, run: Run, span: Span) -> None:
        """Let what comes after a restart go on with the trace that begins here, when nothing else began one."""
        if run.trace is None and (ids := ids_of(span)):
            await self._runs.set_trace(run, Trace(*ids))

    async def _outcome(self, run: Run, progress: Progress) -> Outcome:
        """Do the run while saying that it goes on. Raises `RunLostError` when it no longer may."""
        work = asyncio.ensure_future(self._execute(run, progress))
        kept = STALE_AFTER.total_seconds() - _MARGIN
        lost_at = time.monotonic() + kept
        try:
            while True:
                done, _ = await asyncio.wait({work}, timeout=_HEARTBEAT)
                if done:
                    break
                asked_at = time.monotonic()
                try:
                    # Other runs may stand before this one at a store that does not answer.
                    async with asyncio.timeout(max(lost_at - asked_at, 0)):
                        await self._runs.heartbeat(run, counts=progress.counts, output=progress.output.text)
                    lost_at = asked_at + kept
                except (RunsUnavailableError, TimeoutError) as error:
                    if time.monotonic() >= lost_at:
                        raise RunLostError(
                            "the store is away for so long that another gateway may take the run over: "
                            f"{str(error) or 'it does not answer'}"
                        ) from error
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
        try:
            return work.result()
        except Exception as error:
            _log.exception("run failed", kind=run.kind, name=run.name, run=str(run.id))
            return Outcome(RunState.FAILED, error=f"{type(error).__name__}: {error}")

    async def _finish(self, run: Run, progress: Progress, outcome: Outcome) -> None:
        """Write down the end, as soon as the store can be reached."""
        while True:
            try:
                await self._runs.finish(
                    run,
                    outcome.state,
                    counts=progress.counts,
                    result=outcome.result,
                    output=progress.output.text,
                    error=outcome.error,
                )
            except RunsUnavailableError as error:
                _log.warning("the end of a run waits for the store", run=str(run.id), reason=str(error))
                await asyncio.sleep(_POLL)
            else:
                return

    def _tell(self, run: Run, outcome: Outcome, attributes: dict[str, str], seconds: float, span: Span) -> None:
        failed = outcome.state is not RunState.SUCCEEDED
        span.set_status(StatusCode.ERROR if failed else StatusCode.OK, outcome.error if failed else None)
        span.set_attribute("obs_hub.run.state", outcome.state.value)
        labels = {"kind": run.kind, "name": run.name, "state": outcome.state.value}
        self._finished.add(1, labels)
        self._duration.record(seconds, labels)
        self._operations.event(
            f"{run.kind}.run.finished",
            f"{run.kind} {run.name}: {outcome.state.value}" + (f": {outcome.error}" if outcome.error else ""),
            {**attributes, "obs_hub.run.state": outcome.state.value, "obs_hub.run.duration": seconds},
            SeverityNumber.ERROR if failed else SeverityNumber.INFO,
            set_span_in_context(span),
        )
