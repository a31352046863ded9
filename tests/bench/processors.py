"""What each processor costs: records for each second of CPU time, through a pipeline with it and without.

    python -m tests.bench.processors [--rounds 5] [--only redact]

Requests as those of ``python -m tests.bench`` go through a pipeline to an exporter that takes them without looking.
What is told of ``nothing`` is what the pipeline itself costs, of each processor the time that it takes besides; the
least of the rounds. ``python`` is a function that looks at one attribute.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from typing import Any

from opentelemetry.metrics import NoOpMeter
from opentelemetry.trace import NoOpTracer
from rich.console import Console
from rich.table import Table

from gateway import components
from gateway.component import Batch, Prepared, Processor, Signal
from gateway.component.declaration import Context
from gateway.pipeline.delivery import Delivery
from gateway.pipeline.graph import Branch, Graph
from gateway.pipeline.instruments import Instruments
from gateway.pipeline.pipeline import Pipeline
from tests.bench.payloads import Payloads, first_time

RECORDS = {Signal.METRICS: 10_000, Signal.TRACES: 2_000, Signal.LOGS: 2_000}
REQUESTS = 6
"""Requests of a round."""


def look_at_one(record: Any) -> bool:
    """Stand for a function of a user's."""
    return "no such attribute" not in record.attributes


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "filter, by resource": ("filter", {"drop": ['resource["service.name"] == "none"']}),
    "filter, by name": ("filter", {"drop": ['name == "none"']}),
    "filter, by severity": ("filter", {"drop": ["severity < info"]}),
    "filter, by attribute": ("filter", {"drop": ['attributes["http.request.method"] == "none"']}),
    "filter, by pattern": ("filter", {"drop": ['body matches "handled by nobody"']}),
    "attributes, insert": ("attributes", {"actions": [{"action": "insert", "key": "site", "value": "home"}]}),
    "attributes, delete": ("attributes", {"actions": [{"action": "delete", "key": "http.request.method"}]}),
    "resource, upsert": ("resource", {"attributes": [{"action": "upsert", "key": "site", "value": "home"}]}),
    "redact": ("redact", {}),
    "redact, one pattern": ("redact", {"patterns": {"own": "C-\\d{6}"}}),
    "sample, 10 %": ("sample", {"ratio": 0.1}),
    "limit": ("limit", {"records_per_second": 1_000_000_000}),
    "python": ("python", {"function": f"{__name__}:look_at_one"}),
}


class Taking:
    """An exporter that takes everything."""

    name, concurrency, batches_per_commit = "taking", 1, None

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def prepare(self, batch: Batch) -> Prepared:
        return Prepared(batch, 1)

    async def commit(self, prepared: Sequence[Any]) -> Sequence[bool]:
        return [True] * len(prepared)

    def gauges(self) -> dict[str, float]:
        return {}


def made(kind: str, settings: dict[str, Any], signal: Signal) -> Processor | None:
    """Make a processor; None where it is not for this signal."""
    component = components.processor(kind)
    validated = component.settings.model_validate(settings)
    if signal not in component.signals & getattr(validated, "signals", lambda: frozenset(Signal))():
        return None
    return component.create(kind, validated, Context().within(signal.value, signal))


async def seconds(processors: Sequence[Processor], batches: Sequence[Batch]) -> float:
    """Return the CPU time that some batches take."""
    instruments = Instruments(NoOpMeter(""))
    delivery = Delivery(Taking(), instruments, NoOpTracer())
    signal = batches[0].signal
    branch = Branch(signal.value, signal, (delivery,), frozenset({"otlp"}), tuple(processors))
    pipeline = Pipeline(Graph([branch]), 2**30, instruments)
    await pipeline.start()
    await delivery.start()
    entry = pipeline.entry("otlp")
    await entry.accept(batches[0])
    began = time.process_time()
    for batch in batches[1:]:
        await entry.accept(batch)
    taken = time.process_time() - began
    await delivery.stop()
    await pipeline.stop()
    return taken


def measure(signal: Signal, only: str, rounds: int) -> dict[str, float]:
    """Return microseconds a record, by what is measured."""
    payloads = Payloads(signal, RECORDS[signal], 10_000, first_time())
    batches = [Batch.of(signal, payloads.request(number)) for number in range(REQUESTS + 1)]
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, (kind, settings) in {"nothing": ("", {}), **CASES}.items():
            if kind and only not in name:
                continue
            processor = made(kind, settings, signal) if kind else None
            if kind and processor is None:
                continue
            taken = asyncio.run(seconds([processor] if processor else [], batches))
            found.setdefault(name, []).append(taken / REQUESTS / RECORDS[signal] * 1e6)
    return {name: min(values) for name, values in found.items()}


def main() -> None:
    """Measure, and show the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.processors", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="(%(default)s)")
    parser.add_argument("--only", default="", metavar="NAME", help="those whose name has this in it")
    options = parser.parse_args()
    results = {signal: measure(signal, options.only, options.rounds) for signal in Signal}
    table = Table(
        "processor", *(f"{signal.records}, µs each" for signal in Signal), *(f"{s.records} / CPU s" for s in Signal)
    )
    for name in {"nothing": None, **CASES}:
        costs = [results[signal].get(name) for signal in Signal]
        if not any(cost is not None for cost in costs):
            continue
        idle = [results[signal]["nothing"] for signal in Signal]
        besides = [
            None if cost is None else cost - (0 if name == "nothing" else own)
            for cost, own in zip(costs, idle, strict=True)
        ]
        table.add_row(
            name,
            *("-" if cost is None else f"{max(cost, 0):.2f}" for cost in besides),
            *("-" if cost is None else f"{1e6 / cost:,.0f}" for cost in costs),
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
