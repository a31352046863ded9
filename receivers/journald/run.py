"""What the command line calls: sending the journal without a gateway in the process."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import structlog

from gateway.component import Consumer, Signal
from gateway.net.remote import elsewhere, place_of
from receivers.journald.config import JournaldConfig
from receivers.journald.emitter import Emitter

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

PATIENCE = 30.0
"""Seconds that a single run waits for a destination that is away."""

GRACE = 5.0
"""Seconds that the last request may take when told to end."""


def run_once(config: JournaldConfig, state_dir: Path) -> bool:
    """Send what is new in the journal, and end. Returns whether all of it was sent; if not, the log says why.

    Raises `receivers.journald.errors.JournalError` when the journal cannot be read, `ValueError` when the environment
    names a destination that cannot be used, `OSError` when a certificate cannot be read.
    """
    return asyncio.run(_run(config, state_dir, follow=False, patience=PATIENCE))


def run_forever(config: JournaldConfig, state_dir: Path) -> None:
    """Send the journal until SIGINT or SIGTERM. Raises as `run_once` does, but only at the start."""
    asyncio.run(_run(config, state_dir, follow=True, patience=None))


async def _run(config: JournaldConfig, state_dir: Path, *, follow: bool, patience: float | None) -> bool:
    consumer = elsewhere(config, [Signal.LOGS])
    try:
        return await _run_with(config, consumer, state_dir, follow=follow, patience=patience)
    finally:
        await consumer.close()


async def _run_with(
    config: JournaldConfig, consumer: Consumer, state_dir: Path, *, follow: bool, patience: float | None
) -> bool:
    emitter = Emitter(config, consumer, state_dir, follow=follow, patience=patience)
    _log.info("the journal is sent", to=place_of(consumer, Signal.LOGS))
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sending = asyncio.create_task(emitter.run())
    asked = asyncio.create_task(stop.wait())
    await asyncio.wait({sending, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if not sending.done():
        await emitter.stop()
        await asyncio.wait({sending}, timeout=GRACE)
        sending.cancel()
    try:
        complete = await sending
    except asyncio.CancelledError:  # the grace is over; what was not sent is sent by the next run
        complete = False
    _log.info(
        "the journal was sent",
        sent=emitter.sender.accepted,
        refused=emitter.sender.refused,
        unreadable=emitter.unreadable,
    )
    return complete
