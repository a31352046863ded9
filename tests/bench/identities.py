"""What it costs that the store knows events by their identity.

    python -m tests.bench.identities [--requests 100]

The same events are committed twice in turn, into a store of their own each: with the attribute ``log.record.uid``, and
with another of the same length in its place. What is told is CPU time: of this process, which encodes and sends, and of
PostgreSQL, which also keeps the unique index.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

import psutil
import psycopg
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from exporters.timescale.config import TimescaleConfig
from exporters.timescale.exporter import TimescaleExporter
from gateway.component import Batch, Signal
from tests.bench.database import fresh_database
from tests.integration.cli.processes import config_text, hubs

EVENTS = 1_000
"""Events of a request, which is a commit."""

ATTRIBUTES = {"identity": "log.record.uid", "without": "log.record.odd"}


def request(attribute: str) -> Batch:
    message = ExportLogsServiceRequest()
    scope = message.resource_logs.add().scope_logs.add()
    for number in range(EVENTS):
        record = scope.log_records.add(time_unix_nano=time.time_ns(), event_name="book.opened")
        record.body.string_value = f"something of some hundred characters that is said about number {number}. " * 2
        record.attributes.add(key="session.id").value.string_value = f"s-{number}"
        record.attributes.add(key=attribute).value.string_value = uuid.uuid4().hex
    return Batch.of(Signal.LOGS, message.SerializeToString())


async def commit(dsn: str, attribute: str, requests: int, postgres: Callable[[], float]) -> tuple[float, float]:
    """Commit requests; return the CPU time of this process and of PostgreSQL for an event, in microseconds."""
    exporter = TimescaleExporter("timescale", TimescaleConfig.model_validate({"dsn": dsn, "connections": 1}), dsn)
    await exporter.start()
    await exporter.commit([await exporter.prepare(request(attribute))])
    batches = [request(attribute) for _ in range(requests)]
    own, server = time.process_time(), postgres()
    for batch in batches:
        await exporter.commit([await exporter.prepare(batch)])
    events = requests * EVENTS
    used = (time.process_time() - own) / events * 1e6, (postgres() - server) / events * 1e6
    await exporter.stop()
    with psycopg.connect(dsn) as connection:
        (stored,) = connection.execute("SELECT count(*) FROM events").fetchone() or (0,)
    assert stored == events + EVENTS, (stored, events)
    return used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100, help=f"of {EVENTS} events each (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    used: dict[str, list[tuple[float, float]]] = {name: [] for name in ATTRIBUTES}
    with hubs() as started:
        hub = started.start(config_text(), first=True).until_ready()
        server: Any = hub.postgres

        def postgres() -> float:
            total = 0.0
            for each in (server, *server.children()):
                try:
                    total += sum(each.cpu_times()[:4])  # with the children that have ended
                except psutil.Error:
                    continue
            return total

        for _ in range(arguments.rounds):
            for name, attribute in ATTRIBUTES.items():
                with fresh_database(hub.dsn) as dsn:
                    used[name].append(asyncio.run(commit(dsn, attribute, arguments.requests, postgres)))
    for name, rounds in used.items():
        own, its = (min(each) for each in zip(*rounds, strict=True))
        print(f"{name:10} {own:5.1f} µs of CPU an event here, {its:5.1f} µs in PostgreSQL (best of {len(rounds)})")


if __name__ == "__main__":
    main()
