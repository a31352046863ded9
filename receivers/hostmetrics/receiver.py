"""The receiver, as `gateway.pipeline.Receiver` describes it."""

from __future__ import annotations

import asyncio

from receivers.hostmetrics.config import HostMetricsConfig
from receivers.hostmetrics.emitter import Emitter


class HostMetricsReceiver:
    """Emits the metrics of this machine while it is started. It listens nowhere."""

    def __init__(self, name: str, config: HostMetricsConfig) -> None:
        self._name = name
        self._config = config
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
        """Begin to collect and send. Raises `ValueError` when the environment names an unusable destination.

        That nobody answers there is no reason to fail: it is logged, and tried again at every interval.
        """
        # In a thread, since the first use of the exporter loads a good deal.
        self._emitter = await asyncio.to_thread(Emitter, self._config, self._name)
        self._emitter.start()

    async def stop(self, grace: float) -> None:
        """Send a last collection and end, in at most ``grace`` seconds. Harmless when not started."""
        if self._emitter is not None:
            emitter, self._emitter = self._emitter, None
            await asyncio.to_thread(emitter.stop, grace)
