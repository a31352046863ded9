"""Sending: where to, by which protocol, and what is said when it does not work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData

from gateway.component import Signal
from gateway.net.destination import Destination, Protocol
from gateway.net.destination import destination as resolve
from gateway.net.sdk_exporters import make_exporter
from receivers.hostmetrics.config import HostMetricsConfig

_log = logging.getLogger(__name__)

# Where the SDK's exporters say why an export failed; `export` itself only returns that it did.
_SDK_LOGGERS: dict[Protocol, str] = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.metric_exporter",
}


def destination(config: HostMetricsConfig, environ: Mapping[str, str] | None = None) -> Destination:
    """Work out where to send, with a timeout such that an outage never holds up the next collection.

    Raises `gateway.net.destination.DestinationError` for what cannot be used.
    """
    to = resolve(config, Signal.METRICS, environ)
    return replace(to, timeout=min(to.timeout, config.collection_interval / timedelta(seconds=1)))


class Sender:
    """Sends metrics to one destination. Nothing is kept: what cannot be sent now is dropped.

    The exporter retries within its timeout. An outage is logged when it begins, with the reason, and when it is over.
    """

    def __init__(self, to: Destination) -> None:
        self.destination = to
        self._exporter = make_exporter(Signal.METRICS, to)
        self._dropped = 0

    @property
    def failing(self) -> bool:
        """Whether the last export failed."""
        return self._dropped > 0

    def send(self, data: MetricsData) -> bool:
        """Send, and return whether the destination accepted it. Blocks for at most the timeout; does not raise."""
        with _sdk_log(_SDK_LOGGERS[self.destination.protocol]) as said:
            try:
                accepted = self._exporter.export(data) is MetricExportResult.SUCCESS
            except Exception as error:  # the SDK raises when it is shut down during an export
                said.append(f"{type(error).__name__}: {error}")
                accepted = False
        if accepted:
            self._report_end_of_outage()
        else:
            self._report_outage(said)
        return accepted

    def close(self) -> None:
        """Give up an export under way, and release the connection."""
        self._exporter.shutdown()

    def _report_outage(self, said: list[str]) -> None:
        self._dropped += 1
        if self._dropped == 1:
            _log.warning(
                "host metrics cannot be sent to %s: %s (what is collected until that works again is dropped)",
                self.destination.endpoint,
                said[-1] if said else "no reason given",
            )

    def _report_end_of_outage(self) -> None:
        if self._dropped:
            _log.info(
                "host metrics are sent to %s again; %d collections were dropped",
                self.destination.endpoint,
                self._dropped,
            )
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
