"""Waiting for what nothing announces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

PATIENCE = 300.0
"""Seconds after which a test gives up on what should have happened long ago, also on a machine with much else to do."""


async def until(condition: Callable[[], _T]) -> _T:
    """Wait until something is true, and return it."""
    async with asyncio.timeout(PATIENCE):
        while not (result := condition()):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
    return result
