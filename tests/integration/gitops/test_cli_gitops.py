"""``obs-hub gitops``, as somebody runs it who looks after clones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml

from gateway.extensions.gitops.config import GitOpsConfig
from gateway.extensions.gitops.drift import Check, note_check
from gateway.extensions.gitops.git import Git
from gateway.extensions.gitops.service import GitOpsService
from gateway.operations import Operations
from gateway.runs import Runs, worker
from tests.integration.cli.processes import PATIENCE, ROOT, environment, obs_hub, until
from tests.support.databases import Database
from tests.support.repositories import Repositories

ROLL_OUT = {"name": "roll-out", "run": ["sh", "-c", 'echo "rolled out $OBSHUB_REVISION"']}
Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def database(native_database: Database) -> Database:
    return native_database


def gitops_config(repositories: Repositories, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"repositories": {"home": {"path": str(repositories.hub), "interval": None, "steps": list(steps)}}}


def write_config(folder: Path, database: Database, gitops: dict[str, Any]) -> Path:
    silent = {"metrics": {"enabled": False}, "traces": {"enabled": False}}
    document = {
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}},
        "exporters": {"timescale": {"dsn": database.dsn}},
        "extensions": {"gitops": gitops},
        "service": {
            "extensions": ["gitops"],
            "telemetry": silent,
            "pipelines": {"metrics": {"receivers": ["otlp"], "exporters": ["timescale"]}},
        },
    }
    path = folder / "hub.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def cli(database: Database, repositories: Repositories, tmp_path: Path) -> Cli:
    config = write_config(tmp_path, database, gitops_config(repositories, ROLL_OUT))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return obs_hub("gitops", *arguments, OBSHUB_CONFIG=str(config), OBSHUB_DATA_DIR=str(tmp_path / "data"))

    return run


def test_a_clone_is_brought_up_to_date_here_and_its_history_is_kept(cli: Cli, repositories: Repositories) -> None:
    revision = repositories.push()
    behind = cli("status", "--fetch")
    assert behind.returncode == 1
    assert "home: behind" in behind.stdout
    assert "0 commits ahead, 1 behind" in behind.stdout

    synced = cli("sync", "--local")
    assert synced.returncode == 0, synced.stderr
    assert f"rolled out {revision}" in synced.stderr
    assert re.fullmatch(r"home: succeeded after \d+\.\d s\n", synced.stdout)
    assert repositories.head == revision

    status = cli("status", "--output", "json")
    assert status.returncode == 0
    shown = json.loads(status.stdout)
    assert (shown["drift"], shown["good_revision"]) == ([], revision)
    assert shown["last_run"]["state"] == "succeeded"

    run = cli("history", "home", "--run", shown["last_run"]["id"])
    assert f"rolled out {revision}" in run.stdout
    assert "steps succeeded: 1" in cli("history").stdout


def test_what_stands_in_the_way_is_said_and_exits_with_1(cli: Cli, repositories: Repositories) -> None:
    (repositories.hub / "README").write_text("mine\n")
    synced = cli("sync", "home", "--local")
    assert synced.returncode == 1
    assert "changes that are not committed" in synced.stdout
    status = cli("status")
    assert status.returncode == 1
    assert "changed    README" in status.stdout
    assert "last run   failed" in status.stdout
    assert (repositories.hub / "README").read_text() == "mine\n"


def test_a_remote_that_is_away_is_told_though_nothing_here_has_changed(cli: Cli, repositories: Repositories) -> None:
    assert cli("status").returncode == 0
    repositories.origin.rename(repositories.folder / "away")
    status = cli("status")
    assert status.returncode == 1
    assert "home: unusable" in status.stdout
    assert "does not appear to be a git repository" in status.stdout
    assert cli("status", "--no-fetch").returncode == 0


async def test_what_the_hub_found_last_is_what_is_shown(
    database: Database, repositories: Repositories, tmp_path: Path
) -> None:
    gitops = gitops_config(repositories, ROLL_OUT)
    gitops["repositories"]["home"]["interval"] = "1h"
    path = write_config(tmp_path, database, gitops)
    repository = GitOpsConfig.model_validate(gitops).repositories["home"]
    variables = {"OBSHUB_CONFIG": str(path), "OBSHUB_DATA_DIR": str(tmp_path / "data")}
    problem = "git fetch failed: No space left on device"
    await note_check(Git(repository), Check(None, frozenset({"unusable"}), problem))
    status = await asyncio.to_thread(obs_hub, "gitops", "status", **variables)
    assert status.returncode == 1
    assert "home: unusable" in status.stdout
    assert problem in status.stdout
    assert re.search(r"looked +\d{4}-.*, by the hub", status.stdout)
    # What the hub could not write down is not known: the remote is asked.
    repositories.origin.rename(repositories.folder / "away")
    (repositories.hub / ".git/obs-hub/last-look").unlink()
    status = await asyncio.to_thread(obs_hub, "gitops", "status", **variables)
    assert (status.returncode, "home: unusable" in status.stdout) == (1, True)


def test_requests_that_a_later_one_did_the_work_of_are_counted_to_it(cli: Cli, repositories: Repositories) -> None:
    repositories.push()
    for _ in range(3):
        assert cli("sync", "--no-wait").returncode == 0
    assert cli("sync", "--local").returncode == 0
    (line,) = cli("history").stdout.splitlines()
    assert "succeeded" in line
    assert "requests before it: 3" in line
    assert len(cli("history", "-o", "json").stdout.splitlines()) == 4


def test_names_that_are_not_configured_are_told_from_those_that_are(cli: Cli) -> None:
    for command in ("status", "sync"):
        refused = cli(command, "nowhere")
        assert refused.returncode == 1
        assert "no repository is called 'nowhere'; configured: home" in refused.stderr
    assert "No repository was ever reconciled" in cli("history").stdout
    assert "give one of" in cli("sync", "--local", "--no-wait").stderr


def test_without_a_configured_repository_the_way_to_one_is_said(tmp_path: Path) -> None:
    refused = obs_hub("gitops", "status", OBSHUB_DATA_DIR=str(tmp_path))
    assert refused.returncode == 1
    assert "docs/gitops.md" in refused.stderr


def test_clones_are_shown_while_the_store_is_away(cli: Cli, database: Database) -> None:
    status = cli("status", "--dsn", "postgresql://nobody@127.0.0.1:1/none")
    assert status.returncode == 0
    assert "home: in sync" in status.stdout
    assert "PostgreSQL is not available" in status.stderr
    refused = cli("sync", "--dsn", "postgresql://nobody@127.0.0.1:1/none")
    assert refused.returncode == 1
    assert "PostgreSQL is not available" in refused.stderr


async def test_the_running_hub_does_the_work_and_the_command_shows_it(
    cli: Cli, database: Database, repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_POLL", 0.1)
    config = GitOpsConfig.model_validate(gitops_config(repositories, ROLL_OUT))
    service = GitOpsService("gitops", config, Runs(database.dsn), Operations())
    revision = repositories.push()
    await service.start()
    try:
        synced = await asyncio.to_thread(cli, "sync")
        assert synced.returncode == 0, synced.stderr
        assert f"rolled out {revision}" in synced.stderr
        asked = await asyncio.to_thread(cli, "sync", "--force", "--no-wait")
        identity = asked.stdout.removeprefix("home: ").strip()
        await database.until(f"SELECT state = 'succeeded' FROM run WHERE id = '{identity}'")
    finally:
        await service.stop(5)


def test_ctrl_c_leaves_a_run_of_this_process_to_the_next(
    database: Database, repositories: Repositories, tmp_path: Path
) -> None:
    hang = {"name": "hang", "run": ["sh", "-c", "test -e ../go && exit; touch ../began; exec sleep 600"]}
    config = write_config(tmp_path, database, gitops_config(repositories, hang))
    variables = {"OBSHUB_CONFIG": str(config), "OBSHUB_DATA_DIR": str(tmp_path / "data")}
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "gitops", "sync", "--local"],
        cwd=ROOT,
        env=environment(**variables),
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        until(lambda: (repositories.folder / "began").exists())
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 1
    finally:
        process.kill()
        process.communicate()
    (repositories.folder / "go").touch()
    resumed = obs_hub("gitops", "sync", "--local", **variables)
    assert resumed.returncode == 0, resumed.stderr
    rows = database.run("SELECT state, attempt FROM run ORDER BY requested_at")
    assert [tuple(row) for row in rows] == [("succeeded", 2), ("succeeded", 1)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB."""
    if os.geteuid() != 0 or which("mount") is None:
        pytest.skip("mounting needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_disk_that_is_full_is_told_and_nobody_says_in_sync(
    repositories: Repositories, database: Database, small_disk: Path, tmp_path: Path
) -> None:
    clone = small_disk / "home"
    shutil.copytree(repositories.hub, clone, symlinks=True)
    gitops = gitops_config(repositories, ROLL_OUT)
    gitops["repositories"]["home"]["path"] = str(clone)
    config = write_config(tmp_path, database, gitops)

    def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
        return obs_hub("gitops", *arguments, OBSHUB_CONFIG=str(config), OBSHUB_DATA_DIR=str(tmp_path / "data"))

    repositories.push()
    assert cli("sync", "--local").returncode == 0
    assert "in sync" in cli("status", "--fetch").stdout
    with contextlib.suppress(OSError), (small_disk / "filling").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    repositories.push({"large": "".join(f"{secrets.token_hex(32)}\n" for _ in range(20_000))})
    for _ in range(2):  # the second look knows of the first
        looked = cli("status", "--fetch")
        assert looked.returncode == 1, looked.stdout
        assert "in sync" not in looked.stdout
        assert "home: unusable" in looked.stdout
        assert "No space left on device" in looked.stdout + looked.stderr
    assert cli("sync", "--local").returncode == 1
    (small_disk / "filling").unlink()
    assert cli("sync", "--local").returncode == 0
    assert "in sync" in cli("status", "--fetch").stdout
