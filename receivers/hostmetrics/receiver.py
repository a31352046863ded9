"""The receiver, as `gateway.component.Receiver` describes it."""

from __future__ import annotations

import asyncio

from gateway.component import Consumer
from receivers.hostmetrics.config import HostMetricsConfig
from receivers.hostmetrics.emitter import Emitter
from receivers.hostmetrics.sender import reach


class HostMetricsReceiver:
    """Emits the metrics of this machine while it is started. It listens nowhere."""

    def __init__(self, name: str, config: HostMetricsConfig, consumer: Consumer) -> None:
        self._name = name
        self._config = config
        self._consumer = consumer
        self._emitter: Emitter | None = None

    @property
    def name(self) -> str:
        """The component's name in the configuration."""
        return self._name

    @property
    def endpoints(self) -> dict[str, str]:
        """Empty: it does not listen."""
        return {}

    async def start(self) -> None:
        """Begin to collect and send.

        That nobody takes it is no reason to fail: it is logged, and tried again at every interval. Raises `ValueError`
        when the environment names a timeout that is none.
        """
        to = reach(self._consumer, self._config, asyncio.get_running_loop())
        # In a thread, since the first use of the exporter loads a good deal.
        self._emitter = await asyncio.to_thread(Emitter, self._config, to, self._name)
        self._emitter.start()

    async def stop(self, grace: float) -> None:
        """Send a last collection and end, in at most ``grace`` seconds. Harmless when not started."""
        if self._emitter is not None:
            emitter, self._emitter = self._emitter, None
            await asyncio.to_thread(emitter.stop, grace)
