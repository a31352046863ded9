"""The small interfaces that components are written against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from gateway.component.batch import ACCEPTED, Batch, Outcome, Signal

__all__ = [
    "ACCEPTED",
    "Consumer",
    "Exporter",
    "Outcome",
    "Prepared",
    "PreparesAtOnce",
    "Processed",
    "Processor",
    "Receiver",
    "Reconfigurable",
    "Service",
]


@dataclass(slots=True)
class Prepared:
    """A batch made ready for one exporter: checked, and encoded as that destination wants it.

    ``seconds`` is how long its commit may take, where that is longer than the exporter's ``timeout``: a batch that was
    too much for that gets more.
    """

    batch: Batch
    records: int
    outcome: Outcome = ACCEPTED
    seconds: float = field(default=0.0, kw_only=True)

    @property
    def size(self) -> int:
        """About how many bytes were made of the payload. Whoever makes more than the payload has says so."""
        return len(self.batch.payload)


class Exporter(Protocol):
    """One destination. It knows nothing of queues, retries, time limits or spools: those are layers around it."""

    @property
    def name(self) -> str:
        """The component's name in the configuration, such as ``timescale`` or ``timescale/archive``."""
        ...

    @property
    def concurrency(self) -> int:
        """How many commits may run at once."""
        ...

    @property
    def batches_per_commit(self) -> int | None:
        """How many batches a commit takes at most; ``None``: as many as there are.

        It is 1 where the destination cannot take several batches or none.
        """
        ...

    async def start(self) -> None:
        """Get ready to commit. Raises when the destination can never work as configured."""
        ...

    async def stop(self) -> None:
        """Release everything. Called once, after the last commit has returned."""
        ...

    async def prepare(self, batch: Batch) -> Prepared:
        """Check and encode one batch. Uses the CPU only; raises `MalformedPayloadError` for a payload it cannot read.

        A large batch is prepared in slices, between which the event loop serves others. Records that break a rule are
        left out and counted in the outcome.
        """
        ...

    async def commit(self, prepared: Sequence[Any]) -> Sequence[bool]:
        """Store all of the given batches, durably, or none.

        Returns, for each, whether it was new; one that the destination already had is not stored again.
        Raises `UnavailableError` when trying again may help (`TimedOutError` when it only took too long) and
        `RefusedError` when it cannot; of a single batch also `TooLargeForDestinationError`, when parts of it may be
        taken, and `PartlyRefusedError`, when the destination has all but some records of it. What is refused for good
        is given again in halves, until the bad records stand alone.
        """
        ...

    def gauges(self) -> dict[str, float]:
        """Return the current values this exporter reports about itself, by metric name."""
        ...


@runtime_checkable
class PreparesAtOnce(Protocol):
    """An exporter that prepares small batches without giving way to others: that spares each of them a task."""

    def prepare_at_once(self, batch: Batch) -> Prepared | None:
        """Do as `Exporter.prepare` does, in a few milliseconds; None where that may take longer."""
        ...


@dataclass(slots=True, frozen=True)
class Processed:
    """What a processor made of a batch.

    ``batch`` is the same object where it was left as it is, and None where no record is left. ``dropped`` counts the
    records that were left out on purpose, which no client is told of; ``outcome`` tells of those that failed.
    """

    batch: Batch | None
    dropped: int = 0
    outcome: Outcome = ACCEPTED


class Processor(Protocol):
    """What stands between receivers and exporters: it changes batches, or leaves records out.

    It belongs to one pipeline, and keeps nothing: what it returns goes to the next, and is not sent later.
    """

    @property
    def name(self) -> str:
        """The component's name in the configuration, such as ``filter`` or ``filter/noise``."""
        ...

    async def start(self) -> None:
        """Get ready. Raises when it can never work as configured."""
        ...

    async def process(self, batch: Batch) -> Processed:
        """Return what becomes of a batch.

        A batch that comes again, which its digest tells, is to become the same again: a client repeats it when some of
        the exporters did not take it. The digest of what is returned is no matter of the processor's. A large batch is
        worked on in slices (`gateway.base.slices`).

        Raises `MalformedPayloadError` for a payload that it cannot read, which is then mended and given again, and
        `UnavailableError` when the client is to try again.
        """
        ...

    async def stop(self) -> None:
        """Release everything. Called once, after the last batch."""
        ...


class Consumer(Protocol):
    """Where a receiver hands its batches: the pipelines of its process, or an endpoint elsewhere."""

    async def accept(self, batch: Batch) -> Outcome:
        """Return when every exporter of the batch's signal holds it durably; what was left out is in the outcome.

        Raises `UnavailableError` when it may be given again, after the pause that the error asks for, and another
        `DeliveryError` when it must not be.
        """
        ...

    def refuse(self, signal: Signal, reason: str) -> None:
        """Count a request that was refused before it became a batch: too large, undecodable, unauthenticated."""
        ...

    def refuse_connection(self, listener: str, reason: str) -> None:
        """Count a connection that was not let in."""
        ...


class Receiver(Protocol):
    """One source of batches: it listens for those of others, or makes its own."""

    @property
    def name(self) -> str:
        """The component's name in the configuration, such as ``otlp`` or ``otlp/internal``."""
        ...

    @property
    def endpoints(self) -> dict[str, str]:
        """Where it listens: protocol to address, for people. Empty when it does not listen."""
        ...

    async def start(self) -> None:
        """Begin. Raises `OSError` when an address is taken."""
        ...

    async def stop(self, grace: float) -> None:
        """Take nothing new, let what is in flight be answered for up to ``grace`` seconds, then end."""
        ...


class Service(Protocol):
    """An extension that runs beside the pipelines, once in a hub however many workers that has."""

    @property
    def name(self) -> str:
        """The component's name in the configuration."""
        ...

    @property
    def endpoints(self) -> dict[str, str]:
        """Where it listens, for people: its name to the address. Empty when it does not listen."""
        ...

    async def start(self) -> None:
        """Begin. Raises `OSError` when an address is taken."""
        ...

    async def stop(self, grace: float) -> None:
        """Take nothing new, finish what is under way within ``grace`` seconds, then end. Harmless when not started."""
        ...


@runtime_checkable
class Reconfigurable(Protocol):
    """A receiver, exporter or extension that can take a rotated secret while it runs."""

    def reconfigure(self, settings: Any) -> bool:
        """Use the secrets of these settings, which are otherwise those it was made with. Returns whether it could."""
        ...
