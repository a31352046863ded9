"""The service: from a webhook to a finished roll-out, with several gateways, through crashes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest
from litestar import Litestar, Router

from gateway.extensions.gitops.config import GitOpsConfig
from gateway.extensions.gitops.factory import create
from gateway.extensions.gitops.process import end_leftovers
from gateway.extensions.gitops.service import GitOpsService
from gateway.operations import Operations
from gateway.runs import Run, Runs, RunState, holder, worker
from tests.integration.cli.processes import ROOT, until
from tests.support.databases import Database
from tests.support.logged import Logged
from tests.support.operations import Told
from tests.support.repositories import Repositories
from tests.support.waiting import PATIENCE

SECRET = "a-secret-of-the-webhook"
NOTE = {"name": "note", "run": ["sh", "-c", 'echo "$OBSHUB_REVISION" >> ../notes']}


@pytest.fixture
def database(native_database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setattr(worker, "_POLL", 0.1)
    monkeypatch.setattr(worker, "_HEARTBEAT", 0.1)
    return native_database


def settings(repositories: Repositories, *steps: dict[str, Any], **repository: Any) -> dict[str, Any]:
    home = {"path": str(repositories.hub), "github": "someone/home", "interval": None, "steps": list(steps)}
    return {"webhook": {"secrets": [SECRET]}, "repositories": {"home": {**home, **repository}}}


class View:
    """A hub as the service sees it."""

    def __init__(self, dsn: str | None, operations: Operations, data_dir: Path | None = None) -> None:
        self.dsn, self.operations, self.data_dir = dsn, operations, data_dir


@asynccontextmanager
async def running(database: Database, config: dict[str, Any], told: Told | None = None) -> AsyncIterator[GitOpsService]:
    view = View(database.dsn, (told or Told()).operations)
    service = create("gitops", GitOpsConfig.model_validate(config), view)
    await service.start()
    try:
        yield service
    finally:
        await service.stop(0)


async def ended(service: GitOpsService, identity: UUID) -> Run:
    async with asyncio.timeout(PATIENCE):
        while True:
            run = await service.runs.get(identity)
            assert run is not None
            if run.finished:
                return run
            await asyncio.sleep(0.05)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def push(service: GitOpsService, delivery: str = "delivery") -> UUID:
    """Let GitHub tell of a push."""
    what = {"ref": "refs/heads/main", "after": delivery, "repository": {"full_name": "someone/home"}}
    body = json.dumps(what).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/json",
        "x-github-event": "push",
        "x-github-delivery": delivery,
        "x-hub-signature-256": f"sha256={signature}",
    }
    app = Litestar([Router("/api/v1", route_handlers=service.routers())], logging_config=None)
    # In this event loop, which is the service's.
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as client:
        response = await client.post("/api/v1/webhooks/github", content=body, headers=headers)
        assert response.status_code == 202
        return UUID(response.json()["run_id"])


def notes(repositories: Repositories) -> list[str]:
    file = repositories.folder / "notes"
    return file.read_text().split() if file.exists() else []


async def test_a_push_is_one_trace_from_the_webhook_to_the_finished_roll_out(
    database: Database, repositories: Repositories
) -> None:
    told = Told()
    async with running(database, settings(repositories, NOTE), told) as service:
        revision = repositories.push()
        run = await ended(service, await push(service))
        await eventually(lambda: any(span.name == "gitops.run" for span in told.spans))
    assert run.state is RunState.SUCCEEDED
    assert run.result == {"before": repositories.first, "revision": revision, "changed": True}
    webhook, whole, step = (told.span(name) for name in ("gitops.webhook", "gitops.run", "gitops.step"))
    assert {span.context.trace_id for span in told.spans} == {webhook.context.trace_id}
    assert whole.parent is not None
    assert step.parent is not None
    assert whole.parent.span_id == webhook.context.span_id
    assert step.parent.span_id == whole.context.span_id
    event = told.event("gitops.run.finished")
    assert event.trace_id == webhook.context.trace_id
    assert event.attributes["obs_hub.run.state"] == "succeeded"


async def test_two_gateways_on_one_database_reconcile_once(database: Database, repositories: Repositories) -> None:
    slow = {"name": "slow", "run": ["sh", "-c", 'echo "$OBSHUB_REVISION" >> ../notes; sleep 0.3']}
    config = settings(repositories, slow)
    async with running(database, config) as first, running(database, config) as second:
        revision = repositories.push()
        ids = [await push(service, f"delivery-{number}") for number, service in enumerate((first, second) * 3)]
        states = [(await ended(first, identity)).state for identity in ids]
    assert set(states) <= {RunState.SUCCEEDED, RunState.SUPERSEDED}
    assert states[-1] is RunState.SUCCEEDED
    assert notes(repositories) == [revision]


async def test_new_revisions_are_found_without_a_webhook(database: Database, repositories: Repositories) -> None:
    async with running(database, settings(repositories, NOTE, interval="5s")) as service:
        await eventually(lambda: notes(repositories) == [repositories.first])
        (run,) = await service.runs.history("gitops")
        assert run.trigger == {"source": "interval"}


async def test_drift_is_told_when_it_comes_and_when_it_goes(database: Database, repositories: Repositories) -> None:
    told = Told()
    async with running(database, settings(repositories), told) as service:
        await ended(service, await push(service, "one"))
        (repositories.hub / "README").write_text("mine\n")
        failed = await ended(service, await push(service, "two"))
        assert failed.error is not None
        assert "changes that are not committed" in failed.error
        await eventually(lambda: told.metric("obs_hub.gitops.drift").get(("dirty", "home")) == 1)
        assert ("gitops.drift.detected", "gitops home: dirty") in [(e.event_name, e.body) for e in told.events]
        (repositories.hub / "README").write_text("hello\n")
        await ended(service, await push(service, "three"))
        await eventually(lambda: told.metric("obs_hub.gitops.drift")[("dirty", "home")] == 0)
        assert "gitops home: no longer dirty" in [each.body for each in told.events]


async def test_the_same_failure_is_not_asked_for_again_and_again(
    database: Database, repositories: Repositories
) -> None:
    async with running(database, settings(repositories, {"name": "bad", "run": ["false"]})) as service:
        for _ in range(3):
            found = await service._look("home", service.config.repositories["home"])
            assert found is not None
            if found.due:
                await service._ask("home", found, 0)
                (run, *_) = await service.runs.history("gitops")
                await ended(service, run.id)
        assert len(await service.runs.history("gitops")) == 1


@pytest.mark.parametrize(("interval", "asked"), [(0, 3), (3600, 1)])
async def test_a_failure_that_may_have_passed_is_asked_for_again_after_a_while(
    database: Database, repositories: Repositories, interval: float, asked: int
) -> None:
    async with running(database, settings(repositories, require_signed=True)) as service:
        for _ in range(3):
            found = await service._look("home", service.config.repositories["home"])
            assert found is not None
            assert found.due
            await service._ask("home", found, interval)
            for run in await service.runs.history("gitops"):
                assert (await ended(service, run.id)).state is RunState.FAILED
        assert len(await service.runs.history("gitops")) == asked


async def test_no_secret_is_in_what_is_written_down_or_told(
    database: Database, repositories: Repositories, logged: Logged, capfd: pytest.CaptureFixture[str]
) -> None:
    told = Told()
    step = {"name": "loud", "run": ["sh", "-c", 'echo "$TOKEN"; exit 1'], "env": {"TOKEN": "a-token-of-the-step"}}
    async with running(database, settings(repositories, step), told) as service:
        run = await ended(service, await push(service))
    rows = database.run("SELECT run::text FROM run UNION ALL SELECT d::text FROM webhook_delivery d")
    seen = "".join([*(row[0] for row in rows), logged.text, *capfd.readouterr()])
    seen += "".join(span.to_json() for span in told.spans) + "".join(map(str, told.events))
    assert run.state is RunState.FAILED
    assert "loud" in seen
    assert SECRET not in seen
    assert "a-token-of-the-step" not in seen


async def test_a_gateway_without_a_store_cannot_keep_runs(repositories: Repositories) -> None:
    config = GitOpsConfig.model_validate(settings(repositories))
    with pytest.raises(ValueError, match="keeps its runs in PostgreSQL"):
        create("gitops", config, View(None, Operations()))


def test_a_gateway_is_the_same_one_after_a_restart(tmp_path: Path) -> None:
    assert holder(tmp_path) == holder(tmp_path)
    assert holder(None) is None


# -- crashes -----------------------------------------------------------------------------------------------------------

_GATEWAY = """
import asyncio, json, sys
from gateway.extensions.gitops.config import GitOpsConfig
from gateway.extensions.gitops.service import GitOpsService
from gateway.operations import Operations
from gateway.runs import Runs, worker

worker._POLL = worker._HEARTBEAT = 0.1
config = GitOpsConfig.model_validate(json.loads(sys.argv[2]))

async def main():
    service = GitOpsService("gitops", config, Runs(sys.argv[1], "the-gateway"), Operations())
    await service.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Gateway:
    """A service in a process of its own, which can be killed."""

    def __init__(self, database: Database, config: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _GATEWAY, database.dsn, json.dumps(config)], cwd=ROOT, env=dict(os.environ)
        )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)


def alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


async def test_a_gateway_killed_in_a_step_resumes_the_run_and_ends_what_it_left(
    database: Database, repositories: Repositories
) -> None:
    revision = repositories.push()
    hang = {"name": "hang", "run": ["sh", "-c", "test -e ../go && exit; echo $$ >> ../pids; exec sleep 600"]}
    config = settings(repositories, NOTE, hang)
    runs = Runs(database.dsn)
    identity = await GitOpsService("gitops", GitOpsConfig.model_validate(config), runs, Operations()).sync("home", {})
    pids = repositories.folder / "pids"
    first = Gateway(database, config)
    try:
        until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    finally:
        first.kill()
    left = int(pids.read_text())
    assert alive(left)
    (repositories.folder / "go").touch()
    second = Gateway(database, config)
    try:
        await database.until("SELECT state NOT IN ('queued', 'running') FROM run")
    finally:
        second.kill()
    run = await runs.get(identity)
    await runs.close()
    assert run is not None
    assert (run.state, run.attempt, run.error) == (RunState.SUCCEEDED, 2, None)
    assert "ended 1 processes that the killed gateway had left" in run.output
    assert not alive(left)
    assert notes(repositories) == [revision] * 2
    assert await repositories.good() == revision


async def test_a_run_that_kills_its_gateway_every_time_is_marked_interrupted(
    database: Database, repositories: Repositories
) -> None:
    config = settings(repositories, {"name": "kill", "run": ["sh", "-c", "kill -9 $PPID; sleep 600"]})
    runs = Runs(database.dsn)
    identity = await GitOpsService("gitops", GitOpsConfig.model_validate(config), runs, Operations()).sync("home", {})
    try:
        for _ in range(3):
            assert Gateway(database, config).process.wait(PATIENCE) == -signal.SIGKILL
        last = Gateway(database, config)
        try:
            await database.until("SELECT state = 'interrupted' FROM run")
        finally:
            last.kill()
    finally:
        end_leftovers(str(identity))
    run = await runs.get(identity)
    await runs.close()
    assert run is not None
    assert run.error == "the gateway ended while the run was under way, 3 times; not tried again"
