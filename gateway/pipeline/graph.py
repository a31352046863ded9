"""The graph of pipelines: from each receiver, through the processors, to the exporters.

A receiver may be in several pipelines of a signal, a pipeline may have several receivers, and an exporter may be in
several pipelines. What goes through a pipeline without processors are the bytes that came: nothing is decoded and
nothing is copied, however many such pipelines there are.

**Identity.** What a pipeline with processors puts out is known by the bytes that came and by the name of the pipeline,
not by what the processors made of them: a client that sends a batch again has it recognized by each exporter, also when
the configuration was changed meanwhile, or a processor is not as deterministic as it should be. What pipelines without
processors put out is known by the bytes that came, as everywhere else.

**Once.** An exporter that several pipelines lead to gets what each of them puts out; what is the same bytes, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.component.batch import ACCEPTED, Batch, Outcome, Signal
from gateway.component.interfaces import Processor
from gateway.pipeline.delivery import Delivery


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """One pipeline, as the configuration has it: ``logs`` or ``logs/audit``."""

    name: str
    signal: Signal
    deliveries: tuple[Delivery, ...]
    receivers: frozenset[str] = frozenset()
    processors: tuple[Processor, ...] = ()

    def identity(self, batch: Batch) -> bytes:
        """Return the digest of what this makes of a batch."""
        if not self.processors:
            return batch.digest
        return hashlib.blake2b(batch.digest + self.name.encode(), digest_size=16).digest()


@dataclass(slots=True)
class Processed:
    """What the pipelines of a receiver make of one batch.

    ``going`` is what goes to which exporters; ``dropped`` how many records each processor left out, by the name of its
    pipeline and its own.
    """

    going: list[tuple[Batch, tuple[Delivery, ...]]] = field(default_factory=list)
    dropped: list[tuple[str, str, int]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


class Ways:
    """The pipelines that batches of one signal take from one receiver."""

    def __init__(self, branches: Iterable[Branch]) -> None:
        branches = list(branches)
        plain = [each for each in branches if not each.processors]
        # Pipelines without processors put out the same bytes, so each exporter of them gets these once. A store, which
        # takes batches together, comes first: it may know that one is sound, and spares the others their check.
        once = dict.fromkeys(delivery for branch in plain for delivery in branch.deliveries)
        self.plain = tuple(sorted(once, key=lambda delivery: delivery.exporter.batches_per_commit == 1))
        self.at_once = bool(self.plain) and all(delivery.at_once for delivery in self.plain)
        self.processed = tuple(each for each in branches if each.processors)

    async def process(self, batch: Batch) -> Processed:
        """Return what goes on of a batch. Raises what processors raise."""
        made = Processed([(batch, self.plain)] if self.plain else [])
        for branch in self.processed:
            result = await _through(branch, batch, made)
            if result is None:
                continue
            deliveries = tuple(
                delivery
                for delivery in branch.deliveries
                if not any(delivery in others and result.payload == other.payload for other, others in made.going)
            )
            if deliveries:
                made.going.append((result, deliveries))
        if batch.load is not None:
            batch.load.grow(sum(len(each.payload) for each in {id(each): each for each, _ in made.going}.values()))
        return made


async def _through(branch: Branch, batch: Batch, made: Processed) -> Batch | None:
    """Return what the processors of a pipeline make of a batch, None where that is nothing."""
    going: Batch | None = replace(batch, digest=branch.identity(batch))
    for processor in branch.processors:
        assert going is not None, "the loop ends where nothing is left"
        result = await processor.process(going)
        if result.dropped:
            made.dropped.append((branch.name, processor.name, result.dropped))
        if result.outcome is not ACCEPTED:
            made.outcomes.append(result.outcome)
        going = result.batch
        if going is None:
            return None
    return going


class Graph:
    """All pipelines of a hub."""

    def __init__(self, branches: Sequence[Branch]) -> None:
        self.branches = tuple(branches)
        receivers = {receiver for branch in branches for receiver in branch.receivers}
        self._ways = {
            (receiver, signal): Ways(its)
            for receiver in receivers
            for signal in Signal
            if (its := [each for each in branches if each.signal is signal and receiver in each.receivers])
        }
        self._own = {
            signal: Ways(its[:1])
            for signal in Signal
            if (
                its := sorted(
                    (each for each in branches if each.signal is signal), key=lambda each: each.name != signal
                )
            )
        }

    @classmethod
    def plain(cls, routes: Mapping[Signal, Sequence[Delivery]]) -> Graph:
        """Return a graph of one pipeline for each signal, without processors."""
        return cls([Branch(signal.value, signal, tuple(deliveries)) for signal, deliveries in routes.items()])

    def ways(self, receiver: str | None, signal: Signal) -> Ways | None:
        """Return the pipelines of a receiver for a signal, None where there are none.

        For what the hub has to say itself, which comes from no receiver, it is the one that is named as the signal is,
        or else the first.
        """
        return self._own.get(signal) if receiver is None else self._ways.get((receiver, signal))

    @property
    def processors(self) -> list[Processor]:
        """All processors."""
        return [processor for branch in self.branches for processor in branch.processors]
