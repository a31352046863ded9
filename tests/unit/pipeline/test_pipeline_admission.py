"""The pipeline: who is let in, where a batch goes, and what an OK means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from gateway.base.settings import ExporterSettings, SpoolSettings
from gateway.component import (
    Batch,
    MalformedPayloadError,
    NoPipelineError,
    Outcome,
    OverloadedError,
    Prepared,
    RefusedError,
    Signal,
    UnavailableError,
)
from gateway.otlp.counting import count_records
from gateway.pipeline import Delivery, Pipeline
from gateway.pipeline.spool import Spool, status
from tests.support.logged import Logged
from tests.support.telemetry import logs
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
    with pytest.raises(NoPipelineError, match=r"no pipeline takes traces \(setting service\.pipelines\.traces\)"):
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


# -- all exporters or none -------------------------------------------------------------------------------------------


@pytest.fixture
async def fan_out(telemetry: Telemetry, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Pipeline]]]:
    """Make a pipeline to exporters that each have a spool, small, of the given kind."""
    stack = AsyncExitStack()

    async def make_it(*exporters: FakeExporter, **when_full: str) -> Pipeline:
        deliveries = []
        for exporter in exporters:
            spool = SpoolSettings.model_validate({"max_size": MIB, "when_full": when_full.get(exporter.name, "refuse")})
            settings = ExporterSettings(spool=spool, slow_after=timedelta(milliseconds=10))
            deliveries.append(
                Delivery(
                    exporter,
                    telemetry.instruments,
                    telemetry.tracer,
                    settings=settings,
                    spool=Spool(tmp_path / exporter.name, spool),
                )
            )
            await deliveries[-1].start()
            stack.push_async_callback(deliveries[-1].stop)
        return Pipeline({Signal.LOGS: deliveries}, 64 * MIB, telemetry.instruments)

    async with stack:
        yield make_it


def away() -> UnavailableError:
    return UnavailableError("away", retry_after=3600)


async def fill(pipeline: Pipeline, text: str = "x" * (MIB // 4)) -> list[str]:
    """Send batches until one is refused, and return those that were not."""
    sent = []
    for number in range(20):
        sent.append(f"{number} {text}")
        try:
            await pipeline.accept(batch(sent[-1]))
        except OverloadedError:
            return sent[:-1]
    return sent


async def test_a_malformed_request_reaches_no_exporter(make: Make) -> None:
    """An exporter that finds nothing wrong with it must not have it while its client is told 400."""

    class Careless(FakeExporter):
        async def prepare(self, batch: Batch) -> Prepared:
            return Prepared(batch, 1)

    careless, strict = Careless("careless"), FakeExporter("strict")
    pipeline = await make(careless, strict)
    with pytest.raises(MalformedPayloadError):
        await pipeline.accept(batch("malformed"))
    assert careless.commits == []


async def test_what_one_exporter_has_no_room_for_reaches_none_and_nothing_is_given_twice(
    fan_out: Callable[..., Awaitable[Pipeline]],
) -> None:
    healthy, dead = FakeExporter("healthy"), FakeExporter("dead")
    dead.error = away()
    pipeline = await fan_out(healthy, dead)
    taken = await fill(pipeline)
    assert 0 < len(taken) < 20
    for _ in range(5):
        with pytest.raises(OverloadedError, match="the spool holds"):
            await pipeline.accept(batch(f"{len(taken)} {'x' * (MIB // 4)}"))
    assert [text for commit in healthy.commits for text in commit] == taken
    assert await pipeline.drain(1)


async def test_a_dead_destination_that_drops_the_oldest_stops_nobody(
    fan_out: Callable[..., Awaitable[Pipeline]], telemetry: Telemetry, tmp_path: Path, logged: Logged
) -> None:
    healthy, dead = FakeExporter("healthy"), FakeExporter("dead")
    dead.error = away()
    pipeline = await fan_out(healthy, dead, dead="drop_oldest")
    taken = await fill(pipeline)
    assert len(taken) == 20
    assert [text for commit in healthy.commits for text in commit] == taken
    there = status(tmp_path / "dead")
    assert there.size <= MIB
    assert there.dropped.batches >= 16
    assert "drops the oldest" in logged.text


async def test_a_repetition_is_given_to_the_exporter_that_did_not_take_it_and_to_no_other(make: Make) -> None:
    one, other = FakeExporter("one"), FakeExporter("other")
    other.error = UnavailableError("down", retry_after=0)
    pipeline = await make(one, other)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="down"):
            await pipeline.accept(batch("a b"))
    other.error = None
    assert await pipeline.accept(batch("a b")) == Outcome()
    assert one.commits == [["a b"]]
    assert other.commits == [["a b"]] * 4
    assert await pipeline.accept(batch("a b")) == Outcome()
    assert (len(one.commits), len(other.commits)) == (1, 4)


async def test_a_repetition_that_comes_while_the_first_is_under_way_waits_for_it(make: Make) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    pipeline = await make(exporter)
    sent = [asyncio.create_task(pipeline.accept(batch("a"))) for _ in range(2)]
    await until(lambda: exporter.running == 1)
    await settle()
    assert not any(one.done() for one in sent)
    exporter.gate.set()
    assert await asyncio.gather(*sent) == [Outcome()] * 2
    assert exporter.commits == [["a"]]


async def test_of_two_equal_batches_under_way_both_hear_of_the_failure(make: Make) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    exporter.error = UnavailableError("down", retry_after=0)
    pipeline = await make(exporter)
    sent = [asyncio.create_task(pipeline.accept(batch("a"))) for _ in range(2)]
    await until(lambda: exporter.running == 1)
    await settle()
    exporter.gate.set()
    assert [str(each) for each in await asyncio.gather(*sent, return_exceptions=True)] == ["down"] * 2
    exporter.error = None
    assert await pipeline.accept(batch("a")) == Outcome()


@pytest.mark.parametrize(("field", "commits"), [("time_unix_nano", 1), ("observed_time_unix_nano", 1), (None, 2)])
async def test_logs_without_any_timestamp_are_not_taken_for_repetitions(
    make: Make, field: str | None, commits: int
) -> None:
    class Any(FakeExporter):
        async def prepare(self, batch: Batch) -> Prepared:
            return Prepared(batch, 1)

        async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
            self.commits.append(["a batch"])
            return [True]

    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(**({field: 7} if field else {}))
    exporter = Any()
    pipeline = await make(exporter)
    for _ in range(2):
        await pipeline.accept(Batch.of(Signal.LOGS, request.SerializeToString()))
    assert len(exporter.commits) == commits


async def test_what_waits_in_the_spool_is_known_after_a_restart(telemetry: Telemetry, tmp_path: Path) -> None:
    exporter = FakeExporter()
    exporter.error = away()
    for _ in range(2):
        delivery = Delivery(exporter, telemetry.instruments, telemetry.tracer, spool=Spool(tmp_path, SpoolSettings()))
        await delivery.start()
        await delivery.deliver(batch("a"))
        await delivery.stop()
    spool = Spool(tmp_path, SpoolSettings())
    await spool.open()
    assert [each.payload for each in (await spool.read(MIB))[0]] == [b"a"]
    await spool.close()


# -- size ------------------------------------------------------------------------------------------------------------


class Counting(FakeExporter):
    """Takes log records for what they are, and those with the text ``malformed`` for malformed requests."""

    async def prepare(self, batch: Batch) -> Prepared:
        if b"malformed" in batch.payload:
            raise MalformedPayloadError("not a request")
        return Prepared(batch, count_records(batch))

    async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
        self.commits.append([str(len(each.batch.payload)) for each in prepared])
        self.stored += [each.batch.digest.hex() for each in prepared]
        return [True] * len(prepared)


async def test_a_large_request_is_cut_into_batches_that_are_always_the_same(start: Start, telemetry: Telemetry) -> None:
    exporters = [Counting("one"), Counting("other", batches_per_commit=1)]
    pipeline = Pipeline(
        {Signal.LOGS: [await start(exporter) for exporter in exporters]}, MIB, telemetry.instruments, 2_000
    )
    payload = logs(*(f"{number:0100}" for number in range(100)), at=1).payload
    for _ in range(2):  # the second time everybody has it
        assert await pipeline.accept(Batch.of(Signal.LOGS, payload)) == Outcome()
        for exporter in exporters:
            sizes = [int(size) for commit in exporter.commits for size in commit]
            assert len(sizes) > 5
            assert max(sizes) <= 2_000
            assert len(set(exporter.stored)) == len(sizes)
    assert telemetry.values("obs_hub.records.accepted") == {("logs",): 200}
    assert telemetry.values("obs_hub.records.stored") == {("one", "logs"): 100, ("other", "logs"): 100}
    whole = logs("malformed", *(f"{number:0100}" for number in range(100)), at=1).payload
    before = [list(exporter.commits) for exporter in exporters]
    with pytest.raises(MalformedPayloadError):
        await pipeline.accept(Batch.of(Signal.LOGS, whole))
    assert [exporter.commits for exporter in exporters] == before, "no part of a malformed request is stored"


async def test_refusals_are_logged_with_what_is_known_of_them_and_not_each(make: Make) -> None:
    pipeline = await make(FakeExporter())
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            with pytest.raises(MalformedPayloadError):
                await pipeline.accept(Batch.of(Signal.LOGS, b"malformed", peer="192.0.2.7"))
        pipeline.refuse(Signal.TRACES, "unauthenticated")
        told = [each for each in logged if each["event"] == "requests are refused"]
    assert "is truncated" in told[0].pop("why")
    assert told == [
        {
            "event": "requests are refused",
            "log_level": "warning",
            "signal": "logs",
            "reason": "malformed",
            "refused": 1,
            "peer": "192.0.2.7",
        },
        {
            "event": "requests are refused",
            "log_level": "warning",
            "signal": "traces",
            "reason": "unauthenticated",
            "refused": 1,
        },
    ]
