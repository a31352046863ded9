"""GitOps as a service of the hub: takes requests for runs, does them, and looks for drift besides."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from opentelemetry.trace import Span

from gateway.extensions.gitops.config import GitOpsConfig, Repository
from gateway.extensions.gitops.drift import Check, DriftReport, check, note_check
from gateway.extensions.gitops.git import Git
from gateway.extensions.gitops.reconcile import BusyError, Order, Reconciler
from gateway.operations import Operations, ids_of
from gateway.runs import Enqueued, Outcome, Progress, Request, Run, Runs, RunState, RunsUnavailableError, Trace, Worker

if TYPE_CHECKING:
    from litestar import Router

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

KIND = "gitops"
_BUSY_PAUSE = 5.0
_LONGEST_PAUSE = 6 * 3600.0
"""Seconds between two runs at most that are asked for the same state of affairs."""


class UnknownRepositoryError(Exception):
    """No repository of that name is configured."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The state of affairs that a run was asked for, and when it is asked for again if that is still the same."""

    affairs: tuple[str | None, ...]
    pause: float
    again_at: float


class GitOpsService:
    """Runs the repositories of a configuration."""

    def __init__(self, name: str, config: GitOpsConfig, runs: Runs, operations: Operations) -> None:
        self.name = name
        self.endpoints: dict[str, str] = {}
        self.config = config
        self.runs = runs
        self.operations = operations
        self._drift = DriftReport(operations)
        self._worker = Worker(runs, KIND, list(config.repositories), self._execute, operations, kept=config.keep_runs)
        self._watchers: list[asyncio.Task[None]] = []
        self._asked_for: dict[str, _Asked] = {}

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to do runs and to look for drift. A store or a remote that is away is waited for."""
        await self._worker.start()
        self._watchers = [
            asyncio.create_task(self._watch(name, repository)) for name, repository in self.config.repositories.items()
        ]

    async def stop(self, grace: float) -> None:
        """Let runs under way end within ``grace`` seconds; others are resumed by the next start."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await self._worker.stop(grace)
        await self.runs.close()

    def routers(self) -> list[Router]:
        """Return what the API front serves for it."""
        from gateway.extensions.gitops.routes import make_router

        return [make_router(self)]

    def reconfigure(self, settings: Any) -> bool:
        """Use the webhook's secrets of new settings."""
        if not isinstance(settings, GitOpsConfig):
            return False
        self.config = self.config.model_copy(update={"webhook": settings.webhook})
        return settings.repositories == self.config.repositories

    @property
    def secrets(self) -> list[str]:
        """The secrets that deliveries may be signed with at this moment."""
        webhook = self.config.webhook
        return [] if webhook is None else [secret.get_secret_value() for secret in webhook.secrets]

    # -- asking --------------------------------------------------------------------------------------------------

    async def sync(self, name: str, trigger: dict[str, Any], span: Span | None = None) -> UUID:
        """Ask for a run. Raises `UnknownRepositoryError`, and `RunsUnavailableError` when the store is away."""
        if name not in self.config.repositories:
            known = ", ".join(sorted(self.config.repositories))
            raise UnknownRepositoryError(f"no repository is called {name!r}; configured: {known}")
        identity = await self.runs.enqueue(Request(KIND, name, trigger, _trace(span)))
        self._worker.wake()
        return identity

    async def deliver(
        self, identities: Sequence[str], names: tuple[str, ...], trigger: dict[str, Any], span: Span
    ) -> Enqueued:
        """Ask for the runs of a webhook delivery, once. Raises `RunsUnavailableError` when the store is away.

        It came before when any of its identities did.
        """
        trace = _trace(span)
        enqueued = await self.runs.enqueue_delivery(identities, [Request(KIND, name, trigger, trace) for name in names])
        self._worker.wake()
        return enqueued

    # -- doing ---------------------------------------------------------------------------------------------------

    async def _execute(self, run: Run, progress: Progress) -> Outcome:
        repository = self.config.repositories[run.name]
        outcome = await Reconciler(run.name, repository, self.operations).reconcile(order_of(run), progress)
        # After one that failed, perhaps because the remote is away, only asking it again can tell.
        await self._look(run.name, repository, fetch=outcome.state is RunState.FAILED)
        return outcome

    async def _watch(self, name: str, repository: Repository) -> None:
        """Look for new revisions and for drift, again and again."""
        if repository.interval is None:
            await self._look(name, repository, fetch=False)
            return
        seconds = repository.interval.total_seconds()
        while True:
            found = await self._look(name, repository)
            if found is None:
                await asyncio.sleep(min(_BUSY_PAUSE, seconds))
                continue
            if found.due:
                await self._ask(name, found, seconds)
            await asyncio.sleep(seconds * random.uniform(0.9, 1.1))  # noqa: S311 - spreads gateways, hides nothing

    async def _look(self, name: str, repository: Repository, *, fetch: bool = True) -> Check | None:
        """Look at a clone and tell what was found; None when somebody works on it."""
        git = Git(repository)
        try:
            found = await check(git, fetch=fetch)
        except BusyError:
            return None
        except Exception:
            _log.exception("looking at a clone failed", repository=name)
            found = Check(None, frozenset({"unusable"}), "looking at it failed; see the log")
        before = self._drift.get(name)
        if found.drift and (before is None or before.drift != found.drift):
            _log.warning("drift", repository=name, drift=sorted(found.drift), problem=found.problem)
        self._drift.found(name, found)
        await note_check(git, found)
        return found

    async def _ask(self, name: str, found: Check, interval: float) -> None:
        """Ask for a run; more and more seldom for the same state of affairs, which failed then and may fail again."""
        state, now, pause = found.state, time.monotonic(), interval
        affairs = (None,) if state is None else (state.upstream, state.head, state.good)
        if (asked := self._asked_for.get(name)) is not None and asked.affairs == affairs:
            if now < asked.again_at:
                return
            pause = max(min(2 * asked.pause, _LONGEST_PAUSE), interval)
        with self.operations.tracer.start_as_current_span(
            "gitops.interval", attributes={"obs_hub.gitops.repository": name}
        ) as span:
            try:
                await self.runs.enqueue(Request(KIND, name, {"source": "interval"}, _trace(span)), supersede=False)
            except RunsUnavailableError as error:
                _log.warning("a run could not be asked for", repository=name, reason=str(error))
                return
        self._asked_for[name] = _Asked(affairs, pause, now + pause)
        self._worker.wake()


def order_of(run: Run) -> Order:
    """Return what a run asks of its repository."""
    return Order(str(run.id), run.trigger.get("force") is True, run.resumed)


def _trace(span: Span | None) -> Trace | None:
    ids = None if span is None else ids_of(span)
    return None if ids is None else Trace(*ids)
