"""Commits of what has gathered, and an answer for each batch: committed, spooled, kept as a dead letter, or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from gateway.base.retry import Circuit
from gateway.component.errors import DeliveryError, UnavailableError
from gateway.component.interfaces import Prepared
from gateway.pipeline.attempts import Attempts
from gateway.pipeline.commit_queue import CommitQueue, Pending, fail_all
from gateway.pipeline.refusals import Refusals
from gateway.pipeline.spool_sender import SpoolSender

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Committer:
    """Commits to one exporter. ``slow_after`` is how many seconds a batch waits before it is spooled meanwhile."""

    def __init__(
        self,
        name: str,
        queue: CommitQueue,
        attempts: Attempts,
        circuit: Circuit,
        refusals: Refusals,
        spool: SpoolSender | None,
        slow_after: float,
    ) -> None:
        self._name = name
        self._queue = queue
        self._attempts = attempts
        self._circuit = circuit
        self._refusals = refusals
        self._spool = spool
        self._slow_after = slow_after

    async def commit(self, gathered: Sequence[Pending]) -> None:
        """Commit batches, and answer for each."""
        pending = {id(each.prepared): each for each in gathered}
        refused: list[tuple[Pending, DeliveryError]] = []

        def settle(prepared: Prepared, result: bool | DeliveryError) -> None:
            each = pending[id(prepared)]
            each.settled = True
            if isinstance(result, DeliveryError):
                refused.append((each, result))
            else:
                self._succeed(each)

        slow = None if self._spool is None else _SlowCommit(self._spool, self._slow_after, self._begin_slow, gathered)
        failure: UnavailableError | None = None
        try:
            try:
                await self._attempts.attempt([each.prepared for each in gathered], settle)
            except UnavailableError as error:
                failure = error
            except asyncio.CancelledError:
                if slow is not None:
                    slow.cancel()
                raise
            finally:
                if slow is not None:
                    await slow.ended()
            if failure is not None:
                await self._fail(gathered, failure)
            for each, refusal in refused:
                if await self._refusals.answer(each, refusal):
                    self._succeed(each)
        finally:
            if slow is not None:
                slow.close()

    def _begin_slow(self) -> list[Pending]:
        """Note that a commit takes long, and return what is not to wait behind it."""
        _log.warning("a destination is slow; batches wait in the spool meanwhile", exporter=self._name)
        self._circuit.trip()
        return self._queue.take_all()

    async def _fail(self, gathered: Sequence[Pending], failure: UnavailableError) -> None:
        """Answer for what an attempt left without an answer, and for what waits behind it."""
        self._attempts.failed(failure)
        left = [each for each in gathered if not each.answered and not each.settled]
        if self._spool is None:
            # What waits behind would be tried next, each for as long as this was, and answered too late.
            fail_all(left + self._queue.take_all(), failure)
        else:
            await self._spool.keep_all(left + self._queue.take_all())

    def _succeed(self, pending: Pending) -> None:
        """Answer for a batch that needs no delivery any more."""
        if pending.spooled and self._spool is not None:
            self._spool.settle(pending.prepared.batch)
        pending.succeed()


class _SlowCommit:
    """Spools what a commit carries, and what waits behind it, once that takes long; the commit may succeed after all.

    Until this is closed nothing is replayed then, for the spool holds what is being committed. ``begin`` returns what
    waits behind.
    """

    def __init__(
        self, spool: SpoolSender, after: float, begin: Callable[[], list[Pending]], gathered: Sequence[Pending]
    ) -> None:
        self._spool = spool
        self._begin = begin
        self._gathered = gathered
        # A timer costs next to nothing, a task that is waited for a third of all that a batch does.
        self._timer = asyncio.get_running_loop().call_later(after, self._spool_meanwhile)
        self._spooling: asyncio.Future[tuple[None, None]] | None = None

    def _spool_meanwhile(self) -> None:
        behind = self._begin()
        self._spool.hold_replay()
        self._spooling = asyncio.gather(self._spool.keep_all(behind), self._spool.keep_under_way(self._gathered))

    def cancel(self) -> None:
        """Break off what is being spooled."""
        if self._spooling is not None:
            self._spooling.cancel()

    async def ended(self) -> None:
        """Note that the commit has ended, and wait until that is spooled which is being spooled."""
        self._timer.cancel()
        if self._spooling is not None:
            await asyncio.wait([self._spooling])
            self._spooling.result()

    def close(self) -> None:
        """Let the spool be replayed."""
        if self._spooling is not None:
            self._spool.release_replay()
