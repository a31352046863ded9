"""What one exporter refuses for good, kept as dead letters, counted and logged."""

from __future__ import annotations

import asyncio
import logging

from gateway.pipeline.batch import Batch
from gateway.pipeline.dead_letters import DeadLetters
from gateway.pipeline.errors import PartlyRefusedError, RefusedError, UnavailableError
from gateway.pipeline.instruments import Instruments

_log = logging.getLogger(__name__)


class Burying:
    """Keeps what an exporter refuses. Without a place for dead letters that is dropped, and logged."""

    def __init__(self, exporter: str, dead_letters: DeadLetters | None, instruments: Instruments) -> None:
        self.dead_letters = dead_letters
        self._exporter = exporter
        self._instruments = instruments

    async def keep_or_drop(self, batch: Batch, records: int, reason: RefusedError | str) -> None:
        """Deal with a batch whose client has its OK already. Raises `UnavailableError` as `keep` does."""
        if self.dead_letters is not None:
            await self.keep(self.dead_letters, batch, records, reason)
        else:
            _log.error("%s refused a batch from the spool, which is dropped: %s", self._exporter, reason)

    async def keep(self, dead_letters: DeadLetters, batch: Batch, records: int, reason: RefusedError | str) -> None:
        """Keep a batch, or what was refused of it, as a dead letter.

        Raises `UnavailableError` when the disk does not take it.
        """
        if isinstance(reason, PartlyRefusedError):
            records, payload = reason.records, reason.payload
            batch = batch.part(payload)
        try:
            letter = await asyncio.to_thread(dead_letters.keep, batch, str(reason))
        except OSError as error:
            raise UnavailableError(
                f"{self._exporter} refused a batch, which cannot be kept as a dead letter: "
                f"{error.strerror or error} ({reason})",
                retry_after=5,
            ) from error
        self._instruments.dead_lettered.add(records, {"signal": batch.signal.value, "exporter": self._exporter})
        _log.error("%s refused a batch, kept as dead letter %s: %s", self._exporter, letter.name, reason)
