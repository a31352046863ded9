"""Attempts to commit: each within the time it is given, measured and traced; and who is to blame when one is refused.

A commit of several batches that is refused for good is split by halves until the bad batch stands alone, and that one
by halves of its records until the bad records do. So is a batch that the destination finds too large.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import structlog
from opentelemetry import metrics
from opentelemetry.trace import NoOpTracer, Status, StatusCode, Tracer

from gateway.base.bisection import bisect_refused, halves_of
from gateway.base.crashpoints import crashpoint
from gateway.base.retry import Circuit
from gateway.base.settings import ExporterSettings
from gateway.component.batch import Batch, Signal
from gateway.component.errors import (
    DeliveryError,
    MalformedPayloadError,
    PartlyRefusedError,
    RefusedError,
    TimedOutError,
    TooLargeError,
    TooLargeForDestinationError,
    UnavailableError,
)
from gateway.component.interfaces import Exporter, Prepared
from gateway.otlp import splitting
from gateway.otlp.counting import count_readable
from gateway.pipeline.instruments import Counter, Instruments

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_MOST_REFUSALS = 100
"""After so many refusals of parts of a batch, what is refused is not taken apart any further."""

_REASONS_SHOWN = 3

_OFFLOAD_BYTES = 256 * 1024
"""Payloads from this size on are taken apart in a thread, so that they do not hold up everything else."""


class FailedError(UnavailableError):
    """The gateway itself failed on a batch, by a bug. Its text tells nothing, for the bug's own may hold secrets."""

    def __init__(self) -> None:
        super().__init__("the gateway failed to store this batch; see its log")


Settle = Callable[[Prepared, bool | DeliveryError], None]
"""Is told of each batch whether it was new, why it was refused for good (`RefusedError`), or that it `FailedError`."""

Arrival = tuple[bytes, int]
"""What tells a batch from others: its digest, and when it was received."""


def arrival(batch: Batch) -> Arrival:
    """Return by what a batch is told from others, also from an equal one that came at another time."""
    return batch.digest, batch.received_at


@dataclass(slots=True)
class _Course:
    """How far a batch has come that is given in parts: those that are still to be sent, in order, and the refused."""

    left: list[Prepared]
    refused: list[bytes] = field(default_factory=list)
    refused_records: int = 0
    reasons: list[str] = field(default_factory=list)
    refusals: int = 0
    taken_apart: bool = False
    new: bool = False


class Attempts:
    """Attempts to commit to one exporter. ``meanwhile`` says, for people, what batches do while it is away."""

    def __init__(
        self,
        exporter: Exporter,
        circuit: Circuit,
        instruments: Instruments,
        tracer: Tracer,
        settings: ExporterSettings,
        meanwhile: str,
    ) -> None:
        self._exporter = exporter
        self._circuit = circuit
        self._instruments = instruments
        self._tracer = tracer
        self._timeout = settings.timeout.total_seconds()
        self._meanwhile = meanwhile
        self._slots = asyncio.Semaphore(exporter.concurrency)
        # Of those that were broken off: as many as can have been under way when the destination went, and then some.
        self._courses: OrderedDict[Arrival, _Course] = OrderedDict()
        self._outage_logged = False
        self.committed: collections.Counter[Signal] = collections.Counter()
        """How many commits have succeeded that carried a signal."""

    async def attempt(self, prepared: Sequence[Prepared], settle: Settle) -> None:
        """Commit batches together; when they are refused, find the bad ones by halves so that no other suffers.

        Raises `UnavailableError` when some could be neither committed nor found to be bad.
        """

        async def commit(part: Sequence[Prepared]) -> DeliveryError | None:
            if len(part) == 1 and (not part[0].records or arrival(part[0].batch) in self._courses):
                await self._alone(part[0], settle)
                return None
            try:
                new = await self._commit(part)
            except (RefusedError, FailedError) as error:
                return error
            self._answered()
            crashpoint("after commit")
            for each, is_new in zip(part, new, strict=True):
                self._count(self._instruments.stored if is_new else self._instruments.duplicate, each, each.records)
                settle(each, is_new)
            return None

        async for part, refusal in bisect_refused([prepared], commit, halves_of):
            await self._alone(part[0], settle, refusal)

    def move(self, before: Batch, after: Batch) -> None:
        """Know a batch, and how far it has come, by another arrival."""
        if (course := self._courses.pop(arrival(before), None)) is not None:
            self._courses[arrival(after)] = course

    def failed(self, error: UnavailableError) -> None:
        """Note that an attempt failed, and say so once an outage."""
        if not self._outage_logged:
            self._outage_logged = True
            _log.warning(
                f"a destination is away; batches {self._meanwhile} until it answers again",
                exporter=self._exporter.name,
                reason=str(error),
            )
        self._circuit.fail(error.retry_after)

    # -- one batch -----------------------------------------------------------------------------------------------

    async def _alone(self, whole: Prepared, settle: Settle, error: DeliveryError | None = None) -> None:
        """Go on with a batch of which a part, or all with this ``error``, was refused before."""
        key = arrival(whole.batch)
        course = self._courses.pop(key, None) or _Course([whole])
        self._courses[key] = course
        if len(self._courses) > 2 * self._exporter.concurrency + 8:
            self._courses.popitem(last=False)
        try:
            await self._follow(course, whole, error)
        except FailedError as failure:
            self._courses.pop(key, None)
            settle(whole, failure)
            return
        self._courses.pop(key, None)
        crashpoint("after commit")
        settle(whole, self._refusal(course, whole) or course.new)

    async def _follow(self, course: _Course, whole: Prepared, known: DeliveryError | None) -> None:
        """Send what is left of a batch. Raises `UnavailableError`; the next attempt goes on where this one ended.

        ``known`` is what the first part was answered already.
        """

        async def commit(part: Prepared) -> RefusedError | None:
            nonlocal known
            part.seconds = whole.seconds
            try:
                if known is not None:
                    answered, known = known, None
                    raise answered
                is_new = (await self._commit([part]))[0] if part.records else False
            except PartlyRefusedError as error:
                self._count(self._instruments.stored, part, part.records - error.records)
                course.new = True
                self._note(course, error.payload, error.records, error)
            except RefusedError as error:
                course.refusals += not isinstance(error, TooLargeForDestinationError)
                return error
            else:
                if part.records:
                    self._count(self._instruments.stored if is_new else self._instruments.duplicate, part, part.records)
                course.new = course.new or is_new
            self._answered()
            return None

        async def halve(part: Prepared, _: RefusedError) -> list[Prepared] | None:
            halves = await self._halve(part, course) if course.refusals <= _MOST_REFUSALS else None
            course.taken_apart = course.taken_apart or bool(halves)
            self._answered()
            return halves

        async for part, refusal in bisect_refused(course.left, commit, halve):
            self._note(course, part.batch.payload, part.records, refusal)

    @staticmethod
    def _note(course: _Course, payload: bytes, records: int, error: DeliveryError) -> None:
        course.refused.append(payload)
        course.refused_records += records
        course.reasons.append(str(error))

    async def _halve(self, part: Prepared, course: _Course) -> list[Prepared] | None:
        """Return both halves of a batch, prepared; None where it cannot be taken apart.

        A half that is too much for the gateway itself, as one half may be where the other has most of the bytes, is
        refused as it is.
        """
        batch = part.batch
        if len(batch.payload) < _OFFLOAD_BYTES:
            halves = splitting.halves(batch.signal, batch.payload)
        else:
            halves = await asyncio.to_thread(splitting.halves, batch.signal, batch.payload)
        if halves is None:
            return None
        parts = []
        for half in map(batch.part, halves):
            try:
                with failures_reported():
                    parts.append(await self._exporter.prepare(half))
            except (MalformedPayloadError, TooLargeError) as error:
                self._note(course, half.payload, count_readable(half), error)
        return parts

    @staticmethod
    def _refusal(course: _Course, whole: Prepared) -> RefusedError | None:
        if not course.refused:
            return None
        reasons = list(dict.fromkeys(course.reasons))
        message = "; ".join(reasons[:_REASONS_SHOWN]) + ("; …" if len(reasons) > _REASONS_SHOWN else "")
        if course.taken_apart:
            message = f"{course.refused_records} of {whole.records} records: {message}"
        if course.refused_records >= whole.records:
            return RefusedError(message)
        return PartlyRefusedError(message, b"".join(course.refused), course.refused_records)

    # -- one commit ----------------------------------------------------------------------------------------------

    def _answered(self) -> None:
        """Note that the destination has made up its mind about a batch."""
        if self._circuit.open:
            _log.info("a destination takes batches again", exporter=self._exporter.name)
        self._outage_logged = False
        self._circuit.close()

    def _count(self, counter: Counter, prepared: Prepared, records: int) -> None:
        counter.add(records, {"signal": prepared.batch.signal.value, "exporter": self._exporter.name})

    async def _commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
        """Have the exporter commit, within the time there is, measured and traced.

        Raises `FailedError` for whatever no exporter should raise, which is reported.
        """
        own = all(each.batch.own_telemetry for each in prepared)
        records = sum([each.records for each in prepared])
        attributes = {"exporter": self._exporter.name}
        seconds = max(self._timeout, *[each.seconds for each in prepared])
        began = time.perf_counter()
        # A commit of nothing but the gateway's own telemetry makes no span, which would make the next such commit.
        span_or_not = contextlib.nullcontext() if own else self._tracer.start_as_current_span("commit")
        with span_or_not as span:
            try:
                # Waiting for an attempt before this one is not the destination's being slow.
                async with self._slots, asyncio.timeout(seconds):
                    new = await self._exporter.commit(prepared)
                if len(new) != len(prepared):
                    raise ValueError(f"the exporter answers for {len(new)} of {len(prepared)} batches")
            except Exception as error:
                told = self._told(error, seconds, alone=len(prepared) == 1)
                if span is not None:
                    span.set_status(Status(StatusCode.ERROR, str(told)))
                if told is error:
                    raise
                raise told from None
            else:
                for signal in {each.batch.signal for each in prepared}:
                    self.committed[signal] += 1
                return new
            finally:
                if span is not None:
                    span.set_attributes(attributes | {"obs_hub.records": records, "obs_hub.batches": len(prepared)})
                self._instruments.commit_duration.record(time.perf_counter() - began, attributes)
                self._instruments.commit_records.record(records, attributes)
                self._instruments.commit_batches.record(len(prepared), attributes)

    def _told(self, error: Exception, seconds: float, *, alone: bool) -> DeliveryError:
        """Return an error of a commit as whoever waits for it is told."""
        if isinstance(error, DeliveryError):
            return error
        if isinstance(error, TimeoutError):
            return TimedOutError(f"{self._exporter.name} did not answer in {seconds:g} s")
        if alone:
            report(error)
        return FailedError()


@contextlib.contextmanager
def failures_reported() -> Iterator[None]:
    """Raise `FailedError` instead of whatever else than a `DeliveryError` comes out of a block, and report that."""
    try:
        yield
    except DeliveryError:
        raise
    except Exception as error:
        report(error)
        raise FailedError from None


def report(error: Exception) -> None:
    """Hand an unexpected error to the event loop's handler, which logs it."""
    asyncio.get_running_loop().call_exception_handler({"message": "a delivery failed unexpectedly", "exception": error})


async def attempt_alone(exporter: Exporter, batch: Batch, settings: ExporterSettings) -> bool:
    """Deliver one batch to an exporter that was started, once; return whether it was new. Raises `DeliveryError`.

    For commands, which have none of the layers that wait.
    """
    attempts = Attempts(
        exporter,
        Circuit(settings.retry_on_failure),
        Instruments(metrics.NoOpMeter("")),
        NoOpTracer(),
        settings,
        "are refused",
    )
    results: list[bool | DeliveryError] = []
    await attempts.attempt([await exporter.prepare(batch)], lambda _, result: results.append(result))
    (result,) = results
    if isinstance(result, DeliveryError):
        raise result
    return result
