"""What a destination beside the store refuses is for the operator's log, not for clients: the store has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.component import ACCEPTED, Signal
from gateway.pipeline import Delivery, Pipeline
from gateway.pipeline.dead_letters import DeadLetters
from tests.support.logged import Logged
from tests.unit.pipeline.fakes import FakeExporter, Telemetry, batch


def beside(telemetry: Telemetry, dead_letters: DeadLetters | None) -> Delivery:
    return Delivery(
        FakeExporter("prometheus"),
        telemetry.instruments,
        telemetry.tracer,
        dead_letters=dead_letters,
        kept_by_others=[Signal.METRICS],
    )


@pytest.mark.parametrize("keeps_letters", [True, False])
async def test_clients_are_told_nothing_and_the_operator_once(
    tmp_path: Path, logged: Logged, keeps_letters: bool
) -> None:
    telemetry = Telemetry()
    letters = DeadLetters(tmp_path) if keeps_letters else None
    store = FakeExporter("store")
    store.refuses = frozenset()
    deliveries = [telemetry.delivery(store), beside(telemetry, letters)]
    for delivery in deliveries:
        await delivery.start()
    pipeline = Pipeline({Signal.METRICS: deliveries}, 2**20, telemetry.instruments)
    for number in range(20):
        assert await pipeline.accept(batch(f"bad {number}", Signal.METRICS)) is ACCEPTED
    for delivery in deliveries:
        await delivery.stop()
    assert len(store.stored) == 20
    (line,) = logged.complaints
    assert line["event"].startswith("refused batches are ")
    assert (line["exporter"], line["batches"]) == ("prometheus", 1)
    assert "1 batches with a bad record among them" in line["reason"]
    if letters is not None:
        assert len(list(letters)) == 20
        assert telemetry.values("obs_hub.records.dead_lettered") == {("prometheus", "metrics"): 40}


async def test_of_a_signal_that_nobody_else_keeps_clients_are_told(tmp_path: Path) -> None:
    telemetry = Telemetry()
    delivery = beside(telemetry, DeadLetters(tmp_path))
    await delivery.start()
    outcome = await Pipeline({Signal.LOGS: [delivery]}, 2**20, telemetry.instruments).accept(batch("bad"))
    await delivery.stop()
    assert outcome.message.startswith("prometheus refused this batch: ")
