"""A large request is encoded in slices, between which the event loop serves others."""

from __future__ import annotations

import asyncio
import gc
import pkgutil
import threading
from collections import Counter
from collections.abc import Callable, Generator

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from exporters.timescale.exporter import TimescaleExporter
from gateway.component import Batch, Signal
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
    monkeypatch.setattr("gateway.base.slices.SLICE", -1)
    monkeypatch.setattr("gateway.base.slices.SHORT", -1)
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


def resources(count: int) -> Batch:
    request = ExportMetricsServiceRequest()
    for n in range(count):
        owner = request.resource_metrics.add()
        owner.resource.attributes.add(key="n").value.int_value = n
        owner.scope_metrics.add().scope.name = f"scope {n}"
    return Batch.of(Signal.METRICS, request.SerializeToString())


async def test_others_have_their_turn_at_each_series_that_is_new(exporter: TimescaleExporter) -> None:
    assert await turns_of_others(asyncio.create_task(exporter.prepare(many_series(500)))) > 500
    assert await turns_of_others(asyncio.create_task(exporter.prepare(many_series(500)))) < 50, "they are known now"


def many_metrics(count: int) -> Batch:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    for n in range(count):
        metric = scope.metrics.add(name=f"metric {n}", description="of many")
        metric.metadata.add(key="source").value.int_value = n
        metric.gauge.data_points.add(time_unix_nano=now(), as_int=n).attributes.add(key="n").value.int_value = n
    return Batch.of(Signal.METRICS, request.SerializeToString())


def many_events(count: int) -> Batch:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for n in range(count):
        record = scope.log_records.add(time_unix_nano=now(), event_name="e")
        record.attributes.add(key="log.record.uid").value.string_value = str(n)
    return Batch.of(Signal.LOGS, request.SerializeToString())


@pytest.mark.parametrize("make", [many_metrics, many_series, many_events])
async def test_garbage_collection_looks_through_nothing_that_is_remembered(
    exporter: TimescaleExporter, make: Callable[[int], Batch]
) -> None:
    """It holds the event loop for as long as there are objects that it looks through."""
    small = await exporter.prepare(make(10))
    gc.collect()
    before = len(gc.get_objects())
    large = await exporter.prepare(make(2_000))
    gc.collect()
    assert len(gc.get_objects()) < before + 200
    assert (small.records, large.records) == (10, 2_000)


async def test_others_have_their_turn_where_resources_hold_nothing(exporter: TimescaleExporter) -> None:
    assert await turns_of_others(asyncio.create_task(exporter.prepare(resources(1_000)))) > 30


def large_span() -> Batch:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=bytes(15) + b"1", span_id=bytes(7) + b"1")
    span.start_time_unix_nano = now()
    for n in range(5_000):
        span.events.add(name=f"event {n}")
    return Batch.of(Signal.TRACES, request.SerializeToString())


def large_event() -> Batch:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=now())
    record.body.kvlist_value.SetInParent()
    for n in range(5_000):
        record.body.kvlist_value.values.add(key=f"key {n}").value.int_value = n
    return Batch.of(Signal.LOGS, request.SerializeToString())


@pytest.mark.parametrize(
    ("batch", "what", "encoder"),
    [
        (large_span(), "exporters.timescale.traces._event", "traces"),
        (large_event(), "exporters.timescale.values.any_value_json", "logs"),
    ],
    ids=["span", "log record"],
)
async def test_one_large_record_is_encoded_off_the_loop(
    exporter: TimescaleExporter, monkeypatch: pytest.MonkeyPatch, batch: Batch, what: str, encoder: str
) -> None:
    encode, threads = pkgutil.resolve_name(what), set()

    def noting(*arguments: object) -> object:
        threads.add(threading.get_ident())
        return encode(*arguments)

    monkeypatch.setattr(what, noting)
    large = await exporter.prepare(batch)
    assert threads
    assert threading.get_ident() not in threads
    monkeypatch.setattr(f"exporters.timescale.{encoder}.LARGE", 2**30)
    assert large.rows is not None
    assert (again := (await exporter.prepare(batch)).rows) is not None
    assert large.rows.chunks == again.chunks, "it becomes the same rows as on the loop"


async def test_of_many_requests_that_take_long_few_have_a_slice_in_each_turn(
    exporter: TimescaleExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that takes no time needs several turns of the event loop, which must not be long."""
    encode, slices, turn = exporter._encode, Counter[int](), 0

    def counted(batch: Batch) -> Generator[None, None, object]:
        encoding = encode(batch)
        while True:
            slices[turn] += 1
            try:
                next(encoding)
            except StopIteration as ended:
                return ended.value
            yield

    monkeypatch.setattr(exporter, "_encode", counted)
    preparing = [asyncio.create_task(exporter.prepare(logs(*map(str, range(300))))) for _ in range(20)]
    while not all(each.done() for each in preparing):
        await asyncio.sleep(0)
        turn += 1
    assert slices[0] == 20, "the first slice, which is short, is everybody's"
    assert max(count for at, count in slices.items() if at) <= 8
    assert all(each.result().records == 300 for each in preparing)


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
