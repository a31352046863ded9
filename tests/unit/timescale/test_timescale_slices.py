"""A large request is encoded in slices, between which the event loop serves others."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from exporters.timescale.exporter import TimescaleExporter
from gateway.pipeline import Batch, Signal
from tests.support.stores import settings
from tests.support.telemetry import gauge, logs, now, spans


def many_series(count: int) -> Batch:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="many")
    for n in range(count):
        metric.gauge.data_points.add(time_unix_nano=now(), as_int=n).attributes.add(key="n").value.int_value = n
    return Batch.of(Signal.METRICS, request.SerializeToString())


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> TimescaleExporter:
    """An exporter that only encodes, and gives way at every pause."""
    monkeypatch.setattr("gateway.pipeline.slices.SLICE", -1)
    return TimescaleExporter("timescale", settings(), "")


async def turns_of_others(preparing: asyncio.Task[object]) -> int:
    turns = 0
    while not preparing.done():
        await asyncio.sleep(0)
        turns += 1
    return turns


@pytest.mark.parametrize(
    "batch",
    [many_series(9_000), logs(*map(str, range(300))), spans(*map(str, range(300)))],
    ids=[signal.value for signal in Signal],
)
async def test_others_have_their_turn_while_a_request_is_encoded(exporter: TimescaleExporter, batch: Batch) -> None:
    preparing = asyncio.create_task(exporter.prepare(batch))
    assert await turns_of_others(preparing) > 7
    assert (await preparing).records in (300, 9_000)


async def test_a_request_is_encoded_anew_when_its_dimensions_are_forgotten_meanwhile(
    exporter: TimescaleExporter,
) -> None:
    preparing = asyncio.create_task(exporter.prepare(many_series(2_000)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    exporter._dimensions.forget(7)
    prepared = await preparing
    assert prepared.generation == exporter._dimensions.generation
    pending = exporter._dimensions.pending()
    assert len(pending["series"]) == 2_000
    assert {row[1] for row in pending["series"].values()} == set(pending["metric"]), "what they refer to is declared"


async def test_what_waits_for_the_database_is_not_forgotten_within_a_request(
    exporter: TimescaleExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small requests that come in between would else have a large one begin again and again."""
    monkeypatch.setattr("exporters.timescale.dimensions.Dimensions._PENDING_LIMIT", 500)
    generation = exporter._dimensions.generation
    preparing = asyncio.create_task(exporter.prepare(many_series(2_000)))
    await asyncio.sleep(0)
    await exporter.prepare(gauge())
    assert (await preparing).generation == generation
    await exporter.prepare(gauge())
    assert exporter._dimensions.generation == generation + 1
