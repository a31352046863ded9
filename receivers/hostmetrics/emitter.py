"""The loop: collect, send, wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import structlog

from gateway.base.settings import format_duration
from gateway.net.destination import Destination
from gateway.net.handover import Handover
from receivers.hostmetrics.collector import Collector
from receivers.hostmetrics.config import HostMetricsConfig
from receivers.hostmetrics.resource import resource
from receivers.hostmetrics.scrapers import sensors
from receivers.hostmetrics.sender import Sender

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FIRST_PAUSE = 1.0
"""Seconds from the first collection to the second."""


class Emitter:
    """Collects and sends in a thread of its own, at the configured interval."""

    def __init__(self, config: HostMetricsConfig, to: Destination | Handover, name: str = "hostmetrics") -> None:
        self._config = config
        self._collector = Collector(sensors(config.scrapers), resource())
        self._sender = Sender(to)
        self._stopping = threading.Event()
        # A daemon: nothing that hangs in a system call may keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first collection is made at once."""
        interval = format_duration(self._config.collection_interval)
        _log.info("host metrics are sent", to=self._sender.place, interval=interval)
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Collect and send a last time, and end, within ``grace`` seconds. Blocks no longer than that."""
        self._stopping.set()
        self._thread.join(grace)
        self._sender.close()

    def once(self, sampling: float) -> bool:
        """Collect and send once, in this thread, and end. Returns whether the destination accepted it.

        Utilisation is that of the ``sampling`` seconds this takes.
        """
        try:
            self._collector.collect()
            time.sleep(sampling)
            return self._sender.send(self._collector.collect())
        finally:
            self._sender.close()

    def _run(self) -> None:
        due = time.monotonic()
        for pause in pauses(self._config.collection_interval / timedelta(seconds=1)):
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                break
            self._sender.send(self._collector.collect())
            # After a machine was suspended or overloaded, collections that are long due are left out.
            due = max(due + pause, time.monotonic())
        # During an outage this would only use up the time to stop.
        if not self._sender.failing:
            self._sender.send(self._collector.collect())


def pauses(interval: float) -> Iterator[float]:
    """Yield the seconds from each collection to the next: one at first, then twice as many up to the interval.

    Rates and utilisation need two collections: who has just started this sees them within seconds.
    """
    pause = min(_FIRST_PAUSE, interval)
    while True:
        yield pause
        pause = min(2 * pause, interval)
