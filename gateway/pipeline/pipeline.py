"""The pipeline: admits batches, hands each to the exporters of its signal, and answers for them."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Mapping, Sequence

from gateway.pipeline import bounds
from gateway.pipeline.batch import ACCEPTED, Batch, Signal
from gateway.pipeline.delivery import Delivery
from gateway.pipeline.errors import (
    DeliveryError,
    MalformedPayloadError,
    OverloadedError,
    RefusedError,
    TooLargeError,
)
from gateway.pipeline.instruments import Instruments
from gateway.pipeline.interfaces import Outcome, Prepared
from gateway.pipeline.mending import mend_batch
from gateway.pipeline.seldom import Seldom

_log = logging.getLogger(__name__)

_REASONS: dict[type[DeliveryError], str] = {
    MalformedPayloadError: "malformed",
    OverloadedError: "overloaded",
    RefusedError: "refused",
    TooLargeError: "too_large",
}


class Pipeline:
    """Implements `gateway.pipeline.Consumer`.

    ``max_in_flight`` bounds the bytes of payload that are admitted and not yet answered for; beyond it batches are
    refused as overloaded, except that one batch alone is always admitted.
    """

    def __init__(
        self, routes: Mapping[Signal, Sequence[Delivery]], max_in_flight: int, instruments: Instruments
    ) -> None:
        self._routes = routes
        self._max_in_flight = max_in_flight
        self._instruments = instruments
        self._in_flight = 0
        self._mended = Seldom()
        self._tasks: set[asyncio.Task[Outcome]] = set()
        instruments.observe(
            "obs_hub.in_flight.size", "By", "Payload admitted and not yet answered for", lambda: self._in_flight
        )

    async def accept(self, batch: Batch) -> Outcome:
        """Return when every exporter of the batch's signal holds it durably. Raises `DeliveryError`."""
        if self._in_flight and self._in_flight + len(batch.payload) > self._max_in_flight:
            self._instruments.refuse(batch.signal, "overloaded")
            raise OverloadedError(
                f"{self._in_flight} bytes wait to be stored, of at most {self._max_in_flight} "
                "(setting service.delivery.max_in_flight)"
            )
        # A client that gives up cancels this call. Its batch is on the way all the same, and occupies memory until
        # it has arrived.
        size = len(batch.payload)
        self._in_flight += size
        task = asyncio.create_task(self._deliver(batch))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._forget, size))
        return await asyncio.shield(task)

    def refuse(self, signal: Signal, reason: str) -> None:
        """Count a request that was refused before it became a batch."""
        self._instruments.refuse(signal, reason)

    def refuse_connection(self, listener: str, reason: str) -> None:
        """Count a connection that was not let in."""
        self._instruments.connections_refused(listener, reason)

    async def drain(self, seconds: float) -> bool:
        """Wait until every admitted batch is answered for. Returns whether that came true in time."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        return not self._tasks

    def _forget(self, size: int, task: asyncio.Task[Outcome]) -> None:
        self._in_flight -= size
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen here, in case that nobody waits for it any more

    async def _deliver(self, batch: Batch) -> Outcome:
        try:
            await bounds.check(batch)
            prepared, mended = await self._to_all(batch)
        except DeliveryError as error:
            self._instruments.refuse(batch.signal, _REASONS.get(type(error), "unavailable"))
            raise
        # An exporter may have been given some of the records only; what one of them left out, not all have.
        rejected = max((each.outcome.rejected for each in prepared), default=0)
        records = max((each.records + each.outcome.rejected for each in prepared), default=0)
        attributes = {"signal": batch.signal.value}
        self._instruments.accepted.add(records - rejected, attributes)
        unreadable = batch.left_out.rejected + mended.rejected
        if rejected:
            self._instruments.refused.add(rejected, attributes | {"reason": "rejected"})
        if unreadable:
            self._instruments.refused.add(unreadable, attributes | {"reason": "malformed"})
        messages = [batch.left_out.message, mended.message, *(each.outcome.message for each in prepared)]
        return Outcome(unreadable + rejected, "; ".join(dict.fromkeys(filter(None, messages))))

    async def _to_all(self, batch: Batch) -> tuple[list[Prepared], Outcome]:
        """Hand a batch to all exporters, mended for all of them when one cannot read it. Returns what was mended."""
        deliveries = self._routes.get(batch.signal, ())
        if not deliveries:
            raise RefusedError(
                f"no pipeline takes {batch.signal.value} (setting service.pipelines.{batch.signal.value})"
            )
        try:
            return await self._to_each(deliveries, batch), ACCEPTED
        except MalformedPayloadError:
            batch, mended = await mend_batch(batch)
        if told := self._mended.count():
            _log.warning("%d requests of late could not be read as they came; one of them: %s", told, mended.message)
        return await self._to_each(deliveries, batch), mended

    async def _to_each(self, deliveries: Sequence[Delivery], batch: Batch) -> list[Prepared]:
        if len(deliveries) == 1:
            return [await deliveries[0].deliver(batch)]
        results = await asyncio.gather(*(each.deliver(batch) for each in deliveries), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if isinstance(result, Prepared)]
