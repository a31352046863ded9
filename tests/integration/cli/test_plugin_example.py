"""The example of a plugin is installed as a package, and runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli.processes import ROOT, Hubs, environment, hubs, obs_hub_process
from tests.support.waiting import PATIENCE

EXAMPLE = ROOT / "docs/examples/plugin"


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
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with the example, built from a copy as it was released."""
    folder = tmp_path_factory.mktemp("plugin")
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    run("pip", "install", "--quiet", *offline, "--target", folder / "site", EXAMPLE)
    return folder / "site"


@pytest.fixture
def hubs_to_start() -> Iterator[Hubs]:
    with hubs() as started:
        yield started


def on_path(site: Path) -> str:
    return f"{site}:{ROOT / 'gateway/packaging'}"


def test_it_is_an_installed_package(site: Path) -> None:
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} - {"bin"} == {"hub_example"}


def test_it_runs_in_a_hub(site: Path, hubs_to_start: Hubs, tmp_path: Path) -> None:
    """From the receiver through the processor to the exporter, without anything of the hub's own between."""
    written = tmp_path / "heartbeats.jsonl"
    config = (EXAMPLE / "hub.yaml").read_text()
    hub = hubs_to_start.start(config, PYTHONPATH=on_path(site), HEARTBEATS=str(written)).until_ready()
    hub.until(lambda: written.exists() and len(written.read_text().splitlines()) > 1)
    assert hub.stop() == 0, hub.stderr
    for line in written.read_text().splitlines():
        (owner,) = json.loads(line)["resourceLogs"]
        ((record,),) = [scope["logRecords"] for scope in owner["scopeLogs"]]
        assert record["eventName"] == "heartbeat"
        attributes = {each["key"]: each["value"]["stringValue"] for each in owner["resource"]["attributes"]}
        assert attributes["site"] == "cellar"


def test_its_settings_are_checked_and_described(site: Path, tmp_path: Path) -> None:
    variables = {"PYTHONPATH": on_path(site)}
    checked = obs_hub_process("config", "check", "-c", EXAMPLE / "hub.yaml", **variables)
    assert checked.returncode == 0, checked.stderr
    schema = json.loads(obs_hub_process("config", "schema", **variables).stdout)
    assert "^jsonlines(/.+)?$" in schema["properties"]["exporters"]["patternProperties"]
    assert schema["$defs"]["SiteConfig"]["properties"]["name"]["description"] == "Its value."
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
