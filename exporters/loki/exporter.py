"""The Loki exporter: logs in, the same bytes out, and none of them spoiled by a neighbour that Loki does not like."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from exporters.loki import parts
from exporters.loki.client import BusyError, LokiClient
from exporters.loki.config import LokiConfig
from gateway.pipeline import Batch, PartlyRefusedError, Prepared, RefusedError
from gateway.pipeline.counting import count_records

_MOST_REFUSALS = 100
"""After so many refusals of parts of a batch, what is refused is not taken apart any further."""

_BUSY_BEFORE_HALVES = 3
"""How often in a row Loki may be too busy for a part before the part is suspected of being too large for it."""

_REASONS_SHOWN = 3

_SMALL = 64 * 1024
"""Bytes of a part that cannot be what is too large."""


@dataclass(slots=True)
class _Sending:
    """How far a batch has come: the parts that are still to be sent, in order, and those that are refused."""

    parts: list[bytes]
    refused: list[bytes] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    refusals: int = 0
    busy: int = 0


class LokiExporter:
    """Implements `gateway.pipeline.Exporter` for Grafana Loki.

    Loki stores what it can of a request and answers for the rest, so each batch is a request of its own, and one that
    is refused is sent again in halves until the bad records stand alone. What Loki has already is not stored again.
    """

    batches_per_commit = 1

    def __init__(self, name: str, config: LokiConfig) -> None:
        self.name = name
        self.concurrency = config.concurrency
        self._config = config
        self._client: LokiClient | None = None
        # What was begun and broken off: as many as can have been under way when Loki went away, and then some.
        self._begun: OrderedDict[tuple[bytes, int], _Sending] = OrderedDict()

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
        """Count the records. Raises `MalformedPayloadError` when it is not a valid request."""
        return Prepared(batch, count_records(batch))

    async def commit(self, prepared: Sequence[Prepared]) -> list[bool]:
        """Send one batch.

        Raises `UnavailableError`, after which the next attempt goes on where this one ended, `RefusedError` when Loki
        refuses every record, and `PartlyRefusedError` when it has the others.
        """
        (one,) = prepared
        key = one.batch.digest, one.batch.received_at
        sending = self._begun.pop(key, None)
        if sending is None:
            payload = one.batch.payload
            if self._config.duplicates == "keep":
                payload = await asyncio.to_thread(parts.set_apart, payload)
            sending = _Sending([payload])
        self._begun[key] = sending
        if len(self._begun) > 2 * self.concurrency:
            self._begun.popitem(last=False)
        await self._send(sending)
        self._begun.pop(key, None)
        if sending.refused:
            self._refuse(sending, one.records)
        return [True]

    async def _send(self, sending: _Sending) -> None:
        assert self._client is not None, "an exporter is started before its first commit"
        while sending.parts:
            part = sending.parts[0]
            halves = None
            try:
                await self._client.push(part)
            except RefusedError as error:
                sending.refusals += 1
                if sending.refusals <= _MOST_REFUSALS:
                    halves = parts.halves(part)
                if halves is None:
                    sending.refused.append(part)
                    sending.reasons.append(str(error))
            except BusyError:
                sending.busy += 1
                if sending.busy % _BUSY_BEFORE_HALVES == 0 and len(part) > _SMALL:
                    sending.parts[:1] = parts.halves(part) or [part]
                raise
            sending.busy = 0
            sending.parts[:1] = halves or []

    @staticmethod
    def _refuse(sending: _Sending, records: int) -> None:
        payload = b"".join(sending.refused)
        refused = parts.count(payload)
        reasons = list(dict.fromkeys(sending.reasons))
        shown = "; ".join(reasons[:_REASONS_SHOWN]) + ("; …" if len(reasons) > _REASONS_SHOWN else "")
        message = f"{refused} of {records} records: {shown}"
        if refused == records:
            raise RefusedError(message)
        raise PartlyRefusedError(message, payload, refused)

    def gauges(self) -> dict[str, float]:
        """Return nothing: what there is to say, the layers around it say."""
        return {}
