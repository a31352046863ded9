"""Sending a request until it is acknowledged, or known to be refused for good."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import structlog

from gateway.base.bisection import bisect_refused
from gateway.base.rate_limited_log import RateLimitedLogger
from gateway.base.retry import Backoff
from gateway.base.settings import RetrySettings
from gateway.component import Batch, Consumer, DeliveryError, Signal, UnavailableError
from gateway.net.remote import place_of
from gateway.otlp import splitting

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_MAX_REFUSALS = 40
"""Refusals of one batch after which what is left of it is given up: enough to find one bad record among 100,000."""

AWAY_SECONDS = 30.0
"""After how long without the destination `Sender.send` calls ``away``."""


class _GivenUpError(Exception):
    """There was no answer, and none is waited for any longer."""


class Sender:
    """Sends requests to one consumer, one at a time."""

    def __init__(
        self,
        consumer: Consumer,
        retry: RetrySettings,
        stopping: asyncio.Event,
        *,
        patience: float | None = None,
    ) -> None:
        self._consumer = consumer
        self._place = place_of(consumer, Signal.LOGS)
        self._backoff = Backoff(retry)
        self._stopping = stopping
        self._patience = patience
        self._limited = RateLimitedLogger(_log)
        self.failing = False
        """Whether the latest attempt did not reach the destination."""
        self.accepted = 0
        """Log records that the destination took."""
        self.refused = 0
        """Log records that it refused for good, and that are not sent again."""

    async def send(self, payload: bytes, records: int, away: Callable[[], Awaitable[None]]) -> bool:
        """Return True when every record was taken or refused for good; ``away`` is called when that takes long.

        Returns False when told to stop first, or when patience ended: nothing may be forgotten then. A request that is
        refused is halved again and again until the bad records stand alone. The halves are the same each time, so
        that a gateway recognizes those it has.
        """
        refusals = 0

        async def attempt(part: tuple[bytes, int]) -> DeliveryError | None:
            nonlocal refusals
            try:
                await self._attempt(*part, away)
            except DeliveryError as error:
                refusals += 1
                return error
            return None

        async def halve(part: tuple[bytes, int], _: DeliveryError) -> list[tuple[bytes, int]] | None:
            request, count = part
            halves = splitting.halves(Signal.LOGS, request) if refusals < _MAX_REFUSALS else None
            if halves is None:
                return None
            return list(zip(halves, (count // 2, count - count // 2), strict=True))

        try:
            async for (_, left_out), error in bisect_refused([(payload, records)], attempt, halve):
                self.refused += left_out
                self._limited.error(
                    "refused", "log records are refused for good and left out", records=left_out, reason=str(error)
                )
        except _GivenUpError:
            return False
        return True

    async def _attempt(self, payload: bytes, records: int, away: Callable[[], Awaitable[None]]) -> None:
        """Send until there is an answer. Raises `DeliveryError` when sending it again cannot help, `_GivenUpError`."""
        batch = await Batch.received(Signal.LOGS, payload)
        began = time.monotonic()
        told = False
        while not self._stopping.is_set() or not self.failing:
            try:
                outcome = await self._consumer.accept(batch)
            except UnavailableError as error:
                pause = self._backoff.next(error.retry_after)
                self.failing = True
                self._limited.warning("away", "logs cannot be sent, and wait in the journal", reason=str(error))
                waited = time.monotonic() - began
                if self._patience is not None and waited + pause > self._patience:
                    raise _GivenUpError from error
                if waited + pause > AWAY_SECONDS and not told:
                    told = True
                    await away()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._stopping.wait()
                continue
            self._answered()
            self.accepted += records - outcome.rejected
            if outcome.rejected or outcome.message:
                self._limited.warning(
                    "partial",
                    "the destination rejected log records" if outcome.rejected else "the destination warns",
                    to=self._place,
                    rejected=outcome.rejected,
                    reason=outcome.message or "none was given",
                )
            return
        raise _GivenUpError

    def _answered(self) -> None:
        self._backoff.reset()
        if self.failing:
            self.failing = False
            self._limited.forget("away")
            self._limited.info("back", "logs can be sent again", to=self._place)
