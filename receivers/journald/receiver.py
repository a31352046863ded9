"""The receiver, as `gateway.component.Receiver` describes it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from gateway.component import Consumer, Signal
from gateway.net.remote import place_of
from receivers.journald.config import JournaldConfig
from receivers.journald.emitter import Emitter

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class JournaldReceiver:
    """Emits the journal while it is started. It listens nowhere."""

    def __init__(self, name: str, config: JournaldConfig, consumer: Consumer, state_dir: Path | None) -> None:
        self._name = name
        self._config = config
        self._consumer = consumer
        self._state_dir = state_dir
        self._emitter: Emitter | None = None
        self._task: asyncio.Task[bool] | None = None

    @property
    def name(self) -> str:
        """The component's name in the configuration."""
        return self._name

    @property
    def endpoints(self) -> dict[str, str]:
        """Empty: it does not listen."""
        return {}

    async def start(self) -> None:
        """Begin to read and send.

        Raises `JournalError`, an `OSError`, when ``journalctl`` or the directory for the position cannot be used. That
        nobody takes what is read is no reason to fail.
        """
        self._emitter = Emitter(self._config, self._consumer, self._state_dir)
        self._task = asyncio.create_task(self._emitter.run(), name=self._name)
        _log.info("the journal is sent", to=place_of(self._consumer, Signal.LOGS))

    async def stop(self, grace: float) -> None:
        """Send what was read and end, in at most ``grace`` seconds. Harmless when not started.

        What is not sent by then is sent after the next start.
        """
        if self._emitter is None or self._task is None:
            return
        emitter, task, self._emitter, self._task = self._emitter, self._task, None, None
        try:
            async with asyncio.timeout(grace):
                await emitter.stop()
                await asyncio.shield(task)
        except TimeoutError:
            task.cancel()
            await asyncio.wait({task})
