"""Replay: what the spool of one exporter holds is delivered, in order, whenever the destination takes it.

A batch that is alone too much for the time it is given gets more, up to a minute. So that it does not stop those behind
it meanwhile, it goes to the end of the spool. One that has had a minute more than once, while others got through, will
never be stored: it becomes a dead letter. So does one on which the gateway itself fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from gateway.base.crashpoints import crashpoint
from gateway.base.retry import Circuit
from gateway.base.settings import ExporterSettings
from gateway.component.batch import Batch
from gateway.component.errors import (
    DeliveryError,
    MalformedPayloadError,
    RefusedError,
    TimedOutError,
    TooLargeError,
    UnavailableError,
)
from gateway.component.interfaces import Exporter, Prepared
from gateway.otlp.mending import mend_batch
from gateway.pipeline.attempts import Arrival, Attempts, FailedError, arrival, failures_reported, report
from gateway.pipeline.prepared_cache import PreparedCache
from gateway.pipeline.refusals import Refusals
from gateway.pipeline.spool import Spool, removals
from gateway.pipeline.spool.segment import record_size

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_REPLAY_BYTES, _LEAST_REPLAY_BYTES = 8 * 2**20, 2**16
"""Payload out of the spool in one commit: the most, and what it comes down to by and by as long as commits fail; after
that a batch goes alone. What is too much for the timeout would be too much for ever."""

_MOST_SECONDS = 60.0
"""How long one attempt may take in the end, unless the exporter's timeout is longer."""

_TIMEOUTS_IN_FRONT = 3
"""After so many timeouts in a row, a batch goes behind the others."""

_TIMEOUTS_AT_LAST = 2
"""After so many timeouts with all the time there is, a batch becomes a dead letter, if others got through."""

_MOST_FAILURES = 3
"""After so many failures of the gateway itself on one batch, it becomes a dead letter."""


@dataclass(slots=True)
class _Patience:
    """What is known of a batch that took too long: the time it is given next, and how it went."""

    seconds: float
    committed: int
    """How many commits of its signal had succeeded when it first took too long."""
    in_a_row: int = 0
    at_last: int = 0


class Replay:
    """Delivers what a spool holds to one exporter."""

    def __init__(
        self,
        spool: Spool,
        exporter: Exporter,
        attempts: Attempts,
        circuit: Circuit,
        refusals: Refusals,
        settings: ExporterSettings,
        dropped: Callable[[Batch], None],
    ) -> None:
        """``dropped`` hears of each batch that an operator wanted dropped, once it is."""
        self._dropped = dropped
        self._spool = spool
        self._exporter = exporter
        self._attempts = attempts
        self._circuit = circuit
        self._refusals = refusals
        self._max_age = settings.spool.max_age
        self._timeout = settings.timeout.total_seconds()
        self._most_seconds = max(_MOST_SECONDS, self._timeout)
        self._spooled = asyncio.Event()
        self.drained = asyncio.Event()
        """Is set when the spool was found to be empty. Whoever is about to spool something clears it."""
        self._held = 0
        self._free = asyncio.Event()
        self._free.set()
        self._settled: set[Arrival] = set()
        self._prepared = PreparedCache()
        self._patience: dict[Arrival, _Patience] = {}
        self._failures: dict[Arrival, tuple[int, int]] = {}

    def hold(self) -> None:
        """Replay nothing until `release`: batches are spooled of which an attempt is under way."""
        self._held += 1
        self._free.clear()

    def release(self) -> None:
        """Let go of one `hold`."""
        self._held -= 1
        if not self._held:
            self._free.set()

    def wake(self) -> None:
        """Note that the spool may hold something."""
        self._spooled.set()

    def keep(self, prepared: Prepared) -> None:
        """Note that a batch is in the spool, and what was prepared of it."""
        if not self._spool.drops and arrival(prepared.batch) not in self._settled:
            self._prepared.keep(prepared)
        self.wake()

    def settle(self, batch: Batch) -> None:
        """Note that a batch in the spool needs no delivery any more."""
        self._settle(arrival(batch))

    def _settle(self, key: Arrival) -> None:
        self._settled.add(key)
        self._prepared.forget(key)

    def unsettle(self, batch: Batch) -> None:
        """Note that a batch is not in the spool after all."""
        self._settled.discard(arrival(batch))

    async def run(self) -> None:
        """Replay whenever the spool holds something, until cancelled."""
        while True:
            await self._spooled.wait()
            await self.until_empty()
            self._spooled.clear()
            self.drained.set()
            if not self._held:
                self._settled.clear()  # what is left of it was dropped
                self._prepared.clear()

    async def until_empty(self) -> None:
        """Replay until the spool is empty."""
        most = _REPLAY_BYTES
        while True:
            await asyncio.sleep(self._circuit.pause)
            try:
                batches, took = await self._spool.read(most)
                if not batches:
                    if self._spool.empty:
                        with contextlib.suppress(OSError):
                            removals.forget(self._spool.directory)
                        return
                    continue
                await self._free.wait()
                await self._deliver(batches)
                crashpoint("after replay commit")
                took()
                self._settled.difference_update(map(arrival, batches))
                most = min(max(2 * most, _LEAST_REPLAY_BYTES), _REPLAY_BYTES)
                await self._spool.trim()
            except FailedError:
                self._circuit.fail(0)  # no outage, and told already
            except UnavailableError as error:
                # Whatever takes too long in good company is soon tried alone.
                most //= 8 if isinstance(error, TimedOutError) else 2
                if most < _LEAST_REPLAY_BYTES:
                    most = 1
                self._attempts.failed(error)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._circuit.fail(1)
                report(error)

    async def _deliver(self, batches: Sequence[Batch]) -> None:
        """Commit batches from the spool. Those the destination will never take become dead letters.

        Those that are settled before a failure are remembered, and left out when they are read again.
        """
        ready: list[Prepared] = []
        failed: list[tuple[Batch, int, FailedError]] = []
        committed = self._attempts.committed.copy()
        refused: list[tuple[Batch, int, RefusedError | str]] = []
        to_drop = await self._to_drop()
        for batch in batches:
            if arrival(batch) in self._settled:
                continue
            if removals.name(batch) in to_drop:
                _log.warning(
                    "a batch was dropped from the spool, as was asked for",
                    exporter=self._exporter.name,
                    batch=batch.digest.hex(),
                    bytes=len(batch.payload),
                )
                self._done(batch)
                self._dropped(batch)
                continue
            if self._max_age is not None and time.time_ns() - batch.received_at > self._max_age.total_seconds() * 1e9:
                refused.append((batch, 0, "it waited in the spool for longer than spool.max_age"))
                continue
            try:
                each = self._prepared.of(batch) or await self._prepare_mended(batch)
            except (MalformedPayloadError, TooLargeError) as error:
                refused.append((batch, 0, str(error)))
            except FailedError as error:
                failed.append((batch, 0, error))
            else:
                if (patience := self._patience.get(arrival(batch))) is not None:
                    each.seconds = patience.seconds
                ready.append(each)
            await asyncio.sleep(0)  # preparing many batches in a row would hold up everything else

        failure: BaseException | None = None

        def settle(each: Prepared, result: bool | DeliveryError) -> None:
            if isinstance(result, RefusedError):
                refused.append((each.batch, each.records, result))
            elif isinstance(result, FailedError):
                failed.append((each.batch, each.records, result))
            else:
                self._done(each.batch)

        for commits in self._commits([each for each in ready if each.records]):
            ended = await asyncio.gather(
                *(self._attempts.attempt(one, settle) for one in commits), return_exceptions=True
            )
            for one, how in zip(commits, ended, strict=True):
                if isinstance(how, TimedOutError) and len(one) == 1 and await self._took_too_long(one[0], refused):
                    continue  # it is out of the way, and the others go on
                failure = failure or how
            if failure is not None:
                break
        for batch, records, why in failed:
            if not await self._failed_on(batch, records, committed[batch.signal], refused):
                failure = failure or why
        for batch, records, reason in refused:
            await self._refusals.keep_or_drop(batch, records, reason)
            self._done(batch)
        if failure is not None:
            raise failure

    async def _to_drop(self) -> frozenset[str]:
        """Return the names of the batches that an operator wants dropped."""
        try:
            return await asyncio.to_thread(removals.wanted, self._spool.directory)
        except (OSError, UnicodeDecodeError) as error:
            _log.error(
                "it cannot be read which batches are to be dropped", exporter=self._exporter.name, reason=str(error)
            )
            return frozenset()

    async def _prepare_mended(self, batch: Batch) -> Prepared:
        """Prepare a batch that was spooled before it was known what is wrong with it. Raises `DeliveryError`."""
        with failures_reported():
            try:
                return await self._exporter.prepare(batch)
            except MalformedPayloadError:
                mended, outcome = await mend_batch(batch)
                _log.warning("a batch from the spool was mended", exporter=self._exporter.name, mended=outcome.message)
                return await self._exporter.prepare(mended)

    async def _failed_on(
        self, batch: Batch, records: int, committed: int, refused: list[tuple[Batch, int, RefusedError | str]]
    ) -> bool:
        """Note that the gateway failed on a batch. Returns whether it is out of the way of the others.

        It is that batch's own fault when it happened again and again while others got through. ``committed``: how many
        commits of its signal had succeeded before.
        """
        key = arrival(batch)
        times, before = self._failures.get(key, (0, committed))
        self._failures[key] = times + 1, before
        if times + 1 >= _MOST_FAILURES and self._attempts.committed[batch.signal] > before:
            refused.append((batch, records, "the gateway failed on it again and again; see its log"))
            return True
        return (times + 1) % _MOST_FAILURES == 0 and await self._move_behind(batch)

    def _done(self, batch: Batch) -> None:
        key = arrival(batch)
        self._settle(key)
        self._patience.pop(key, None)
        self._failures.pop(key, None)

    def _commits(self, prepared: Sequence[Prepared]) -> Iterator[list[Sequence[Prepared]]]:
        """Yield the commits that a replay is made of, those together that may run at once."""
        most = self._exporter.batches_per_commit
        if most is None:
            yield [prepared] if prepared else []
            return
        commits = [prepared[start : start + most] for start in range(0, len(prepared), most)]
        for start in range(0, len(commits), self._exporter.concurrency):
            yield commits[start : start + self._exporter.concurrency]

    async def _took_too_long(self, one: Prepared, refused: list[tuple[Batch, int, RefusedError | str]]) -> bool:
        """Give a batch more time. Returns whether it is out of the way of the others."""
        key = arrival(one.batch)
        committed = self._attempts.committed[one.batch.signal]
        patience = self._patience.setdefault(key, _Patience(self._timeout, committed))
        seconds = patience.seconds
        patience.in_a_row += 1
        if seconds >= self._most_seconds:
            patience.at_last += 1
            if patience.at_last >= _TIMEOUTS_AT_LAST and committed > patience.committed:
                refused.append((one.batch, one.records, f"it was not stored within {seconds:g} s, while others were"))
                return True
        patience.seconds = min(2 * seconds, self._most_seconds)
        _log.warning(
            "a batch took too long; it gets more time",
            exporter=self._exporter.name,
            records=one.records,
            bytes=len(one.batch.payload),
            seconds=seconds,
            seconds_next=patience.seconds,
        )
        if patience.in_a_row < _TIMEOUTS_IN_FRONT or not await self._move_behind(one.batch):
            return False
        patience.in_a_row = 0
        return True

    async def _move_behind(self, batch: Batch) -> bool:
        """Have a batch go behind the others in the spool. Returns whether there are any."""
        if self._spool.unread <= record_size(batch):
            return False
        # Told apart from the copy in front, which is settled, by a nanosecond.
        moved = replace(batch, received_at=batch.received_at + 1)
        await self._spool.append(moved, again=True)
        known: tuple[dict[Arrival, Any], ...] = (self._patience, self._failures)
        for each in known:
            if (what := each.pop(arrival(batch), None)) is not None:
                each[arrival(moved)] = what  # pyright: ignore[reportArgumentType] - out of the same
        self._attempts.move(batch, moved)
        self._settle(arrival(batch))
        _log.warning("a batch goes behind the others in the spool", exporter=self._exporter.name)
        return True
