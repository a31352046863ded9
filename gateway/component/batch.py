"""A batch: what one client request carries, still serialized.

The design's one idea is *bytes in, bytes through*: receivers hand on the serialized ``Export*ServiceRequest``
and never look inside; only an exporter that needs the records decodes them.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.otlp.bounds import Load


class Signal(enum.StrEnum):
    """An OpenTelemetry signal. The value is the name a pipeline has in the configuration."""

    METRICS = "metrics"
    LOGS = "logs"
    TRACES = "traces"

    @property
    def records(self) -> str:
        """What the OTLP specification calls one record of this signal."""
        return _RECORDS[self]


_RECORDS = {Signal.METRICS: "data points", Signal.LOGS: "log records", Signal.TRACES: "spans"}


@dataclass(slots=True, frozen=True)
class Outcome:
    """What became of an accepted batch.

    ``rejected`` counts the records that broke a rule and were left out, ``message`` says which rule and what to do.
    Together they are OTLP's ``partial_success``.
    """

    rejected: int = 0
    message: str = ""


ACCEPTED = Outcome()


_LARGE = 4 * 2**20
"""Bytes from which on a digest takes milliseconds."""


def digest(signal: Signal, payload: bytes) -> bytes:
    """Return the 128-bit identity of a batch: BLAKE2b over the payload, keyed apart by signal."""
    return hashlib.blake2b(payload, digest_size=16, person=signal.encode()).digest()


@dataclass(slots=True)
class Soundness:
    """What is known of a payload by anybody who looked at it, for all exporters that get it.

    ``records`` is how many it has, once it was found that whoever gets it as it is can read all of them.
    """

    records: int | None = None


@dataclass(slots=True, frozen=True)
class Batch:
    """One ``Export*ServiceRequest``, serialized and decompressed, with its identity.

    ``own_telemetry`` is true for what the gateway, or another one, tells of itself; such a batch makes no spans of its
    own, so that the gateway never feeds on itself. ``received_at`` is in nanoseconds since the Unix epoch: what an
    exporter decides by the time of arrival, it decides the same way when a spool replays the batch. ``left_out`` is
    what the receiver could not read of the request, and left out of the payload. ``peer`` is the address of whoever
    sent it, where that is known, for people. ``whole`` is the size in bytes of the request that this is a part of, 0
    where it is all of it; ``load`` what it counts for among what is in flight. ``soundness`` is that of this payload: a
    batch that is made of this one has one of its own.
    """

    signal: Signal
    payload: bytes
    digest: bytes = field(repr=False)
    own_telemetry: bool = False
    received_at: int = field(default_factory=time.time_ns, compare=False)
    left_out: Outcome = field(default=ACCEPTED, compare=False)
    peer: str = field(default="", compare=False)
    whole: int = field(default=0, compare=False)
    load: Load | None = field(default=None, compare=False, repr=False)
    soundness: Soundness = field(default_factory=Soundness, init=False, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        signal: Signal,
        payload: bytes,
        *,
        own_telemetry: bool = False,
        left_out: Outcome = ACCEPTED,
        peer: str = "",
    ) -> Batch:
        """Make the batch of a payload that has just arrived, computing its digest."""
        return cls(signal, payload, digest(signal, payload), own_telemetry, left_out=left_out, peer=peer)

    @classmethod
    async def received(
        cls,
        signal: Signal,
        payload: bytes,
        *,
        own_telemetry: bool = False,
        left_out: Outcome = ACCEPTED,
        peer: str = "",
    ) -> Batch:
        """Make the batch of a payload that has just arrived; the digest of a large one is computed in a thread."""
        if len(payload) <= _LARGE:
            return cls.of(signal, payload, own_telemetry=own_telemetry, left_out=left_out, peer=peer)
        make = functools.partial(cls.of, signal, payload, own_telemetry=own_telemetry, left_out=left_out, peer=peer)
        import asyncio  # not for whoever only reads a configuration

        return await asyncio.to_thread(make)

    def counted(self, load: Load) -> Batch:
        """Return the same batch with what it counts for among what is in flight."""
        return Batch(  # `dataclasses.replace` takes several times as long
            self.signal,
            self.payload,
            self.digest,
            self.own_telemetry,
            self.received_at,
            self.left_out,
            self.peer,
            self.whole,
            load,
        )

    def part(self, payload: bytes) -> Batch:
        """Make the batch of a part of this one, with an identity of its own."""
        return replace(
            self,
            payload=payload,
            digest=digest(self.signal, payload),
            whole=self.whole or len(self.payload),
            load=None if self.load is None else self.load.part(len(payload)),
        )
