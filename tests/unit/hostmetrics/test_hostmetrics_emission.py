"""From this machine to an OTLP server: once, as a receiver, and when nobody answers."""

import asyncio
import itertools
import platform
import signal
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psutil
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from gateway.component import ACCEPTED, Batch, Outcome, OverloadedError, Receiver, Signal
from gateway.component.declaration import Context
from gateway.net.remote import elsewhere
from receivers.hostmetrics.config import HostMetricsConfig
from receivers.hostmetrics.emitter import Emitter, pauses
from receivers.hostmetrics.factory import create
from receivers.hostmetrics.run import run_forever, run_once
from receivers.hostmetrics.sender import destination
from tests.support.consumers import Collecting
from tests.support.logged import Logged
from tests.support.waiting import PATIENCE, until


def make(name: str, settings: HostMetricsConfig) -> Receiver:
    """The receiver, given what the hub would give it whose settings name an endpoint."""
    return create(name, settings, elsewhere(settings, [Signal.METRICS]), Context())


def emitter_of(settings: HostMetricsConfig) -> Emitter:
    return Emitter(settings, destination(settings))


def config(endpoint: str, **settings: Any) -> HostMetricsConfig:
    return HostMetricsConfig.model_validate({"endpoint": endpoint, "collection_interval": "1h", **settings})


@pytest.fixture
def silent() -> Iterator[str]:
    """An endpoint that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    """An endpoint where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_once(sink: Any) -> None:
    before = time.time_ns()
    assert run_once(config(sink.endpoint))
    assert len(sink.requests) == 1

    attributes = sink.resource()
    assert attributes["host.name"] == socket.gethostname()
    assert attributes["os.type"] == platform.system().lower()
    assert attributes["service.name"] == "obs-hub-hostmetrics"

    metrics = sink.metrics()
    time_points = metrics["system.cpu.time"].sum
    assert time_points.is_monotonic
    assert time_points.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    assert not metrics["system.memory.usage"].sum.is_monotonic
    boot_time = round(psutil.boot_time() * 10**9)
    for metric in metrics.values():
        for point in metric.sum.data_points:
            assert point.start_time_unix_nano == boot_time, metric.name
        for point in (*metric.sum.data_points, *metric.gauge.data_points):
            assert before <= point.time_unix_nano <= time.time_ns()

    # Utilisation is there although this is the first and only export.
    shares = metrics["system.cpu.utilization"].gauge.data_points
    assert all(0 <= point.as_double <= 1 for point in shares)
    cores = {each.value.int_value for point in shares for each in point.attributes if each.key == "cpu.logical_number"}
    total = sum(point.as_double for point in shares)
    assert total == pytest.approx(len(cores))
    assert cores
    (memory,) = metrics["system.memory.limit"].sum.data_points
    assert memory.as_int == psutil.virtual_memory().total


def test_once_only_what_is_enabled(sink: Any) -> None:
    off = {group: {"enabled": False} for group in type(HostMetricsConfig().scrapers).model_fields if group != "system"}
    assert run_once(config(sink.endpoint, scrapers=off))
    assert sink.metrics().keys() == {"system.uptime"}


def test_once_with_everything_from_the_environment(sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=cellar")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=nas")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "cellar-metrics")
    assert run_once(HostMetricsConfig())
    assert sink.metadata[0]["x-tenant"] == "cellar"
    assert (sink.resource()["host.name"], sink.resource()["service.name"]) == ("nas", "cellar-metrics")


def test_once_with_sensors_that_fail(sink: Any, monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "/proc/diskstats")

    monkeypatch.setattr(psutil, "disk_io_counters", denied)
    monkeypatch.setattr(psutil, "sensors_temperatures", denied, raising=False)
    assert run_once(config(sink.endpoint))
    assert "system.disk.io" not in sink.metrics()
    assert "system.network.io" in sink.metrics()
    told = {entry["sensor"]: entry["reason"] for entry in logged.of("a sensor cannot be read")}
    reason = "PermissionError: [Errno 13] Permission denied: '/proc/diskstats'"
    assert told == {"disk": reason, "temperatures": reason}


def test_once_when_nobody_answers(closed: str, logged: Logged) -> None:
    assert run_once(config(closed, timeout="100ms")) is False
    assert [entry["to"] for entry in logged.of("host metrics cannot be sent")] == [closed]


async def test_the_receiver_emits_while_it_is_started(sink: Any) -> None:
    receiver = make("hostmetrics/fast", config(sink.endpoint, collection_interval="1s"))
    assert (receiver.name, receiver.endpoints) == ("hostmetrics/fast", {})
    await receiver.stop(0)  # harmless when not started
    await receiver.start()
    await asyncio.to_thread(sink.wait_for, 2)
    await receiver.stop(60)
    assert "system.cpu.utilization" not in sink.metrics(0), "it takes two collections"
    assert "system.cpu.utilization" in sink.metrics(1)
    assert "hostmetrics/fast" not in {thread.name for thread in threading.enumerate()}
    await receiver.stop(0)  # harmless when stopped


async def test_the_receiver_sends_a_last_collection_when_it_is_stopped(sink: Any) -> None:
    receiver = make("hostmetrics", config(sink.endpoint))
    await receiver.start()
    await asyncio.to_thread(sink.wait_for, 1)
    sent = len(sink.requests)
    await receiver.stop(60)
    assert len(sink.requests) > sent


async def test_stopping_does_not_wait_for_an_endpoint_that_is_silent(silent: str) -> None:
    """The export under way would take an hour; that this test ends in time is what it is about."""
    receiver = make("hostmetrics", config(silent, timeout="1h"))
    await receiver.start()
    await receiver.stop(0.1)


def test_an_export_under_way_is_given_up_once_the_time_to_stop_is_over(silent: str) -> None:
    emitter = emitter_of(config(silent, timeout="1h"))
    emitter.start()
    emitter.stop(0.1)
    emitter._thread.join(PATIENCE)
    assert not emitter._thread.is_alive()


def test_collecting_goes_on_during_an_outage(sink: Any, logged: Logged) -> None:
    sink.refusing = True
    emitter = emitter_of(config(sink.endpoint))
    # Shorter than one may configure; the exporter keeps the timeout it was made with.
    emitter._config = emitter._config.model_copy(update={"collection_interval": timedelta(milliseconds=10)})
    emitter.start()
    while not emitter._sender.failing:
        time.sleep(0.01)
    sink.refusing = False
    sink.wait_for(2)
    emitter.stop(60)
    assert len(logged.of("cannot be sent")) == 1
    assert len(logged.of("host metrics are sent again")) == 1


async def test_nobody_listening_is_no_reason_not_to_start(closed: str) -> None:
    receiver = make("hostmetrics", config(closed, timeout="100ms"))
    await receiver.start()
    await receiver.stop(60)


def test_a_destination_that_cannot_be_used_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")
    with pytest.raises(ValueError, match="carrier-pigeon"):
        run_once(HostMetricsConfig())


def test_running_until_a_signal(sink: Any) -> None:
    stop = threading.Event()
    sent: list[int] = []

    def handle(*_: object) -> None:
        sent.append(len(sink.requests))
        stop.set()

    previous = signal.signal(signal.SIGUSR1, handle)
    try:

        def ask() -> None:
            sink.wait_for(1)
            # Taken by a thread that is not the main one: the worst that the kernel may do, and as good as one that
            # comes just before the main one begins to wait. Neither interrupts its wait.
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

        sender = threading.Thread(target=ask)
        sender.start()
        run_forever(config(sink.endpoint), stop)
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert len(sink.requests) > sent[0], "one is sent at the end"


async def test_without_an_endpoint_they_are_handed_to_the_hub_that_runs_it() -> None:
    consumer = Collecting()
    settings = HostMetricsConfig.model_validate({"collection_interval": "1h"})
    receiver = create("hostmetrics", settings, consumer, Context())
    await receiver.start()
    at_the_start = await until(lambda: len(consumer.batches))
    await receiver.stop(PATIENCE)
    assert len(consumer.batches) > at_the_start, "one is sent at the end"
    for batch in consumer.batches:
        assert batch.signal is Signal.METRICS
        request = ExportMetricsServiceRequest.FromString(batch.payload)
        assert {metric.name for of in request.resource_metrics for metric in of.scope_metrics[0].metrics} >= {
            "system.uptime",
            "system.cpu.time",
        }


async def test_a_hub_that_takes_nothing_is_an_outage_as_another_is(logged: Logged) -> None:

    def full(_: Batch) -> Outcome:
        raise OverloadedError("too much at once", PATIENCE)

    consumer = Collecting(full)
    settings = HostMetricsConfig.model_validate({"collection_interval": "1s"})
    receiver = create("hostmetrics", settings, consumer, Context())
    await receiver.start()
    await until(lambda: consumer.asked > 1)
    consumer.answer = lambda _: ACCEPTED
    await until(lambda: logged.of("host metrics are sent again"))
    await receiver.stop(PATIENCE)
    (outage,) = logged.of("host metrics cannot be sent")
    assert outage["to"] == "this hub"
    assert "too much at once" in outage["reason"]


async def test_stopping_does_not_wait_for_a_hub_that_does_not_answer() -> None:
    class Silent(Collecting):
        async def accept(self, batch: Batch) -> Outcome:
            self.asked += 1
            return await asyncio.Future()

    consumer = Silent()
    settings = HostMetricsConfig.model_validate({"collection_interval": "1h", "timeout": "1h"})
    receiver = create("hostmetrics", settings, consumer, Context())
    await receiver.start()
    await until(lambda: consumer.asked)
    await receiver.stop(0.1)
    await until(lambda: "hostmetrics" not in {thread.name for thread in threading.enumerate()})


@pytest.mark.parametrize(("interval", "first"), [(15.0, [1, 2, 4, 8, 15, 15]), (1.5, [1, 1.5, 1.5]), (0.1, [0.1, 0.1])])
def test_the_first_collections_come_sooner(interval: float, first: list[float]) -> None:
    assert list(itertools.islice(pauses(interval), len(first))) == first
