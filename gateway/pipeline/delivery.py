"""Natural batching around one exporter.

While a commit is under way, batches gather; the next commit takes them all. There is no timer: at low load a batch
waits for nothing, at high load commits grow by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opentelemetry.trace import Tracer

from gateway.pipeline.batch import Batch
from gateway.pipeline.errors import DeliveryError, RefusedError, UnavailableError
from gateway.pipeline.instruments import Instruments
from gateway.pipeline.interfaces import Exporter, Prepared


@dataclass(slots=True, eq=False)
class _Waiting:
    """A prepared batch, and the promise to the one who delivered it."""

    prepared: Prepared
    done: asyncio.Future[None]


class Delivery:
    """Delivers batches to one exporter, as many in one commit as have gathered.

    This is the place of the layers between a receiver and a destination. Each `deliver` returns once its batch is
    durable; how (committed now, or held in a spool) is decided here and nowhere else.
    """

    def __init__(self, exporter: Exporter, instruments: Instruments, tracer: Tracer) -> None:
        self.exporter = exporter
        self._instruments = instruments
        self._tracer = tracer
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._lanes: list[asyncio.Task[None]] = []
        self._stopped = False

    async def start(self) -> None:
        """Start the exporter, and as many lanes as it runs commits at once."""
        await self.exporter.start()
        self._lanes = [asyncio.create_task(self._lane()) for _ in range(self.exporter.concurrency)]

    async def stop(self) -> None:
        """Stop the exporter. Batches that are not committed by now are refused as unavailable."""
        self._stopped = True
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        _refuse(self._waiting, _shutting_down())
        self._waiting.clear()
        await self.exporter.stop()

    async def deliver(self, batch: Batch) -> Prepared:
        """Return when the batch is durable, with what was prepared of it. Raises `DeliveryError`."""
        prepared = self.exporter.prepare(batch)
        if prepared.records:
            if self._stopped:
                raise _shutting_down()
            waiting = _Waiting(prepared, asyncio.get_running_loop().create_future())
            self._waiting.append(waiting)
            self._arrived.set()
            await waiting.done
        return prepared

    async def _lane(self) -> None:
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            gathered = list(self._waiting)
            self._waiting.clear()
            try:
                await self._commit(gathered)
            except asyncio.CancelledError:
                _refuse(gathered, _shutting_down())
                raise

    async def _commit(self, gathered: Sequence[_Waiting]) -> None:
        """Commit batches together; when they are refused, find the bad ones by halves so that no other suffers."""
        try:
            self._acknowledge(gathered, await self._measured([waiting.prepared for waiting in gathered]))
        except RefusedError as error:
            if len(gathered) == 1:
                _refuse(gathered, error)
                return
            middle = len(gathered) // 2
            await self._commit(gathered[:middle])
            await self._commit(gathered[middle:])
        except DeliveryError as error:
            _refuse(gathered, error)
        except Exception as error:
            # A bug here must not lose data: the client keeps the batch.
            _refuse(gathered, UnavailableError("the gateway failed to store this batch; see its log"))
            _report(error)

    def _acknowledge(self, gathered: Sequence[_Waiting], new: Sequence[bool]) -> None:
        for waiting, is_new in zip(gathered, new, strict=True):
            attributes = {"signal": waiting.prepared.batch.signal.value, "exporter": self.exporter.name}
            counter = self._instruments.stored if is_new else self._instruments.duplicate
            counter.add(waiting.prepared.records, attributes)
            if not waiting.done.done():
                waiting.done.set_result(None)

    async def _measured(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
        own = all(each.batch.own_telemetry for each in prepared)
        records = sum(each.records for each in prepared)
        attributes = {"exporter": self.exporter.name}
        began = time.perf_counter()
        # A commit of nothing but the gateway's own telemetry makes no span, which would make the next such commit.
        span_or_not = contextlib.nullcontext() if own else self._tracer.start_as_current_span("commit")
        with span_or_not as span:
            try:
                return await self.exporter.commit(prepared)
            finally:
                if span is not None:
                    span.set_attributes(attributes | {"obs_hub.records": records, "obs_hub.batches": len(prepared)})
                self._instruments.commit_duration.record(time.perf_counter() - began, attributes)
                self._instruments.commit_records.record(records, attributes)
                self._instruments.commit_batches.record(len(prepared), attributes)


def _report(error: Exception) -> None:
    """Hand an unexpected error to the event loop's handler, which logs it, without ending the lane."""
    asyncio.get_running_loop().call_exception_handler({"message": "a commit failed unexpectedly", "exception": error})


def _shutting_down() -> UnavailableError:
    return UnavailableError("the gateway is shutting down; send this batch again")


def _refuse(gathered: Iterable[_Waiting], error: DeliveryError) -> None:
    for waiting in gathered:
        if not waiting.done.done():
            waiting.done.set_exception(error)
