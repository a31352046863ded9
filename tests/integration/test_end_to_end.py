"""From an SDK through the gateway into the store and Loki, with a collector between where one is on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tests.integration.cli.processes import Hubs, config_text, free_port, hubs, until
from tests.support.loki import RealLoki, StandInLoki, stand_in_loki
from tests.support.waiting import PATIENCE

COUNT = 500
LOKI_VARIABLE, TEMPO_VARIABLE, TEMPO_OTLP_VARIABLE = (
    "OBSHUB_TEST_LOKI_URL",
    "OBSHUB_TEST_TEMPO_URL",
    "OBSHUB_TEST_TEMPO_OTLP",
)

ALLOY = """
otelcol.receiver.otlp "default" {
  grpc { endpoint = "127.0.0.1:%(port)d" }
  output {
    metrics = [otelcol.processor.batch.default.input]
    logs    = [otelcol.processor.batch.default.input]
    traces  = [otelcol.processor.batch.default.input]
  }
}
otelcol.processor.batch "default" {
  output {
    metrics = [otelcol.exporter.otlp.hub.input]
    logs    = [otelcol.exporter.otlp.hub.input]
    traces  = [otelcol.exporter.otlp.hub.input]
  }
}
otelcol.exporter.otlp "hub" {
  client {
    endpoint = "%(hub)s"
    tls { insecure = true }
  }
}
"""


@pytest.fixture
def hubs_to_start() -> Iterator[Hubs]:
    with hubs(forked=True) as started:
        yield started


@pytest.fixture(params=["stand-in", "real"])
def loki(request: pytest.FixtureRequest) -> Iterator[StandInLoki | RealLoki]:
    """A stand-in for Loki, and the real one where it is named."""
    if request.param == "stand-in":
        with stand_in_loki() as stand_in:
            yield stand_in
    elif url := os.environ.get(LOKI_VARIABLE):
        yield RealLoki(url.rstrip("/"))
    else:
        pytest.skip(f"{LOKI_VARIABLE} names no Loki")


@contextmanager
def collector(name: str, hub: str, folder: Path) -> Iterator[str]:
    """Run a collector between client and gateway, and yield where it listens; ``none`` is none."""
    if name == "none":
        yield hub
        return
    binary = shutil.which(name)
    if binary is None:
        pytest.skip(f"there is no {name} on PATH")
    port = free_port()
    folder.mkdir(exist_ok=True)
    if name == "alloy":
        file = folder / "config.alloy"
        file.write_text(ALLOY % {"port": port, "hub": hub})
        own = f"127.0.0.1:{free_port()}"
        command = [binary, "run", f"--server.http.listen-addr={own}", f"--storage.path={folder}", str(file)]
    else:
        file = folder / "collector.yaml"
        pipeline = {"receivers": ["otlp"], "processors": ["batch"], "exporters": ["otlp"]}
        settings = {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{port}"}}}},
            "processors": {"batch": None},
            "exporters": {"otlp": {"endpoint": hub, "tls": {"insecure": True}}},
            "service": {
                "pipelines": dict.fromkeys(("metrics", "logs", "traces"), pipeline),
                "telemetry": {"metrics": {"level": "none"}},
            },
        }
        file.write_text(yaml.safe_dump(settings))
        command = [binary, "--config", str(file)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def emit(endpoint: str, service: str) -> None:
    """Use the OpenTelemetry SDK as an application does: metrics, logs, events and spans, each with a number."""
    resource = Resource.create({"service.name": service})
    meters = MeterProvider(
        [PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=endpoint, insecure=True), 3_600_000)], resource
    )
    loggers = LoggerProvider(resource)
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(endpoint=endpoint, insecure=True)))
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True)))
    counter = meters.get_meter("test").create_counter("orders")
    logger, tracer = loggers.get_logger("test"), tracers.get_tracer("test")
    for number in range(COUNT):
        counter.add(number + 1, {"number": number})
        with tracer.start_as_current_span(f"span {number}"):
            logger.emit(LogRecord(timestamp=time.time_ns(), body=f"line {number}"))
            logger.emit(LogRecord(timestamp=time.time_ns(), body=f"event {number}", event_name="order.placed"))
    for provider in (loggers, tracers, meters):
        provider.force_flush()
        provider.shutdown()


def rows(dsn: str, query: str, service: str) -> Counter[str]:
    with psycopg.connect(dsn) as connection:
        return Counter(str(row[0]) for row in connection.execute(query.encode(), [service]))


@pytest.mark.parametrize("between", ["none", "otelcol", "alloy"])
def test_every_record_arrives_once_where_it_belongs(
    hubs_to_start: Hubs, loki: StandInLoki | RealLoki, between: str, tmp_path: Path
) -> None:
    service = f"test-{uuid.uuid4().hex}"
    exporters = {"loki": {"endpoint": loki.url}}
    config = config_text(grpc=free_port(), exporters=exporters, routes={"logs": ["timescale", "loki"]})
    hub = hubs_to_start.start(config).until_ready()
    with collector(between, hub.grpc, tmp_path / "collector") as endpoint:
        emit(endpoint, service)
        spans, events, lines = (
            Counter(f"{what} {number}" for number in range(COUNT)) for what in ("span", "event", "line")
        )
        until(lambda: rows(hub.dsn, "SELECT name FROM spans WHERE service_name = %s", service) >= spans)
        until(lambda: rows(hub.dsn, "SELECT body FROM logs WHERE service_name = %s", service) >= events)
        until(lambda: Counter(loki.lines_of(service)) >= lines + events)
        metric = "SELECT value FROM metrics WHERE name = 'orders' AND service_name = %s"
        until(lambda: len(rows(hub.dsn, metric, service)) == COUNT)
    assert rows(hub.dsn, "SELECT name FROM spans WHERE service_name = %s", service) == spans
    assert rows(hub.dsn, "SELECT body FROM logs WHERE service_name = %s", service) == events, "plain logs are Loki's"
    assert Counter(loki.lines_of(service)) == lines + events
    assert rows(hub.dsn, metric, service).keys() == {f"{float(number + 1)}" for number in range(COUNT)}


def test_a_collector_as_destination_hands_on_everything(hubs_to_start: Hubs, tmp_path: Path) -> None:
    service = f"test-{uuid.uuid4().hex}"
    far = hubs_to_start.start(config_text(grpc=free_port()), name="far").until_ready()
    with collector("otelcol", far.grpc, tmp_path / "collector") as between:
        signals = ("metrics", "logs", "traces")
        config = config_text(
            exporters={"otlp": {"endpoint": f"http://{between}"}}, routes={signal: ["otlp"] for signal in signals}
        )
        near = hubs_to_start.start(config, name="near").until_ready()
        emit(near.grpc, service)
        spans = Counter(f"span {number}" for number in range(COUNT))
        until(lambda: rows(far.dsn, "SELECT name FROM spans WHERE service_name = %s", service) >= spans)
        until(lambda: rows(far.dsn, "SELECT body FROM logs WHERE service_name = %s", service).total() == 2 * COUNT)
    assert rows(far.dsn, "SELECT name FROM spans WHERE service_name = %s", service) == spans


def test_traces_fan_out_to_tempo(hubs_to_start: Hubs) -> None:
    url = os.environ.get(TEMPO_VARIABLE)
    if not url:
        pytest.skip(f"{TEMPO_VARIABLE} names no Tempo")
    otlp = os.environ.get(TEMPO_OTLP_VARIABLE, f"http://{httpx.URL(url).host}:4317")
    config = config_text(exporters={"otlp/tempo": {"endpoint": otlp}}, routes={"traces": ["timescale", "otlp/tempo"]})
    hub = hubs_to_start.start(config).until_ready()
    tracers = TracerProvider(resource=Resource.create({"service.name": "test"}))
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=hub.grpc, insecure=True)))
    with tracers.get_tracer("test").start_as_current_span("to tempo") as span:
        trace_id = f"{span.get_span_context().trace_id:032x}"
    tracers.shutdown()

    def found() -> bool:
        answer = httpx.get(f"{url.rstrip('/')}/api/traces/{trace_id}", timeout=PATIENCE)
        return answer.status_code == 200 and "to tempo" in answer.text

    until(found)
    assert rows(hub.dsn, "SELECT name FROM spans WHERE trace_id = %s", trace_id) == {"to tempo": 1}
