"""``obs-hub pipeline`` and the API, as somebody uses them who looks after pipelines.

The processes read a stand-in for MongoDB; `tests/faults/test_killed_pipelines.py` has some that read a real server.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from bson import json_util

from tests.integration.cli.processes import ROOT, HubProcess, config_text, free_port, hubs, obs_hub, obs_hub_process
from tests.support.databases import Database, Server, fresh_store
from tests.support.mongo import STAND_IN_URI, document
from tests.support.pipelines import OURS
from tests.support.waiting import PATIENCE

STAND_IN = ROOT / "tests" / "support" / "mongo_process"


def configuration(dsn: str | None, port: int, grpc: int, **pipelines: Any) -> str:
    config = yaml.safe_load(config_text(grpc=grpc, timescale={"dsn": dsn} if dsn else None))
    reading = {
        "mongodb": {"uri": "${env:MONGO_URI}", "database": "apps", "collection": "events"},
        "schedule": {"every": None, "watch": False},
        "patience": "500ms",
    }
    config["extensions"] = {
        "tokens": {},
        "api": {"endpoint": f"127.0.0.1:{port}", "auth": {"authenticator": "tokens"}},
        "pipelines": {"pipelines": {"reading": reading}, **pipelines},
    }
    config["service"]["extensions"] = ["tokens", "api", "pipelines"]
    return yaml.safe_dump(config)


def stand_in(file: Path, *documents: dict[str, Any]) -> dict[str, str]:
    """The environment of a process that reads these documents."""
    file.write_text(json_util.dumps(documents), "utf-8")
    return {
        "PYTHONPATH": f"{STAND_IN}:{ROOT}",
        "OBSHUB_TEST_MONGO_DOCUMENTS": str(file),
        "MONGO_URI": STAND_IN_URI,
    }


class Lab:
    """A hub with a pipeline, and what is in its store."""

    def __init__(self, hub: HubProcess, port: int, database: Database, folder: Path) -> None:
        self.hub, self.database, self.folder = hub, database, folder
        self.api = f"http://127.0.0.1:{port}/api/v1"

    def cli(self, *arguments: str, config: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        file = self.hub.config_file
        if config is not None:
            file = self.folder / "other.yaml"
            file.write_text(config)
        # What reads the stand-in needs a process of its own, into which that is put.
        return (obs_hub_process if "PYTHONPATH" in variables else obs_hub)(
            *("pipeline", *arguments),
            **{
                "MONGO_URI": STAND_IN_URI,
                "OBSHUB_CONFIG": str(file),
                "OBSHUB_DATA_DIR": str(self.hub.data_dir if config is None else self.folder / "data"),
                **variables,
            },
        )


@pytest.fixture(scope="module")
def lab(embedded_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder, port, grpc = tmp_path_factory.mktemp("pipelines"), free_port(), free_port()
    with fresh_store(embedded_server) as database, hubs(forked=True) as running:
        documents = [document(number, source="of-the-hub") for number in range(4)] + [document(event_type=None)]
        variables = stand_in(folder / "hub.json", *documents)
        hub = running.start(configuration(database.dsn, port, grpc), **variables).until_ready()
        yield Lab(hub, port, database, folder)


def stored(lab: Lab, source: str) -> int:
    query = f"SELECT count(*) FROM events WHERE {OURS} AND service_name = '{source}'"
    count: int = lab.database.value(query)
    return count


def test_the_running_hub_does_it_and_the_command_shows_how(lab: Lab) -> None:
    before = lab.cli("list")
    assert before.stdout == "reading: apps.events, does not look by itself\n"
    done = lab.cli("run", "reading")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("reading: succeeded after ")
    assert "5 of 5 documents read, 4 processed, 1 failed" in done.stderr
    assert "event_type: expected the event's name, found null" in done.stderr
    assert stored(lab, "of-the-hub") == 4

    history = lab.cli("history", "reading", "-o", "json")
    (run,) = map(json.loads, history.stdout.splitlines())
    assert (run["state"], run["trigger"]) == ("succeeded", {"source": "cli"})
    assert (run["counts"]["processed"], run["counts"]["failed"]) == (4, 1)
    assert "documents to read" in lab.cli("history", "--run", run["id"]).stdout
    assert "last run succeeded" in lab.cli("list").stdout
    (listed,) = map(json.loads, lab.cli("list", "-o", "json").stdout.splitlines())
    assert listed["last_run"]["id"] == run["id"]


def test_the_api_asks_for_runs_and_shows_them(lab: Lab) -> None:
    made = obs_hub(
        *("token", "create", "all", "--scope", "admin", "--scope", "read", "--quiet"),
        OBSHUB_DATA_DIR=str(lab.hub.data_dir),
    )
    headers = {"authorization": f"Bearer {made.stdout.strip()}"}
    with httpx.Client(base_url=lab.api, trust_env=False, timeout=PATIENCE) as client:
        assert client.post("/pipelines/reading/runs").status_code == 401
    with httpx.Client(base_url=lab.api, headers=headers, trust_env=False, timeout=PATIENCE) as client:
        asked = client.post("/pipelines/reading/runs")
        assert asked.status_code == 202
        identity = asked.json()["run_id"]
        lab.hub.until(lambda: client.get(f"/pipelines/runs/{identity}").json()["finished_at"])
        assert client.get(f"/pipelines/runs/{identity}").json()["trigger"] == {"source": "api"}
        assert identity in [run["id"] for run in client.get("/pipelines/runs").json()["runs"]]
        assert client.post("/pipelines/none/runs").status_code == 404
        paths = client.get("/openapi.json").json()["paths"]
        assert {"/api/v1/pipelines", "/api/v1/pipelines/{name}/runs", "/api/v1/pipelines/runs"} <= set(paths)


def test_a_timer_does_it_without_a_hub(lab: Lab) -> None:
    file = lab.folder / "timer.json"
    variables = stand_in(file, *(document(number, source="of-a-timer") for number in range(3)))
    # It sends to the hub, keeps its run in the same store, and has no hub of its own.
    config = configuration(lab.database.dsn, free_port(), free_port(), endpoint=f"http://{lab.hub.grpc}")
    done = lab.cli("run", "reading", "--local", config=config, **variables)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 documents read, 3 processed, 0 failed" in done.stderr
    assert {each["status"] for each in json_util.loads(file.read_text("utf-8"))} == {"processed"}
    assert stored(lab, "of-a-timer") == 3
    (run,) = map(json.loads, lab.cli("history", "-n", "1", "-o", "json", config=config).stdout.splitlines())
    assert run["counts"]["processed"] == 3


@pytest.mark.parametrize("dsn", [None, "postgresql://nobody@127.0.0.1:9/none?connect_timeout=2"])
def test_without_a_store_to_be_reached_it_is_done_all_the_same(lab: Lab, dsn: str | None) -> None:
    file = lab.folder / "alone.json"
    source = "alone" if dsn is None else "away"
    variables = stand_in(file, *(document(number, source=source) for number in range(2)))
    config = configuration(dsn, free_port(), free_port(), endpoint=f"http://{lab.hub.grpc}")
    done = lab.cli("run", "reading", "--local", config=config, **variables)
    assert (done.returncode, done.stdout) == (0, "reading: succeeded\n"), done.stderr
    assert "in no history" in done.stderr
    assert stored(lab, source) == 2


def test_what_goes_wrong_is_said_and_ends_with_1(lab: Lab) -> None:
    file = lab.folder / "wrong.json"
    variables = stand_in(file, document())
    away = configuration(None, free_port(), free_port(), endpoint="http://127.0.0.1:9")
    done = lab.cli("run", "reading", "--local", config=away, **variables)
    assert done.returncode == 1
    assert "reading: failed: the gateway is away: http://127.0.0.1:9 answers UNAVAILABLE" in done.stdout
    assert {each["status"] for each in json_util.loads(file.read_text("utf-8"))} == {"ingested"}

    unknown = lab.cli("run", "writing")
    assert (unknown.returncode, unknown.stderr) == (
        *(1, "Error: no pipeline is called 'writing'; configured: reading\n"),
    )
    none = lab.cli("list", config=config_text())
    assert none.returncode == 1
    assert "no pipeline is configured" in none.stderr

    uri = "mongodb://apps:secret-word@127.0.0.1:9/?serverSelectionTimeoutMS=200"
    unreachable = lab.cli("run", "reading", "--local", config=away, MONGO_URI=uri)
    assert unreachable.returncode == 1
    assert "reading: failed: MongoDB: 127.0.0.1:9: " in unreachable.stdout
    assert "secret-word" not in unreachable.stdout + unreachable.stderr


def test_a_hub_without_pipelines_does_not_load_what_only_they_need(lab: Lab) -> None:
    program = (
        "import sys, gateway.supervisor, gateway.components as c; from gateway.config import load; load(None);"
        "print([name for name in ('pymongo', 'bson', 'mongomock') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True, timeout=PATIENCE
    )
    assert done.stdout == "[]\n"
