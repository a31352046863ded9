"""Batches of journal entries, one after the other, from a position on."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from datetime import timedelta
from typing import Any

import msgspec
import structlog

from gateway.base.rate_limited_log import RateLimitedLogger
from gateway.base.retry import Backoff
from receivers.journald.config import JournaldConfig
from receivers.journald.errors import JournalError
from receivers.journald.journalctl import Journalctl, Stream
from receivers.journald.records import Converter, Request
from receivers.journald.state import Pending
from receivers.journald.units import UnitFilter

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SECOND = timedelta(seconds=1)
_PASS_OVER_SECONDS = 60.0
_PASS_OVER_ENTRIES = 100_000
"""After how long, or how many entries that are not sent, the position is written down all the same."""
_RENEW_SECONDS = 60.0
"""After how long ``journalctl`` is started anew where files are named: it does not see those that come to be later."""


class Reader:
    """Reads the journal after ``position``, the cursor of the last entry that a batch was made of; None: all of it.

    Raises `JournalError` when there is no ``journalctl``.
    """

    def __init__(self, config: JournaldConfig, stopping: asyncio.Event, *, follow: bool) -> None:
        self._config = config
        self._journalctl = Journalctl(config)
        self._converter = Converter(config)
        self._units = UnitFilter(config.units, config.exclude_units)
        self._backoff = Backoff(config.retry_on_failure)
        self._timeout = config.batch.timeout / _SECOND
        self._stopping = stopping
        self._follow = follow
        self._caught_up = self._ended = False
        self._failure: str | None = None
        self._stream: Stream | None = None
        self._renew_at: float | None = None
        self._told_of: str | None = None
        self._skip: str | None = None
        self._lines: deque[bytes] = deque()
        self._limited = RateLimitedLogger(_log)
        self.position: str | None = None
        self.unreadable = 0
        """Entries that were left out because they could not be read, or were too large."""

    async def begin_at_end(self) -> None:
        """Leave out everything that is in the journal now. Raises `JournalError`."""
        self.position = await self._journalctl.last()

    async def batch(self) -> Pending | None:
        """Return the next batch; None at the end, when told to stop or not to follow.

        Raises `JournalError` when the journal cannot be read and there is nobody to wait for it (no ``follow``).
        """
        while not self._ended:
            batch = await self._gather()
            if batch is not None or self._stopping.is_set():
                return batch
        if self._failure is not None:
            raise JournalError(self._failure)
        return None

    async def release(self) -> None:
        """End the program that reads, for the time being: it holds files that the journal has deleted."""
        self._lines.clear()
        self._skip = None
        self._caught_up = False  # what is written meanwhile may be of another boot, and the position may be gone
        self._renew_at = None
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await stream.close()

    async def interrupt(self) -> None:
        """Make a `batch` that waits return what it has."""
        if self._stream is not None:
            await self._stream.close()

    async def _gather(self) -> Pending | None:
        request = Request(self._converter)
        loop = asyncio.get_running_loop()
        read, position, deadline = 0, self.position, None
        while (
            request.records < self._config.batch.max_records
            and request.size < self._config.batch.max_size
            and read < _PASS_OVER_ENTRIES
        ):
            if not self._lines and not await self._more(deadline, idle=not read):
                break
            entry = self._decoded(self._lines.popleft())
            if entry is None:
                continue
            self._backoff.reset()
            cursor = str(entry["__CURSOR"])
            if self._skip is not None:
                same, self._skip = cursor == self._skip, None
                if same:
                    continue
            read, position = read + 1, cursor
            before = request.records
            self._add(request, entry)
            if read == 1 or request.records > before == 0:
                deadline = loop.time() + (self._timeout if request.records else _PASS_OVER_SECONDS)
        self.position = position
        if not read or position is None:
            return None
        return Pending(position, request.payload() if request.records else b"", request.records)

    async def _more(self, deadline: float | None, *, idle: bool) -> bool:
        """Get further entries. False when there are none before the deadline, or from the current program.

        Only when ``idle``, with nothing gathered, is a program started.
        """
        if self._stopping.is_set():
            return False
        if idle and self._renew_at is not None and asyncio.get_running_loop().time() >= self._renew_at:
            await self.release()
        if self._stream is None:
            if not idle:
                return False
            try:
                await self._open()
            except JournalError as error:
                await self._failed(str(error))
                return False
        stream = self._stream
        assert stream is not None
        left_out = stream.left_out
        try:
            async with asyncio.timeout_at(self._renew_at if idle else deadline):
                lines = await stream.read()
        except TimeoutError:
            return False
        finally:  # entries that are too large are passed over as they come, also when the time is over meanwhile
            for _ in range(stream.left_out - left_out):
                self._unreadable("larger than this receiver holds in memory")
        if lines:
            self._lines.extend(lines)
            return True
        failure = await stream.failure()
        following = self._caught_up
        await self.release()
        if failure is not None or following:
            await self._failed(failure or "journalctl ended")
        elif self._follow:
            self._caught_up = True
        else:
            self._ended = True
        return False

    async def _open(self) -> None:
        self._skip = self.position
        if self.position is not None and not self._caught_up:
            await self._look(self.position)
        follow = self._follow and self._caught_up
        self._stream = await self._journalctl.read(self.position, follow=follow)
        if follow and self._config.files:
            self._renew_at = asyncio.get_running_loop().time() + _RENEW_SECONDS

    async def _look(self, position: str) -> None:
        """Say what is missing when the journal no longer has the entry that reading ended at; once for each."""
        found = await self._journalctl.find(position)
        if position in (found.cursor, self._told_of):
            return
        self._told_of = position
        if found.cursor is None:
            self._limited.warning(
                "nothing there",
                "the journal has nothing at or after the position where reading ended; waiting for newer entries",
                position=position,
                what_to_do="if the journal was replaced, or the clock set back, remove the position to begin anew",
            )
            return
        missing = found.missing(position)
        _log.warning(
            "the journal no longer has the entry where reading ended: rotated or vacuumed meanwhile. Going on at the "
            "next one there is",
            missing_at_most="not known" if missing is None else missing,
        )

    async def _failed(self, reason: str) -> None:
        """Wait before the program is started again, if it is."""
        if self._stopping.is_set():
            return
        if not self._follow:
            self._failure, self._ended = reason, True
            return
        pause = self._backoff.next()
        self._limited.warning("failed", "the journal cannot be read; it is tried again", reason=reason, pause=pause)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._stopping.wait()

    def _decoded(self, line: bytes) -> dict[str, Any] | None:
        try:
            entry = msgspec.json.decode(line)
            if isinstance(entry, dict) and isinstance(entry.get("__CURSOR"), str):
                return entry
            reason = "without a cursor"
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            reason = str(error)
        self._unreadable(reason)
        return None

    def _add(self, request: Request, entry: dict[str, Any]) -> None:
        if not self._units.wants(entry):
            return
        try:
            request.add(entry)
        except (ValueError, TypeError) as error:
            self._unreadable(str(error))

    def _unreadable(self, reason: str) -> None:
        self.unreadable += 1
        self._limited.warning("unreadable", "an entry of the journal is left out", reason=reason)
