"""Delivery: what stands between the pipeline and one exporter.

The layers, from the outside in, each in a module of its own; the exporter knows none of them:

* **Admission**, here. A batch is prepared, then it is asked whether there is room for it, and only then it is taken: so
  that a request that one exporter of a signal cannot take reaches none of them.
* **Deduplication** (`deduplicator`). One that the exporter has already is not given to it again.
* **Spool** (`spool_sender`, `replay`, `orphaned_spools`). A batch that cannot be committed soon is written to disk, and
  that is its OK. Without a spool, it is refused and its sender keeps it.
* **Queue** (`commit_queue`). While one commit is under way, batches gather; the next commit takes them.
* **Commit** (`committer`). What takes long is spooled meanwhile.
* **Refusals** (`refusals`, `dead_letters`). What is refused for good becomes a dead letter.
* **Attempts** (`attempts`). Each has a time limit, and a commit that is refused is split until the bad records stand
  alone. After a failure, the circuit breaker (`gateway.base.retry`) keeps attempts away until the next one is due;
  attempts to replay the spool follow each other at growing, varied pauses.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.trace import Tracer

from gateway.base.crashpoints import crashpoint
from gateway.base.retry import Circuit
from gateway.base.settings import ExporterSettings
from gateway.component.batch import Batch, Signal
from gateway.component.errors import DeliveryError, OverloadedError, UnavailableError
from gateway.component.interfaces import Exporter, Prepared, PreparesAtOnce
from gateway.pipeline.attempts import Attempts
from gateway.pipeline.commit_queue import CommitQueue, Pending, fail_all, shutting_down
from gateway.pipeline.committer import Committer
from gateway.pipeline.dead_letters import DeadLetters
from gateway.pipeline.deduplicator import Deduplicator
from gateway.pipeline.instruments import Instruments
from gateway.pipeline.refusals import Refusals
from gateway.pipeline.spool import Spool
from gateway.pipeline.spool_sender import SpoolSender


@dataclass(slots=True, eq=False)
class Ticket:
    """A batch that was admitted. It is then taken, or withdrawn.

    ``has_it`` comes true when the exporter has an equal batch, which came before. ``pending``: it is in line already.
    """

    prepared: Prepared
    has_it: asyncio.Future[None] | None = None
    under_way: asyncio.Future[None] | None = None
    reserved: int = 0
    pending: Pending | None = None


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
        settings = settings or ExporterSettings()
        self.exporter = exporter
        self.dead_letters = dead_letters
        self._instruments = instruments
        self._slow_after = settings.slow_after.total_seconds()
        self._circuit = Circuit(settings.retry_on_failure)
        self._deduplicator = Deduplicator(settings.receipt_window)
        self._queue = CommitQueue(exporter)
        self._prompt = exporter if isinstance(exporter, PreparesAtOnce) else None
        refusals = Refusals(exporter.name, dead_letters, instruments, spool, kept_by_others)
        meanwhile = "are refused" if spool is None else "wait in the spool"
        attempts = Attempts(exporter, self._circuit, instruments, tracer, settings, meanwhile)
        self._spool: SpoolSender | None = None
        if spool is not None:
            self._spool = SpoolSender(
                spool, exporter, attempts, self._circuit, refusals, settings, self._deduplicator, instruments, former
            )
        self._committer = Committer(
            exporter.name, self._queue, attempts, self._circuit, refusals, self._spool, self._slow_after
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False

    @property
    def spool(self) -> Spool | None:
        """The spool of this process."""
        return None if self._spool is None else self._spool.spool

    @property
    def at_once(self) -> bool:
        """Whether the exporter prepares small batches at once."""
        return self._prompt is not None

    @property
    def circuit_open(self) -> bool:
        """Whether the destination is being left alone after a failure."""
        return self._circuit.open

    @property
    def spools(self) -> list[Spool]:
        """The spool of this process, and those of former workers that it empties at the moment."""
        return [] if self._spool is None else self._spool.spools

    @property
    def damaged(self) -> int:
        """At how many places spools lost something, since the start."""
        return 0 if self._spool is None else self._spool.damaged

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the exporter, as many lanes as it runs commits at once, and the replay of what an earlier run left."""
        if self._spool is not None:
            await self._spool.open()
        if self.dead_letters is not None:
            await asyncio.to_thread(self.dead_letters.tidy)
        await self.exporter.start()
        lanes = (self._queue.run_lane(self._committer.commit) for _ in range(self.exporter.concurrency))
        self._tasks = [asyncio.create_task(lane) for lane in lanes]
        if self._spool is not None:
            self._tasks += self._spool.start()

    async def stop(self) -> None:
        """Stop the exporter. Batches neither committed nor spooled by now are refused as unavailable."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._spool is not None:
            await self._spool.stop()
        await self.exporter.stop()
        fail_all(self._queue.take_all(), shutting_down())
        if self._spool is not None:
            await self._spool.close()

    # -- admission -----------------------------------------------------------------------------------------------

    async def deliver(self, batch: Batch) -> Prepared:
        """Return when the batch is durable, with what was prepared of it. Raises `DeliveryError`."""
        if self._stopped:
            raise shutting_down()
        return await self.take(self.admit(await self.exporter.prepare(batch)))

    def admit(self, prepared: Prepared) -> Ticket:
        """Make sure that a batch can be taken, as far as that is known beforehand. Raises `UnavailableError`."""
        if self._stopped:
            raise shutting_down()
        ticket = Ticket(prepared)
        if not prepared.records:
            return ticket
        ticket.has_it = self._deduplicator.find(prepared.batch)
        if ticket.has_it is not None:
            return ticket
        if self._spool is None:
            self._require_due()
        elif not self._commits_directly:
            spool = self._spool.spool
            try:
                ticket.reserved = spool.reserve(prepared.batch)
            except OverloadedError:
                # With an empty spool there is no replay that would find out whether the destination answers again.
                if self._circuit.pause or not spool.empty:
                    raise
        ticket.under_way = self._deduplicator.begin(prepared.batch)
        return ticket

    def prepare_at_once(self, batch: Batch) -> Prepared | None:
        """Have the exporter prepare a small batch; None where it does that in its time. Raises `DeliveryError`."""
        return None if self._prompt is None else self._prompt.prepare_at_once(batch)

    def withdraw(self, ticket: Ticket) -> None:
        """Give back what was kept for a batch that another exporter did not admit."""
        self._release(ticket)
        if ticket.under_way is not None:
            error = UnavailableError("another exporter is full")
            self._deduplicator.fail(ticket.prepared.batch, ticket.under_way, error)

    def line_up(self, ticket: Ticket) -> bool:
        """Have an admitted batch wait for the next commit, and return whether it does, or needs none.

        It does not where it must wait for something else before, or is to be spooled. Either way it is then taken.
        """
        if ticket.under_way is None or ticket.pending is not None:
            return True
        if self._stopped or not self._commits_directly:
            return False
        crashpoint("after receive")
        ticket.pending = self._queue.put(ticket.prepared)
        return True

    def take_in_line(self, ticket: Ticket, then: Callable[[DeliveryError | None], None]) -> bool:
        """Have an admitted batch wait for the next commit; ``then`` hears the error, or None when it is durable.

        Returns false where it must wait for something else before: then it is to be taken by `take`.
        """
        if ticket.has_it is not None or not self.line_up(ticket):
            return False
        if ticket.pending is None:  # it holds nothing
            then(None)
        else:
            ticket.pending.then = functools.partial(self._taken, ticket, then)
        return True

    def _taken(self, ticket: Ticket, then: Callable[[DeliveryError | None], None], error: DeliveryError | None) -> None:
        batch = ticket.prepared.batch
        self._release(ticket)
        assert ticket.under_way is not None, "it was lined up"
        if error is None:
            self._deduplicator.succeed(batch, ticket.under_way)
            crashpoint("before acknowledge")
        else:
            self._deduplicator.fail(batch, ticket.under_way, error)
        then(error)

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
                await (self._spool_or_commit(ticket) if ticket.pending is None else ticket.pending.done)
            except BaseException as error:
                told = error if isinstance(error, DeliveryError) else shutting_down()
                self._deduplicator.fail(prepared.batch, ticket.under_way, told)
                raise
            finally:
                self._release(ticket)
            self._deduplicator.succeed(prepared.batch, ticket.under_way)
            crashpoint("before acknowledge")
        return prepared

    @property
    def _commits_directly(self) -> bool:
        """Whether a batch needs no spool: the destination answers, and nothing is to be delivered before."""
        return not self._circuit.open and (self._spool is None or self._spool.spool.empty)

    def _release(self, ticket: Ticket) -> None:
        if self._spool is not None:
            self._spool.spool.release(ticket.reserved)
        ticket.reserved = 0

    def _require_due(self) -> None:
        """Raise `UnavailableError` while the destination is being left alone."""
        if self._circuit.open and self._circuit.pause:
            raise UnavailableError(f"{self.exporter.name} does not take batches at the moment", self._circuit.pause)

    async def _spool_or_commit(self, ticket: Ticket) -> None:
        """Take a batch that could not be lined up: to the spool, or to the next commit where that can be after all."""
        crashpoint("after receive")
        if self._spool is not None:
            spool = self._spool.spool
            # Clients of a destination that may lose batches do not wait: it is not to hold up the others.
            if not spool.drops and not self._circuit.open and not spool.empty:
                await self._spool.catch_up(self._slow_after)
            if not self._commits_directly and not self._stopped:
                self._release(ticket)
                try:
                    await self._spool.keep(ticket.prepared)
                except UnavailableError:
                    # A disk that takes nothing must not keep batches from a destination that answers again.
                    if self._circuit.pause or not spool.empty:
                        raise
                else:
                    return
        if self._stopped:  # meanwhile
            raise shutting_down()
        self._require_due()
        await self._queue.put(ticket.prepared).done
