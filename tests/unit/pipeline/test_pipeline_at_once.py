"""Small batches that wait for their commit without a task of their own: whatever becomes of them, somebody hears it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.component import ACCEPTED, Outcome, RefusedError, Signal, UnavailableError
from gateway.pipeline import Pipeline
from tests.support.waiting import PATIENCE
from tests.unit.pipeline.conftest import Start
from tests.unit.pipeline.fakes import FakeExporter, Telemetry, batch, until


@pytest.fixture
def exporters() -> list[FakeExporter]:
    return [FakeExporter("store"), FakeExporter("other")]


@pytest.fixture
async def pipeline(start: Start, telemetry: Telemetry, exporters: list[FakeExporter]) -> Pipeline:
    deliveries = [await start(exporter) for exporter in exporters]
    return Pipeline({Signal.LOGS: deliveries}, 10**6, telemetry.instruments)


async def test_what_a_client_does_not_wait_for_is_stored_and_counted(
    pipeline: Pipeline, exporters: list[FakeExporter], telemetry: Telemetry
) -> None:
    exporters[1].gate.clear()
    sending = asyncio.create_task(pipeline.accept(batch("a b")))
    await until(lambda: exporters[1].running == 1)
    sending.cancel()
    await asyncio.wait([sending])
    assert sending.cancelled()
    assert telemetry.values("obs_hub.in_flight.size") == {(): 3}
    assert not await pipeline.drain(0.01)
    exporters[1].gate.set()
    assert await pipeline.drain(60)
    assert [exporter.stored for exporter in exporters] == [["a b"], ["a b"]]
    assert telemetry.values("obs_hub.in_flight.size") == {(): 0}
    assert telemetry.values("obs_hub.records.accepted") == {("logs",): 2}


async def test_one_exporter_that_fails_is_told_once_the_other_has_it(
    pipeline: Pipeline, exporters: list[FakeExporter], telemetry: Telemetry
) -> None:
    exporters[0].error = UnavailableError("away")
    exporters[1].gate.clear()
    sending = asyncio.create_task(pipeline.accept(batch("a")))
    await until(lambda: exporters[1].running == 1)
    await asyncio.sleep(0)
    assert not sending.done()
    exporters[1].gate.set()
    with pytest.raises(UnavailableError, match="away"):
        await sending
    exporters[0].error = None
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                # Sent again, it is stored by the one, and known to the other.
                assert await pipeline.accept(batch("a")) is ACCEPTED
                break
            except UnavailableError:  # the one is left alone for a moment
                await asyncio.sleep(0)
    assert [exporter.stored for exporter in exporters] == [["a"], ["a"]]
    assert telemetry.values("obs_hub.records.duplicate") == {("other", "logs"): 1}


async def test_what_is_refused_is_told_and_what_was_left_out_is_counted(
    pipeline: Pipeline, exporters: list[FakeExporter]
) -> None:
    with pytest.raises(RefusedError):
        await pipeline.accept(batch("bad"))
    for exporter in exporters:
        exporter.outcomes["good"] = Outcome(1, f"one is too old for {exporter.name}")
    outcome = await pipeline.accept(batch("good"))
    assert outcome == Outcome(1, "one is too old for store; one is too old for other")


async def test_an_exporter_that_fails_by_a_bug_costs_nobody_their_answer(
    pipeline: Pipeline, exporters: list[FakeExporter], telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(exporters[1], "_prepared", fail)
    with pytest.raises(ZeroDivisionError):
        await pipeline.accept(batch("a"))
    assert exporters[0].stored == []
    assert telemetry.values("obs_hub.in_flight.size") == {(): 0}


async def test_a_pipeline_without_exporters_answers(telemetry: Telemetry) -> None:
    assert await Pipeline({Signal.LOGS: []}, 10**6, telemetry.instruments).accept(batch("a")) is ACCEPTED
