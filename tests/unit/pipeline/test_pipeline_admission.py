"""The pipeline: who is let in, where a batch goes, and what an OK means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.pipeline import (
    Delivery,
    MalformedPayloadError,
    Outcome,
    OverloadedError,
    Pipeline,
    RefusedError,
    Signal,
    UnavailableError,
)
from tests.unit.pipeline.fakes import FakeExporter, Telemetry, batch, settle, until

Start = Callable[[FakeExporter], Awaitable[Delivery]]
MIB = 2**20


@pytest.fixture
def make(start: Start, telemetry: Telemetry) -> Callable[..., Awaitable[Pipeline]]:
    """Make a pipeline that takes logs and metrics to some exporters."""

    async def make_it(*exporters: FakeExporter, max_in_flight: int = MIB) -> Pipeline:
        deliveries = [await start(exporter) for exporter in exporters]
        routes = dict.fromkeys((Signal.LOGS, Signal.METRICS), deliveries)
        return Pipeline(routes, max_in_flight, telemetry.instruments)

    return make_it


Make = Callable[..., Awaitable[Pipeline]]


def in_flight(telemetry: Telemetry) -> float:
    return telemetry.values("obs_hub.in_flight.size")[()]


async def test_an_ok_means_that_the_exporter_has_it(make: Make) -> None:
    exporter = FakeExporter()
    assert await (await make(exporter)).accept(batch("a")) == Outcome()
    assert exporter.stored == ["a"]


async def test_with_two_exporters_an_ok_means_that_both_have_it(make: Make) -> None:
    one, other = FakeExporter("one"), FakeExporter("other")
    other.gate.clear()
    sent = asyncio.create_task((await make(one, other)).accept(batch("a")))
    await until(lambda: one.stored == ["a"] and other.running == 1)
    await settle()
    assert not sent.done()
    other.gate.set()
    assert await sent == Outcome()
    assert other.stored == ["a"]


@pytest.mark.parametrize("down", ["one", "other"])
async def test_one_unavailable_exporter_of_two_is_no_ok_and_the_retry_reaches_both(make: Make, down: str) -> None:
    exporters = {name: FakeExporter(name) for name in ("one", "other")}
    exporters[down].error = UnavailableError("down", retry_after=0)
    pipeline = await make(*exporters.values())
    with pytest.raises(UnavailableError, match="down"):
        await pipeline.accept(batch("a"))
    exporters[down].error = None
    await pipeline.accept(batch("a"))
    assert [one.stored for one in exporters.values()] == [["a"], ["a"]]


async def test_a_malformed_payload_is_told_to_its_sender_whatever_the_number_of_exporters(make: Make) -> None:
    for exporters in ((FakeExporter(),), (FakeExporter("one"), FakeExporter("other"))):
        with pytest.raises(MalformedPayloadError):
            await (await make(*exporters)).accept(batch("malformed"))


async def test_of_two_partial_successes_the_sender_hears_both_reasons_and_the_greater_number(make: Make) -> None:
    one, other = FakeExporter("one"), FakeExporter("other")
    one.outcomes["a b c"] = Outcome(1, "one too old")
    other.outcomes["a b c"] = Outcome(2, "two too old")
    assert await (await make(one, other)).accept(batch("a b c")) == Outcome(2, "one too old; two too old")


async def test_a_signal_without_a_pipeline_is_refused_with_the_setting_that_would_change_it(make: Make) -> None:
    with pytest.raises(RefusedError, match=r"no pipeline takes traces \(setting service\.pipelines\.traces\)"):
        await (await make(FakeExporter())).accept(batch("a", Signal.TRACES))


async def test_beyond_the_limit_batches_are_refused_and_room_is_made_by_every_answer(
    make: Make, telemetry: Telemetry
) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    pipeline = await make(exporter, max_in_flight=10)
    first = asyncio.create_task(pipeline.accept(batch("12345")))
    second = asyncio.create_task(pipeline.accept(batch("67890")))
    await until(lambda: exporter.running == 1)
    assert in_flight(telemetry) == 10
    with pytest.raises(OverloadedError, match=r"service\.delivery\.max_in_flight") as caught:
        await pipeline.accept(batch("x"))
    assert caught.value.retry_after > 0
    exporter.gate.set()
    await asyncio.gather(first, second)
    assert in_flight(telemetry) == 0
    await pipeline.accept(batch("x"))
    assert sorted(exporter.stored) == ["12345", "67890", "x"]


async def test_the_limit_holds_for_batches_that_come_in_the_same_instant(make: Make) -> None:
    exporter = FakeExporter()
    pipeline = await make(exporter, max_in_flight=10)
    results = await asyncio.gather(*(pipeline.accept(batch(f"{n:05}")) for n in range(5)), return_exceptions=True)
    assert [isinstance(one, OverloadedError) for one in results] == [False, False, True, True, True]
    assert exporter.stored == ["00000", "00001"]


async def test_one_batch_alone_is_admitted_whatever_its_size(make: Make) -> None:
    exporter = FakeExporter()
    pipeline = await make(exporter, max_in_flight=3)
    for _ in range(2):
        await pipeline.accept(batch("much larger than three bytes"))
    assert exporter.stored == ["much larger than three bytes"]


@pytest.mark.parametrize("text", ["malformed", "bad", "down"])
async def test_a_refused_batch_gives_back_its_room(make: Make, telemetry: Telemetry, text: str) -> None:
    exporter = FakeExporter()
    exporter.error = UnavailableError("down") if text == "down" else None
    pipeline = await make(exporter)
    with pytest.raises((MalformedPayloadError, RefusedError, UnavailableError)):
        await pipeline.accept(batch(text))
    assert in_flight(telemetry) == 0


async def test_the_batch_of_a_client_that_gave_up_is_stored_and_keeps_its_room_until_then(
    make: Make, telemetry: Telemetry
) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    pipeline = await make(exporter)
    client = asyncio.create_task(pipeline.accept(batch("abandoned")))
    await until(lambda: exporter.running == 1)
    client.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client
    assert in_flight(telemetry) == len("abandoned")
    exporter.gate.set()
    assert await pipeline.drain(30)
    assert exporter.stored == ["abandoned"]
    assert in_flight(telemetry) == 0


async def test_the_failure_of_an_abandoned_batch_disturbs_nobody(make: Make) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    exporter = FakeExporter()
    exporter.gate.clear()
    exporter.error = UnavailableError("down")
    pipeline = await make(exporter)
    client = asyncio.create_task(pipeline.accept(batch("abandoned")))
    await until(lambda: exporter.running == 1)
    client.cancel()
    exporter.gate.set()
    assert await pipeline.drain(30)
    await settle()
    assert complaints == []


async def test_drain_waits_until_all_are_answered_for(make: Make) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    pipeline = await make(exporter)
    sent = [asyncio.create_task(pipeline.accept(batch(text))) for text in ("a", "b")]
    await until(lambda: exporter.running == 1)
    draining = asyncio.create_task(pipeline.drain(30))
    await settle()
    assert not draining.done()
    exporter.gate.set()
    assert await draining
    assert all(one.done() for one in sent)


async def test_drain_says_when_the_time_was_not_enough(make: Make) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    pipeline = await make(exporter)
    sent = asyncio.create_task(pipeline.accept(batch("a")))
    await until(lambda: exporter.running == 1)
    assert not await pipeline.drain(0)
    assert not sent.done()
    exporter.gate.set()
    await sent


async def test_there_is_nothing_to_drain_in_an_idle_pipeline(make: Make) -> None:
    assert await (await make(FakeExporter())).drain(0)
