"""Spools and segments to test on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.base.settings import SpoolSettings
from gateway.component import Batch, Signal
from gateway.pipeline.spool import Spool
from tests.support.waiting import PATIENCE

OpenSpool = Callable[..., Awaitable[Spool]]


def batch(number: int, size: int = 20, signal: Signal = Signal.METRICS) -> Batch:
    """A batch that no other number makes."""
    return Batch.of(signal, f"{number:08d}".encode().ljust(size, b"."))


async def everything(spool: Spool, most_bytes: int = 2**20) -> list[Batch]:
    """Take all that a spool holds."""
    taken: list[Batch] = []
    async with asyncio.timeout(PATIENCE):
        while True:
            batches, took = await spool.read(most_bytes)
            if not batches:
                return taken
            taken += batches
            took()
            await spool.trim()


@pytest.fixture
async def open_spool(tmp_path: Path) -> AsyncIterator[OpenSpool]:
    """Opens spools on one directory, one after the other, as the runs of a gateway do; closes what is left open.

    One that is open when the next is asked for counts as killed.
    """
    opened: list[Spool] = []

    async def open_one(**settings: Any) -> Spool:
        for killed in opened:
            killed._lock.release()  # as the kernel does
        spool = Spool(tmp_path / "spool", SpoolSettings.model_validate(settings))
        await spool.open()
        opened.append(spool)
        return spool

    yield open_one
    for spool in opened:
        await spool.close()
