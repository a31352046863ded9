"""The example of a plugin is installed as a package, and runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from tests.integration.cli.processes import ROOT, Hubs, environment, hubs, obs_hub_process
from tests.support import shared
from tests.support.telemetry import logs
from tests.support.waiting import PATIENCE

EXAMPLE = ROOT / "docs/examples/plugin"
EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def run(*words: object, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site() -> Path:
    """A folder of installed packages with the example, built from a copy as it was released."""
    return shared.once("plugin", install)


def install(folder: Path) -> None:
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    run("pip", "install", "--quiet", "--no-compile", *offline, "--target", folder, EXAMPLE)


@pytest.fixture
def hubs_to_start() -> Iterator[Hubs]:
    with hubs() as started:
        yield started


def on_path(site: Path) -> str:
    return f"{site}:{ROOT / 'gateway/packaging'}"


def test_it_is_an_installed_package(site: Path) -> None:
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} - {"bin"} == {"hub_example"}


def test_it_runs_in_a_hub(site: Path, hubs_to_start: Hubs, tmp_path: Path) -> None:
    """From the receiver through the processor to the exporter, besides what a client sends."""
    written = tmp_path / "heartbeats.jsonl"
    config = yaml.safe_load((EXAMPLE / "hub.yaml").read_text())
    config["receivers"]["otlp"] = {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}
    config["service"]["pipelines"]["logs"]["receivers"].append("otlp")
    text = yaml.safe_dump(config)
    hub = hubs_to_start.start(text, PYTHONPATH=on_path(site), HEARTBEATS=str(written)).until_ready()
    with grpc.insecure_channel(hub.grpc) as channel:
        channel.unary_unary(EXPORT)(logs("same", "same", "other").payload, timeout=PATIENCE)

    def records() -> list[dict[str, Any]]:
        requests = map(json.loads, written.read_text().splitlines()) if written.exists() else []
        scopes = [each for request in requests for owner in request["resourceLogs"] for each in owner["scopeLogs"]]
        return [record for scope in scopes for record in scope["logRecords"]]

    hub.until(lambda: sum(record.get("eventName") == "heartbeat" for record in records()) > 1)
    assert hub.stop() == 0, hub.stderr
    assert [each["body"]["stringValue"] for each in records() if "body" in each] == ["same", "other"]


def test_its_settings_are_checked_and_described(site: Path, tmp_path: Path) -> None:
    variables = {"PYTHONPATH": on_path(site)}
    checked = obs_hub_process("config", "check", "-c", EXAMPLE / "hub.yaml", **variables)
    assert checked.returncode == 0, checked.stderr
    schema = json.loads(obs_hub_process("config", "schema", **variables).stdout)
    assert "^jsonlines(/.+)?$" in schema["properties"]["exporters"]["patternProperties"]
    assert schema["$defs"]["HeartbeatConfig"]["properties"]["interval"]["description"] == "How often."
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((EXAMPLE / "hub.yaml").read_text().replace("interval: 1s", "interval: 1ms"))
    told = obs_hub_process("config", "check", "-c", wrong, **variables)
    assert told.returncode == 1
    assert "receivers.heartbeat.interval" in told.stderr


def test_without_it_what_is_missing_is_said() -> None:
    told = obs_hub_process("config", "check", "-c", EXAMPLE / "hub.yaml")
    assert told.returncode == 1
    assert "unknown exporter 'jsonlines'" in told.stderr


def test_its_own_tests_pass(site: Path, tmp_path: Path) -> None:
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "-c", EXAMPLE / "pyproject.toml")
    assert "passed" in run("pytest", *options, EXAMPLE / "tests", PYTHONPATH=on_path(site))
