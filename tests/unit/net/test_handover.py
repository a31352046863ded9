"""Threads reach the pipeline, which lives in a loop: what becomes of a request, and when nobody waits any longer."""

import asyncio
import concurrent.futures
from collections.abc import Callable

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from gateway.component import (
    ACCEPTED,
    Batch,
    MalformedPayloadError,
    Outcome,
    OverloadedError,
    Signal,
    TimedOutError,
    UnavailableError,
)
from gateway.net.handover import Handover
from gateway.net.sdk_exporters import make_exporter
from receivers.hostmetrics.collector import Collector
from receivers.hostmetrics.conventions import UPTIME
from receivers.hostmetrics.sensor import Observation, Sensor
from tests.support.consumers import Collecting
from tests.support.logged import Logged
from tests.support.waiting import PATIENCE, until


def some_metrics() -> MetricsData:
    return Collector([Sensor("uptime", lambda: [Observation(UPTIME, 1.5)])], Resource({"host.name": "nas"})).collect()


def handover(consumer: Collecting, **how: float) -> Handover:
    return Handover(consumer, asyncio.get_running_loop(), own_telemetry=True, **({"timeout": PATIENCE} | how))


def failing(*errors: Exception) -> Callable[[Batch], Outcome]:
    left = list(errors)

    def answer(_: Batch) -> Outcome:
        if left:
            raise left.pop(0)
        return ACCEPTED

    return answer


async def test_a_request_is_a_batch_and_its_outcome_is_told() -> None:
    consumer = Collecting(lambda _: Outcome(1, "too old"))
    assert await asyncio.to_thread(handover(consumer).send, Signal.LOGS, b"request") == Outcome(1, "too old")
    assert consumer.batches == [Batch.of(Signal.LOGS, b"request", own_telemetry=True)]


async def test_what_cannot_be_taken_now_is_given_again() -> None:
    consumer = Collecting(failing(OverloadedError("full", 0), UnavailableError("away", 0)))
    await asyncio.to_thread(handover(consumer).send, Signal.LOGS, b"request")
    assert (consumer.asked, len(consumer.batches)) == (3, 1)


async def test_a_pause_that_is_asked_for_and_ends_too_late_is_not_waited_for() -> None:
    consumer = Collecting(failing(OverloadedError("full", PATIENCE * 2)))
    with pytest.raises(OverloadedError, match="full"):
        await asyncio.to_thread(handover(consumer).send, Signal.LOGS, b"request")


async def test_what_is_refused_is_not_given_again() -> None:
    consumer = Collecting(failing(MalformedPayloadError("no protobuf")))
    with pytest.raises(MalformedPayloadError):
        await asyncio.to_thread(handover(consumer).send, Signal.LOGS, b"request")
    assert consumer.asked == 1


class Silent(Collecting):
    """Never answers."""

    async def accept(self, batch: Batch) -> Outcome:
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError


async def test_no_answer_is_waited_for_as_long_as_the_timeout_says() -> None:
    with pytest.raises(TimedOutError, match=r"not stored within 0\.01 s"):
        await asyncio.to_thread(handover(Silent(), timeout=0.01).send, Signal.LOGS, b"request")


async def test_at_the_end_nobody_waits_any_longer_and_nothing_more_is_taken() -> None:
    consumer = Silent()
    closing = handover(consumer)
    sending = asyncio.create_task(asyncio.to_thread(closing.send, Signal.LOGS, b"request"))
    await until(lambda: consumer.asked)
    closing.close()
    with pytest.raises(UnavailableError, match="the hub stops"):
        await sending
    with pytest.raises(UnavailableError, match="the hub stops"):
        await asyncio.to_thread(closing.send, Signal.LOGS, b"request")
    assert consumer.asked == 1


def test_a_loop_that_is_closed_takes_nothing() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(UnavailableError, match="the hub stops"):
        Handover(Collecting(), loop).send(Signal.LOGS, b"request")


async def test_metrics_are_encoded_as_the_sdk_does() -> None:
    consumer, data = Collecting(), some_metrics()
    exporter = make_exporter(Signal.METRICS, handover(consumer))
    assert await asyncio.to_thread(exporter.export, data) is MetricExportResult.SUCCESS
    (batch,) = consumer.batches
    assert (batch.signal, batch.payload) == (Signal.METRICS, encode_metrics(data).SerializeToString())


async def test_spans_of_the_sdk_arrive() -> None:
    consumer = Collecting()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(make_exporter(Signal.TRACES, handover(consumer))))

    def work() -> None:
        provider.get_tracer("test").start_span("commit").end()
        provider.shutdown()

    await asyncio.to_thread(work)
    (batch,) = consumer.batches
    assert batch.signal is Signal.TRACES
    assert b"commit" in batch.payload


async def test_why_nothing_is_taken_is_said_once_until_something_is(logged: Logged) -> None:
    consumer = Collecting(failing(*(MalformedPayloadError("no protobuf") for _ in range(3))))
    to = handover(consumer)
    exporter = make_exporter(Signal.METRICS, to)
    results = [await asyncio.to_thread(exporter.export, some_metrics()) for _ in range(4)]
    assert results == [*[MetricExportResult.FAILURE] * 3, MetricExportResult.SUCCESS]
    refused = {"event": "metrics are not taken", "log_level": "warning"}
    assert logged.entries == [refused | {"reason": "no protobuf"}]
    consumer.answer = failing(MalformedPayloadError("again"))
    await asyncio.to_thread(exporter.export, some_metrics())
    assert logged.entries[1:] == [refused | {"reason": "again"}]


async def test_many_threads_at_once() -> None:
    consumer = Collecting()
    to = handover(consumer)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        payloads = [f"{number}".encode() for number in range(100)]
        sending = [asyncio.wrap_future(pool.submit(to.send, Signal.LOGS, each)) for each in payloads]
        await asyncio.gather(*sending)
    assert sorted(batch.payload for batch in consumer.batches) == sorted(payloads)
