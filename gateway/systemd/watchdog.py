"""The watchdog: systemd is told that the gateway works only as long as every process of it does.

The first process tells it from its event loop, so that a loop that hangs says nothing. Each worker writes a byte to a
pipe from its own event loop; the first process notes when it last heard of whom.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection

import structlog

from gateway.systemd.notify import Notifier

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_BEATS = 8
"""How often a worker is heard of, and how often systemd is told, in the time of the watchdog."""


async def feed_watchdog(notifier: Notifier, silent: Callable[[float], Collection[int]]) -> None:
    """Tell systemd that all is well, for as long as it is. Ends at once where nobody looks.

    ``silent`` returns the workers that have not been heard of for so many seconds. A worker that ended is not silent
    before its successor had time to start.
    """
    if notifier.watchdog is None:
        return
    complained = False
    while True:
        if not (missing := silent(notifier.watchdog / 2)):
            notifier.alive()
        elif not complained:
            _log.error(
                "nothing has been heard of workers; systemd is not told that all is well, and restarts us",
                workers=sorted(missing),
                seconds=notifier.watchdog / 2,
            )
        complained = bool(missing)
        await asyncio.sleep(notifier.watchdog / _BEATS)


async def beat(descriptor: int, watchdog: float) -> None:
    """Show the other end of a pipe that this process' event loop works, until the other end is gone."""
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while True:
            with contextlib.suppress(BlockingIOError):  # nobody reads: who should is hung, and is ended for it
                os.write(descriptor, b".")
            await asyncio.sleep(watchdog / _BEATS)


class Heartbeats:
    """When each worker was last heard of, by its number."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}

    def follow(self, number: int, descriptor: int) -> None:
        """Listen to what a worker that has just started writes by `beat`. Takes the descriptor, and closes it."""
        loop = asyncio.get_running_loop()
        self._last[number] = loop.time()
        os.set_blocking(descriptor, False)  # the loop that asks whether others hang must not hang itself

        def heard() -> None:
            try:
                beats = os.read(descriptor, 4096)
            except BlockingIOError:
                return
            except OSError:
                beats = b""
            if beats:
                self._last[number] = loop.time()
                return
            loop.remove_reader(descriptor)
            os.close(descriptor)

        loop.add_reader(descriptor, heard)

    def silent(self, seconds: float) -> list[int]:
        """Return the workers that have not been heard of for so long."""
        now = asyncio.get_running_loop().time()
        return [number for number, last in self._last.items() if now - last > seconds]
