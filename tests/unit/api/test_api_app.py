"""The application by itself: who is let in, under which name, and that no route forgets to say so."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from litestar import Router, get
from opentelemetry.trace import NoOpTracer
from pydantic import ValidationError

from gateway.api.app import create_app
from gateway.api.config import ApiConfig
from gateway.api.view import HubView
from gateway.config import load
from gateway.pipeline.access import Grant, Scope, UnauthenticatedError


class Nobody:
    def authenticate(self, authorization: str | None, peer: str, scope: Scope) -> Grant:
        raise UnauthenticatedError("nobody is known", presented=authorization is not None)


def app(routers: Any = (), **settings: Any) -> Any:
    config = ApiConfig.model_validate({"auth": {"authenticator": "tokens"}, **settings})
    view = HubView(load(None), None, NoOpTracer(), {}, dict, lambda: None)
    return create_app(config, view, Nobody(), routers)


async def ask(application: Any, path: str = "/api/v1/status", method: str = "GET", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.request(method, path, headers=headers)


def test_a_route_that_does_not_say_who_may_call_it_stops_the_start() -> None:
    @get("/forgotten", sync_to_thread=False)
    def forgotten() -> str:
        return "open to all"

    with pytest.raises(ValueError, match=r"/api/v1/forgotten has no opt\['scope'\]"):
        app([Router("/", route_handlers=[forgotten])])


async def test_a_router_of_another_part_is_served_and_guarded() -> None:
    @get("/more", opt={"scope": Scope.ADMIN}, sync_to_thread=False)
    def more() -> str:
        return "for admins"

    answer = await ask(app([Router("/", route_handlers=[more])]), "/api/v1/more")
    assert answer.status_code == 401
    assert answer.json()["detail"] == "nobody is known"


def test_everybody_may_read_beyond_loopback_only_when_told_to_be_insecure() -> None:
    for endpoint in ("0.0.0.0:8085", "[::]:8085", "hub.example.com:8085"):
        assert not ApiConfig.model_validate({"endpoint": endpoint, "auth": {"authenticator": "a"}}).reads_are_open
        with pytest.raises(ValidationError, match="lets everybody read"):
            ApiConfig.model_validate({"endpoint": endpoint, "auth": {"authenticator": "a"}, "anonymous_read": True})
        assert ApiConfig.model_validate({"endpoint": endpoint, "anonymous_read": True, "insecure": True}).reads_are_open
    assert ApiConfig().reads_are_open


@pytest.mark.parametrize(
    ("settings", "host", "status"),
    [
        ({}, "localhost:8085", 200),
        ({}, "evil.example", 421),
        ({}, "192.0.2.7", 200),
        ({}, "[::1]:8085", 200),
        ({"anonymous_read": False}, "evil.example", 421),
        ({"allowed_hosts": ["hub.example.com"]}, "hub.example.com:8085", 200),
        ({"endpoint": "0.0.0.0:8085"}, "any.example", 401),
        ({"endpoint": "0.0.0.0:8085", "allowed_hosts": ["hub.example.com"]}, "any.example", 421),
        ({"endpoint": "0.0.0.0:8085", "allowed_hosts": ["hub.example.com"]}, "hub.example.com", 401),
    ],
)
async def test_names_it_may_be_called_by(settings: dict[str, Any], host: str, status: int) -> None:
    assert (await ask(app(**settings), host=host)).status_code == status


async def test_an_error_nobody_foresaw_shows_nothing_of_itself() -> None:
    @get("/broken", opt={"scope": None}, sync_to_thread=False)
    def broken() -> str:
        raise RuntimeError("postgresql://user:secret@db")

    answer = await ask(app([Router("/", route_handlers=[broken])]), "/api/v1/broken")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in answer.text


async def test_a_request_that_outlives_the_grace_period_is_told_to_come_back() -> None:
    begun = asyncio.Event()

    @get("/slow", opt={"scope": None})
    async def slow() -> str:
        begun.set()
        await asyncio.sleep(3600)
        return ""

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.sleep(3600)

    scope = {
        "type": "http", "method": "GET", "path": "/api/v1/slow", "raw_path": b"/api/v1/slow", "query_string": b"",
        "headers": [(b"host", b"localhost")], "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        "http_version": "1.1", "root_path": "", "asgi": {"version": "3.0"}, "state": {},
    }  # fmt: skip
    answering = asyncio.create_task(app([Router("/", route_handlers=[slow])])(scope, receive, send))
    await begun.wait()
    answering.cancel()
    await asyncio.wait({answering})
    assert sent[0]["status"] == 503
