"""The loop: read a batch, write it down, send it, write down that it is sent."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import structlog

from gateway.base.crashpoints import crashpoint
from gateway.base.rate_limited_log import RateLimitedLogger
from gateway.component import Consumer
from receivers.journald.config import JournaldConfig
from receivers.journald.errors import JournalError
from receivers.journald.reader import Reader
from receivers.journald.sender import Sender
from receivers.journald.state import Pending, State

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PAUSE_SECONDS = 10.0
"""After how long all is tried anew when something failed that no part of it knows how to handle."""


class Emitter:
    """Sends the journal to a consumer, from where it ended the last time.

    With ``follow`` until told to stop; without, to the end of the journal, and with ``patience`` seconds for a
    destination that is away.

    Raises `JournalError` when ``journalctl`` or the directory for the position cannot be used.
    """

    def __init__(
        self,
        config: JournaldConfig,
        consumer: Consumer,
        state_dir: Path | None,
        *,
        follow: bool = True,
        patience: float | None = None,
    ) -> None:
        self._config = config
        self._follow = follow
        self._stopping = asyncio.Event()
        self._limited = RateLimitedLogger(_log)
        self._reader = Reader(config, self._stopping, follow=follow)
        self._state = State(state_dir)
        self.sender = Sender(consumer, config.retry_on_failure, self._stopping, patience=patience)

    @property
    def unreadable(self) -> int:
        """Entries of the journal that were left out because they could not be read."""
        return self._reader.unreadable

    async def run(self) -> bool:
        """Send until told to stop, or to the end of the journal. Returns whether all that was read was sent.

        Raises `JournalError` when the journal cannot be read, unless it is to be followed: then it is tried again.
        """
        try:
            while True:
                try:
                    return await self._send_all()
                except JournalError as error:
                    if not self._follow:
                        raise
                    self._limited.error("journal", "the journal cannot be read", reason=str(error))
                except Exception:
                    if not self._follow:
                        raise
                    _log.exception("sending the journal failed; it is tried again")
                await self._reader.release()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PAUSE_SECONDS):
                        await self._stopping.wait()
        finally:
            await self._reader.release()
            self._state.close()

    async def stop(self) -> None:
        """Have `run` return once what was read is sent, or at once when the destination is away."""
        self._stopping.set()
        await self._reader.interrupt()

    async def _send_all(self) -> bool:
        if self._state.pending is not None and not await self._deliver(self._state.pending):
            return False
        self._reader.position = self._state.cursor
        if self._reader.position is None and self._config.start_at == "end":
            await self._begin_at_end()
        while (batch := await self._reader.batch()) is not None:
            if batch.records:
                await self._intend(batch)
            if not await self._deliver(batch):
                return False
        return True

    async def _begin_at_end(self) -> None:
        """Leave out what there is, and say so: the first run of a timer would otherwise seem to do nothing."""
        await self._reader.begin_at_end()
        if self._reader.position is not None:
            _log.info("the journal is sent from now on; with start_at: beginning, also what is in it already")
            await self._settle(self._reader.position)

    async def _deliver(self, batch: Pending) -> bool:
        if batch.records and not await self.sender.send(batch.payload, batch.records, self._reader.release):
            return False
        crashpoint("after acknowledgement")
        await self._settle(batch.cursor)
        crashpoint("after position")
        return True

    async def _intend(self, batch: Pending) -> None:
        try:
            await asyncio.to_thread(self._state.intend, batch)
        except OSError as error:
            self._cannot_write(error)
        crashpoint("before sending")

    async def _settle(self, cursor: str) -> None:
        try:
            await asyncio.to_thread(self._state.settle, cursor)
        except OSError as error:
            self._cannot_write(error)

    def _cannot_write(self, error: OSError) -> None:
        # Logs go on: a full disk is what they should tell about.
        self._limited.error(
            "position",
            "the position in the journal cannot be written down; after a crash, log records may be sent twice",
            reason=str(error),
        )
