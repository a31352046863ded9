"""Delivery: what stands between the pipeline and one exporter.

The layers, from the outside in; the exporter knows none of them:

* **Spool.** A batch that cannot be committed soon is written to disk, and that is its OK. As long as the spool holds
  anything, new batches go behind it, and what it holds is replayed in order. Without a spool, a batch that cannot be
  committed is refused and its sender keeps it.
* **Circuit breaker.** After a failure, or while an attempt takes too long, nothing is sent to the destination until the
  next attempt is due.
* **Retry.** Attempts to replay the spool follow each other at growing, varied pauses.
* **Timeout.** An attempt that does not end in time is broken off.
* **Natural batching.** While one commit is under way, batches gather; the next commit takes them. There is no
  timer: at low load a batch waits for nothing, at high load commits grow by themselves.

A commit that is refused for good is split by halves until the bad batch stands alone; that one becomes a dead letter.
Where the exporter can tell which records of it are bad, those alone do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from opentelemetry.metrics import Counter
from opentelemetry.trace import Status, StatusCode, Tracer

from gateway.pipeline.batch import Batch, digest
from gateway.pipeline.crashpoints import crashpoint
from gateway.pipeline.dead_letters import DeadLetters
from gateway.pipeline.errors import (
    DeliveryError,
    MalformedPayloadError,
    PartlyRefusedError,
    RefusedError,
    UnavailableError,
)
from gateway.pipeline.instruments import Instruments
from gateway.pipeline.interfaces import Exporter, Outcome, Prepared
from gateway.pipeline.retry import Circuit
from gateway.pipeline.settings import ExporterSettings
from gateway.pipeline.spool import Spool

_log = logging.getLogger(__name__)

_COMMIT_BYTES = 16 * 2**20
"""Payload in one commit, unless a single batch is larger. At full load it is reached, and costs nothing any more."""

_REPLAY_BYTES, _LEAST_REPLAY_BYTES = 8 * 2**20, 2**16
"""Payload out of the spool in one commit: the most, and what it comes down to by halves as long as commits fail. One
that is too much for the timeout would be too much for ever."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A prepared batch, and the promise to the one who delivered it."""

    prepared: Prepared
    done: asyncio.Future[None]


_Settle = Callable[[Prepared, bool | RefusedError], None]
"""Is told of each batch whether it was new, or why it was refused for good."""


class Delivery:
    """Delivers batches to one exporter. Each `deliver` returns once its batch is committed or spooled."""

    def __init__(
        self,
        exporter: Exporter,
        instruments: Instruments,
        tracer: Tracer,
        *,
        settings: ExporterSettings | None = None,
        spool: Spool | None = None,
        dead_letters: DeadLetters | None = None,
    ) -> None:
        self.exporter = exporter
        self.spool = spool
        self._settings = settings or ExporterSettings()
        self.dead_letters = dead_letters
        self._instruments = instruments
        self._tracer = tracer
        self._circuit = Circuit(self._settings.retry_on_failure)
        self._slots = asyncio.Semaphore(exporter.concurrency)
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._spooled = asyncio.Event()
        self._drained = asyncio.Event()
        self._replayed: set[tuple[bytes, int]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False

    @property
    def circuit_open(self) -> bool:
        """Whether the destination is being left alone after a failure."""
        return self._circuit.open

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the exporter, as many lanes as it runs commits at once, and the replay of what an earlier run left."""
        if self.spool is not None:
            await self.spool.open()
        if self.dead_letters is not None:
            await asyncio.to_thread(self.dead_letters.tidy)
        await self.exporter.start()
        self._tasks = [asyncio.create_task(self._lane()) for _ in range(self.exporter.concurrency)]
        if self.spool is not None:
            self._spooled.set()
            self._tasks.append(asyncio.create_task(self._replay(self.spool)))

    async def stop(self) -> None:
        """Stop the exporter. Batches neither committed nor spooled by now are refused as unavailable."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.exporter.stop()
        _refuse([*self._waiting], _shutting_down())
        self._waiting.clear()
        if self.spool is not None:
            await self.spool.close()

    # -- the way of a batch --------------------------------------------------------------------------------------

    async def deliver(self, batch: Batch) -> Prepared:
        """Return when the batch is durable, with what was prepared of it. Raises `DeliveryError`."""
        if self._stopped:
            raise _shutting_down()
        prepared = await self.exporter.prepare(batch)
        if not prepared.records:
            return prepared
        if self._stopped:  # meanwhile
            raise _shutting_down()
        crashpoint("after receive")
        if self.spool is not None and not self._circuit.open and not self.spool.empty:
            # The disk takes batches quicker than the destination. Without this wait a busy gateway whose destination
            # answers again would spool for ever; with it, replay catches up and clients feel how fast that is.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), self._settings.slow_after.total_seconds())
            if self._stopped:
                raise _shutting_down()
        if self.spool is not None and (self._circuit.open or not self.spool.empty):
            try:
                await self._to_spool(self.spool, prepared)
            except UnavailableError:
                # A disk that takes nothing must not keep batches from a destination that answers again: with an empty
                # spool there is no replay that would find out.
                if self._circuit.pause or not self.spool.empty:
                    raise
            else:
                return prepared
        if self._circuit.open and self._circuit.pause:
            raise UnavailableError(f"{self.exporter.name} does not take batches at the moment", self._circuit.pause)
        waiting = _Waiting(prepared, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._arrived.set()
        await waiting.done
        crashpoint("before acknowledge")
        return prepared

    async def _to_spool(self, spool: Spool, prepared: Prepared) -> None:
        self._drained.clear()
        await spool.append(prepared.batch)
        self._spooled.set()
        attributes = {"signal": prepared.batch.signal.value, "exporter": self.exporter.name}
        self._instruments.spooled.add(prepared.records, attributes)

    async def _lane(self) -> None:
        while True:
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
                _report(error)

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
        refused: list[tuple[_Waiting, RefusedError]] = []

        def settle(prepared: Prepared, result: bool | RefusedError) -> None:
            waiting = promises[id(prepared)]
            if isinstance(result, RefusedError):
                refused.append((waiting, result))
            elif not waiting.done.done():
                waiting.done.set_result(None)

        attempt = asyncio.create_task(self._attempt([waiting.prepared for waiting in gathered], settle))
        try:
            if self.spool is not None:
                done, _ = await asyncio.wait({attempt}, timeout=self._settings.slow_after.total_seconds())
                if not done:
                    _log.warning("%s is slow; batches wait in the spool meanwhile", self.exporter.name)
                    self._circuit.trip()
                    await self._spool_all(self.spool, self._take_waiting())
            await attempt
        except UnavailableError as error:
            self._failed(error)
            settled = {id(waiting) for waiting, _ in refused}
            left = [each for each in gathered if not each.done.done() and id(each) not in settled]
            if self.spool is None:
                # What waits behind would be tried next, each for as long as this was, and answered too late.
                _refuse(left + self._take_waiting(), error)
            else:
                await self._spool_all(self.spool, left + self._take_waiting())
        finally:
            if not attempt.done():
                attempt.cancel()
                await asyncio.wait({attempt})
        for waiting, refusal in refused:
            await self._answer_refused(waiting, refusal)

    def _failed(self, error: UnavailableError) -> None:
        """Note that an attempt failed, and say so once an outage."""
        if not self._circuit.open:
            what = "are refused" if self.spool is None else "wait in the spool"
            _log.warning("%s: %s; batches %s until it answers again", self.exporter.name, error, what)
        self._circuit.fail(error.retry_after)

    def _take_waiting(self) -> list[_Waiting]:
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

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

    async def _answer_refused(self, waiting: _Waiting, refusal: RefusedError) -> None:
        partly = isinstance(refusal, PartlyRefusedError)
        if self.dead_letters is None and not partly:
            _refuse([waiting], refusal)
            return
        what = f"{refusal.records} records of this batch" if isinstance(refusal, PartlyRefusedError) else "this batch"
        message = f"{self.exporter.name} refused {what}: {refusal}"
        rejected = 0
        if self.dead_letters is not None:
            try:
                await self._bury(self.dead_letters, waiting.prepared.batch, waiting.prepared.records, refusal)
            except UnavailableError as error:
                _refuse([waiting], error)
                return
            # A partial success that rejects nothing is OTLP's way of warning.
            message += "; kept as a dead letter"
        elif isinstance(refusal, PartlyRefusedError):
            rejected = refusal.records
        outcome = waiting.prepared.outcome
        waiting.prepared.outcome = Outcome(
            outcome.rejected + rejected, "; ".join(filter(None, (outcome.message, message)))
        )
        if not waiting.done.done():
            waiting.done.set_result(None)

    async def _bury(self, dead_letters: DeadLetters, batch: Batch, records: int, reason: RefusedError | str) -> None:
        """Keep a batch, or what was refused of it, as a dead letter.

        Raises `UnavailableError` when the disk does not take it.
        """
        if isinstance(reason, PartlyRefusedError):
            records, payload = reason.records, reason.payload
            batch = replace(batch, payload=payload, digest=digest(batch.signal, payload))
        try:
            letter = await asyncio.to_thread(dead_letters.keep, batch, str(reason))
        except OSError as error:
            raise UnavailableError(
                f"{self.exporter.name} refused a batch, which cannot be kept as a dead letter: "
                f"{error.strerror or error} ({reason})",
                retry_after=5,
            ) from error
        self._instruments.dead_lettered.add(records, {"signal": batch.signal.value, "exporter": self.exporter.name})
        _log.error("%s refused a batch, kept as dead letter %s: %s", self.exporter.name, letter.name, reason)

    # -- replay --------------------------------------------------------------------------------------------------

    async def _replay(self, spool: Spool) -> None:
        """Deliver what the spool holds, in order, whenever it holds something."""
        most = _REPLAY_BYTES
        while True:
            await self._spooled.wait()
            await asyncio.sleep(self._circuit.pause)
            try:
                batches, took = await spool.read(most)
                if not batches:
                    if spool.empty:
                        self._spooled.clear()
                        self._drained.set()
                    continue
                await self._replay_batches(batches)
                crashpoint("after replay commit")
                took()
                self._replayed.clear()
                most = min(2 * most, _REPLAY_BYTES)
                await spool.trim()
            except UnavailableError as error:
                most = max(most // 2, _LEAST_REPLAY_BYTES)
                self._failed(error)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._circuit.fail(1)
                _report(error)

    async def _replay_batches(self, batches: Sequence[Batch]) -> None:
        """Commit batches from the spool. Those the destination will never take become dead letters.

        Those that were settled before a failure are remembered, and left out when they are read again.
        """
        prepared: list[Prepared] = []
        refused: list[tuple[Batch, int, RefusedError | str]] = []
        max_age = self._settings.spool.max_age
        for batch in batches:
            if _arrival(batch) in self._replayed:
                continue
            if max_age is not None and time.time_ns() - batch.received_at > max_age.total_seconds() * 1e9:
                refused.append((batch, 0, "it waited in the spool for longer than spool.max_age"))
                continue
            try:
                prepared.append(await self.exporter.prepare(batch))
            except MalformedPayloadError as error:
                refused.append((batch, 0, str(error)))
            await asyncio.sleep(0)  # preparing many batches in a row would hold up everything else

        def settle(each: Prepared, result: bool | RefusedError) -> None:
            if isinstance(result, RefusedError):
                refused.append((each.batch, each.records, result))
            else:
                self._replayed.add(_arrival(each.batch))

        failure = None
        for commits in self._replay_commits([each for each in prepared if each.records]):
            ended = await asyncio.gather(*(self._attempt(one, settle) for one in commits), return_exceptions=True)
            failure = next((each for each in ended if isinstance(each, BaseException)), None)
            if failure is not None:
                break
        for batch, records, reason in refused:
            if self.dead_letters is not None:
                await self._bury(self.dead_letters, batch, records, reason)
            else:
                _log.error("%s refused a batch from the spool, which is dropped: %s", self.exporter.name, reason)
            self._replayed.add(_arrival(batch))
        if failure is not None:
            raise failure

    def _replay_commits(self, prepared: Sequence[Prepared]) -> Iterator[list[Sequence[Prepared]]]:
        """Yield the commits that a replay is made of, those together that may run at once."""
        most = self.exporter.batches_per_commit
        if most is None:
            yield [prepared] if prepared else []
            return
        commits = [prepared[start : start + most] for start in range(0, len(prepared), most)]
        for start in range(0, len(commits), self.exporter.concurrency):
            yield commits[start : start + self.exporter.concurrency]

    # -- attempts ------------------------------------------------------------------------------------------------

    async def _attempt(self, prepared: Sequence[Prepared], settle: _Settle) -> None:
        """Commit batches together; when they are refused, find the bad ones by halves so that no other suffers.

        Raises `UnavailableError` when some could be neither committed nor found to be bad.
        """
        try:
            new = await self._commit(prepared)
        except RefusedError as error:
            if len(prepared) == 1:
                self._answered()
                if isinstance(error, PartlyRefusedError):
                    self._count(self._instruments.stored, prepared[0], prepared[0].records - error.records)
                settle(prepared[0], error)
                return
            middle = len(prepared) // 2
            await self._attempt(prepared[:middle], settle)
            await self._attempt(prepared[middle:], settle)
            return
        self._answered()
        crashpoint("after commit")
        for each, is_new in zip(prepared, new, strict=True):
            self._count(self._instruments.stored if is_new else self._instruments.duplicate, each, each.records)
            settle(each, is_new)

    def _answered(self) -> None:
        """Note that the destination has made up its mind about a batch."""
        if self._circuit.open:
            _log.info("%s takes batches again", self.exporter.name)
        self._circuit.close()

    def _count(self, counter: Counter, prepared: Prepared, records: int) -> None:
        counter.add(records, {"signal": prepared.batch.signal.value, "exporter": self.exporter.name})

    async def _commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
        """Have the exporter commit, within the timeout, measured and traced."""
        own = all(each.batch.own_telemetry for each in prepared)
        records = sum(each.records for each in prepared)
        attributes = {"exporter": self.exporter.name}
        began = time.perf_counter()
        # A commit of nothing but the gateway's own telemetry makes no span, which would make the next such commit.
        span_or_not = contextlib.nullcontext() if own else self._tracer.start_as_current_span("commit")
        with span_or_not as span:
            try:
                # Waiting for an attempt before this one is not the destination's being slow.
                async with self._slots, asyncio.timeout(self._settings.timeout.total_seconds()):
                    return await self.exporter.commit(prepared)
            except TimeoutError:
                error = UnavailableError(f"{self.exporter.name} did not answer in {self._settings.timeout}")
                if span is not None:
                    span.set_status(Status(StatusCode.ERROR, str(error)))
                raise error from None
            except DeliveryError as error:
                if span is not None:
                    span.set_status(Status(StatusCode.ERROR, str(error)))
                raise
            finally:
                if span is not None:
                    span.set_attributes(attributes | {"obs_hub.records": records, "obs_hub.batches": len(prepared)})
                self._instruments.commit_duration.record(time.perf_counter() - began, attributes)
                self._instruments.commit_records.record(records, attributes)
                self._instruments.commit_batches.record(len(prepared), attributes)


def _arrival(batch: Batch) -> tuple[bytes, int]:
    return batch.digest, batch.received_at


def _shutting_down() -> UnavailableError:
    return UnavailableError("the gateway is shutting down; send this batch again")


def _report(error: Exception) -> None:
    """Hand an unexpected error to the event loop's handler, which logs it."""
    asyncio.get_running_loop().call_exception_handler({"message": "a delivery failed unexpectedly", "exception": error})


def _refuse(gathered: Sequence[_Waiting], error: DeliveryError) -> None:
    for waiting in gathered:
        if not waiting.done.done():
            waiting.done.set_exception(error)
