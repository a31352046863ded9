"""How threads reach a consumer, which lives in an event loop: the SDK's exporters run in threads of their own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time

from gateway.base.retry import Backoff
from gateway.base.settings import RetrySettings
from gateway.component.batch import Batch, Outcome, Signal
from gateway.component.errors import TimedOutError, UnavailableError
from gateway.component.interfaces import Consumer


class Handover:
    """Hands requests of threads to a consumer in a loop, and waits for what becomes of them.

    ``own_telemetry`` is as for `Batch`. One request may take ``timeout`` seconds, with all its attempts.
    """

    def __init__(
        self,
        consumer: Consumer,
        loop: asyncio.AbstractEventLoop,
        *,
        timeout: float = 10.0,
        own_telemetry: bool = False,
    ) -> None:
        self._consumer = consumer
        self._loop = loop
        self._timeout = timeout
        self._own_telemetry = own_telemetry
        self._closed = False
        self._waiting: set[concurrent.futures.Future[Outcome]] = set()

    def send(self, signal: Signal, payload: bytes) -> Outcome:
        """Hand on a serialized request; return once it is held durably. Not to be called in the loop's own thread.

        What cannot be taken now is given again until the timeout. Raises `DeliveryError` when it is not taken, which it
        may be all the same when this is a `TimedOutError`.
        """
        delivering = self._deliver(signal, payload)
        try:
            if self._closed:
                raise RuntimeError("closed")
            answer = asyncio.run_coroutine_threadsafe(delivering, self._loop)
        except RuntimeError:  # the loop is closed, too
            delivering.close()
            raise UnavailableError("the hub stops") from None
        self._waiting.add(answer)
        if self._closed:  # meanwhile
            answer.cancel()
        try:
            return answer.result()
        except concurrent.futures.CancelledError:
            raise UnavailableError("the hub stops") from None
        finally:
            self._waiting.discard(answer)

    def close(self) -> None:
        """Take no more, and let nobody wait any longer. What was handed on is stored all the same."""
        self._closed = True
        for answer in tuple(self._waiting):
            answer.cancel()

    async def _deliver(self, signal: Signal, payload: bytes) -> Outcome:
        batch = await Batch.received(signal, payload, own_telemetry=self._own_telemetry)
        backoff = Backoff(RetrySettings())
        deadline = time.monotonic() + self._timeout
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    try:
                        return await self._consumer.accept(batch)
                    except UnavailableError as error:
                        pause = backoff.next(error.retry_after)
                        if time.monotonic() + pause > deadline:
                            raise
                        await asyncio.sleep(pause)
        except TimeoutError:
            raise TimedOutError(f"not stored within {self._timeout:g} s") from None
