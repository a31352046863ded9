"""The homelab's compose file: right by the Compose Specification, and everything it names is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.cli.processes import obs_hub
from tests.integration.test_documents import parsed
from tests.support.container import COMPOSE, ROOT, compose, example_environment, interpolated, variables_of

FILES = [("compose.yaml",), ("compose.yaml", "compose.timescaledb.yaml")]
files = pytest.mark.parametrize("names", FILES, ids=" and ".join)

TOP_LEVEL = {"name", "services", "volumes"}
SERVICE = {
    "build", "cap_drop", "command", "depends_on", "entrypoint", "environment", "healthcheck", "hostname", "image",
    "init", "mem_limit", "network_mode", "pid", "ports", "profiles", "read_only", "restart", "security_opt",
    "shm_size", "stop_grace_period", "tmpfs", "user", "volumes",
}  # fmt: skip
"""The attributes of a service that the files use, of those that the specification has."""
HEALTH = {"test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"}
DURATION = r"(\d+(us|ms|s|m|h))+"
SIZE = r"\d+(b|k|m|g|kb|mb|gb)"
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


def project(names: tuple[str, ...], **variables: str) -> dict[str, Any]:
    """Return the files as Docker sees them, with the example's environment."""
    found: dict[str, Any] = interpolated(compose(*names), {**example_environment(), **variables})
    return found


@files
def test_it_keeps_to_the_specification(names: tuple[str, ...]) -> None:
    whole = project(names)
    assert {key for key in whole if not key.startswith("x-")} == TOP_LEVEL
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", whole["name"])
    for name, service in whole["services"].items():
        assert set(service) <= SERVICE, name
        assert re.fullmatch(r"no|always|unless-stopped|on-failure(:\d+)?", service["restart"])
        for key in ("command", "entrypoint", "cap_drop", "security_opt", "tmpfs", "profiles"):
            assert isinstance(service.get(key, []), list), (name, key)
            assert all(isinstance(each, str) for each in service.get(key, [])), (name, key)
        for key in ("mem_limit", "shm_size"):
            assert re.fullmatch(SIZE, service.get(key, "1b")), (name, key)
        assert re.fullmatch(DURATION, service.get("stop_grace_period", "10s"))
        assert all(isinstance(value, str) for value in service.get("environment", {}).values()), name
        for port in service.get("ports", []):
            assert re.fullmatch(r"[\d.]+:\d+:\d+", port), (name, port)
        health = service.get("healthcheck", {})
        assert set(health) <= HEALTH
        for key in ("interval", "timeout", "start_period", "start_interval"):
            assert re.fullmatch(DURATION, health.get(key, "1s")), (name, key)
        for other, how in service.get("depends_on", {}).items():
            assert other in whole["services"], (name, other)
            assert how["condition"] in CONDITIONS
            assert set(how) <= {"condition", "restart"}
        for network in (service.get("network_mode", "host"), service.get("pid", "host")):
            kind, _, other = network.partition(":")
            assert kind == "host" or (kind == "service" and other in whole["services"]), (name, network)


@files
def test_docker_compose_takes_it(names: tuple[str, ...]) -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("there is no docker compose on PATH")
    options = [word for name in names for word in ("-f", name)]
    done = subprocess.run(
        ["docker", "compose", "--profile", "*", *options, "config", "--quiet"],
        cwd=COMPOSE,
        env={**os.environ, **example_environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    """The mounts of a service: where from, and where to."""
    found = []
    for volume in service.get("volumes", []):
        if isinstance(volume, dict):
            found.append((volume["source"], volume["target"]))
        else:
            source, target, *_ = volume.split(":")
            found.append((source, target))
    return found


@files
def test_every_file_that_is_mounted_is_there_and_read_only(names: tuple[str, ...]) -> None:
    whole = project(names)
    for name, service in whole["services"].items():
        for source, _ in mounts(service):
            if source.startswith("."):
                assert (COMPOSE / source).resolve().is_relative_to(ROOT)
                assert (COMPOSE / source).exists(), (name, source)
            elif not source.startswith("/"):
                assert source in whole["volumes"], (name, source)
        for volume in service.get("volumes", []):
            if isinstance(volume, dict):
                assert volume["read_only"]
            elif volume.startswith((".", "/")):
                assert volume.endswith(":ro"), (name, volume)
    assert (COMPOSE / whole["services"]["hub"]["build"]["context"]).resolve() == ROOT


@files
def test_no_part_may_more_than_it_needs(names: tuple[str, ...]) -> None:
    whole = project(names)
    for name, service in whole["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "mem_limit" in service or name == "reader", name
        assert re.search(r":v?\w*\d[\w.-]*$", service["image"]), name
        assert not service["image"].endswith("latest")
        assert (service.get("user") == "0:0") == (name == "alloy"), name
        assert (service.get("network_mode") == "host") == (name == "hostmetrics"), name
        assert "docker.sock" not in str(service)


@files
def test_what_is_published_is_for_this_machine_alone(names: tuple[str, ...]) -> None:
    ports = [port for service in project(names)["services"].values() for port in service.get("ports", [])]
    assert [port.rpartition(":")[2] for port in ports] == ["4317", "4318", "8085", "3000"]
    assert all(port.startswith("127.0.0.1:") for port in ports)


@files
def test_every_variable_is_explained_and_passwords_have_no_default(names: tuple[str, ...]) -> None:
    text = (COMPOSE / "env.example").read_text("utf-8")
    for name in set(variables_of(compose(*names))) - {"OBSHUB_IMAGE"}:
        assert re.search(rf"^(# )?{name}=", text, re.MULTILINE), name
    for password in ("OBSHUB_READER_PASSWORD", "GRAFANA_ADMIN_PASSWORD"):
        assert re.search(rf"^{password}=$", text, re.MULTILINE)
        with pytest.raises(KeyError, match=f"{password}: write it into .env"):
            interpolated(compose(*names), {**example_environment(), password: ""})


@files
@pytest.mark.parametrize("logs", ["[timescale]", "[timescale, loki]"])
def test_the_hub_takes_its_configuration(names: tuple[str, ...], logs: str) -> None:
    environment = project(names, OBSHUB_LOGS_EXPORTERS=logs)["services"]["hub"]["environment"]
    checked = obs_hub("config", "check", "--config", COMPOSE / "hub.yaml", **environment)
    assert checked.returncode == 0, checked.stderr
    shown = yaml.safe_load(obs_hub("config", "show", "--config", COMPOSE / "hub.yaml", **environment).stdout)
    assert (shown["exporters"]["timescale"].get("dsn") is None) == (len(names) == 1)
    assert shown["service"]["pipelines"]["logs"]["exporters"] == yaml.safe_load(logs)
    assert obs_hub("config", "check", "--config", COMPOSE / "hostmetrics.yaml").returncode == 0


@files
def test_what_is_told_the_hubs_image_is_understood_by_the_command_line(names: tuple[str, ...]) -> None:
    services = project(names)["services"]
    parsed(services["hostmetrics"]["command"])
    shell, option, script = services["reader"]["entrypoint"]
    assert (shell, option) == ("sh", "-c")
    (command,) = re.findall(r"\| obs-hub (.+)$", script)
    parsed(command.split())


@files
def test_each_part_finds_the_others(names: tuple[str, ...]) -> None:
    """Addresses in the environment and in configurations are those of services, on ports that these listen on."""
    services = project(names)["services"]
    text = yaml.safe_dump(services) + (COMPOSE / "hub.yaml").read_text("utf-8")
    listening = {"hub": {"4317", "4318", "8085"}, "loki": {"3100"}, "timescaledb": {"5432"}}
    found = set(re.findall(r"(?:http://|@|OBSHUB_PG_URL: )([a-z]+):(\d+)", text))
    assert found
    for name, port in found:
        assert name in services
        assert port in listening[name]
    if len(names) == 1:
        # Grafana is in the hub's network, where the embedded PostgreSQL lets readers in.
        assert services["grafana"]["network_mode"] == "service:hub"
        assert services["grafana"]["environment"]["OBSHUB_PG_URL"] == "127.0.0.1:5433"
        assert "OBSHUB_READERS_PORT:-5433" in (COMPOSE / "hub.yaml").read_text("utf-8")


@files
def test_grafana_is_given_every_variable_that_its_data_sources_read(names: tuple[str, ...]) -> None:
    grafana = project(names)["services"]["grafana"]
    for source, target in mounts(grafana):
        path = COMPOSE / source
        if target.startswith("/etc/grafana/provisioning/datasources"):
            read = set(re.findall(r"(?<!\$)\$(OBSHUB_\w+)", path.read_text("utf-8")))
            assert read <= set(grafana["environment"])
    provider = yaml.safe_load((ROOT / "otel-config/grafana/provisioning/dashboards/obs-hub.yaml").read_text())
    assert provider["providers"][0]["options"]["path"] in {target for _, target in mounts(grafana)}


def test_every_file_of_the_example_is_used() -> None:
    known = {"compose.yaml", "compose.timescaledb.yaml", "env.example", "README.md"}
    used = {Path(s).name for n in FILES for v in project(n)["services"].values() for s, _ in mounts(v) if s[:2] == "./"}
    assert {path.name for path in COMPOSE.iterdir()} - {".env"} == known | used
