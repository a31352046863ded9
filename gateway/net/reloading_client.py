"""Clients that are made anew when the certificates they were made with have changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from gateway.files.file_changes import FileChanges

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

POLL_INTERVAL = 10.0
"""Seconds between two looks at the files."""

_Client = TypeVar("_Client")


@dataclass(slots=True, eq=False)
class _Made(Generic[_Client]):
    client: _Client
    users: int = 0


class ReloadingClient(Generic[_Client]):
    """The client of a destination, which is what the ``files`` of its certificates last held.

    ``make`` raises `OSError` when they cannot be used: to begin with, so does this; later it is logged, and the client
    stays as it was. ``close`` is called for one that was replaced as soon as nobody uses it any more.
    """

    def __init__(
        self,
        make: Callable[[], _Client],
        close: Callable[[_Client], Awaitable[None]],
        files: Iterable[Path | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._close = close
        self._changes = FileChanges(files, POLL_INTERVAL, clock)
        self._current = _Made(make())

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator[_Client]:
        """Use the client for the length of a block."""
        if self._changes.seen():
            await self._renew()
        used = self._current
        used.users += 1
        try:
            yield used.client
        finally:
            used.users -= 1
            if used is not self._current and not used.users:
                await self._close(used.client)

    async def close(self) -> None:
        """Close the client."""
        await self._close(self._current.client)

    async def _renew(self) -> None:
        try:
            fresh = self._make()
        except OSError as error:
            _log.error("changed certificates are not used; those before stay in use", reason=str(error))
            return
        _log.info("changed certificates are in use")
        before, self._current = self._current, _Made(fresh)
        if not before.users:
            await self._close(before.client)
