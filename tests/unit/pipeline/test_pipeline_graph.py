"""Named pipelines: from receivers through processors to exporters, in any combination, and exactly once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.base.settings import ExporterSettings
from gateway.component import (
    Batch,
    NoPipelineError,
    Outcome,
    Prepared,
    Processed,
    Processor,
    RefusedError,
    Signal,
    UnavailableError,
)
from gateway.otlp import mending
from gateway.otlp.counting import count_records
from gateway.pipeline import Delivery, Pipeline
from gateway.pipeline.graph import Branch, Graph
from gateway.pipeline.spool import Spool
from tests.support.processing import processor, read, records_of
from tests.support.telemetry import logs, spans
from tests.unit.pipeline.fakes import FakeExporter, Telemetry, until


class Store(FakeExporter):
    """Takes what is sound, and knows what it has by its digest, as a destination with receipts."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.taken: dict[bytes, Batch] = {}
        self.given = 0

    async def prepare(self, batch: Batch) -> Prepared:
        await mending.check(batch)
        return Prepared(batch, count_records(batch))

    async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.given += len(prepared)
        new = [each.batch.digest not in self.taken for each in prepared]
        self.taken |= {each.batch.digest: each.batch for each in prepared if each.batch.digest not in self.taken}
        return new

    @property
    def bodies(self) -> list[str]:
        """What it has, in the order in which it came."""
        return [each.body.string_value for batch in self.taken.values() for each in records_of(read(batch))]


class Stamping:
    """Changes the first body to a text that differs each time: as a function does that is not deterministic."""

    name = "python/stamping"

    def __init__(self) -> None:
        self._count = itertools.count()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def process(self, batch: Batch) -> Processed:
        text = f"stamp {next(self._count)}"
        return Processed(replace(batch, payload=logs(text, at=1).payload))


@asynccontextmanager
async def hub(
    telemetry: Telemetry,
    *pipelines: tuple[str, Sequence[str], Sequence[Processor], Sequence[Delivery]],
    **settings: Any,
) -> AsyncIterator[Pipeline]:
    """Run pipelines: of each its name, its receivers, its processors and where it leads."""
    deliveries = dict.fromkeys(delivery for *_, its in pipelines for delivery in its)
    graph = Graph(
        [
            Branch(name, Signal(name.partition("/")[0]), tuple(its), frozenset(receivers), tuple(processors))
            for name, receivers, processors, its in pipelines
        ]
    )
    pipeline = Pipeline(graph, settings.pop("max_in_flight", 2**30), telemetry.instruments, **settings)
    await pipeline.start()
    for delivery in deliveries:
        await delivery.start()
    try:
        yield pipeline
    finally:
        for delivery in deliveries:
            await delivery.stop()
        await pipeline.stop()


def dropping(text: str, pipeline: str = "logs") -> Processor:
    return processor(f"filter/{text}", {"drop": [f"body contains '{text}'"]}, Signal.LOGS, pipeline)


def keeping(text: str, pipeline: str) -> Processor:
    return processor(f"filter/{text}", {"keep": [f"body contains '{text}'"]}, Signal.LOGS, pipeline)


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def stores(telemetry: Telemetry) -> tuple[Store, Store, Delivery, Delivery]:
    one, two = Store("one"), Store("two")
    return one, two, telemetry.delivery(one), telemetry.delivery(two)


async def test_receivers_reach_the_exporters_of_their_pipelines_and_no_others(
    telemetry: Telemetry, stores: tuple[Store, Store, Delivery, Delivery]
) -> None:
    one, two, to_one, to_two = stores
    async with hub(
        telemetry, ("logs", ["a", "b"], [], [to_one]), ("logs/audit", ["b"], [], [to_one, to_two])
    ) as pipeline:
        await pipeline.entry("a").accept(logs("of a"))
        await pipeline.entry("b").accept(logs("of b"))
        assert one.bodies == ["of a", "of b"]
        assert two.bodies == ["of b"]
        assert one.given == 2, "the same bytes by two pipelines are given once"
        with pytest.raises(NoPipelineError):
            await pipeline.entry("a").accept(spans("x"))
        with pytest.raises(NoPipelineError):
            await pipeline.entry("c").accept(logs("x"))


async def test_what_comes_from_no_receiver_takes_the_pipeline_named_as_its_signal(
    telemetry: Telemetry, stores: tuple[Store, Store, Delivery, Delivery]
) -> None:
    one, two, to_one, to_two = stores
    async with hub(telemetry, ("logs/audit", ["a"], [], [to_two]), ("logs", ["b"], [], [to_one])) as pipeline:
        await pipeline.accept(logs("of the hub"))
    assert (one.bodies, two.bodies) == (["of the hub"], [])


async def test_without_processors_the_batch_goes_through_as_the_same_object(
    telemetry: Telemetry, stores: tuple[Store, Store, Delivery, Delivery]
) -> None:
    one, two, to_one, to_two = stores
    batch = logs("a")
    async with hub(telemetry, ("logs", ["a"], [], [to_one]), ("logs/2", ["a"], [], [to_two])) as pipeline:
        await pipeline.entry("a").accept(batch)
    for store in (one, two):
        (taken,) = store.taken.values()
        assert taken.payload is batch.payload
        assert taken.digest == batch.digest


async def test_each_pipeline_processes_for_itself_in_the_order_that_is_written(
    telemetry: Telemetry, stores: tuple[Store, Store, Delivery, Delivery]
) -> None:
    one, two, to_one, to_two = stores
    pipelines = (
        ("logs", ["a"], [dropping("noise"), dropping("chat")], [to_one]),
        ("logs/audit", ["a"], [keeping("audit", "logs/audit")], [to_two]),
    )
    async with hub(telemetry, *pipelines) as pipeline:
        outcome = await pipeline.entry("a").accept(logs("noise chat", "audit", "chat", "text"))
        assert pipeline.dropped == {
            "logs": {"filter/noise": 1, "filter/chat": 1},
            "logs/audit": {"filter/audit": 3},
        }
    assert outcome == Outcome(), "what is left out on purpose is no rejection"
    assert (one.bodies, two.bodies) == (["audit", "text"], ["audit"])
    assert telemetry.values("obs_hub.records.dropped") == {
        ("logs", "filter/noise", "logs"): 1,
        ("logs", "filter/chat", "logs"): 1,
        ("logs/audit", "filter/audit", "logs"): 3,
    }
    assert telemetry.values("obs_hub.records.accepted") == {("logs",): 2}


async def test_what_is_left_out_as_a_whole_is_answered_without_a_commit(
    telemetry: Telemetry, stores: tuple[Store, Store, Delivery, Delivery]
) -> None:
    one, _, to_one, _ = stores
    async with hub(telemetry, ("logs", ["a"], [dropping("noise")], [to_one])) as pipeline:
        assert await pipeline.entry("a").accept(logs("noise", "noise")) == Outcome()
        one.error = UnavailableError("away")
        assert await pipeline.entry("a").accept(logs("noise")) == Outcome()
    assert one.given == 0


async def test_an_exporter_of_two_pipelines_gets_what_each_puts_out_and_equal_bytes_once(
    telemetry: Telemetry, stores: tuple[Store, Store, Delivery, Delivery]
) -> None:
    one, _, to_one, _ = stores
    pipelines = (
        ("logs", ["a"], [dropping("noise")], [to_one]),
        ("logs/audit", ["a"], [keeping("audit", "logs/audit")], [to_one]),
    )
    async with hub(telemetry, *pipelines) as pipeline:
        await pipeline.entry("a").accept(logs("audit", at=1))
        assert one.bodies == ["audit"]
        await pipeline.entry("a").accept(logs("audit", "text", at=2))
        assert one.bodies == ["audit", "audit", "text", "audit"]
        before = one.given
        await pipeline.entry("a").accept(logs("audit", "text", at=2))
        assert one.given == before, "both are known again"


async def test_a_retry_doubles_nothing_where_one_of_several_pipelines_failed(
    telemetry: Telemetry, stores: tuple[Store, Store, Delivery, Delivery]
) -> None:
    one, two, to_one, to_two = stores
    pipelines = (("logs", ["a"], [dropping("noise")], [to_one]), ("logs/audit", ["a"], [], [to_two]))
    batch = logs("noise", "text")
    async with hub(telemetry, *pipelines) as pipeline:
        two.error = UnavailableError("away", retry_after=0)
        with pytest.raises(UnavailableError):
            await pipeline.entry("a").accept(batch)
        assert one.bodies == ["text"]
        assert not pipeline.dropped, "what was refused is counted when it is taken"
        two.error = None
        await pipeline.entry("a").accept(batch)
        assert pipeline.dropped == {"logs": {"filter/noise": 1}}
    assert (one.bodies, one.given) == (["text"], 1)
    assert two.bodies == ["noise", "text"]


async def test_a_batch_is_known_again_whatever_its_processors_make_of_it_now(telemetry: Telemetry) -> None:
    store, batch = Store("one"), logs("a")
    for _ in range(2):  # as before and after a restart with another configuration: nothing but receipts is left
        async with hub(telemetry, ("logs", ["a"], [Stamping()], [telemetry.delivery(store)])) as pipeline:
            await pipeline.entry("a").accept(batch)
    async with hub(telemetry, ("logs", ["a"], [dropping("x")], [telemetry.delivery(store)])) as pipeline:
        await pipeline.entry("a").accept(batch)
    assert store.given == 3
    assert store.bodies == ["stamp 0"]


async def test_what_pipelines_put_out_has_an_identity_of_its_own_for_each() -> None:
    batch = logs("a")
    plain, one, two = (
        Branch("logs", Signal.LOGS, ()),
        Branch("logs", Signal.LOGS, (), processors=(dropping("x"),)),
        Branch("logs/2", Signal.LOGS, (), processors=(dropping("x"),)),
    )
    assert plain.identity(batch) == batch.digest
    assert len({branch.identity(batch) for branch in (plain, one, two)}) == 3
    assert one.identity(batch) == one.identity(replace(batch))


async def test_what_cannot_be_read_is_mended_before_it_is_processed(
    telemetry: Telemetry, stores: tuple[Store, Store, Delivery, Delivery]
) -> None:
    one, two, to_one, to_two = stores
    sent = Batch.of(Signal.LOGS, logs("good", "broken", "noise").payload.replace(b"broken", b"br\xffken"))
    pipelines = (("logs", ["a"], [dropping("noise")], [to_one]), ("logs/2", ["a"], [], [to_two]))
    async with hub(telemetry, *pipelines) as pipeline:
        outcome = await pipeline.entry("a").accept(sent)
    assert outcome.rejected == 0
    assert "log_records[1]" in outcome.message
    assert one.bodies == ["good", "br\ufffdken"]
    assert two.bodies == ["good", "br\ufffdken", "noise"]


async def test_what_only_an_exporter_cannot_read_is_mended_and_processed_again(
    telemetry: Telemetry, stores: tuple[Store, Store, Delivery, Delivery]
) -> None:
    one, _, to_one, _ = stores
    payload = spans("good").payload + spans("bad", span_id=b"").payload
    redact = processor("redact", {}, Signal.TRACES)
    async with hub(telemetry, ("traces", ["a"], [redact], [to_one])) as pipeline:
        outcome = await pipeline.entry("a").accept(Batch.of(Signal.TRACES, payload))
    assert outcome.rejected == 1
    (batch,) = one.taken.values()
    assert [each.name for each in records_of(read(batch))] == ["good"]


async def test_records_on_which_a_processor_fails_are_told_as_partial_success(
    telemetry: Telemetry, stores: tuple[Store, Store, Delivery, Delivery]
) -> None:
    class Failing(Stamping):
        async def process(self, batch: Batch) -> Processed:
            return Processed(batch, outcome=Outcome(2, "2 log records were left out"))

    _, _, to_one, _ = stores
    async with hub(telemetry, ("logs", ["a"], [Failing()], [to_one])) as pipeline:
        outcome = await pipeline.entry("a").accept(logs("a"))
    assert outcome == Outcome(2, "2 log records were left out")
    assert telemetry.values("obs_hub.records.refused") == {("processor", "logs"): 2}


async def test_a_processor_that_is_unavailable_has_the_request_sent_again(
    telemetry: Telemetry, stores: tuple[Store, Store, Delivery, Delivery]
) -> None:
    class Busy(Stamping):
        async def process(self, batch: Batch) -> Processed:
            raise UnavailableError("busy")

    one, two, to_one, to_two = stores
    pipelines = (("logs", ["a"], [Busy()], [to_one]), ("logs/2", ["a"], [], [to_two]))
    async with hub(telemetry, *pipelines) as pipeline:
        with pytest.raises(UnavailableError, match="busy"):
            await pipeline.entry("a").accept(logs("a"))
    assert one.given == two.given == 0, "all or none"


async def test_a_large_request_is_cut_before_it_is_processed_and_what_grew_is_cut_again(
    telemetry: Telemetry, stores: tuple[Store, Store, Delivery, Delivery]
) -> None:
    one, _, to_one, _ = stores
    batch = logs(*(f"text {number} {'x' * 80}" for number in range(40)), at=1)
    insert = {"actions": [{"action": "insert", "key": "k", "value": "v" * 100}]}
    larger = processor("attributes", insert, Signal.LOGS)
    async with hub(telemetry, ("logs", ["a"], [larger], [to_one]), max_batch_size=2000) as pipeline:
        await pipeline.entry("a").accept(batch)
        assert len(one.taken) > 3
        assert all(len(each.payload) <= 2200 for each in one.taken.values())
        assert [each.split(" x")[0] for each in one.bodies] == [f"text {number}" for number in range(40)]
        given = one.given
        await pipeline.entry("a").accept(batch)
        assert one.given == given
    assert telemetry.values("obs_hub.records.accepted") == {("logs",): 80}


async def test_what_is_put_out_counts_among_what_is_in_flight(
    telemetry: Telemetry, stores: tuple[Store, Store, Delivery, Delivery]
) -> None:
    one, _, to_one, _ = stores
    insert = {"actions": [{"action": "insert", "key": "k", "value": "v" * 5000}]}
    larger = processor("attributes", insert, Signal.LOGS)
    async with hub(telemetry, ("logs", ["a"], [larger], [to_one])) as pipeline:
        one.gate.clear()
        batch = logs("a")
        under_way = asyncio.create_task(pipeline.entry("a").accept(batch))
        await until(lambda: pipeline._in_flight.size > 5000)
        one.gate.set()
        await under_way
        assert pipeline._in_flight.size == 0


async def test_the_spool_holds_what_was_processed_and_replays_it_as_it_is(telemetry: Telemetry, tmp_path: Path) -> None:
    store = Store("one")
    settings = ExporterSettings()

    def delivery() -> Delivery:
        spool = Spool(tmp_path / "spool", settings.spool)
        return Delivery(store, telemetry.instruments, telemetry.tracer, settings=settings, spool=spool)

    batch = logs("noise", "text of bob@example.com")
    processors = [dropping("noise"), processor("redact", {}, Signal.LOGS)]
    store.error = UnavailableError("away")
    async with hub(telemetry, ("logs", ["a"], processors, [delivery()])) as pipeline:
        await pipeline.entry("a").accept(batch)
    assert b"bob@example.com" not in b"".join(
        each.read_bytes() for each in (tmp_path / "spool").rglob("*") if each.is_file()
    )
    store.error = None
    async with hub(telemetry, ("logs", ["a"], [dropping("text")], [delivery()])) as pipeline:
        await pipeline.entry("a").accept(batch)  # a client that did not hear the answer
        await until(lambda: bool(store.taken))
    assert store.bodies == ["text of [redacted:email]"]
    assert store.given == 1


async def test_a_dead_letter_is_what_was_processed(telemetry: Telemetry, tmp_path: Path) -> None:
    from gateway.pipeline.dead_letters import DeadLetters

    store, letters = Store("one"), DeadLetters(tmp_path / "letters")
    store.error = RefusedError("a constraint")
    delivery = Delivery(store, telemetry.instruments, telemetry.tracer, dead_letters=letters)
    async with hub(telemetry, ("logs", ["a"], [processor("redact", {}, Signal.LOGS)], [delivery])) as pipeline:
        await pipeline.entry("a").accept(logs("bob@example.com"))
    kept = b"".join(each.read_bytes() for each in (tmp_path / "letters").rglob("*") if each.is_file())
    assert b"[redacted:email]" in kept
    assert b"bob@example.com" not in kept


def test_a_store_gets_a_batch_before_those_that_hand_it_on() -> None:
    telemetry = Telemetry()
    exporters = (FakeExporter("otlp", batches_per_commit=1), FakeExporter("timescale"))
    graph = Graph.plain({Signal.LOGS: [telemetry.delivery(each) for each in exporters]})
    ways = graph.ways(None, Signal.LOGS)
    assert ways is not None
    assert [delivery.exporter.name for delivery in ways.plain] == ["timescale", "otlp"]
