"""Sending: where to, by which protocol, and what is said when it does not work."""

from __future__ import annotations

import asyncio
import logging  # noqa: TID251 - by which the SDK's exporters say what went wrong
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import structlog
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData

from gateway.component import Consumer, DeliveryError, Signal
from gateway.net.destination import Destination, timeout
from gateway.net.destination import destination as resolve
from gateway.net.handover import Handover
from gateway.net.handover_exporters import HandoverMetrics
from gateway.net.remote import RemoteConsumer
from gateway.net.sdk_exporters import logger_of, make_exporter
from receivers.hostmetrics.config import HostMetricsConfig

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def destination(config: HostMetricsConfig, environ: Mapping[str, str] | None = None) -> Destination:
    """Work out where to send, with a timeout such that an outage never holds up the next collection.

    Raises `gateway.net.destination.DestinationError` for what cannot be used.
    """
    to = resolve(config, Signal.METRICS, environ)
    return replace(to, timeout=_timeout(config, environ))


def reach(consumer: Consumer, config: HostMetricsConfig, loop: asyncio.AbstractEventLoop) -> Destination | Handover:
    """Return how a thread sends to what a receiver was given, with such a timeout; ``loop`` is that of the hub.

    What is elsewhere is sent to by the SDK's own exporter, in that thread.
    """
    to = consumer.destinations.get(Signal.METRICS) if isinstance(consumer, RemoteConsumer) else None
    if to is not None:
        return replace(to, timeout=_timeout(config))
    return Handover(consumer, loop, timeout=_timeout(config))


def _timeout(config: HostMetricsConfig, environ: Mapping[str, str] | None = None) -> float:
    interval = config.collection_interval / timedelta(seconds=1)
    return min(timeout(config, Signal.METRICS, environ), interval)


class Sender:
    """Sends metrics to one destination. Nothing is kept: what cannot be sent now is dropped.

    The exporter retries within its timeout. An outage is logged when it begins, with the reason, and when it is over.
    """

    def __init__(self, to: Destination | Handover) -> None:
        self.place = "this hub" if isinstance(to, Handover) else to.endpoint
        """Where it sends, for people."""
        self._to = to
        self._exporter = make_exporter(Signal.METRICS, to)
        self._dropped = 0

    @property
    def failing(self) -> bool:
        """Whether the last export failed."""
        return self._dropped > 0

    def send(self, data: MetricsData) -> bool:
        """Send, and return whether the destination accepted it. Blocks for at most the timeout; does not raise."""
        failure = self._hand_over(data) if isinstance(self._to, Handover) else self._export(data, self._to)
        if failure is None:
            self._report_end_of_outage()
        else:
            self._report_outage(failure)
        return failure is None

    def _hand_over(self, data: MetricsData) -> str | None:
        """Hand metrics to this hub. Returns why they were not taken, if they were not."""
        assert isinstance(self._exporter, HandoverMetrics)
        try:
            self._exporter.hand_over(data)
        except DeliveryError as error:
            return str(error)
        return None

    def _export(self, data: MetricsData, to: Destination) -> str | None:
        """Send metrics by the SDK's exporter. Returns why they were not taken, if they were not."""
        with _sdk_log(logger_of(to)) as said:
            try:
                accepted = self._exporter.export(data) is MetricExportResult.SUCCESS
            except Exception as error:  # the SDK raises when it is shut down during an export
                return f"{type(error).__name__}: {error}"
        return None if accepted else (said[-1] if said else "none was given")

    def close(self) -> None:
        """Give up an export under way, and release the connection."""
        if isinstance(self._to, Handover):
            self._to.close()
        self._exporter.shutdown()

    def _report_outage(self, reason: str) -> None:
        self._dropped += 1
        if self._dropped == 1:
            _log.warning(
                "host metrics cannot be sent; what is collected until that works again is dropped",
                to=self.place,
                reason=reason,
            )

    def _report_end_of_outage(self) -> None:
        if self._dropped:
            _log.info("host metrics are sent again", to=self.place, collections_dropped=self._dropped)
        self._dropped = 0


class _Listener(logging.Filter):
    """Takes what one thread says to a logger, leaving what others say alone."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        self.said.append(record.getMessage())
        return False


@contextmanager
def _sdk_log(name: str) -> Iterator[list[str]]:
    """Collect what the SDK logs meanwhile instead of letting it through; it logs every retry of an outage."""
    listener = _Listener()
    logger = logging.getLogger(name)
    # In front of the SDK's own filter, which withholds repetitions.
    logger.filters.insert(0, listener)
    try:
        yield listener.said
    finally:
        logger.removeFilter(listener)
