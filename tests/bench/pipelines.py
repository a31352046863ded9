"""How fast documents of MongoDB become events in the store, and what that costs.

    python -m tests.bench.pipelines [--documents 50000] [--uri mongodb://…]

A hub of its own with the embedded PostgreSQL, and the pipeline in this process, as `obs-hub pipeline run --local` has
it. Documents have 700 bytes, nested as applications write them; as with these, some values come out of a few (devices,
tags), some out of thousands (books, users), and some are the document's own. Without ``--uri`` everything is measured
but MongoDB's own part: documents come from memory, encoded as a server sends them, and marks are encoded and go
nowhere; each takes as long as a server on the same machine lets wait (`READ_SECONDS`, `MARK_SECONDS`).
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from typing import Any

import bson
import psutil
import psycopg
import pymongo
from bson.raw_bson import RawBSONDocument
from opentelemetry.context import Context
from opentelemetry.trace import NoOpTracer

from gateway.component import Signal
from gateway.net.destination import Destination
from gateway.net.remote import RemoteConsumer
from receivers.mongodb.collection import Collection
from receivers.mongodb.config import MongoPipeline
from receivers.mongodb.reading import Reading
from tests.integration.cli.processes import HubProcess, config_text, hubs

READ_SECONDS, MARK_SECONDS = 0.005, 0.010
"""What a server takes for a batch of 1,000 documents: to find them, and to write the marks."""


def document(number: int) -> dict[str, Any]:
    book, user = number * 7919 % 2_000, number * 104_729 % 5_000
    return {
        "_id": bson.ObjectId(),
        "source": "reading",
        "event_type": "reading.session_finished",
        "status": "ingested",
        "timestamp": datetime.now(UTC),
        "payload": {
            "title": f"A Study of Life, part {book}",
            "isbn": f"978014{book:07}",
            "duration_minutes": number * 31 % 180,
            "position": number * 7919 % 10_000 / 10_000,
            "device": {"kind": "tablet", "model": f"T-{number % 5}00", "os": f"12.{number % 7}"},
            "tags": ["novel", _TAGS[book % 9], _TAGS[book % 7]],
            "user": {"id": f"u-{user}", "name": f"Dorothea {user}", "email": f"dorothea.{user}@example.com"},
            "note": f"{number * 2_654_435_761 % 2**32:010} is what was thought of this page. " * 3,
            "chapter": number % 86,
            "finished": number % 10 == 0,
        },
        "meta": {"app.version": "3.1", "app.build": "8812", "session.id": f"s-{number}", "schema": 2},
    }


_TAGS = ("classic", "victorian", "long", "english", "re-read", "borrowed", "audio", "1871", "favourite")


class InMemory(Collection):
    """Documents as a server sends them, without a server."""

    def __init__(self, settings: MongoPipeline, documents: int) -> None:
        super().__init__("bench", settings)
        self.ordered = True
        self._left: Iterator[RawBSONDocument] = iter(
            [RawBSONDocument(bson.encode(document(n))) for n in range(documents)]
        )
        self._documents = documents

    def count(self) -> int:
        return self._documents

    def documents(self, after: Any = None) -> Generator[RawBSONDocument, None, None]:
        time.sleep(READ_SECONDS)
        yield from self._left

    def _collection(self) -> Any:
        return _Nowhere()


class _Nowhere:
    """Takes the statements of marking, as encoded."""

    def update_many(self, which: dict[str, Any], to: dict[str, Any]) -> None:
        bson.encode({"q": which, "u": to})
        time.sleep(MARK_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--uri", help="A MongoDB to use; the database obs_hub_bench is made and dropped.")
    arguments = parser.parse_args()
    with hubs() as started:
        hub = started.start(config_text(), first=True).until_ready()
        asyncio.run(measure(hub, arguments.documents, arguments.uri))


async def measure(hub: HubProcess, documents: int, uri: str | None) -> None:
    server: pymongo.MongoClient[Any] | None = None if uri is None else pymongo.MongoClient(uri)
    where = {"uri": uri or "mongodb://nowhere.invalid/", "database": "obs_hub_bench", "collection": "events"}
    settings = MongoPipeline.model_validate({"mongodb": where})
    if server is None:
        source: Collection = InMemory(settings, documents)
    else:
        server.drop_database("obs_hub_bench")
        for start in range(0, documents, 1_000):
            some = [document(number) for number in range(start, min(start + 1_000, documents))]
            server["obs_hub_bench"]["events"].insert_many(some)
        source = Collection("bench", settings)
    consumer = RemoteConsumer({Signal.LOGS: Destination("grpc", f"http://{hub.grpc}")})
    reading = Reading("bench", settings, source, consumer, NoOpTracer())
    postgres = hub.postgres
    watched = [psutil.Process(), psutil.Process(hub.pid), *([postgres] if postgres else [])]
    before = [_cpu(each) for each in watched]
    began = time.perf_counter()
    await reading.run(Context(), lambda _: None, lambda _: None)
    seconds = time.perf_counter() - began
    used = [_cpu(each) - earlier for each, earlier in zip(watched, before, strict=True)]
    await consumer.close()
    with psycopg.connect(hub.dsn) as connection:
        (stored,) = connection.execute("SELECT count(*) FROM events").fetchone() or (0,)
    assert (reading.counts.processed, stored) == (documents, documents), (str(reading.counts), stored)
    if server is not None:
        server.drop_database("obs_hub_bench")
    print(f"{documents:,} documents in {seconds:.1f} s: {documents / seconds:,.0f} a second")
    for name, cpu in zip(("the pipeline", "the gateway", "PostgreSQL"), used, strict=False):
        print(f"  {name:14} {cpu / documents * 1e6:6.0f} µs of CPU a document")
    print(f"  memory of the pipeline's process: {psutil.Process().memory_info().rss / 2**20:.0f} MiB")


def _cpu(process: psutil.Process) -> float:
    """Return the CPU seconds of a process; of PostgreSQL, with the processes that serve its connections."""
    total = 0.0
    for each in (process, *(process.children() if process.name() == "postgres" else ())):
        try:
            times = each.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


if __name__ == "__main__":
    main()
