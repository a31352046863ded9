"""Spools that former workers left, emptied by a process that took over their locks.

They are replayed where they are. Nothing is moved, so a process that dies in the middle leaves them as they were; and
whoever still holds the lock of one keeps it for as long as it needs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import structlog

from gateway.base.settings import SpoolSettings
from gateway.pipeline.spool import Spool, status

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class OrphanedSpools:
    """The spools of former workers of one exporter. ``replay`` returns once a spool is empty."""

    def __init__(
        self, former: Callable[[], Iterable[Path]], settings: SpoolSettings, replay: Callable[[Spool], Awaitable[None]]
    ) -> None:
        self._former = former
        self._settings = settings
        self._replay = replay
        self._waiting: dict[Path, Spool] = {}
        self._adopted: dict[Path, Spool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._damaged = 0

    @property
    def spools(self) -> list[Spool]:
        """Those that were taken over and are not empty yet."""
        return list(self._adopted.values())

    @property
    def damaged(self) -> int:
        """At how many places something was lost."""
        return self._damaged + sum(spool.damaged for spool in self._adopted.values())

    async def adopt(self) -> None:
        """Take over what is there, and not held by anybody any more. One that is held is tried again."""
        for directory in await asyncio.to_thread(self._left):
            if directory in self._adopted:
                continue
            if directory not in self._waiting:
                self._waiting[directory] = Spool(directory, self._settings)
            spool = self._waiting[directory]
            await spool.open()
            if spool.is_open:
                self._adopted[directory] = self._waiting.pop(directory)
                _log.info("a spool that a former worker left is delivered", spool=str(directory))
                task = asyncio.create_task(self._empty(directory, spool))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Leave what is not delivered by now where it is."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for spool in (*self._waiting.values(), *self._adopted.values()):
            await spool.close()

    def _left(self) -> list[Path]:
        found = []
        for directory in self._former():
            with contextlib.suppress(OSError):  # whoever opens it says so
                if status(directory).segments:
                    found.append(directory)
        return found

    async def _empty(self, directory: Path, spool: Spool) -> None:
        await self._replay(spool)
        await spool.close()
        del self._adopted[directory]
        self._damaged += spool.damaged
