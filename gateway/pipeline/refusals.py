"""What one exporter refuses for good: kept as dead letters, counted, logged, and told to the client where it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import structlog

from gateway.base.rate_limited_log import LogRateLimit
from gateway.component.batch import Batch, Signal
from gateway.component.errors import DeliveryError, PartlyRefusedError, RefusedError, UnavailableError
from gateway.component.interfaces import Outcome
from gateway.files.ownership import DirectoryInUseError
from gateway.pipeline.commit_queue import Pending
from gateway.pipeline.dead_letters import DeadLetters
from gateway.pipeline.instruments import Instruments
from gateway.pipeline.spool import Spool

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Refusals:
    """Keeps what an exporter refuses. Without a place for dead letters that is dropped, and logged.

    Where the spool of the exporter drops the oldest rather than make clients wait, what no room is left for among the
    dead letters is dropped, too, and counted with what the spool dropped.
    """

    def __init__(
        self,
        exporter: str,
        dead_letters: DeadLetters | None,
        instruments: Instruments,
        spool: Spool | None = None,
        kept_by_others: Collection[Signal] = (),
    ) -> None:
        """``kept_by_others`` are the signals of which others keep all that the exporter is given, the store among them.

        What it refuses of these is no matter of the client's.
        """
        self.dead_letters = dead_letters
        self._spool = spool if spool is not None and spool.drops else None
        self._exporter = exporter
        self._kept_by_others = frozenset(kept_by_others)
        self._instruments = instruments
        self._kept, self._dropped = LogRateLimit(), LogRateLimit()

    async def answer(self, pending: Pending, refusal: DeliveryError) -> bool:
        """Deal with a batch that was refused while its client waits. Returns whether it needs no delivery any more.

        Otherwise the client has been told, or the batch stays in the spool.
        """
        if not isinstance(refusal, RefusedError):
            return self._fail(pending, refusal)
        batch, records = pending.prepared.batch, pending.prepared.records
        if pending.spooled or batch.signal in self._kept_by_others:
            # The client has its OK already, or others have all that it sent: this is for the operator.
            try:
                await self.keep_or_drop(batch, records, refusal)
            except UnavailableError as error:
                return self._fail(pending, error)
            return True
        refused = refusal.records if isinstance(refusal, PartlyRefusedError) else None
        message = f"{self._exporter} refused {_part(refused)}: {refusal}"
        rejected = 0
        if self.dead_letters is not None:
            try:
                kept = await self.keep(self.dead_letters, batch, records, refusal)
            except UnavailableError as error:
                return self._fail(pending, error)
            # A partial success that rejects nothing is OTLP's way of warning.
            message += "; kept as a dead letter" if kept else "; dropped, for there is no room for dead letters"
        elif refused is None:
            return self._fail(pending, refusal)
        else:
            rejected = refused
        outcome = pending.prepared.outcome
        messages = "; ".join(filter(None, (outcome.message, message)))
        pending.prepared.outcome = Outcome(outcome.rejected + rejected, messages)
        return True

    @staticmethod
    def _fail(pending: Pending, error: DeliveryError) -> bool:
        """Tell the client, unless the batch is in the spool, where it stays."""
        if not pending.spooled:
            pending.fail(error)
        return False

    async def keep_or_drop(self, batch: Batch, records: int, reason: RefusedError | str) -> None:
        """Deal with a batch whose client is told nothing of it. Raises `UnavailableError` as `keep` does."""
        if self.dead_letters is not None:
            await self.keep(self.dead_letters, batch, records, reason)
        elif dropped := self._dropped.count():
            _log.error(
                "refused batches are dropped for good", exporter=self._exporter, batches=dropped, reason=str(reason)
            )

    async def keep(self, dead_letters: DeadLetters, batch: Batch, records: int, reason: RefusedError | str) -> bool:
        """Keep a batch, or what was refused of it, as a dead letter. Returns whether it was kept, or had to be dropped.

        Raises `UnavailableError` when the disk does not take it and it is not to be dropped.
        """
        if isinstance(reason, PartlyRefusedError):
            records, payload = reason.records, reason.payload
            batch = batch.part(payload)
        try:
            letter = await asyncio.to_thread(dead_letters.keep, batch, str(reason))
        except OSError as error:
            why = (
                f"{self._exporter} refused a batch, which cannot be kept as a dead letter: "
                f"{error.strerror or error} ({reason})"
            )
            if self._spool is None or isinstance(error, DirectoryInUseError):
                raise UnavailableError(why, retry_after=5) from error
            await self._spool.drop(batch, why)
            return False
        self._instruments.dead_lettered.add(records, {"signal": batch.signal.value, "exporter": self._exporter})
        if kept := self._kept.count():
            _log.warning(
                "refused batches are kept as dead letters",
                exporter=self._exporter,
                batches=kept,
                last=letter.name,
                reason=str(reason),
            )
        return True


def _part(refused: int | None) -> str:
    return "this batch" if refused is None else f"{refused} records of this batch"
