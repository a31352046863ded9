"""One run: bring a clone to its remote's revision and roll that out, or say why not.

Each step of it is such that a gateway killed at any point does the right thing when the run is resumed: what counts is
where the branch stands and which revision was last good, and refs in the clone say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog
from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode

from gateway.extensions.gitops import steps
from gateway.extensions.gitops.config import Repository, Step
from gateway.extensions.gitops.git import FAILED, GOOD, RETURNING, SEEN, Git, GitError, ReconcileRefusedError, State
from gateway.extensions.gitops.process import RUN_VARIABLE, end_leftovers
from gateway.extensions.gitops.target import StepError, Target
from gateway.files.locks import FileLock, LockHeldError, NoLocksError
from gateway.operations import Operations, ids_of
from gateway.runs import Outcome, Progress, RunState

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PATIENCE = 180.0
"""Seconds to wait for somebody else who works on the clone: looking for drift takes as long as a fetch."""
_LOCK_PAUSE = 0.1


class BusyError(Exception):
    """Another process works on the clone."""


class StepFailedError(Exception):
    """A step failed, and with it the roll-out."""

    def __init__(self, step: Step, message: str) -> None:
        super().__init__(message)
        self.step = step


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is about. ``force``: run the steps though the revision is rolled out already, or failed before."""

    run_id: str
    force: bool = False
    resumed: bool = False


@contextlib.asynccontextmanager
async def exclusive(repository: Repository, patience: float = 0) -> AsyncIterator[None]:
    """Hold a clone for the length of a block, against other hubs and `obs-hub gitops sync --local`.

    The lock is the kernel's and ends with the process, however that ends. Raises `BusyError` when another still holds
    it after ``patience`` seconds.
    """
    lock = FileLock(repository.path, folder=True)
    deadline = time.monotonic() + patience
    try:
        while not lock.held:
            try:
                lock.acquire()
            except LockHeldError:
                if time.monotonic() >= deadline:
                    raise BusyError(f"another hub works on the clone {repository.path} at this moment") from None
                await asyncio.sleep(_LOCK_PAUSE)
            except NoLocksError as error:
                raise BusyError(
                    f"the clone {repository.path} cannot be locked ({error.reason}); "
                    "put it on a file system that has locks of directories"
                ) from error
            except OSError:
                break  # there is no clone yet, or none that can be used, which git will say better
        yield
    finally:
        lock.release()


class Reconciler:
    """Reconciles one repository."""

    def __init__(self, name: str, repository: Repository, operations: Operations) -> None:
        self._name = name
        self._repository = repository
        self._operations = operations

    async def reconcile(self, order: Order, progress: Progress) -> Outcome:
        """Do all of it. What goes wrong is the outcome's error; only cancellation is raised."""
        if order.resumed and (left := await asyncio.to_thread(end_leftovers, order.run_id)):
            progress.output.add(f"ended {left} processes that the killed gateway had left\n")
        try:
            if not self._repository.path.exists() and self._repository.url is not None:
                async with self._span("gitops.clone", progress.context):
                    progress.output.add(f"clone to {self._repository.path}\n")
                    await Git(self._repository, {RUN_VARIABLE: order.run_id}).clone()
            async with exclusive(self._repository, _PATIENCE):
                return await _Reconciliation(self._name, self._repository, self._operations, order, progress).run()
        except (ReconcileRefusedError, GitError, BusyError) as error:
            progress.output.add(f"{error}\n")
            return Outcome(RunState.FAILED, error=str(error))

    @contextlib.asynccontextmanager
    async def _span(self, name: str, context: Context) -> AsyncIterator[Span]:
        async with _span(self._operations, name, context, self._name) as span:
            yield span


@contextlib.asynccontextmanager
async def _span(
    operations: Operations, name: str, context: Context, repository: str, step: str | None = None
) -> AsyncIterator[Span]:
    attributes = {"obs_hub.gitops.repository": repository, **({"obs_hub.gitops.step": step} if step else {})}
    span = operations.tracer.start_span(name, context, attributes=attributes)
    try:
        yield span
    except BaseException as error:
        span.set_status(StatusCode.ERROR, str(error) or type(error).__name__)
        raise
    finally:
        span.end()


class _Reconciliation:
    """One reconciliation of one clone, which is held meanwhile."""

    def __init__(
        self, name: str, repository: Repository, operations: Operations, order: Order, progress: Progress
    ) -> None:
        self._name = name
        self._repository = repository
        self._operations = operations
        self._order = order
        self._progress = progress
        self._git = Git(repository, {RUN_VARIABLE: order.run_id})

    async def run(self) -> Outcome:
        git = self._git
        credentials = await git.check_clone()
        for lock in await git.reclaim():
            self._say(f"removed {lock}, which a git that was killed had left")
        if credentials:
            self._say("the clone's settings hold credentials in the open, for all that the steps run to read")
        state = await git.state()
        if state.branch == self._repository.branch and await git.finish_move(state):
            self._say("finished what a gateway that was killed had begun to check out")
            state = await git.state()
        git.refuse_what_is_not_ours(state)
        if (returned := await self._finish_return(state)) is not None:
            return returned
        async with self._span("gitops.fetch"):
            self._say(f"fetch {self._repository.remote}/{self._repository.branch}")
            await git.fetch(maintain=True)
        state = await git.after_fetch(state)
        if (target := state.upstream) is None:
            raise GitError(f"what {self._repository.remote} has as {self._repository.branch} is no commit")
        if target == state.failed and not self._order.force:
            return self._failed(
                f"the revision {target} failed before and is not tried again: push a fix, or try it once more with "
                f"`obs-hub gitops sync {self._name} --force`",
                state,
                target,
            )
        if self._repository.require_signed and target != state.good:
            async with self._span("gitops.verify"):
                await git.verify_signature(target)
                self._say(f"the signature of {target[:12]} is good")
        before = state.head
        if before != target:
            async with self._span("gitops.fast_forward"):
                await git.fast_forward(state)
                self._say(f"fast-forward {(before or '')[:12]}..{target[:12]}, {state.behind} commits")
                self._progress.counts["commits"] = state.behind
        elif target != state.seen:
            await git.set_refs({SEEN: target})
        if target == state.good and not self._order.force:
            self._say(f"{target[:12]} is rolled out already")
            if state.failed is not None:
                await git.set_refs({FAILED: None})
            return Outcome(result={"before": before, "revision": target, "changed": False})
        return await self._roll_out(state, target)

    async def _roll_out(self, state: State, target: str) -> Outcome:
        git = self._git
        await git.update_submodules()
        try:
            await self._steps(target, state)
        except StepFailedError as failure:
            error = str(failure)
            if failure.step.rollback and state.good is not None and state.good != target:
                return await self._return_to(state.good, target, error, state)
            await git.set_refs({FAILED: target})
            return self._failed(error, state, target)
        await git.set_refs({GOOD: target, FAILED: None})
        if self._repository.prune_branches:
            for name, revision in await git.prune_branches():
                self._say(f"removed the merged branch {name!r}, which stood at {revision}")
                self._count("branches_pruned")
        return Outcome(result={"before": state.head, "revision": target, "changed": True})

    async def _return_to(self, good: str, failed: str, error: str, state: State) -> Outcome:
        """Return to the last good revision. The ref that says so stands until all of it is done."""
        await self._git.set_refs({RETURNING: good})
        # Only now: a gateway killed before tries the revision again, one killed after finishes the return.
        await self._git.set_refs({FAILED: failed})
        now = await self._git.state()
        if now.head != failed or now.dirty:
            await self._git.set_refs({RETURNING: None})
            return self._failed(
                f"{error}; not returned to {good}, because the step left changes in the clone, or moved its branch",
                state,
                failed,
            )
        return await self._back_at(good, failed, error, state)

    async def _back_at(self, good: str, failed: str | None, error: str, state: State) -> Outcome:
        async with self._span("gitops.rollback"):
            self._say(f"return to {good[:12]}, the last good revision")
            await self._git.go_back(good)
        try:
            await self._steps(good, state, tried=failed)
        except StepFailedError as again:
            await self._git.set_refs({RETURNING: None})
            return self._failed(f"{error}; returning to {good} failed, too: {again}", state, failed)
        await self._git.set_refs({RETURNING: None})
        return self._failed(f"{error}; returned to {good}", state, failed, good)

    async def _finish_return(self, state: State) -> Outcome | None:
        """Finish a return that a killed gateway began, unless somebody has moved the branch since."""
        returning = state.returning
        if returning is None:
            return None
        if returning != state.good or state.head not in (state.failed, returning):
            await self._git.set_refs({RETURNING: None})
            return None
        return await self._back_at(returning, state.failed, "the steps failed before the gateway was killed", state)

    async def _steps(self, revision: str, state: State, tried: str | None = None) -> None:
        """Run the steps for a revision. ``tried`` is one that they ran for before, and failed."""
        known = tuple(one for one in (state.good, tried, state.failed, state.head) if one)
        good = None if self._order.force else state.good
        target = Target(self._git, revision, good, known, self._variables(revision, state))
        for step in self._repository.steps:
            if not await steps.wanted(step, target):
                self._say(f"step {step.title}: skipped, nothing that it looks at has changed")
                self._count("steps_skipped")
                continue
            async with self._span("gitops.step", step.title) as span:
                self._say(f"step {step.title}")
                target.variables.update(_trace_variables(span))
                try:
                    await steps.perform(step, target, self._progress.output.add)
                except (StepError, GitError) as error:
                    self._say(f"step {step.title} failed: {error}")
                    self._count("steps_failed")
                    raise StepFailedError(step, f"step {step.title} failed for {revision}: {error}") from None
                self._count("steps_succeeded")

    def _variables(self, revision: str, state: State) -> dict[str, str]:
        return {
            RUN_VARIABLE: self._order.run_id,
            "OBSHUB_REPOSITORY": self._name,
            "OBSHUB_REVISION": revision,
            "OBSHUB_LAST_GOOD_REVISION": state.good or "",
        }

    def _failed(self, error: str, state: State, target: str | None, now: str | None = None) -> Outcome:
        result = {"before": state.head, "revision": now or target, "failed_revision": target}
        return Outcome(RunState.FAILED, {**result, "returned": now is not None}, error)

    def _say(self, line: str) -> None:
        self._progress.output.add(f"== {line}\n")
        _log.info("gitops", repository=self._name, run=self._order.run_id, message=line)

    def _count(self, what: str) -> None:
        self._progress.counts[what] = self._progress.counts.get(what, 0) + 1

    @contextlib.asynccontextmanager
    async def _span(self, name: str, step: str | None = None) -> AsyncIterator[Span]:
        async with _span(self._operations, name, self._progress.context, self._name, step) as span:
            yield span


def _trace_variables(span: Span) -> dict[str, str]:
    """Let what a step runs continue the trace (W3C Trace Context, as environment variables)."""
    ids = ids_of(span)
    return {} if ids is None else {"TRACEPARENT": f"00-{ids[0]}-{ids[1]}-01"}
