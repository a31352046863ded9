"""Sending a batch until it is acknowledged, and finding what of it is refused for good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from gateway.base.bisection import bisect_refused, halves_of
from gateway.base.retry import Backoff
from gateway.base.settings import RetrySettings
from gateway.component import Batch, Consumer, DeliveryError, NoPipelineError, Signal, UnavailableError
from gateway.component.documents import DestinationError
from receivers.mongodb.batches import Entry, payload
from receivers.mongodb.collection import Mark

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a part of a batch was refused. ``whole``: each document of it, for that reason."""

    reason: str
    whole: bool = False


class Sender:
    """Sends batches to one consumer, one at a time. ``patience`` is in seconds."""

    def __init__(self, pipeline: str, consumer: Consumer, retry: RetrySettings, patience: float) -> None:
        self._pipeline = pipeline
        self._consumer = consumer
        self._backoff = Backoff(retry)
        self._patience = patience
        self._trusted = False
        """Whether the destination is known to take OTLP: then what it refuses is the documents' fault."""
        self.retries = 0
        """Attempts that did not reach the destination."""

    async def send(self, entries: Sequence[Entry]) -> list[Mark]:
        """Send a batch; return what is to be marked: acknowledged, or refused for good.

        What is refused is halved until the bad documents stand alone. The good ones are sent again with each half;
        the store knows them by their identity. Raises `DestinationError` when the destination is away for longer than
        the patience lasts, or takes no OTLP at all.
        """
        marks: list[Mark] = []

        async def attempt(part: Sequence[Entry]) -> _Refusal | None:
            refusal = await self._attempt(part)
            if refusal is None:
                marks.extend(Mark(entry.id) for entry in part)
            return refusal

        async def halve(part: Sequence[Entry], refusal: _Refusal) -> Sequence[Sequence[Entry]] | None:
            return None if refusal.whole else await halves_of(part)

        async for part, refusal in bisect_refused([entries], attempt, halve):
            marks += [Mark(entry.id, refusal.reason) for entry in part]
        return marks

    async def _attempt(self, part: Sequence[Entry]) -> _Refusal | None:
        """Send until there is an answer; return what was refused, if anything."""
        request = await asyncio.to_thread(payload, part)
        try:
            rejected, message = await self._until_answered(request)
        except DeliveryError as error:
            if not self._trusted:
                await self._check(error)
            return _Refusal(str(error))
        self._trusted = True
        if message and not rejected:
            _log.warning("the gateway took a batch and warns", pipeline=self._pipeline, warning=message)
        return _Refusal(message or "rejected", rejected >= len(part)) if rejected else None

    async def _until_answered(self, request: bytes) -> tuple[int, str]:
        batch = await Batch.received(Signal.LOGS, request)
        began = time.monotonic()
        while True:
            try:
                outcome = await self._consumer.accept(batch)
            except NoPipelineError as error:  # which is nothing of the documents'
                raise DestinationError(str(error)) from error
            except UnavailableError as error:
                self.retries += 1
                pause = self._backoff.next(error.retry_after)
                if time.monotonic() - began + pause > self._patience:
                    raise DestinationError(f"the gateway is away: {error}") from error
                _log.info("sending waits for the gateway", pipeline=self._pipeline, reason=str(error))
                await asyncio.sleep(pause)
            else:
                self._backoff.reset()
                return outcome.rejected, outcome.message

    async def _check(self, refused: DeliveryError) -> None:
        """See whether the destination takes OTLP at all: else every document would be marked for its fault."""
        try:
            await self._until_answered(b"")
        except DeliveryError:
            raise DestinationError(f"what is there does not take OTLP, not even an empty request: {refused}") from None
        self._trusted = True
