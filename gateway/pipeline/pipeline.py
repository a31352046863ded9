"""The pipeline: admits batches, hands each through the pipelines of its receiver to their exporters, and answers.

A request reaches all exporters of all its pipelines or none: first it is processed (`gateway.pipeline.graph`) and each
exporter prepares what comes of it, which finds what is malformed, then each is asked whether it has room, and only then
each takes it. One that fails after that is the only one to get the batch when the client sends it again.

A request that is larger than what exporters like is cut into several batches, always the same ones, before it is
processed.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
from gateway.component.interfaces import ACCEPTED, Consumer, Outcome, Prepared, Reconfigurable
from gateway.otlp import bounds, splitting
from gateway.otlp.bounds import Budget, InFlight, Load
from gateway.otlp.mending import NothingLeftError, mend_batch
from gateway.pipeline.commit_queue import shutting_down
from gateway.pipeline.delivery import Delivery, Ticket
from gateway.pipeline.graph import Graph, Processed, Ways
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

_SMALL = 16 * 2**10
"""Bytes of payload up to which a batch is prepared without giving way to others, in some milliseconds at most."""

_MAX_WHY = 300
"""Characters of an error that are logged with a refusal."""


class Pipeline:
    """Implements `gateway.component.Consumer` for what comes from no receiver; `entry` does so for each receiver.

    ``max_in_flight`` bounds the bytes of payload that are admitted and not yet answered for; what decodes to much more
    than payloads do counts as more. Beyond it batches are refused as overloaded, except that one batch alone is always
    admitted. What is larger than ``max_batch_size``, in bytes, is cut.
    """

    def __init__(
        self,
        graph: Graph | Mapping[Signal, Sequence[Delivery]],
        max_in_flight: int,
        instruments: Instruments,
        max_batch_size: int = 4 * 2**20,
    ) -> None:
        self._graph = graph if isinstance(graph, Graph) else Graph.plain(graph)
        self._max_batch_size = max_batch_size
        self._instruments = instruments
        self._in_flight = InFlight(max_in_flight)
        self._cutting = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._at_once: set[asyncio.Future[None]] = set()
        self._mended = LogRateLimit()
        self._refusals: dict[tuple[Signal, str], LogRateLimit] = {}
        self._dropped: dict[str, dict[str, int]] = {}
        instruments.observe(
            "obs_hub.in_flight.size", "By", "Payload admitted and not yet answered for", lambda: self._in_flight.size
        )

    def entry(self, receiver: str) -> Consumer:
        """Return where a receiver hands its batches: the pipelines that name it."""
        return _Entry(self, receiver)

    @property
    def dropped(self) -> Mapping[str, Mapping[str, int]]:
        """How many records processors left out since the start, by pipeline and processor."""
        return self._dropped

    async def start(self) -> None:
        """Start the processors. Raises what they raise."""
        for processor in self._graph.processors:
            await processor.start()

    async def stop(self) -> None:
        """Stop the processors."""
        for processor in self._graph.processors:
            await processor.stop()

    def reconfigure(self, processor: str, settings: Any) -> bool:
        """Have the processors of that name use the secrets of these settings. Returns whether all of them could."""
        its = [each for each in self._graph.processors if each.name == processor]
        return all(isinstance(each, Reconfigurable) and each.reconfigure(settings) for each in its)

    async def accept(self, batch: Batch, receiver: str | None = None) -> Outcome:
        """Return when every exporter of the batch's pipelines holds it durably. Raises `DeliveryError`."""
        try:
            load = self._in_flight.admit(len(batch.payload))
        except OverloadedError as error:
            self._refuse(batch, error)
            raise
        batch = batch.counted(load)
        # A client that gives up cancels this call. Its batch is on the way all the same, and occupies memory until
        # it has arrived.
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if not self._deliver_at_once(batch, load, receiver, answer):
            task = asyncio.create_task(self._deliver(batch, receiver))
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
        until = asyncio.get_running_loop().time() + seconds
        while (under_way := {*self._tasks, *self._at_once}) and (left := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(under_way, timeout=left)
        return not under_way

    def _deliver_at_once(self, batch: Batch, load: Load, receiver: str | None, answer: asyncio.Future[Outcome]) -> bool:
        """Have a small batch wait for the next commit of its exporters, without a task of its own.

        Returns false where more is to be done for it than that, or something is wrong with it: nothing was done then.
        """
        ways = self._graph.ways(receiver, batch.signal)
        if ways is None or ways.processed or not ways.at_once:
            return False
        if batch.left_out is not ACCEPTED or len(batch.payload) > _SMALL:
            return False
        pairs: list[tuple[Delivery, Prepared]] = []
        try:
            for delivery in ways.plain:
                prepared = delivery.prepare_at_once(batch)
                if prepared is None:
                    return False
                pairs.append((delivery, prepared))
            admitted = self._admit(pairs)
        except Exception:  # whatever it is, it is found again, and then mended or told
            return False
        part = _Part("", [pairs])
        arrived = asyncio.get_running_loop().create_future()
        self._at_once.add(arrived)
        left, first_error = len(pairs), None

        def then(error: DeliveryError | None) -> None:
            nonlocal left, first_error
            left -= 1
            first_error = first_error or error
            if left:
                return
            load.release()
            self._at_once.discard(arrived)
            arrived.set_result(None)
            outcome = self._outcome(batch.signal, part) if first_error is None else ACCEPTED
            if first_error is not None:
                self._refuse(batch, first_error)
            if answer.done():
                return
            if first_error is None:
                answer.set_result(outcome)
            else:
                answer.set_exception(first_error)

        for delivery, ticket in admitted:
            if not delivery.take_in_line(ticket, then):
                task = asyncio.create_task(_take(delivery, ticket, then))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return True

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

    async def _deliver(self, batch: Batch, receiver: str | None) -> Outcome:
        try:
            if len(batch.payload) > bounds.LARGE_REQUEST:
                await bounds.check(batch)
            parts, mended = await self._to_all(batch, receiver)
        except DeliveryError as error:
            self._refuse(batch, error)
            raise
        if not mended and batch.left_out is ACCEPTED and len(parts) == 1 and parts[0].processed is None:
            return _of_part(parts[0].where, self._outcome(batch.signal, parts[0]))
        unreadable = [batch.left_out, *mended]
        failed = [_of_part(each.where, outcome) for each in parts for outcome in self._count_processed(batch, each)]
        for reason, left_out in (("malformed", unreadable), ("processor", failed)):
            if rejected := sum(each.rejected for each in left_out):
                self._instruments.refused.add(rejected, {"signal": batch.signal.value, "reason": reason})
        outcomes = [*unreadable, *failed, *(_of_part(each.where, self._outcome(batch.signal, each)) for each in parts)]
        messages = dict.fromkeys(each.message for each in outcomes if each.message)
        return Outcome(sum(each.rejected for each in outcomes), "; ".join(messages))

    def _count_processed(self, batch: Batch, part: _Part) -> Sequence[Outcome]:
        """Count what processors left out of a part; return what they tell of records on which they failed."""
        if part.processed is None:
            return ()
        for pipeline, processor, records in part.processed.dropped:
            its = self._dropped.setdefault(pipeline, {})
            its[processor] = its.get(processor, 0) + records
            attributes = {"pipeline": pipeline, "processor": processor, "signal": batch.signal.value}
            self._instruments.dropped.add(records, attributes)
        return part.processed.outcomes

    def _outcome(self, signal: Signal, part: _Part) -> Outcome:
        """Count what became of a part, and return what of it the client is told."""
        # An exporter may have been given some of the records only; what one of them left out, not all have.
        rejected, records = 0, 0
        for prepared in part.by_exporter():
            left_out = sum(each.outcome.rejected for each in prepared)
            rejected = max(rejected, left_out)
            records = max(records, left_out + sum(each.records for each in prepared))
        attributes = {"signal": signal.value}
        self._instruments.accepted.add(records - rejected, attributes)
        told = [prepared.outcome for _, prepared in part.pairs if prepared.outcome is not ACCEPTED]
        if not told:
            return ACCEPTED
        if rejected:
            self._instruments.refused.add(rejected, attributes | {"reason": "rejected"})
        return Outcome(rejected, "; ".join(dict.fromkeys(each.message for each in told if each.message)))

    async def _to_all(self, batch: Batch, receiver: str | None) -> tuple[list[_Part], list[Outcome]]:
        """Deliver a request to all exporters of its pipelines. Returns its parts, and what had to be mended."""
        ways = self._graph.ways(receiver, batch.signal)
        if ways is None:
            raise NoPipelineError(batch.signal.value)
        parts: list[_Part] = []
        mended: list[Outcome] = []
        nothing_left: NothingLeftError | None = None
        for where, part in [("", batch)] if len(batch.payload) <= self._max_batch_size else await self._cut(batch):
            try:
                parts += await self._prepare(ways, where, part, mended)
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
        await self._take(self._admit([pair for part in parts for pair in part.pairs]))
        return parts, mended

    async def _prepare(self, ways: Ways, where: str, batch: Batch, mended: list[Outcome]) -> list[_Part]:
        """Process a batch and have every exporter prepare what comes of it; mended when one of them cannot read it.

        What could not be read could not be cut either, or may have grown: then it is cut now. Raises `NothingLeftError`
        when no record of it can be kept.
        """
        try:
            return [await self._prepare_as_it_is(ways, where, batch)]
        except MalformedPayloadError:
            batch, outcome = await mend_batch(batch)
        mended.append(_of_part(where, outcome))
        if told := self._mended.count():
            _log.warning("requests could not be read as they came", mended=told, one_of_them=outcome.message)
        return [await self._prepare_as_it_is(ways, where or within, part) for within, part in await self._cut(batch)]

    async def _prepare_as_it_is(self, ways: Ways, where: str, batch: Batch) -> _Part:
        if not ways.processed:
            return _Part(where, [[(delivery, await delivery.exporter.prepare(batch)) for delivery in ways.plain]])
        processed = await ways.process(batch)
        groups = [
            [
                (delivery, await delivery.exporter.prepare(piece))
                for _, piece in await self._cut(going)  # it may have grown
                for delivery in deliveries
            ]
            for going, deliveries in processed.going
        ]
        return _Part(where, groups, processed)

    async def _cut(self, batch: Batch) -> list[tuple[str, Batch]]:
        """Return the batches that a request goes on in, each with the part it is of it; one alone is no part."""
        if len(batch.payload) <= self._max_batch_size:
            return [("", batch)]
        async with self._cutting:  # several at once would need no less time, and more memory
            return await asyncio.to_thread(_parts, batch, self._max_batch_size)

    @staticmethod
    async def _take(tickets: Sequence[tuple[Delivery, Ticket]]) -> None:
        """Have every exporter take what it admitted, all at once. Raises the first error once all have answered."""
        if len(tickets) == 1:
            ((delivery, ticket),) = tickets
            await delivery.take(ticket)
            return
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
        for result in results:
            if isinstance(result, BaseException):
                raise result

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


@dataclass(slots=True)
class _Part:
    """A request, or the part ``where`` of one.

    ``groups`` are what the exporters are given of it: one group for each batch that its pipelines made of it.
    """

    where: str
    groups: list[list[tuple[Delivery, Prepared]]]
    processed: Processed | None = None

    @property
    def pairs(self) -> list[tuple[Delivery, Prepared]]:
        """What the exporters are given, all of it."""
        return self.groups[0] if len(self.groups) == 1 else [pair for group in self.groups for pair in group]

    def by_exporter(self) -> Iterable[Sequence[Prepared]]:
        """Return what each exporter is given of each batch: one, or the pieces of one that had grown."""
        if self.processed is None:
            return [(prepared,) for _, prepared in self.pairs]
        found: dict[tuple[int, int], list[Prepared]] = {}
        for number, group in enumerate(self.groups):
            for delivery, prepared in group:
                found.setdefault((number, id(delivery)), []).append(prepared)
        return found.values()


async def _take(delivery: Delivery, ticket: Ticket, then: Callable[[DeliveryError | None], None]) -> None:
    """Have an exporter take what it admitted, and tell what became of it."""
    try:
        await delivery.take(ticket)
    except DeliveryError as error:
        then(error)
    except BaseException:
        then(shutting_down())
        raise
    else:
        then(None)


class _Entry:
    """Where one receiver hands its batches."""

    def __init__(self, pipeline: Pipeline, receiver: str) -> None:
        self._pipeline = pipeline
        self._receiver = receiver
        self.refuse = pipeline.refuse
        self.refuse_connection = pipeline.refuse_connection

    async def accept(self, batch: Batch) -> Outcome:
        """Return when every exporter of the pipelines of this receiver holds the batch. Raises `DeliveryError`."""
        return await self._pipeline.accept(batch, self._receiver)


def _parts(batch: Batch, most_bytes: int) -> list[tuple[str, Batch]]:
    payloads = splitting.cut(batch.signal, batch.payload, most_bytes, Budget.of(batch))
    if len(payloads) == 1:
        return [("", batch)]
    return [(f"part {n} of {len(payloads)}", batch.part(payload)) for n, payload in enumerate(payloads, 1)]


def _of_part(where: str, outcome: Outcome) -> Outcome:
    """Return an outcome that says in which part of a request the places are that it tells."""
    return replace(outcome, message=f"{where}: {outcome.message}") if where and outcome.message else outcome
