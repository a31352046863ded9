"""What is measured: the loads, and how hard and how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gateway.component import Signal

Protocol = Literal["grpc", "http"]

RECORDS_PER_REQUEST = {Signal.METRICS: 10_000, Signal.TRACES: 2_000, Signal.LOGS: 2_000}

NOUNS = {Signal.METRICS: "points", Signal.TRACES: "spans", Signal.LOGS: "logs"}


@dataclass(slots=True, frozen=True)
class Load:
    """Requests of one signal and size over one protocol, as many in flight at any time as said."""

    signal: Signal
    protocol: Protocol
    records: int
    in_flight: int
    series: int
    gzip: bool = False
    name: str = ""

    @property
    def title(self) -> str:
        """The load as the report calls it."""
        return self.name or f"{NOUNS[self.signal]}, {self.protocol}"


@dataclass(slots=True, frozen=True)
class Options:
    """How the benchmark is run. ``requests`` bounds a round instead of ``seconds`` where it is given."""

    loads: list[Load]
    small: Load | None
    rounds: int = 2
    seconds: float = 3.0
    requests: int | None = None
    idle_seconds: float = 20.0
    dsn: str | None = field(default=None, repr=False)
    workers: int = 1
