"""The OTLP exporter: batches in, the same bytes out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import structlog

from exporters.otlp.config import OtlpExporterConfig
from gateway.base.rate_limited_log import LogRateLimit
from gateway.component import Batch, Outcome, Prepared, Signal
from gateway.net.client import OtlpClient, connect
from gateway.net.destination import Destination, with_path
from gateway.otlp import mending

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class OtlpExporter:
    """Implements `gateway.pipeline.Exporter` for any OTLP endpoint.

    A request cannot carry several batches or none, so each batch is one request of its own. The far end is told nothing
    of whose telemetry it is: what is the gateway's own is so to this gateway alone.
    """

    batches_per_commit = 1

    def __init__(self, name: str, config: OtlpExporterConfig) -> None:
        self.name = name
        self.concurrency = config.concurrency
        self._config = config
        self._clients: dict[Signal, OtlpClient] = {}
        self._rejected = 0
        self._rejections, self._warnings = LogRateLimit(), LogRateLimit()

    async def start(self) -> None:
        """Get ready to send. Whether somebody answers is seen at the first commit.

        Raises `OSError` when a certificate cannot be used.
        """
        if self._config.protocol == "grpc":
            self._clients = dict.fromkeys(Signal, connect(self._destination(self._config.endpoint)))
        else:
            self._clients = {
                signal: connect(self._destination(with_path(self._config.endpoint, signal))) for signal in Signal
            }

    def _destination(self, endpoint: str) -> Destination:
        config = self._config
        return Destination(
            config.protocol,
            endpoint,
            {name.lower(): value.get_secret_value() for name, value in config.headers.items()},
            config.timeout / timedelta(seconds=1),
            config.compression,
            config.tls.ca_file,
            config.tls.cert_file,
            config.tls.key_file,
        )

    async def stop(self) -> None:
        """Close the connections."""
        for client in dict.fromkeys(self._clients.values()):
            await client.close()

    async def prepare(self, batch: Batch) -> Prepared:
        """Count the records. Raises `MalformedPayloadError` for a request of which any part is not valid."""
        records = await mending.check(batch)
        return Prepared(batch, records)

    def prepare_at_once(self, batch: Batch) -> Prepared | None:
        """Count the records of a small batch; None for one that takes longer."""
        records = mending.check_at_once(batch)
        return None if records is None else Prepared(batch, records)

    async def commit(self, prepared: Sequence[Prepared]) -> list[bool]:
        """Send one batch. Raises `UnavailableError` or `RefusedError`.

        What the far end rejects of it through ``partial_success`` must not be sent again; it is counted and logged.
        """
        (one,) = prepared
        outcome = await self._clients[one.batch.signal].send(one.batch.signal, one.batch.payload, one.seconds)
        if outcome.rejected:
            self._note(one.batch.signal, outcome)
        elif outcome.message:
            self._pass_on(outcome.message)
        return [True]

    def _note(self, signal: Signal, outcome: Outcome) -> None:
        self._rejected += outcome.rejected
        if untold := self._rejections.count(outcome.rejected):
            _log.warning(
                "a destination rejected records",
                exporter=self.name,
                endpoint=self._config.endpoint,
                signal=signal.value,
                rejected=untold,
                reason=outcome.message or "none was given",
            )

    def _pass_on(self, warning: str) -> None:
        """Log what the far end says of records that it has taken all the same, such as that they are dead letters."""
        if self._warnings.count():
            _log.warning(
                "a destination took everything and warns",
                exporter=self.name,
                endpoint=self._config.endpoint,
                warning=warning,
            )

    def gauges(self) -> dict[str, float]:
        """Return how many records the far end has rejected."""
        return {"obs_hub.records.rejected_by_destination": self._rejected}
