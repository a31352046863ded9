"""The pipeline: admits batches, hands each to the exporters of its signal, and answers for them.

A request reaches all exporters of its signal or none: first each prepares it, which finds what is malformed, then each
is asked whether it has room, and only then each takes it. One that fails after that is the only one to get the batch
when the client sends it again.

A request that is larger than what exporters like is cut into several batches, always the same ones.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from gateway.base.rate_limited_log import LogRateLimit
from gateway.component.batch import Batch, Signal
from gateway.component.errors import (
    DeliveryError,
    MalformedPayloadError,
    NoPipelineError,
    OverloadedError,
    RefusedError,
    TooLargeError,
)
from gateway.component.interfaces import ACCEPTED, Outcome, Prepared
from gateway.otlp import bounds, splitting
from gateway.otlp.bounds import Budget, InFlight, Load
from gateway.otlp.mending import NothingLeftError, mend_batch
from gateway.pipeline.delivery import Delivery, Ticket
from gateway.pipeline.instruments import Instruments

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_REASONS: dict[type[DeliveryError], str] = {
    MalformedPayloadError: "malformed",
    NothingLeftError: "malformed",
    NoPipelineError: "no_pipeline",
    OverloadedError: "overloaded",
    RefusedError: "refused",
    TooLargeError: "too_large",
}

_MAX_WHY = 300
"""Characters of an error that are logged with a refusal."""


class Pipeline:
    """Implements `gateway.pipeline.Consumer`.

    ``max_in_flight`` bounds the bytes of payload that are admitted and not yet answered for; what decodes to much more
    than payloads do counts as more. Beyond it batches are refused as overloaded, except that one batch alone is always
    admitted. What is larger than ``max_batch_size``, in
    bytes, is cut.
    """

    def __init__(
        self,
        routes: Mapping[Signal, Sequence[Delivery]],
        max_in_flight: int,
        instruments: Instruments,
        max_batch_size: int = 4 * 2**20,
    ) -> None:
        self._routes = routes
        self._max_batch_size = max_batch_size
        self._instruments = instruments
        self._in_flight = InFlight(max_in_flight)
        self._cutting = asyncio.Lock()
        self._tasks: set[asyncio.Task[Outcome]] = set()
        self._mended = LogRateLimit()
        self._refusals: dict[tuple[Signal, str], LogRateLimit] = {}
        instruments.observe(
            "obs_hub.in_flight.size", "By", "Payload admitted and not yet answered for", lambda: self._in_flight.size
        )

    async def accept(self, batch: Batch) -> Outcome:
        """Return when every exporter of the batch's signal holds it durably. Raises `DeliveryError`."""
        try:
            load = self._in_flight.admit(len(batch.payload))
        except OverloadedError as error:
            self._refuse(batch, error)
            raise
        # A client that gives up cancels this call. Its batch is on the way all the same, and occupies memory until
        # it has arrived.
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._deliver(replace(batch, load=load)))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._answer, load, answer))
        return await answer

    def refuse(self, signal: Signal, reason: str, why: str = "", peer: str = "") -> None:
        """Count a request that was refused before it became a batch, and log it, once a minute for each reason."""
        self._instruments.refuse(signal, reason)
        if refused := self._refusals.setdefault((signal, reason), LogRateLimit()).count():
            told = {"why": why[:_MAX_WHY], "peer": peer}
            _log.warning(
                "requests are refused",
                signal=signal.value,
                reason=reason,
                refused=refused,
                **{name: text for name, text in told.items() if text},
            )

    def refuse_connection(self, listener: str, reason: str) -> None:
        """Count a connection that was not let in."""
        self._instruments.connections_refused(listener, reason)

    async def drain(self, seconds: float) -> bool:
        """Wait until every admitted batch is answered for. Returns whether that came true in time."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        return not self._tasks

    def _refuse(self, batch: Batch, error: DeliveryError) -> None:
        self.refuse(batch.signal, _REASONS.get(type(error), "unavailable"), str(error), batch.peer)

    def _answer(self, load: Load, answer: asyncio.Future[Outcome], task: asyncio.Task[Outcome]) -> None:
        """Hand on what became of a batch, unless nobody waits for it any more."""
        load.release()
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if answer.done():
            return
        if task.cancelled():
            answer.cancel()
        elif error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(task.result())

    async def _deliver(self, batch: Batch) -> Outcome:
        try:
            if len(batch.payload) > bounds.LARGE_REQUEST:
                await bounds.check(batch)
            made, mended = await self._to_all(batch)
        except DeliveryError as error:
            self._refuse(batch, error)
            raise
        if not mended and batch.left_out is ACCEPTED and len(made) == 1:
            ((where, prepared),) = made
            return _of_part(where, self._outcome(batch.signal, prepared))
        unreadable = [batch.left_out, *mended]
        if rejected := sum(each.rejected for each in unreadable):
            self._instruments.refused.add(rejected, {"signal": batch.signal.value, "reason": "malformed"})
        outcomes = [*unreadable, *(_of_part(where, self._outcome(batch.signal, each)) for where, each in made)]
        messages = dict.fromkeys(each.message for each in outcomes if each.message)
        return Outcome(sum(each.rejected for each in outcomes), "; ".join(messages))

    def _outcome(self, signal: Signal, prepared: Sequence[Prepared]) -> Outcome:
        """Count what became of a batch, and return what of it the client is told."""
        # An exporter may have been given some of the records only; what one of them left out, not all have.
        rejected = max([each.outcome.rejected for each in prepared], default=0)
        records = max([each.records + each.outcome.rejected for each in prepared], default=0)
        attributes = {"signal": signal.value}
        self._instruments.accepted.add(records - rejected, attributes)
        if all(each.outcome is ACCEPTED for each in prepared):
            return ACCEPTED
        if rejected:
            self._instruments.refused.add(rejected, attributes | {"reason": "rejected"})
        messages = dict.fromkeys(each.outcome.message for each in prepared if each.outcome.message)
        return Outcome(rejected, "; ".join(messages))

    async def _to_all(self, batch: Batch) -> tuple[list[tuple[str, list[Prepared]]], list[Outcome]]:
        """Deliver a request to all exporters of its signal.

        Returns for each batch of it which part it is and what they made of it; and what had to be mended.
        """
        deliveries = self._routes.get(batch.signal, ())
        if not deliveries:
            raise NoPipelineError(batch.signal.value)
        parts: list[tuple[str, list[Prepared]]] = []
        mended: list[Outcome] = []
        nothing_left: NothingLeftError | None = None
        for where, part in [("", batch)] if len(batch.payload) <= self._max_batch_size else await self._cut(batch):
            try:
                parts += await self._prepare(deliveries, where, part, mended)
            except NothingLeftError as error:
                nothing_left = error
                mended.append(_of_part(where, error.outcome))
            if part is not batch:
                await asyncio.sleep(0)  # preparing many batches in a row would hold up everything else
        if nothing_left is not None and not parts:
            if batch.left_out.message:  # which may be why
                message = f"{nothing_left}; {batch.left_out.message}"
                raise NothingLeftError(message, nothing_left.outcome, nothing_left.violations)
            raise nothing_left
        tickets = self._admit([pair for _, part in parts for pair in zip(deliveries, part, strict=True)])
        taken = await self._take(tickets)
        each = len(deliveries)
        return [(where, taken[n * each : (n + 1) * each]) for n, (where, _) in enumerate(parts)], mended

    async def _prepare(
        self, deliveries: Sequence[Delivery], where: str, batch: Batch, mended: list[Outcome]
    ) -> list[tuple[str, list[Prepared]]]:
        """Have every exporter prepare a batch; mended for all of them when one cannot read it.

        What could not be read could not be cut either, or may have grown: then it is cut now. Raises `NothingLeftError`
        when no record of it can be kept.
        """
        try:
            return [(where, [await delivery.exporter.prepare(batch) for delivery in deliveries])]
        except MalformedPayloadError:
            batch, outcome = await mend_batch(batch)
        mended.append(_of_part(where, outcome))
        if told := self._mended.count():
            _log.warning("requests could not be read as they came", mended=told, one_of_them=outcome.message)
        return [
            (where or within, [await delivery.exporter.prepare(part) for delivery in deliveries])
            for within, part in await self._cut(batch)
        ]

    async def _cut(self, batch: Batch) -> list[tuple[str, Batch]]:
        """Return the batches that a request goes on in, each with the part it is of it; one alone is no part."""
        if len(batch.payload) <= self._max_batch_size:
            return [("", batch)]
        async with self._cutting:  # several at once would need no less time, and more memory
            return await asyncio.to_thread(_parts, batch, self._max_batch_size)

    @staticmethod
    async def _take(tickets: Sequence[tuple[Delivery, Ticket]]) -> list[Prepared]:
        """Have every exporter take what it admitted, all at once. Raises the first error once all have answered."""
        if len(tickets) == 1:
            ((delivery, ticket),) = tickets
            return [await delivery.take(ticket)]
        lined_up = [delivery.line_up(ticket) for delivery, ticket in tickets]
        if not all(lined_up):
            takes = [delivery.take(ticket) for delivery, ticket in tickets]
            results: list[Prepared | BaseException] = await asyncio.gather(*takes, return_exceptions=True)
        else:  # all are under way, which needs no task for each
            results = []
            for index, (delivery, ticket) in enumerate(tickets):
                try:
                    results.append(await delivery.take(ticket))
                except Exception as error:
                    results.append(error)
                except BaseException:
                    for its_delivery, left in tickets[index + 1 :]:
                        its_delivery.withdraw(left)
                    raise
        taken: list[Prepared] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            taken.append(result)
        return taken

    @staticmethod
    def _admit(pairs: Sequence[tuple[Delivery, Prepared]]) -> list[tuple[Delivery, Ticket]]:
        """Have every exporter admit what it is to take, or none. Raises `UnavailableError`."""
        admitted: list[tuple[Delivery, Ticket]] = []
        try:
            for delivery, prepared in pairs:
                admitted.append((delivery, delivery.admit(prepared)))
        except DeliveryError:
            for delivery, ticket in admitted:
                delivery.withdraw(ticket)
            raise
        return admitted


def _parts(batch: Batch, most_bytes: int) -> list[tuple[str, Batch]]:
    payloads = splitting.cut(batch.signal, batch.payload, most_bytes, Budget.of(batch))
    if len(payloads) == 1:
        return [("", batch)]
    return [(f"part {n} of {len(payloads)}", batch.part(payload)) for n, payload in enumerate(payloads, 1)]


def _of_part(where: str, outcome: Outcome) -> Outcome:
    """Return an outcome that says in which part of a request the places are that it tells."""
    return replace(outcome, message=f"{where}: {outcome.message}") if where and outcome.message else outcome
