"""Delivery: what stands between the pipeline and one exporter.

The layers, from the outside in; the exporter knows none of them:

* **Admission.** A batch is prepared, then it is asked whether there is room for it, and only then it is taken: so that
  a request that one exporter of a signal cannot take reaches none of them. One that the exporter has already is not
  given to it again (`gateway.pipeline.taken`).
* **Spool.** A batch that cannot be committed soon is written to disk, and that is its OK. As long as the spool holds
  anything, new batches go behind it, and what it holds is replayed in order (`gateway.pipeline.replay`). Without a
  spool, a batch that cannot be committed is refused and its sender keeps it.
* **Circuit breaker.** After a failure, or while an attempt takes too long, nothing is sent to the destination until the
  next attempt is due.
* **Retry.** Attempts to replay the spool follow each other at growing, varied pauses.
* **Timeout.** An attempt that does not end in time is broken off.
* **Natural batching.** While one commit is under way, batches gather; the next commit takes them. There is no
  timer: at low load a batch waits for nothing, at high load commits grow by themselves.

A commit that is refused for good is split by halves until the bad records stand alone (`gateway.pipeline.attempts`);
those become a dead letter.

Each process has a spool of its own. What a worker left that is no more is replayed by another, where it lies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.trace import Tracer

from gateway.base.crashpoints import crashpoint
from gateway.base.retry import Circuit
from gateway.base.settings import ExporterSettings
from gateway.component.batch import Batch, Signal
from gateway.component.errors import (
    DeliveryError,
    OverloadedError,
    PartlyRefusedError,
    RefusedError,
    UnavailableError,
)
from gateway.component.interfaces import Exporter, Outcome, Prepared
from gateway.pipeline.attempts import Attempts, report
from gateway.pipeline.burying import Burying
from gateway.pipeline.dead_letters import DeadLetters
from gateway.pipeline.inheritance import Inheritance
from gateway.pipeline.instruments import Instruments
from gateway.pipeline.replay import Replay
from gateway.pipeline.spool import Spool
from gateway.pipeline.taken import Taken

_log = logging.getLogger(__name__)

_COMMIT_BYTES = 16 * 2**20
"""Payload in one commit, unless a single batch is larger. At full load it is reached, and costs nothing any more."""


_LOOK_SECONDS = 1.0
"""How often a process looks whether a spool that another held is free by now."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A prepared batch, and the promise to the one who delivered it.

    ``ended``: the attempt has answered for it. ``spooled``: it is in the spool, or about to be.
    """

    prepared: Prepared
    done: asyncio.Future[None]
    ended: bool = False
    spooled: bool = False


@dataclass(slots=True, eq=False)
class Ticket:
    """A batch that was admitted. It is then taken, or withdrawn.

    ``has_it`` comes true when the exporter has an equal batch, which came before. ``waiting``: it is in line already.
    """

    prepared: Prepared
    has_it: asyncio.Future[None] | None = None
    under_way: asyncio.Future[None] | None = None
    reserved: int = 0
    waiting: _Waiting | None = None


class Delivery:
    """Delivers batches to one exporter.

    A batch is prepared, admitted and taken; `deliver` does all three.
    """

    def __init__(
        self,
        exporter: Exporter,
        instruments: Instruments,
        tracer: Tracer,
        *,
        settings: ExporterSettings | None = None,
        spool: Spool | None = None,
        dead_letters: DeadLetters | None = None,
        former: Callable[[], Iterable[Path]] = tuple,
        kept_by_others: Collection[Signal] = (),
    ) -> None:
        """``former`` returns the directories of spools that workers left which are no more: they are replayed, too.

        ``kept_by_others`` are the signals of which others keep all that this exporter is given, the store among them:
        what it refuses of these is no matter of the client's.
        """
        self.exporter = exporter
        self.spool = spool
        self.dead_letters = dead_letters
        settings = settings or ExporterSettings()
        self._slow_after = settings.slow_after.total_seconds()
        self._instruments = instruments
        self._circuit = Circuit(settings.retry_on_failure)
        meanwhile = "are refused" if spool is None else "wait in the spool"
        self._attempts = Attempts(exporter, self._circuit, instruments, tracer, settings, meanwhile)
        self._burying = Burying(exporter.name, dead_letters, instruments, spool)
        self._settings = settings
        self._taken = Taken(settings.receipt_window)
        self._kept_by_others = frozenset(kept_by_others)
        self._replay = None if spool is None else self._replay_of(spool)
        self._inheritance = Inheritance(former, settings.spool, self._replay_former)
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False

    @property
    def circuit_open(self) -> bool:
        """Whether the destination is being left alone after a failure."""
        return self._circuit.open

    @property
    def spools(self) -> list[Spool]:
        """The spool of this process, and those of former workers that it empties at the moment."""
        return ([] if self.spool is None else [self.spool]) + self._inheritance.spools

    @property
    def damaged(self) -> int:
        """At how many places spools lost something, since the start."""
        return (0 if self.spool is None else self.spool.damaged) + self._inheritance.damaged

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the exporter, as many lanes as it runs commits at once, and the replay of what an earlier run left."""
        if self.spool is not None:
            await self.spool.open()
            self._taken.add(await self.spool.digests())
        if self.dead_letters is not None:
            await asyncio.to_thread(self.dead_letters.tidy)
        await self.exporter.start()
        self._tasks = [asyncio.create_task(self._lane()) for _ in range(self.exporter.concurrency)]
        if self._replay is not None:
            self._replay.wake()
            self._tasks.append(asyncio.create_task(self._replay.run()))
            self._tasks.append(asyncio.create_task(self._look_after(self._replay)))

    async def stop(self) -> None:
        """Stop the exporter. Batches neither committed nor spooled by now are refused as unavailable."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._inheritance.close()
        await self.exporter.stop()
        _refuse([*self._waiting], _shutting_down())
        self._waiting.clear()
        if self.spool is not None:
            await self.spool.close()

    async def _replay_former(self, spool: Spool) -> None:
        self._taken.add(await spool.digests())
        await self._replay_of(spool).until_empty()

    def _replay_of(self, spool: Spool) -> Replay:
        return Replay(
            spool, self.exporter, self._attempts, self._circuit, self._burying, self._settings, self._taken.forget
        )

    async def _look_after(self, replay: Replay) -> None:
        """Open the spool once its former owner is gone, and take over what former workers left."""
        assert self.spool is not None, "what has a replay has a spool"
        known = self.spool.is_open
        while True:
            await self.spool.open()
            if self.spool.is_open and not known:
                known = True
                self._taken.add(await self.spool.digests())
            if not self.spool.empty:
                replay.wake()
            await self._inheritance.look()
            await asyncio.sleep(_LOOK_SECONDS)

    # -- admission -----------------------------------------------------------------------------------------------

    async def deliver(self, batch: Batch) -> Prepared:
        """Return when the batch is durable, with what was prepared of it. Raises `DeliveryError`."""
        if self._stopped:
            raise _shutting_down()
        return await self.take(self.admit(await self.exporter.prepare(batch)))

    def admit(self, prepared: Prepared) -> Ticket:
        """Make sure that a batch can be taken, as far as that is known beforehand. Raises `UnavailableError`."""
        if self._stopped:
            raise _shutting_down()
        ticket = Ticket(prepared)
        if not prepared.records:
            return ticket
        ticket.has_it = self._taken.find(prepared.batch)
        if ticket.has_it is not None:
            return ticket
        if self.spool is None:
            self._require_due()
        elif self._circuit.open or not self.spool.empty:
            try:
                ticket.reserved = self.spool.reserve(prepared.batch)
            except OverloadedError:
                # With an empty spool there is no replay that would find out whether the destination answers again.
                if self._circuit.pause or not self.spool.empty:
                    raise
        ticket.under_way = self._taken.begin(prepared.batch)
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Give back what was kept for a batch that another exporter did not admit."""
        self._release(ticket)
        if ticket.under_way is not None:
            self._taken.fail(ticket.prepared.batch, ticket.under_way, UnavailableError("another exporter is full"))

    def line_up(self, ticket: Ticket) -> bool:
        """Have an admitted batch wait for the next commit, and return whether it does, or needs none.

        It does not where it must wait for something else before, or is to be spooled. Either way it is then taken.
        """
        if ticket.under_way is None or ticket.waiting is not None:
            return True
        if self._stopped or self._circuit.open or not (self.spool is None or self.spool.empty):
            return False
        crashpoint("after receive")
        ticket.waiting = self._line_up(ticket.prepared)
        return True

    async def take(self, ticket: Ticket) -> Prepared:
        """Return when an admitted batch is durable, with what was prepared of it. Raises `DeliveryError`."""
        prepared = ticket.prepared
        if ticket.has_it is not None:
            await asyncio.shield(ticket.has_it)
            attributes = {"signal": prepared.batch.signal.value, "exporter": self.exporter.name}
            self._instruments.duplicate.add(prepared.records, attributes)
        elif ticket.under_way is not None:
            try:
                self.line_up(ticket)
                await (self._take(ticket) if ticket.waiting is None else ticket.waiting.done)
            except BaseException as error:
                told = error if isinstance(error, DeliveryError) else _shutting_down()
                self._taken.fail(prepared.batch, ticket.under_way, told)
                raise
            finally:
                self._release(ticket)
            self._taken.succeed(prepared.batch, ticket.under_way)
            crashpoint("before acknowledge")
        return prepared

    def _release(self, ticket: Ticket) -> None:
        if self.spool is not None:
            self.spool.release(ticket.reserved)
        ticket.reserved = 0

    def _require_due(self) -> None:
        """Raise `UnavailableError` while the destination is being left alone."""
        if self._circuit.open and self._circuit.pause:
            raise UnavailableError(f"{self.exporter.name} does not take batches at the moment", self._circuit.pause)

    # -- the way of a batch --------------------------------------------------------------------------------------

    def _line_up(self, prepared: Prepared) -> _Waiting:
        waiting = _Waiting(prepared, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._arrived.set()
        return waiting

    async def _take(self, ticket: Ticket) -> None:
        crashpoint("after receive")
        spool, replay = self.spool, self._replay
        if spool is not None and replay is not None:
            if not spool.drops and not self._circuit.open and not spool.empty:
                # The disk takes batches quicker than the destination. Without this wait a busy gateway whose
                # destination answers again would spool for ever; with it, replay catches up and clients feel how fast
                # that is. Those of a destination that may lose batches do not: it is not to hold up the others.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(replay.drained.wait(), self._slow_after)
            if (self._circuit.open or not spool.empty) and not self._stopped:
                self._release(ticket)
                try:
                    await self._to_spool(spool, ticket.prepared)
                except UnavailableError:
                    # A disk that takes nothing must not keep batches from a destination that answers again.
                    if self._circuit.pause or not spool.empty:
                        raise
                else:
                    return
        if self._stopped:  # meanwhile
            raise _shutting_down()
        self._require_due()
        await self._line_up(ticket.prepared).done

    async def _to_spool(self, spool: Spool, prepared: Prepared) -> None:
        assert self._replay is not None, "what has a spool has a replay"
        self._replay.drained.clear()
        await spool.append(prepared.batch)
        self._replay.wake()
        attributes = {"signal": prepared.batch.signal.value, "exporter": self.exporter.name}
        self._instruments.spooled.add(prepared.records, attributes)

    async def _lane(self) -> None:
        while not self._stopped:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            gathered = self._gather()
            try:
                await self._deliver_directly(gathered)
            except asyncio.CancelledError:
                _refuse(gathered, _shutting_down())
                raise
            except Exception as error:
                # A bug must not lose data: the clients keep these batches.
                _refuse(gathered, UnavailableError("the gateway failed to store this batch; see its log"))
                report(error)

    def _gather(self) -> list[_Waiting]:
        """Take what waits, up to what commits well before it would count as slow."""
        gathered = [self._waiting.popleft()]
        size = len(gathered[0].prepared.batch.payload)
        most = self.exporter.batches_per_commit
        while self._waiting and len(gathered) != most:
            if (size := size + len(self._waiting[0].prepared.batch.payload)) > _COMMIT_BYTES:
                break
            gathered.append(self._waiting.popleft())
        return gathered

    async def _deliver_directly(self, gathered: Sequence[_Waiting]) -> None:
        """Commit what has gathered, and answer for it: committed, spooled, kept as dead letter, or refused."""
        promises = {id(waiting.prepared): waiting for waiting in gathered}
        refused: list[tuple[_Waiting, DeliveryError]] = []

        def settle(prepared: Prepared, result: bool | DeliveryError) -> None:
            waiting = promises[id(prepared)]
            waiting.ended = True
            if isinstance(result, DeliveryError):
                refused.append((waiting, result))
            else:
                self._have(waiting)

        spooling: list[asyncio.Future[tuple[None, None]]] = []
        failure: UnavailableError | None = None

        def is_slow(spool: Spool, replay: Replay) -> None:
            _log.warning("%s is slow; batches wait in the spool meanwhile", self.exporter.name)
            self._circuit.trip()
            stack.enter_context(replay.held())
            all_waiting = self._spool_all(spool, self._take_waiting())
            spooling.append(asyncio.gather(all_waiting, self._spool_under_way(spool, replay, gathered)))

        with contextlib.ExitStack() as stack:
            timer: asyncio.TimerHandle | None = None
            if self.spool is not None and self._replay is not None:
                # A timer costs next to nothing, a task that is waited for a third of all that a batch does.
                loop = asyncio.get_running_loop()
                timer = loop.call_later(self._slow_after, is_slow, self.spool, self._replay)
            try:
                await self._attempts.attempt([waiting.prepared for waiting in gathered], settle)
            except UnavailableError as error:
                failure = error
            except asyncio.CancelledError:
                for task in spooling:
                    task.cancel()
                raise
            finally:
                if timer is not None:
                    timer.cancel()
                if spooling:
                    await asyncio.wait(spooling)
            for task in spooling:
                task.result()
            if failure is not None:
                self._attempts.failed(failure)
                left = [each for each in gathered if not each.done.done() and not each.ended]
                if self.spool is None:
                    # What waits behind would be tried next, each for as long as this was, and answered too late.
                    _refuse(left + self._take_waiting(), failure)
                else:
                    await self._spool_all(self.spool, left + self._take_waiting())
            for waiting, refusal in refused:
                await self._answer_refused(waiting, refusal)

    def _take_waiting(self) -> list[_Waiting]:
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def _have(self, waiting: _Waiting) -> None:
        """Answer for a batch that needs no delivery any more."""
        if waiting.spooled and self._replay is not None:
            self._replay.settle(waiting.prepared.batch)
        if not waiting.done.done():
            waiting.done.set_result(None)

    async def _spool_all(self, spool: Spool, waiting: Sequence[_Waiting]) -> None:
        """Spool batches and answer for each. They share one write."""

        async def one(each: _Waiting) -> None:
            try:
                await self._to_spool(spool, each.prepared)
            except DeliveryError as error:
                _refuse([each], error)
            else:
                if not each.done.done():
                    each.done.set_result(None)

        await asyncio.gather(*map(one, waiting))

    async def _spool_under_way(self, spool: Spool, replay: Replay, gathered: Sequence[_Waiting]) -> None:
        """Spool the batches of the attempt under way and answer for each; one that cannot be spooled waits on.

        When the attempt succeeds after all, they are settled there and not delivered again.
        """

        async def one(each: _Waiting) -> None:
            if each.ended:
                return
            each.spooled = True
            try:
                await self._to_spool(spool, each.prepared)
            except DeliveryError:
                each.spooled = False
                replay.unsettle(each.prepared.batch)
            else:
                if not each.done.done():
                    each.done.set_result(None)

        await asyncio.gather(*map(one, gathered))

    async def _answer_refused(self, waiting: _Waiting, refusal: DeliveryError) -> None:
        if not isinstance(refusal, RefusedError):
            if not waiting.spooled:
                _refuse([waiting], refusal)
            return
        if waiting.spooled or waiting.prepared.batch.signal in self._kept_by_others:
            # The client has its OK already, or others have all that it sent: this is for the operator.
            try:
                await self._burying.keep_or_drop(waiting.prepared.batch, waiting.prepared.records, refusal)
            except UnavailableError as error:
                if not waiting.spooled:  # where it stays otherwise
                    _refuse([waiting], error)
            else:
                self._have(waiting)
            return
        partly = isinstance(refusal, PartlyRefusedError)
        if self.dead_letters is None and not partly:
            _refuse([waiting], refusal)
            return
        what = f"{refusal.records} records of this batch" if isinstance(refusal, PartlyRefusedError) else "this batch"
        message = f"{self.exporter.name} refused {what}: {refusal}"
        rejected = 0
        if self.dead_letters is not None:
            try:
                kept = await self._burying.keep(
                    self.dead_letters, waiting.prepared.batch, waiting.prepared.records, refusal
                )
            except UnavailableError as error:
                _refuse([waiting], error)
                return
            # A partial success that rejects nothing is OTLP's way of warning.
            message += "; kept as a dead letter" if kept else "; dropped, for there is no room for dead letters"
        elif isinstance(refusal, PartlyRefusedError):
            rejected = refusal.records
        outcome = waiting.prepared.outcome
        waiting.prepared.outcome = Outcome(
            outcome.rejected + rejected, "; ".join(filter(None, (outcome.message, message)))
        )
        self._have(waiting)


def _shutting_down() -> UnavailableError:
    return UnavailableError("the gateway is shutting down; send this batch again")


def _refuse(gathered: Sequence[_Waiting], error: DeliveryError) -> None:
    for waiting in gathered:
        if not waiting.done.done():
            waiting.done.set_exception(error)
