"""``obs-hub gate``: a process that watches a gateway and works Tailscale's command, by a stand-in for the latter."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import psycopg
import pytest
import yaml

from tests.integration.cli.processes import (
    PATIENCE,
    HubProcess,
    Hubs,
    config_text,
    environment,
    free_port,
    obs_hub,
    until,
)
from tests.support import fork_server
from tests.support.tailscale import NAME, PATH, StandInTailscale, entry


class Front:
    """An API front that is as ready as the test says."""

    def __init__(self) -> None:
        self.status = 200
        self.asked = 0
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                front.asked += 1
                self.send_response(front.status if "ready" in self.path else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Gate:
    """``obs-hub gate`` on a folder, with a stand-in for Tailscale."""

    def __init__(self, folder: Path, target: str, **settings: Any) -> None:
        self.folder = folder
        self.tailscale = StandInTailscale(folder / "bin")
        self.proxy = target + PATH
        self._settings = {"target": target, **settings}
        self.configure()
        self._options = ["--config", str(folder / "gate.yaml"), "--data-dir", str(folder / "data")]
        self._processes: list[fork_server.ForkedProcess] = []

    def configure(self, **settings: Any) -> None:
        """Write the configuration that the next process reads."""
        config = yaml.safe_load(config_text())
        config["extensions"] = {
            "gate": {
                "command": self.tailscale.command,
                "endpoint": "http://127.0.0.1:9",
                "interval": "100ms",
                "verify_interval": "100ms",
                "close_timeout": "2s",
                **self._settings,
                **settings,
            }
        }
        (self.folder / "gate.yaml").write_text(yaml.safe_dump(config))

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def is_open(self) -> bool:
        return bool(self.tailscale.config == entry(self.proxy))

    def start(self) -> fork_server.ForkedProcess:
        with (self.folder / "log").open("ab") as log:
            process = fork_server.start(["gate", "run", *self._options], environment(), log, log)
        self._processes.append(process)
        return process

    def call(self, *arguments: str) -> CompletedProcess[str]:
        return obs_hub("gate", *arguments, *self._options)

    def status(self) -> tuple[int, dict[str, Any]]:
        result = self.call("status", "--output", "json")
        shown: dict[str, Any] = json.loads(result.stdout)
        return result.returncode, shown

    def until_status(self, reason: str) -> tuple[int, dict[str, Any]]:
        """Return the status once it has a reason that begins so: the gate notes why a moment after it has changed."""

        def shown() -> tuple[int, dict[str, Any]] | None:
            code, found = self.status()
            return (code, found) if (found["reason"] or "").startswith(reason) else None

        found = until(shown)
        assert found is not None
        return found

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def front() -> Iterator[Front]:
    front = Front()
    yield front
    front.stop()


@pytest.fixture
def gate(tmp_path: Path, front: Front) -> Iterator[Gate]:
    gate = Gate(tmp_path, front.url)
    yield gate
    gate.end()


def test_it_opens_while_the_gateway_is_ready_and_says_how_it_is(gate: Gate, front: Front) -> None:
    assert gate.status()[0] == 3
    front.status = 503
    process = gate.start()
    until(lambda: front.asked > 4)
    assert gate.tailscale.changes == []
    front.status = 200
    until(lambda: gate.is_open)
    code, shown = gate.until_status("the gateway is ready")
    assert (code, shown["state"]) == (0, "open")
    assert shown["pid"] == process.pid
    assert shown["exposed"]["url"] == f"https://{NAME}{PATH}"
    front.status = 503
    until(lambda: not gate.tailscale.config)
    code, shown = gate.until_status("the gateway answers 503")
    assert (code, shown["state"]) == (3, "closed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_closes_when_it_is_told_to_end(gate: Gate, number: signal.Signals) -> None:
    process = gate.start()
    until(lambda: gate.is_open)
    process.send_signal(number)
    assert process.wait(PATIENCE) == 0
    assert gate.tailscale.config == {}


def test_it_closes_when_the_gateway_is_gone(gate: Gate, front: Front) -> None:
    gate.start()
    until(lambda: gate.is_open)
    front.stop()
    until(lambda: not gate.tailscale.config)
    gate.until_status("the gateway cannot be asked")


def test_one_that_was_killed_is_noticed_closed_by_hand_or_by_the_next(gate: Gate, front: Front) -> None:
    for repair in ("close", "start"):
        process = gate.start()
        until(lambda: gate.is_open)
        process.kill()
        process.wait()
        code, shown = gate.status()
        assert (code, shown["running"]) == (1, False)
        assert "obs-hub gate close" in shown["problem"]
        front.status = 503
        if repair == "close":
            result = gate.call("close")
            assert result.returncode == 0, result.stderr
            assert "nothing on this port" in result.stdout
        else:
            gate.start()
            until(lambda: not gate.tailscale.config)
        assert gate.tailscale.config == {}
        front.status = 200


@pytest.mark.parametrize("repair", ["close", "start"])
def test_what_a_killed_one_left_on_another_port_is_closed_as_well(gate: Gate, front: Front, repair: str) -> None:
    process = gate.start()
    until(lambda: gate.is_open)
    process.kill()
    process.wait()
    front.status = 503
    gate.configure(https_port=8443)
    if repair == "close":
        assert gate.call("close").returncode == 0
    else:
        gate.start()
        until(lambda: not gate.tailscale.config)
    assert gate.tailscale.config == {}


def test_a_killed_one_is_closed_although_a_secret_of_the_configuration_cannot_be_had(gate: Gate) -> None:
    process = gate.start()
    until(lambda: gate.is_open)
    process.kill()
    process.wait()
    gate.configure(headers={"authorization": "${env:NOBODY_SET_THIS}"})
    result = gate.call("close")
    assert (result.returncode, gate.tailscale.config) == (0, {})
    assert "NOBODY_SET_THIS" in result.stderr


@pytest.mark.parametrize(
    "lacking", [{"headers": {"authorization": "${env:NOBODY_SET_THIS}"}}, {"https_port": "${env:NOBODY_SET_THIS}"}]
)
def test_without_a_configuration_and_an_earlier_gate_there_is_nothing_to_go_by(
    gate: Gate, lacking: dict[str, object]
) -> None:
    gate.configure(**lacking)
    for command in ("close", "run"):  # by the defaults, another port would be opened and closed than was meant
        result = gate.call(command)
        assert result.returncode == 1
        assert "NOBODY_SET_THIS" in result.stderr
    assert gate.tailscale.calls == []


def test_a_front_that_cannot_be_told_is_not_taken_for_that_of_the_default(gate: Gate) -> None:
    gate.configure(target=None)
    config = gate.folder / "gate.yaml"
    document = yaml.safe_load(config.read_text())
    document["extensions"]["api"] = {"endpoint": "${env:NOBODY_SET_THIS}"}
    config.write_text(yaml.safe_dump(document))
    result = gate.call("run")
    assert result.returncode == 1
    assert "NOBODY_SET_THIS" in result.stderr
    assert gate.tailscale.calls == []


def test_a_secret_of_the_hub_alone_is_none_of_the_gates_business(gate: Gate) -> None:
    config = gate.folder / "gate.yaml"
    document = yaml.safe_load(config.read_text())
    document["exporters"]["timescale"]["dsn"] = "${env:NOBODY_SET_THIS}"
    config.write_text(yaml.safe_dump(document))
    result = gate.call("close")
    assert (result.returncode, result.stderr) == (0, "")


def test_there_is_one_gate_at_a_time(gate: Gate) -> None:
    gate.start()
    until(lambda: gate.is_open)
    assert gate.start().wait(PATIENCE) == 1
    assert "another gate runs" in gate.log
    assert gate.is_open


def test_what_somebody_else_changed_is_put_right(gate: Gate) -> None:
    gate.start()
    until(lambda: gate.is_open)
    gate.tailscale.set_config({})
    until(lambda: gate.is_open)
    gate.tailscale.run(f"serve --bg --https=443 --set-path={PATH} http://127.0.0.1:1/elsewhere")
    until(lambda: gate.is_open)


def test_an_entry_of_the_users_on_the_port_closes_the_gate_and_stays(gate: Gate) -> None:
    gate.start()
    until(lambda: gate.is_open)
    gate.tailscale.run("serve --bg --https=443 --set-path=/own http://127.0.0.1:3000")
    own = entry("http://127.0.0.1:3000", path="/own", funnel=False)
    until(lambda: gate.tailscale.config == own)
    # Said when it is closed again: before, it is only seen that somebody else changed what is exposed.
    until(lambda: re.search(r"the gate cannot be opened.*port 443 has other entries \(/own", gate.log))
    assert gate.tailscale.config == own
    until(lambda: "https_port" in (gate.status()[1]["reason"] or ""))


@pytest.mark.parametrize("how", ["Failed to connect to local Tailscale daemon", "hang"])
def test_a_tailscale_that_fails_is_tried_again(tmp_path: Path, front: Front, how: str) -> None:
    gate = Gate(tmp_path, front.url, command_timeout="500ms")
    try:
        gate.tailscale.misbehave(how)
        gate.start()
        until(lambda: "the gate cannot be opened" in gate.log)
        code, shown = gate.status()
        assert (code, shown["state"]) == (1, "unknown")
        gate.tailscale.misbehave(None)
        # A loaded machine may not start the stand-in within the time limit every time; the gate tries on.
        until(lambda: gate.is_open)
    finally:
        gate.end()


def test_one_that_cannot_close_says_so_and_fails(gate: Gate) -> None:
    process = gate.start()
    until(lambda: gate.is_open)
    gate.tailscale.misbehave("tailscaled is out of order", only="off")
    process.terminate()
    assert process.wait(PATIENCE) == 1
    assert "THE GATE IS NOT CLOSED FOR CERTAIN" in gate.log
    result = gate.call("close")
    assert result.returncode == 1
    assert "still exposed" in result.stderr
    assert "out of order" in result.stderr
    gate.tailscale.misbehave(None)
    assert gate.call("close").returncode == 0


def test_without_tailscale_it_does_not_begin(tmp_path: Path, front: Front) -> None:
    gate = Gate(tmp_path, front.url, command=str(tmp_path / "none"))
    result = gate.call("run")
    assert result.returncode == 1
    assert "install Tailscale" in result.stderr


def test_its_events_outlive_the_gateway_that_they_are_about(hubs_to_start: Hubs, tmp_path: Path) -> None:
    """The gateway is killed and comes back; that the gate closed meanwhile is in its store then."""
    port, api = free_port(), free_port()
    config = yaml.safe_load(config_text(grpc=port))
    config["extensions"] = {"api": {"endpoint": f"127.0.0.1:{api}"}}
    config["service"]["extensions"] = ["api"]
    text = yaml.safe_dump(config)
    gate = Gate(tmp_path, f"http://127.0.0.1:{api}", endpoint=f"http://127.0.0.1:{port}")
    try:
        hub = hubs_to_start.start(text).until_ready()
        process = gate.start()
        until(lambda: gate.is_open)
        os.kill(hub.pid, signal.SIGKILL)
        hub.wait()
        until(lambda: not gate.tailscale.config)
        hub = hubs_to_start.start(text).until_ready()
        until(lambda: gate.is_open)
        # On a machine under load it may have closed more than once.
        until(lambda: len(found := events(hub)) >= 4 and found[-1][0] == "gate.opened")
        assert [name for name, _ in events(hub)[:2]] == ["gate.closed", "gate.opened"]
        reasons = [reason for name, reason in events(hub)[2:] if name == "gate.closed"]
        assert any("cannot be asked" in reason or "did not answer" in reason for reason in reasons)
        with psycopg.connect(hub.dsn) as connection:
            query = "SELECT DISTINCT value FROM metrics WHERE name = 'obs_hub.gate.open' ORDER BY value"
            until(lambda: connection.execute(query).fetchall()[-1:] == [(1.0,)])
        process.terminate()
        assert process.wait(PATIENCE) == 0
        until(lambda: events(hub)[-1] == ("gate.closed", "the gate was stopped"))
    finally:
        gate.end()


def events(hub: HubProcess) -> list[Any]:
    with psycopg.connect(hub.dsn) as connection:
        query = "SELECT name, body #>> '{}' FROM events WHERE name LIKE 'gate.%' ORDER BY time"
        return connection.execute(query).fetchall()
