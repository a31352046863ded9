"""What one exporter refuses for good, kept as dead letters, counted and logged."""

from __future__ import annotations

import asyncio
import logging

from gateway.base.rate_limited_log import LogRateLimit
from gateway.component.batch import Batch
from gateway.component.errors import PartlyRefusedError, RefusedError, UnavailableError
from gateway.files.ownership import HeldError
from gateway.pipeline.dead_letters import DeadLetters
from gateway.pipeline.instruments import Instruments
from gateway.pipeline.spool import Spool

_log = logging.getLogger(__name__)


class Burying:
    """Keeps what an exporter refuses. Without a place for dead letters that is dropped, and logged.

    Where the spool of the exporter drops the oldest rather than make clients wait, what no room is left for among the
    dead letters is dropped, too, and counted with what the spool dropped.
    """

    def __init__(
        self, exporter: str, dead_letters: DeadLetters | None, instruments: Instruments, spool: Spool | None = None
    ) -> None:
        self.dead_letters = dead_letters
        self._spool = spool if spool is not None and spool.drops else None
        self._exporter = exporter
        self._instruments = instruments
        self._kept, self._dropped = LogRateLimit(), LogRateLimit()

    async def keep_or_drop(self, batch: Batch, records: int, reason: RefusedError | str) -> None:
        """Deal with a batch whose client is told nothing of it. Raises `UnavailableError` as `keep` does."""
        if self.dead_letters is not None:
            await self.keep(self.dead_letters, batch, records, reason)
        elif dropped := self._dropped.count():
            _log.error("%s refused %s, dropped for good: %s", self._exporter, _batches(dropped), reason)

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
            if self._spool is None or isinstance(error, HeldError):
                raise UnavailableError(why, retry_after=5) from error
            await self._spool.drop(batch, why)
            return False
        self._instruments.dead_lettered.add(records, {"signal": batch.signal.value, "exporter": self._exporter})
        if kept := self._kept.count():
            _log.warning(
                "%s refused %s, kept as a dead letter (the last one is %s): %s",
                self._exporter,
                _batches(kept),
                letter.name,
                reason,
            )
        return True


def _batches(number: int) -> str:
    return "a batch" if number == 1 else f"{number} batches since this was last said"
