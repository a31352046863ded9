"""The Loki exporter: logs in, the same bytes out."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from exporters.loki.client import BusyError, LokiClient
from exporters.loki.config import LokiConfig
from exporters.loki.distinct_timestamps import with_distinct_timestamps
from gateway.component import Batch, Prepared, TooLargeForDestinationError
from gateway.otlp import mending

_BUSY_BEFORE_HALVES = 3
"""How often in a row Loki may be too busy for a batch before the batch is suspected of being too large for it."""

_SMALL = 64 * 1024
"""Bytes of a batch that cannot be what is too large."""

_MOST_BUSY = 1_000
"""Batches of which is remembered how often Loki was too busy for them."""


class LokiExporter:
    """Implements `gateway.pipeline.Exporter` for Grafana Loki.

    Loki stores what it can of a request and answers for the rest, so each batch is a request of its own. One that is
    refused is given again in halves, until the bad records stand alone; what Loki has already it does not store again.
    """

    batches_per_commit = 1

    def __init__(self, name: str, config: LokiConfig) -> None:
        self.name = name
        self.concurrency = config.concurrency
        self._config = config
        self._client: LokiClient | None = None
        self._busy: OrderedDict[bytes, int] = OrderedDict()

    async def start(self) -> None:
        """Get ready to send. Whether Loki answers is seen at the first commit.

        Raises `OSError` when a certificate cannot be used.
        """
        self._client = LokiClient(self._config)

    async def stop(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def prepare(self, batch: Batch) -> Prepared:
        """Count the records, and set equal ones apart where they are to be kept.

        Raises `MalformedPayloadError` for a request of which any part is not valid.
        """
        records = await mending.check(batch)
        if self._config.duplicates == "keep":
            batch = replace(batch, payload=await asyncio.to_thread(with_distinct_timestamps, batch.payload))
        return Prepared(batch, records)

    def prepare_at_once(self, batch: Batch) -> Prepared | None:
        """Do as `prepare` does for a small batch; None for one that takes longer."""
        records = mending.check_at_once(batch)
        if records is None:
            return None
        if self._config.duplicates == "keep":
            batch = replace(batch, payload=with_distinct_timestamps(batch.payload))
        return Prepared(batch, records)

    async def commit(self, prepared: Sequence[Prepared]) -> list[bool]:
        """Send one batch. Raises `UnavailableError`, and `RefusedError` when Loki refuses any record of it."""
        assert self._client is not None, "an exporter is started before its first commit"
        (one,) = prepared
        digest = one.batch.digest
        try:
            await self._client.push(one.batch.payload, one.seconds)
        except BusyError as error:
            self._busy[digest] = self._busy.pop(digest, 0) + 1
            if len(self._busy) > _MOST_BUSY:
                self._busy.popitem(last=False)
            if self._busy[digest] < _BUSY_BEFORE_HALVES or len(one.batch.payload) <= _SMALL:
                raise
            del self._busy[digest]
            # It may be larger than the burst that Loki allows, and would otherwise wait for ever.
            raise TooLargeForDestinationError(f"{error} (several times)") from error
        self._busy.pop(digest, None)
        return [True]

    def gauges(self) -> dict[str, float]:
        """Return nothing: what there is to say, the layers around it say."""
        return {}
