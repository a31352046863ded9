"""What the pipeline counts and traces of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from opentelemetry.trace import StatusCode

from gateway.component import DeliveryError, MalformedPayloadError, Outcome, RefusedError, Signal, UnavailableError
from gateway.pipeline import Delivery, Pipeline
from tests.unit.pipeline.fakes import FakeExporter, Telemetry, batch, until

Start = Callable[[FakeExporter], Awaitable[Delivery]]


async def pipeline_to(start: Start, telemetry: Telemetry, *exporters: FakeExporter, limit: int = 2**20) -> Pipeline:
    deliveries = [await start(exporter) for exporter in exporters]
    return Pipeline(dict.fromkeys(Signal, deliveries), limit, telemetry.instruments)


async def test_accepted_and_stored_records_are_counted_by_signal_and_exporter(
    start: Start, telemetry: Telemetry
) -> None:
    pipeline = await pipeline_to(start, telemetry, FakeExporter("one"), FakeExporter("other"))
    await pipeline.accept(batch("1 2 3", Signal.METRICS))
    await pipeline.accept(batch("1 2", Signal.LOGS))
    await pipeline.accept(batch("1", Signal.TRACES))
    assert telemetry.values("obs_hub.records.accepted") == {("metrics",): 3, ("logs",): 2, ("traces",): 1}
    assert telemetry.values("obs_hub.records.stored") == {
        (exporter, signal): count
        for exporter in ("one", "other")
        for signal, count in (("metrics", 3), ("logs", 2), ("traces", 1))
    }
    assert telemetry.values("obs_hub.records.duplicate") == {}
    assert telemetry.values("obs_hub.records.refused") == {}


async def test_what_the_destination_already_had_is_a_duplicate_and_accepted_all_the_same(
    start: Start, telemetry: Telemetry
) -> None:
    pipeline = await pipeline_to(start, telemetry, FakeExporter())
    await pipeline.accept(batch("1 2 3"))
    await pipeline.accept(batch("1 2 3"))
    assert telemetry.values("obs_hub.records.stored") == {("fake", "logs"): 3}
    assert telemetry.values("obs_hub.records.duplicate") == {("fake", "logs"): 3}
    assert telemetry.values("obs_hub.records.accepted") == {("logs",): 6}


async def test_rejected_records_are_counted_apart_from_those_that_were_kept(start: Start, telemetry: Telemetry) -> None:
    exporter = FakeExporter()
    exporter.outcomes["1 2"] = Outcome(5, "5 log records rejected")
    await (await pipeline_to(start, telemetry, exporter)).accept(batch("1 2"))
    assert telemetry.values("obs_hub.records.accepted") == {("logs",): 2}
    assert telemetry.values("obs_hub.records.refused") == {("rejected", "logs"): 5}


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        ("malformed", None, "malformed"),
        ("bad", None, "refused"),
        ("a", UnavailableError("down"), "unavailable"),
        ("a", ZeroDivisionError(), "unavailable"),
    ],
)
async def test_refused_requests_are_counted_by_reason(
    start: Start, telemetry: Telemetry, text: str, error: Exception | None, reason: str
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    exporter = FakeExporter()
    exporter.error = error
    with pytest.raises(DeliveryError):
        await (await pipeline_to(start, telemetry, exporter)).accept(batch(text))
    assert telemetry.values("obs_hub.requests.refused") == {(reason, "logs"): 1}
    assert telemetry.values("obs_hub.records.accepted") == {}
    assert telemetry.values("obs_hub.records.stored") == {}


async def test_overload_is_counted_and_so_is_what_a_receiver_refuses(start: Start, telemetry: Telemetry) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    pipeline = await pipeline_to(start, telemetry, exporter, limit=1)
    sent = asyncio.create_task(pipeline.accept(batch("a")))
    await until(lambda: exporter.running == 1)
    with pytest.raises(UnavailableError):
        await pipeline.accept(batch("b"))
    pipeline.refuse(Signal.TRACES, "too_large")
    assert telemetry.values("obs_hub.requests.refused") == {("overloaded", "logs"): 1, ("too_large", "traces"): 1}
    pipeline.refuse_connection("receivers.otlp.protocols.grpc", "too_many_connections")
    refused = telemetry.values("obs_hub.connections.refused")
    assert refused == {("receivers.otlp.protocols.grpc", "too_many_connections"): 1}
    exporter.gate.set()
    await sent


async def test_each_commit_is_measured_by_duration_records_and_batches(start: Start, telemetry: Telemetry) -> None:
    exporter = FakeExporter()
    delivery = await start(exporter)
    await asyncio.gather(delivery.deliver(batch("1 2 3")), delivery.deliver(batch("4 5")))
    await delivery.deliver(batch("6"))
    for name in ("duration", "records", "batches"):
        assert telemetry.is_histogram(f"obs_hub.commit.{name}")
        assert telemetry.counts(f"obs_hub.commit.{name}") == [2]
    assert telemetry.values("obs_hub.commit.records") == {("fake",): 6}
    assert telemetry.values("obs_hub.commit.batches") == {("fake",): 3}
    assert telemetry.values("obs_hub.commit.duration")["fake",] > 0


async def test_a_failed_commit_is_measured_too(start: Start, telemetry: Telemetry) -> None:
    with pytest.raises(RefusedError):
        await (await start(FakeExporter())).deliver(batch("bad"))
    assert telemetry.counts("obs_hub.commit.duration") == [1]


async def test_a_commit_is_a_span_that_says_what_was_in_it(start: Start, telemetry: Telemetry) -> None:
    delivery = await start(FakeExporter("timescale"))
    await asyncio.gather(delivery.deliver(batch("1 2 3")), delivery.deliver(batch("4 5")))
    (span,) = telemetry.spans
    assert span.name == "commit"
    assert dict(span.attributes or {}) == {"exporter": "timescale", "obs_hub.records": 5, "obs_hub.batches": 2}
    assert span.status.status_code is StatusCode.UNSET


async def test_a_failed_commit_is_a_span_with_the_reason(start: Start, telemetry: Telemetry) -> None:
    exporter = FakeExporter()
    exporter.error = UnavailableError("PostgreSQL is restarting")
    with pytest.raises(UnavailableError):
        await (await start(exporter)).deliver(batch("a"))
    (span,) = telemetry.spans
    assert (span.status.status_code, span.status.description) == (
        StatusCode.ERROR,
        "UnavailableError: PostgreSQL is restarting",
    )


async def test_a_commit_of_the_gateways_own_telemetry_makes_no_span(start: Start, telemetry: Telemetry) -> None:
    await (await start(FakeExporter())).deliver(batch("a", own_telemetry=True))
    assert telemetry.spans == ()
    assert telemetry.counts("obs_hub.commit.duration") == [1]


async def test_a_commit_of_own_and_foreign_telemetry_together_makes_one(start: Start, telemetry: Telemetry) -> None:
    delivery = await start(FakeExporter())
    await asyncio.gather(delivery.deliver(batch("a", own_telemetry=True)), delivery.deliver(batch("b")))
    assert len(telemetry.spans) == 1


async def test_without_sampling_there_is_no_span() -> None:
    telemetry = Telemetry(sampled=False)
    delivery = telemetry.delivery(FakeExporter())
    await delivery.start()
    await delivery.deliver(batch("a"))
    await delivery.stop()
    assert telemetry.spans == ()


async def test_malformed_payloads_reach_no_commit(start: Start, telemetry: Telemetry) -> None:
    with pytest.raises(MalformedPayloadError):
        await (await start(FakeExporter())).deliver(batch("malformed"))
    assert telemetry.counts("obs_hub.commit.duration") == []
