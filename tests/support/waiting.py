"""Waiting for what nothing announces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

_T = TypeVar("_T")

PATIENCE = 300.0
"""Seconds after which a test gives up on what should have happened long ago, also on a machine with much else to do."""


_SHORTEST, _LONGEST, _GROWTH = 0.01, 0.1, 1.5


def pauses() -> Iterator[float]:
    """Seconds between one look at what nothing announces and the next, longer each time.

    What is there soon is seen soon; what takes long is not looked at so often that the looking is what it waits for.
    """
    pause = _SHORTEST
    while True:
        yield pause
        pause = min(pause * _GROWTH, _LONGEST)


def until_true(condition: Callable[[], _T], failed: Callable[[], str], patience: float = PATIENCE) -> _T:
    """Block until something is true, and return it. After too long a test fails with what ``failed`` says."""
    deadline = time.monotonic() + patience
    for pause in pauses():
        if result := condition():
            break
        assert time.monotonic() < deadline, failed()
        time.sleep(pause)
    return result


async def until(condition: Callable[[], _T]) -> _T:
    """Wait until something is true, and return it."""
    async with asyncio.timeout(PATIENCE):
        for pause in pauses():
            if result := condition():
                break
            await asyncio.sleep(pause)
    return result
