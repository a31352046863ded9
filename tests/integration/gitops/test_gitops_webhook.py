"""GitHub's webhook: nobody else is heard, nothing is lost, and nothing is done twice."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from litestar import Litestar, Router
from litestar.exceptions import HTTPException
from litestar.testing import AsyncTestClient
from structlog.testing import capture_logs

from gateway.extensions.api.problems import on_http_exception
from gateway.extensions.gitops import routes
from gateway.extensions.gitops.config import GitOpsConfig
from gateway.extensions.gitops.routes import make_router
from gateway.extensions.gitops.service import GitOpsService
from gateway.runs import Runs
from tests.support.databases import Database
from tests.support.operations import Told, hexadecimal
from tests.support.waiting import PATIENCE

OLD, NEW = "an-old-secret-of-the-webhook", "a-new-secret-of-the-webhook"
REVISION = "0af7651916cd43dd8448eb211c80319c0af76519"
PUSH: dict[str, Any] = {
    "ref": "refs/heads/main",
    "after": REVISION,
    "repository": {"full_name": "Someone/Home"},
    "sender": {"login": "someone"},
}
MERGED: dict[str, Any] = {
    "action": "closed",
    "number": 7,
    "pull_request": {"merged": True, "merge_commit_sha": REVISION, "base": {"ref": "main"}},
    "repository": {"full_name": "someone/home"},
}


class Hub:
    """A service that does no runs, with its routes served."""

    def __init__(self, dsn: str, told: Told, client: AsyncTestClient[Litestar], service: GitOpsService) -> None:
        self.dsn, self.told, self.client, self.service = dsn, told, client, service

    async def deliver(
        self,
        payload: Any = PUSH,
        event: str = "push",
        *,
        secret: str = NEW,
        delivery: str | None = "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Deliver as GitHub does; return the status and the answer."""
        body = content if content is not None else json.dumps(payload).encode()
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        its_headers = {
            "content-type": "application/json",
            "x-github-event": event,
            "x-hub-signature-256": f"sha256={signature}",
            **({} if delivery is None else {"x-github-delivery": delivery}),
            **(headers or {}),
        }
        response = await self.client.post("/api/v1/webhooks/github", content=body, headers=its_headers)
        answer: dict[str, Any] = response.json()
        if response.status_code >= 400:
            assert response.headers["content-type"] == "application/problem+json"
            assert answer["status"] == response.status_code
        return response.status_code, answer

    async def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.client.get("/api/v1/gitops/runs")).json()["runs"]
        return found


@pytest.fixture
async def hub(native_database: Database) -> AsyncIterator[Hub]:
    home = {"path": "/srv/home", "github": "someone/home"}
    config = GitOpsConfig.model_validate(
        {
            "webhook": {"secrets": [OLD, NEW], "max_body_size": "64KiB"},
            "repositories": {"home": home, "again": {**home, "path": "/srv/again"}, "quiet": {"path": "/srv/quiet"}},
        }
    )
    told = Told()
    service = GitOpsService("gitops", config, Runs(native_database.dsn), told.operations)
    app = Litestar(
        [Router("/api/v1", route_handlers=[make_router(service)])],
        exception_handlers={HTTPException: on_http_exception},
        logging_config=None,
    )
    async with AsyncTestClient(app) as client:
        yield Hub(native_database.dsn, told, client, service)
    await service.runs.close()


# -- what asks for runs ------------------------------------------------------------------------------------------------


async def test_a_push_asks_for_a_run_of_each_clone_of_the_repository(hub: Hub) -> None:
    status, answer = await hub.deliver()
    assert status == 202
    runs = await hub.runs()
    assert {run["name"] for run in runs} == {"home", "again"}
    assert {run["id"] for run in runs} == set(answer["run_ids"])
    assert answer["run_id"] in answer["run_ids"]
    assert runs[0]["state"] == "queued"
    assert runs[0]["trigger"] == {
        "source": "github",
        "event": "push",
        "delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "branch": "main",
        "revision": REVISION,
        "sender": "someone",
    }


async def test_a_merged_pull_request_asks_for_a_run(hub: Hub) -> None:
    assert (await hub.deliver(MERGED, "pull_request"))[0] == 202
    (run, _) = await hub.runs()
    assert (run["trigger"]["event"], run["trigger"]["pull_request"]) == ("pull_request", 7)


async def test_the_form_that_github_offers_is_understood(hub: Hub) -> None:
    content = urlencode({"payload": json.dumps(PUSH)}).encode()
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert (await hub.deliver(content=content, headers=form))[0] == 202


async def test_later_pushes_take_the_place_of_those_that_wait(hub: Hub) -> None:
    for number in range(3):
        await hub.deliver({**PUSH, "pushed_at": number}, delivery=f"delivery-{number}")
    states = sorted(run["state"] for run in await hub.runs())
    assert states == ["queued"] * 2 + ["superseded"] * 4


async def test_the_run_belongs_to_the_trace_of_the_webhook(hub: Hub) -> None:
    _, answer = await hub.deliver()
    span = hub.told.span("gitops.webhook")
    run = (await hub.client.get(f"/api/v1/gitops/runs/{answer['run_id']}")).json()
    assert run["trace_id"] == hexadecimal(span.context)[0]
    assert span.attributes is not None
    assert span.attributes["obs_hub.webhook.result"] == "accepted"


# -- what is ignored, and why ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "payload", "reason"),
    [
        ("ping", {"zen": "Keep it logically awesome."}, "pong"),
        ("issues", {}, "the event 'issues' asks for nothing"),
        ("push", {**PUSH, "ref": "refs/heads/other"}, "the branch 'other' is not followed; main is"),
        ("push", {**PUSH, "ref": "refs/tags/v1"}, "'refs/tags/v1' is not a branch"),
        ("push", {**PUSH, "deleted": True}, "the branch was deleted"),
        ("push", {**PUSH, "repository": {"full_name": "other/home"}}, "no repository is configured for 'other/home'"),
        ("push", {}, "is not a branch"),
        ("push", {**PUSH, "repository": ["someone/home"]}, "no repository is configured"),
        ("pull_request", {**MERGED, "action": "opened"}, "was not merged"),
        ("pull_request", {**MERGED, "pull_request": {"merged": False}}, "was not merged"),
        ("pull_request", {**MERGED, "pull_request": None}, "was not merged"),
        (
            "pull_request",
            {**MERGED, "pull_request": {"merged": True, "base": {"ref": "$(reboot)"}}},
            "the branch '$(reboot)' is not followed",
        ),
    ],
)
async def test_everything_else_is_answered_with_the_reason(
    hub: Hub, event: str, payload: dict[str, Any], reason: str
) -> None:
    status, answer = await hub.deliver(payload, event)
    assert status == 200
    assert reason in answer["ignored"]
    assert await hub.runs() == []


async def test_a_delivery_that_comes_again_asks_for_nothing(hub: Hub) -> None:
    _, first = await hub.deliver()
    status, again = await hub.deliver()
    assert status == 200
    assert "taken before" in again["ignored"]
    assert again["run_ids"] == first["run_ids"]
    assert len(await hub.runs()) == 2


async def test_a_body_that_comes_again_under_another_id_asks_for_nothing(hub: Hub, native_database: Database) -> None:
    """Its signature is over the body alone. Another gateway, or this one after a restart, knows it from the store."""
    _, first = await hub.deliver(delivery="one")
    other = GitOpsService("gitops", hub.service.config, Runs(native_database.dsn), hub.told.operations)
    app = Litestar(
        [Router("/api/v1", route_handlers=[make_router(other)])],
        exception_handlers={HTTPException: on_http_exception},
        logging_config=None,
    )
    async with AsyncTestClient(app) as client:
        elsewhere = Hub(native_database.dsn, hub.told, client, other)
        for number, where in enumerate([hub, elsewhere, elsewhere]):
            status, again = await where.deliver(delivery=f"again-{number}")
            assert (status, again["run_ids"]) == (200, first["run_ids"])
            assert "taken before" in again["ignored"]
    await other.runs.close()
    assert len(await hub.runs()) == 2
    assert (await hub.deliver({**PUSH, "pushed_at": 2}, delivery="two"))[0] == 202


async def test_what_comes_again_and_again_costs_no_spans_and_is_told_to_stop(hub: Hub) -> None:
    assert (await hub.deliver({"zen": ""}, "ping", delivery="first"))[1]["ignored"].startswith("pong")
    spans = len(hub.told.spans)
    with capture_logs() as lines:
        answers = [await hub.deliver({"zen": ""}, "ping", delivery=f"again-{number}") for number in range(30)]
    assert {status for status, _ in answers[:20]} == {200}
    assert answers[0][1]["ignored"].startswith("pong")
    assert 429 in {status for status, _ in answers}
    assert len(hub.told.spans) == spans
    assert not lines


# -- who is heard ------------------------------------------------------------------------------------------------------


async def test_either_secret_is_good_while_one_replaces_the_other(hub: Hub) -> None:
    assert (await hub.deliver(secret=OLD, delivery="one"))[0] == 202
    assert (await hub.deliver(secret=NEW, delivery="two"))[0] == 202


async def test_secrets_can_be_rotated_without_a_restart(hub: Hub) -> None:
    config = hub.service.config.model_dump(mode="python")
    config["webhook"] = {"secrets": [NEW, "another-secret-of-the-webhook"]}
    assert hub.service.reconfigure(GitOpsConfig.model_validate(config))
    assert (await hub.deliver(secret=OLD, delivery="one"))[0] == 401
    assert (await hub.deliver(secret="another-secret-of-the-webhook", delivery="two"))[0] == 202


@pytest.mark.parametrize("signature", ["", "sha256=", "sha1=0af7", "sha256=" + "0" * 64, "none"])
async def test_a_wrong_signature_is_refused(hub: Hub, signature: str) -> None:
    status, answer = await hub.deliver(headers={"x-hub-signature-256": signature})
    assert status == 401
    assert "set the same secret" in answer["detail"]
    assert await hub.runs() == []


async def test_a_delivery_without_a_signature_is_refused(hub: Hub) -> None:
    assert (await hub.client.post("/api/v1/webhooks/github", json=PUSH)).status_code == 401


async def test_strangers_leave_no_spans_and_few_lines(hub: Hub) -> None:
    with capture_logs() as lines:
        for _ in range(20):
            assert (await hub.deliver(secret="a-wrong-secret-of-nobody"))[0] == 401
    assert not hub.told.spans
    assert 1 <= len(lines) < 20


async def test_a_body_that_was_changed_on_the_way_is_refused(hub: Hub) -> None:
    good = hmac.new(NEW.encode(), json.dumps(PUSH).encode(), hashlib.sha256).hexdigest()
    assert (await hub.deliver(content=json.dumps(PUSH).encode() + b" ",
                              headers={"x-hub-signature-256": f"sha256={good}"}))[0] == 401  # fmt: skip


async def test_nothing_reads_a_body_before_its_signature_is_checked(hub: Hub) -> None:
    assert (await hub.deliver(content=b"[" * 30_000, secret="a-wrong-secret-of-nobody"))[0] == 401
    status, answer = await hub.deliver(content=b"[" * 30_000)
    assert (status, answer["detail"]) == (400, "the delivery is not JSON; choose application/json at GitHub")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-hub-signature-256": "sha256=" + "0" * 63}, 401),
        ({"x-hub-signature-256": "sha256=" + "G" * 64}, 401),
        ({"x-github-delivery": "a b"}, 400),
        ({"x-github-event": "push; rm"}, 400),
        ({"content-type": "text/plain"}, 415),
        ({"content-length": "70000"}, 413),
    ],
)
async def test_what_cannot_be_github_s_is_refused_before_its_body(
    hub: Hub, headers: dict[str, str], status: int
) -> None:
    """The body never comes: who waited for it would wait for ever."""
    assert (await refused_without_body(hub, headers))[0] == status


async def test_a_client_that_goes_away_within_its_body_is_no_error_of_ours(hub: Hub) -> None:
    with capture_logs() as lines:
        assert (await refused_without_body(hub, {}, {"type": "http.disconnect"}))[0] == 400
    assert not [line for line in lines if line["log_level"] == "error"]


async def refused_without_body(hub: Hub, headers: dict[str, str], *messages: Any) -> tuple[int, int]:
    """Say a head that could be GitHub's but for some headers; return the status, and how often the body was read."""
    good = {
        "host": "hub", "content-type": "application/json", "content-length": "10", "x-github-event": "push",
        "x-github-delivery": "one", "x-hub-signature-256": "sha256=" + "0" * 64,
    }  # fmt: skip
    sent: list[Any] = []
    waiting = list(messages)

    async def receive() -> Any:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    path = "/api/v1/webhooks/github"
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "state": {},
        "headers": [(name.encode(), value.encode()) for name, value in {**good, **headers}.items()], "scheme": "http",
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "http_version": "1.1", "root_path": "",
        "asgi": {"version": "3.0"},
    }  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        await hub.client.app(scope, receive, send)  # type: ignore[arg-type]
    return sent[0]["status"], len(messages) - len(waiting)


async def test_bodies_that_nobody_signed_are_bounded_together(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_UNSIGNED", 0)
    config = hub.service.config.model_copy(deep=True)
    assert config.webhook is not None
    app = Litestar(
        [make_router(hub.service)], exception_handlers={HTTPException: on_http_exception}, logging_config=None
    )
    most = 2 * config.webhook.max_body_size
    go_on = asyncio.Event()
    arrived = asyncio.Semaphore(0)

    async def slowly() -> AsyncIterator[bytes]:
        yield bytes(most // 2 - 10)
        arrived.release()
        await go_on.wait()

    headers = {
        "content-type": "application/json", "x-github-event": "push", "x-github-delivery": "one",
        "x-hub-signature-256": "sha256=" + "0" * 64,
    }  # fmt: skip
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub", headers=headers) as client:
        waiting = [asyncio.create_task(client.post("/webhooks/github", content=slowly())) for _ in range(2)]
        for _ in waiting:
            await arrived.acquire()
        one_more = await client.post("/webhooks/github", content=bytes(most // 2 - 10))
        assert (one_more.status_code, one_more.headers["retry-after"]) == (503, "10")
        go_on.set()
        assert [(await answer).status_code for answer in waiting] == [401, 401]
        assert (await client.post("/webhooks/github", content=bytes(most // 2 - 10))).status_code == 401


async def test_large_bodies_are_refused(hub: Hub) -> None:
    assert (await hub.deliver({**PUSH, "padding": "x" * 70_000}))[0] == 413


async def test_a_body_that_does_not_come_is_not_waited_for(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_BODY_SECONDS", 0.1)
    app = Litestar(
        [make_router(hub.service)], exception_handlers={HTTPException: on_http_exception}, logging_config=None
    )

    async def trickle() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    headers = {
        "content-type": "application/json", "x-github-event": "push", "x-github-delivery": "one",
        "x-hub-signature-256": "sha256=" + "0" * 64,
    }  # fmt: skip
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub", headers=headers) as client:
        response = await client.post("/webhooks/github", content=trickle())
    assert (response.status_code, response.headers["connection"]) == (408, "close")


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"\xff", b'{"ref": '])
async def test_what_makes_no_sense_is_refused(hub: Hub, content: bytes) -> None:
    assert (await hub.deliver(content=content))[0] == 400


@pytest.mark.parametrize("delivery", [None, "", "a b", "x" * 200, "'; DROP TABLE run; --"])
async def test_a_delivery_without_a_sane_id_is_refused(hub: Hub, delivery: str | None) -> None:
    assert (await hub.deliver(delivery=delivery))[0] == 400


# -- without a store ---------------------------------------------------------------------------------------------------


async def test_a_delivery_that_cannot_be_written_down_is_not_taken_and_can_come_again(
    hub: Hub, native_database: Database
) -> None:
    native_database.allow_connections(False)
    try:
        status, answer = await hub.deliver()
    finally:
        native_database.allow_connections(True)
    assert status == 503
    assert "PostgreSQL is not available" in answer["detail"]
    assert (await hub.deliver())[0] == 202


# -- runs for people ---------------------------------------------------------------------------------------------------


async def test_a_run_can_be_asked_for_by_hand(hub: Hub) -> None:
    response = await hub.client.post("/api/v1/gitops/quiet/sync?force=true")
    assert response.status_code == 202
    run = (await hub.client.get(f"/api/v1/gitops/runs/{response.json()['run_id']}")).json()
    assert (run["name"], run["trigger"]) == ("quiet", {"source": "api", "force": True})


async def test_what_is_not_there_is_said_not_to_be(hub: Hub) -> None:
    response = await hub.client.post("/api/v1/gitops/nothing/sync")
    assert response.status_code == 404
    assert "configured: again, home, quiet" in response.json()["detail"]
    response = await hub.client.get("/api/v1/gitops/runs/00000000-0000-0000-0000-000000000000")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


async def test_runs_are_listed_newest_first_and_of_one_repository(hub: Hub) -> None:
    for name in ("home", "quiet", "again"):
        await hub.client.post(f"/api/v1/gitops/{name}/sync")
    assert [run["name"] for run in await hub.runs()] == ["again", "quiet", "home"]
    listed = (await hub.client.get("/api/v1/gitops/runs?name=quiet&limit=1")).json()["runs"]
    assert [run["name"] for run in listed] == ["quiet"]
    assert (await hub.client.get("/api/v1/gitops/runs?limit=0")).status_code == 400


def test_each_route_says_who_may_use_it() -> None:
    config = GitOpsConfig.model_validate({"webhook": {"secrets": [NEW]}, "repositories": {"a": {"path": "/a"}}})
    router = make_router(GitOpsService("gitops", config, Runs(""), Told().operations))
    scopes = {
        (method, route.path): handler.opt["scope"]
        for route in Litestar([router], logging_config=None).routes
        for handler in getattr(route, "route_handlers", ())
        for method in handler.http_methods
        if method != "OPTIONS" and not route.path.startswith("/schema")
    }
    assert scopes == {
        ("POST", "/webhooks/github"): None,
        ("GET", "/gitops/runs"): "read",
        ("GET", "/gitops/runs/{run_id:uuid}"): "read",
        ("POST", "/gitops/{repository:str}/sync"): "admin",
    }


def test_without_a_secret_there_is_no_webhook() -> None:
    config = GitOpsConfig.model_validate({"repositories": {"a": {"path": "/a"}}})
    router = make_router(GitOpsService("gitops", config, Runs(""), Told().operations))
    assert not any("webhooks" in route.path for route in Litestar([router], logging_config=None).routes)
