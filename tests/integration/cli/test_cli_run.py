"""``obs-hub up`` and ``obs-hub serve``: the first minute, and what goes wrong in it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml

from tests.integration.cli.processes import (
    PATIENCE,
    Hubs,
    config_text,
    environment,
    free_port,
    obs_hub,
    obs_hub_process,
    until,
)


def printed_query(text: str) -> str:
    """The first query that ``obs-hub up`` suggests."""
    (line,) = [line.strip() for line in text.splitlines() if "SELECT" in line]
    return line


def run_in_another_terminal(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of shell somewhere else, with nothing in the environment that helps."""
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def test_up_says_where_it_listens_and_where_it_stores_and_what_to_try(new_hubs_to_start: Hubs, tmp_path: Path) -> None:
    grpc, http = free_port(), free_port()
    config = config_text(grpc=grpc, http=http)
    hub = new_hubs_to_start.start(config, command="up", name="a hub", first=True).until_ready()
    words = [line.split() for line in hub.stdout.splitlines()]
    assert ["OTLP/grpc", f"http://127.0.0.1:{grpc}"] in words
    assert ["OTLP/http", f"http://127.0.0.1:{http}"] in words
    assert ["store", hub.dsn] in words
    command = shlex.split(printed_query(hub.stdout))
    assert command[command.index("--data-dir") + 1] == str(hub.data_dir)
    answered = run_in_another_terminal(printed_query(hub.stdout), tmp_path)
    assert (answered.returncode, answered.stderr) == (0, "")
    assert "(0 rows)" in answered.stdout


def test_the_first_query_finds_the_data_directory_that_the_environment_named(
    hubs_to_start: Hubs, tmp_path: Path
) -> None:
    data_dir = hubs_to_start.folder / "elsewhere"
    hub = hubs_to_start.start(
        config_text(), "--data-dir", str(data_dir), command="up", OBSHUB_DATA_DIR=str(data_dir)
    ).until_ready()
    assert run_in_another_terminal(printed_query(hub.stdout), tmp_path).returncode == 0


def test_the_first_query_shows_this_machines_metrics(hubs_to_start: Hubs, tmp_path: Path) -> None:
    grpc = free_port()
    hostmetrics = {"endpoint": f"http://127.0.0.1:{grpc}"}
    hub = hubs_to_start.start(config_text(grpc=grpc, receivers={"hostmetrics": hostmetrics}), command="up")
    hub.until_ready()
    command = printed_query(hub.stdout)
    hub.until(lambda: "(0 rows)" not in run_in_another_terminal(command, tmp_path).stdout)
    shown = run_in_another_terminal(command, tmp_path)
    assert "system.memory.utilization" in shown.stdout


def test_the_hub_of_the_embedded_default_says_what_is_taken(hubs_to_start: Hubs) -> None:
    try:
        taken = socket.create_server(("127.0.0.1", 4317))
    except OSError:
        taken = socket.socket()  # by somebody else: as well
    with taken:
        hub = hubs_to_start.start(None, command="up", first=True)
        assert hub.wait() == 1
    assert "cannot listen on 127.0.0.1:4317 (Address already in use" in hub.stderr
    assert not (hub.data_dir / "postgres/data").exists()
    assert "Traceback" not in hub.stderr


def test_commands_are_processes_that_talk_to_the_hub(hubs_to_start: Hubs) -> None:
    hub = hubs_to_start.start(config_text()).until_ready()
    where = ("--data-dir", hub.data_dir)
    for command, answer in (
        (("send", "log", "backup finished"), "acknowledged"),
        (("query", "--csv", "SELECT body FROM logs"), "backup finished"),
        (("logs",), "backup finished"),
        (("doctor", "--config", hub.config_file), "ok"),
        (("spool", "status"), ""),
        (("db", "status", "--config", hub.config_file), ""),
        (("token", "list"), ""),
    ):
        ended = obs_hub_process(*command, *where)
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
        assert answer in ended.stdout, command


def test_a_second_hub_on_a_data_directory_says_who_has_it(hubs_to_start: Hubs) -> None:
    first = hubs_to_start.start(config_text()).until_ready()
    second = obs_hub_process("serve", "--data-dir", first.data_dir, "--config", first.config_file)
    assert second.returncode == 1
    assert second.stderr == (
        f"Error: another hub (pid {first.pid}) runs on the data directory {first.data_dir}; "
        "stop it, or choose another directory with --data-dir or OBSHUB_DATA_DIR\n"
    )
    assert json.loads(obs_hub("query", "--json", "SELECT 1 AS n", "--data-dir", first.data_dir).stdout) == [{"n": 1}]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_named_with_the_setting_that_changes_it_and_nothing_is_left_running(
    hubs_to_start: Hubs, protocol: str, workers: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"grpc": free_port(), "http": free_port()} | {protocol: port}
        hub = hubs_to_start.start(config_text(**ports), "--workers", workers, first=True)
        assert hub.wait() == 1
    said = hub.stderr.splitlines()
    assert said[0].startswith(f"Error: cannot listen on 127.0.0.1:{port} (Address already in use by ")
    assert said[0].endswith(
        f", process {os.getpid()}); free that address or set receivers.otlp.protocols.{protocol}.endpoint"
    )
    assert shlex.split(said[-1])[-2] == f"--otlp-{protocol}"
    assert "Traceback" not in hub.stderr
    assert not (hub.data_dir / "postgres").exists(), "nothing is made before that is known"


def test_the_command_that_is_advised_when_ports_are_taken_works(hubs_to_start: Hubs, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = {"grpc": one.getsockname()[1], "http": other.getsockname()[1]}
        hub = hubs_to_start.start(config_text(**ports), command="up")
        assert hub.wait() == 1
        assert hub.stderr.count("cannot listen on") == 2, "all that is taken is said at once"
        advised = shlex.split(hub.stderr.splitlines()[-1])
        assert advised[:3] == [sys.executable, "-m", "gateway"]
        again = hubs_to_start.start(config_text(**ports), *advised[-4:], command="up").until_ready()
        for protocol, taken in ports.items():
            address = again.running.endpoints[f"otlp {protocol}"]
            assert address == advised[advised.index(f"--otlp-{protocol}") + 1]
            assert address != f"127.0.0.1:{taken}"
        assert f"http://{again.grpc}" in again.stdout


def test_up_shows_what_the_first_start_is_busy_with(hubs_to_start: Hubs) -> None:
    hub = hubs_to_start.start(config_text(), command="up", first=True).until_ready()
    shown = hub.stdout.splitlines()
    steps = ["Making the database ...", "Starting PostgreSQL ...", "Starting receivers and exporters ..."]
    assert [line for line in shown if line in steps] == steps
    for step in steps:
        assert re.fullmatch(r"  \d+\.\d s", shown[shown.index(step) + 1])


def test_ctrl_c_at_the_first_start_says_interrupted_and_leaves_nothing_running(hubs_to_start: Hubs) -> None:
    hub = hubs_to_start.start(config_text(), command="up", first=True)
    hub.until(lambda: list((hub.data_dir / "postgres").glob("initdb-*")))
    os.killpg(hub.pid, signal.SIGINT)  # as a terminal does: to all that it sees
    assert hub.wait() == 0, hub.stderr
    assert "Interrupted before the hub was up." in hub.stderr
    assert "Traceback" not in hub.stderr
    assert "could not be made" not in hub.stderr
    assert "The hub is up" not in hub.stdout
    assert hub.postgres is None
    hubs_to_start.start(config_text(), command="up").until_ready()


def test_a_hub_for_other_machines_says_an_address_that_a_browser_can_open_and_how_to_show_what_runs(
    hubs_to_start: Hubs,
) -> None:
    extensions = {"tokens": {}, "api": {"endpoint": "0.0.0.0:0", "auth": {"authenticator": "tokens"}}}
    text = yaml.safe_load(config_text(service={"extensions": ["tokens", "api"]})) | {"extensions": extensions}
    hub = hubs_to_start.start(yaml.safe_dump(text), command="up").until_ready()
    addresses = [word for word in hub.stdout.split() if word.startswith("http://") and word.endswith("/")]
    assert f"http://127.0.0.1:{hub.running.endpoints['api'].rpartition(':')[2]}/" in addresses
    assert not any("0.0.0.0" in address for address in addresses)
    for address in addresses:
        page = httpx.get(address, headers={"accept": "text/html"}, timeout=PATIENCE, trust_env=False)
        assert page.status_code == 401, "a form to sign in"
        assert "cross-origin-opener-policy" not in page.headers
        assert "anonymous_read: true" in page.text
    assert "anonymous_read: true" in hub.stdout


def test_serve_says_when_it_is_ready_and_logs_json(new_hubs_to_start: Hubs) -> None:
    hub = new_hubs_to_start.start(config_text()).until_ready()
    endpoints = hub.running.endpoints
    assert f"ready: otlp grpc on {endpoints['otlp grpc']}, otlp http on {endpoints['otlp http']}\n" in hub.stderr
    assert hub.stop() == 0
    assert hub.stdout == ""
    assert {"event", "level", "logger", "timestamp"} <= set(hub.log[0])
    assert any("native" in entry.get("layout", "") for entry in hub.log), "it is said at the start"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_store_that_can_never_work_ends_the_start_with_what_to_do(hubs_to_start: Hubs, workers: str) -> None:
    config = config_text(grpc=free_port(), http=free_port(), timescale={"layout": "timescale"})
    hub = hubs_to_start.start(config, "--workers", workers, first=True)
    assert hub.wait() == 1
    assert hub.stderr.splitlines()[-1].startswith("Error: layout timescale is not possible: ")
    assert "Traceback" not in hub.stderr
    assert hub.postgres is None


def test_a_database_with_a_newer_schema_ends_the_start_with_what_to_do(hubs_to_start: Hubs) -> None:
    hub = hubs_to_start.start(config_text()).until_ready()
    with psycopg.connect(hub.dsn) as connection:
        connection.execute("UPDATE schema_version SET version_num = '9999'")
    assert hub.stop() == 0
    again = hubs_to_start.start(config_text())
    assert again.wait() == 1
    assert "version 9999, which this gateway does not know" in again.stderr
    assert "upgrade this gateway" in again.stderr
    assert "Traceback" not in again.stderr


def test_the_data_directory_is_for_its_owner_alone_and_forgets_the_hub_when_it_ends(hubs_to_start: Hubs) -> None:
    hub = hubs_to_start.start(config_text()).until_ready()
    state = hub.data_dir / "hub.json"
    assert state.stat().st_mode & 0o077 == 0
    hub.signal(signal.SIGTERM)
    assert hub.wait() == 0
    assert not state.exists()
    until(lambda: hub.postgres is None)


def test_grafana_reaches_the_embedded_store_by_a_port_that_an_option_gives_it(hubs_to_start: Hubs) -> None:
    port = free_port()
    hub = hubs_to_start.start(config_text(), "--postgres-port", str(port), command="up").until_ready()
    assert f"127.0.0.1:{port} for those that `obs-hub db reader NAME` makes" in hub.stdout
    assert obs_hub("send", "log", "backup finished", "--data-dir", hub.data_dir).returncode == 0
    made = obs_hub("db", "reader", "grafana", "--data-dir", hub.data_dir)
    told = dict(line.split("=", 1) for line in made.stdout.splitlines() if line.startswith("OBSHUB_PG_"))
    assert told["OBSHUB_PG_URL"] == f"127.0.0.1:{port}"
    assert "Unix socket" not in made.stdout
    with psycopg.connect(
        f"postgresql://{told['OBSHUB_PG_URL']}/{told['OBSHUB_PG_DATABASE']}",
        user=told["OBSHUB_PG_USER"],
        password=told["OBSHUB_PG_PASSWORD"],
        sslmode=told["OBSHUB_PG_SSLMODE"],
    ) as grafana:
        assert grafana.execute("SELECT body FROM logs").fetchall() == [("backup finished",)]
