"""What is measured: the loads, and how hard and how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.component import Signal
from tests.support.otlp_orders import Order

Protocol = Literal["grpc", "http"]

RECORDS_PER_REQUEST = {Signal.METRICS: 10_000, Signal.TRACES: 2_000, Signal.LOGS: 2_000}

NOUNS = {Signal.METRICS: "points", Signal.TRACES: "spans", Signal.LOGS: "logs"}


@dataclass(slots=True, frozen=True)
class Load:
    """Requests of one signal and size over one protocol, as many in flight at any time as said.

    ``order`` is whose encoder points are written by. With ``changing``, one series is another in every tenth request.
    ``connections`` is how many connections gRPC uses; 0 leaves it to the load generator.
    """

    signal: Signal
    protocol: Protocol
    records: int
    in_flight: int
    series: int
    gzip: bool = False
    name: str = ""
    order: Order = "python"
    changing: bool = False
    connections: int = 0

    @property
    def title(self) -> str:
        """The load as the report calls it."""
        return self.name or f"{NOUNS[self.signal]}, {self.protocol}"


@dataclass(slots=True, frozen=True)
class Options:
    """How the benchmark is run. ``requests`` bounds a round instead of ``seconds`` where it is given."""

    loads: list[Load]
    small: Load | None
    regimes: list[Load] = field(default_factory=list)
    rounds: int = 2
    seconds: float = 3.0
    requests: int | None = None
    idle_seconds: float = 20.0
    dsn: str | None = field(default=None, repr=False)
    workers: int = 1


def regimes(protocol: Protocol) -> list[Load]:
    """Return loads of points as clients send them: their orders, sizes, and numbers of series and connections."""

    def load(name: str, records: int = 10_000, in_flight: int = 4, series: int = 10_000, **others: Any) -> Load:
        return Load(Signal.METRICS, protocol, records, in_flight, series, name=name, **others)

    return [
        load("as .NET writes points", order="dotnet"),
        load("as Go writes points", order="go"),
        load("as the Collector writes points", order="collector"),
        load("one series another in 10 requests", order="collector", changing=True),
        load("500 points", records=500, series=500, order="collector"),
        load("200,000 series", series=200_000),
        load("10 points, 200 connections", records=10, in_flight=200, series=2_000, order="go", connections=200),
        load("10 points, one at a time", records=10, in_flight=1, series=10, order="go"),
    ]
