"""Alloy and the Collector, run for real where they are on PATH, pass on what they get, to the last record."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.integration.cli.processes import PATIENCE, HubProcess, config_text, free_port, hubs
from tests.integration.otel_config import lab

CONFIG = Path(__file__).parents[3] / "otel-config"


@pytest.fixture
def hub() -> Iterator[HubProcess]:
    with hubs(forked=True) as started:
        yield started.start(config_text(http=free_port())).until_ready()


@contextmanager
def running(command: list[str], folder: Path, **environment: str) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment}, cwd=folder)
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def send(url: str, signal: str, payload: bytes) -> None:
    """Send as soon as somebody answers; an OK says that the gateway has it."""
    request = urllib.request.Request(f"{url}/v1/{signal}", payload, {"Content-Type": "application/x-protobuf"})
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(request, timeout=PATIENCE).close()
            return
        except urllib.error.URLError as error:
            if time.monotonic() > deadline:
                pytest.fail(f"nobody takes it at {url}: {error}")
            time.sleep(0.2)


def assert_passes_everything_on(hub: HubProcess, url: str) -> None:
    send(url, "metrics", lab.metrics())
    send(url, "logs", lab.events())
    traces = lab.traces()
    send(url, "traces", traces)
    spans = sum(len(each.scope_spans[0].spans) for each in ExportTraceServiceRequest.FromString(traces).resource_spans)
    # Without waiting: whoever got an OK may take for granted that it is in the store.
    with psycopg.connect(hub.dsn) as connection:
        for view, wanted in (("metrics WHERE name = 'hw.temperature'", lab.MINUTES + 1), ("spans", spans)):
            assert connection.execute(f"SELECT count(*) FROM {view}".encode()).fetchone() == (wanted,)
        (events,) = connection.execute("SELECT count(*) FROM events WHERE name = 'cover.created'").fetchone() or (0,)
        assert events == len(range(1, lab.MINUTES, 30))


def test_alloy_passes_everything_on(hub: HubProcess, tmp_path: Path) -> None:
    if shutil.which("alloy") is None:
        pytest.skip("there is no alloy on PATH")
    port, grpc_port, own = free_port(), free_port(), free_port()
    text = (CONFIG / "alloy/config.alloy").read_text("utf-8")
    (tmp_path / "config.alloy").write_text(text.replace(":4318", f":{port}").replace(":4317", f":{grpc_port}"))
    options = [f"--server.http.listen-addr=127.0.0.1:{own}", f"--storage.path={tmp_path}/alloy", "--disable-reporting"]
    with running(
        ["alloy", "run", *options, "config.alloy"],
        tmp_path,
        OBSHUB_ENDPOINT=f"http://{hub.running.endpoints['otlp http']}",
    ):
        assert_passes_everything_on(hub, f"http://127.0.0.1:{port}")


def test_counters_that_alloy_scrapes_are_sums(hub: HubProcess, tmp_path: Path) -> None:
    if shutil.which("alloy") is None:
        pytest.skip("there is no alloy on PATH")
    text = (CONFIG / "alloy/config.alloy").read_text("utf-8").replace('"30s"', '"1s"\n\tscrape_timeout = "1s"')
    (tmp_path / "config.alloy").write_text(text.replace(":4318", ":0").replace(":4317", ":0"))
    options = [f"--server.http.listen-addr=127.0.0.1:{free_port()}", f"--storage.path={tmp_path}/alloy"]
    with running(
        ["alloy", "run", *options, "--disable-reporting", "config.alloy"],
        tmp_path,
        OBSHUB_ENDPOINT=f"http://{hub.running.endpoints['otlp http']}",
    ):
        types = "SELECT name ~ '_total$', type, is_monotonic FROM metric WHERE name ~ '^(alloy|go)_' GROUP BY 1, 2, 3"

        def found() -> set[tuple[bool, str, bool]]:
            with psycopg.connect(hub.dsn) as connection:
                return set(connection.execute(types.encode()).fetchall())

        hub.until(lambda: any(counter for counter, *_ in found()))
    assert {each for each in found() if each[0]} == {(True, "sum", True)}


@pytest.mark.parametrize("command", ["otelcol-contrib", "otelcol"])
def test_the_collector_passes_everything_on(hub: HubProcess, tmp_path: Path, command: str) -> None:
    if shutil.which(command) is None:
        pytest.skip(f"there is no {command} on PATH")
    listed = subprocess.run(
        [command, "components"], check=True, capture_output=True, text=True, timeout=PATIENCE
    ).stdout
    if "journald" not in listed or "transform" not in listed:
        pytest.skip(f"{command} is not the contrib distribution")
    port, own = free_port(), str(free_port())
    text = (CONFIG / "collector/config.yaml").read_text("utf-8").replace("8888", own)
    config = yaml.safe_load(
        text.replace("127.0.0.1:4318", f"127.0.0.1:{port}").replace("127.0.0.1:4317", "127.0.0.1:0")
    )
    config["extensions"]["file_storage"]["directory"] = str(tmp_path / "storage")
    del config["service"]["pipelines"]["logs/journal"]  # this machine may have no journal
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with running(
        [command, "--config=config.yaml"], tmp_path, OBSHUB_ENDPOINT=f"http://{hub.running.endpoints['otlp http']}"
    ):
        assert_passes_everything_on(hub, f"http://127.0.0.1:{port}")
