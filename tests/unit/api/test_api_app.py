"""The application by itself: who is let in, under which name, and that no route forgets to say so."""

from __future__ import annotations

import asyncio
import json
import logging  # noqa: TID251 - the root logger's handlers are taken back
from http import HTTPStatus
from typing import Annotated, Any, cast

import httpx
import pytest
import structlog
from litestar import Request, Response, Router, get, post
from litestar.params import Parameter
from pydantic import ValidationError

from gateway import logs
from gateway.config import load
from gateway.extensions.api.app import create_app
from gateway.extensions.api.config import ApiConfig
from gateway.extensions.api.documents import Document
from gateway.extensions.api.queries import Queries
from gateway.extensions.view import HubView
from gateway.net.access import Grant, Scope, UnauthenticatedError
from gateway.operations import Operations
from gateway.query.service import QueryService
from tests.support.consumers import Collecting
from tests.support.logged import Logged
from tests.support.operations import Told


class Anybody:
    def authenticate(self, authorization: str | None, peer: str, scope: Scope) -> Grant:
        if authorization is None:
            raise UnauthenticatedError("who is there?", presented=False)
        return cast("Grant", None)  # the front asks no more of it


class Nobody:
    def authenticate(self, authorization: str | None, peer: str, scope: Scope) -> Grant:
        raise UnauthenticatedError("nobody is known", presented=authorization is not None)


def app(routers: Any = (), **settings: Any) -> Any:
    told, authenticator = settings.pop("told", None), settings.pop("authenticator", Nobody())
    config = ApiConfig.model_validate({"auth": {"authenticator": "tokens"}, **settings})
    operations = told.operations if told else Operations()
    view = HubView(config=load(None), consumer=Collecting(), tracer=operations.tracer, meter=operations.meter)
    return create_app(config, view, Queries(QueryService(config.query, lambda: view.dsn)), authenticator, routers).app


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
        ({}, "[::1]", 200),
        ({}, "localhost:", 200),
        ({}, "localhost:65535", 200),
        ({}, "localhost:65536", 400),
        ({}, "localhost:99999999", 400),
        ({}, "localhost:banana", 400),
        ({}, "user@localhost", 400),
        ({}, "localhost/evil", 400),
        ({}, "[::1", 400),
        ({"anonymous_read": False}, "evil.example", 421),
        ({"allowed_hosts": ["hub.example.com"]}, "hub.example.com:8085", 200),
        ({"endpoint": "0.0.0.0:8085"}, "any.example", 401),
        ({"endpoint": "0.0.0.0:8085", "allowed_hosts": ["hub.example.com"]}, "any.example", 421),
        ({"endpoint": "0.0.0.0:8085", "allowed_hosts": ["hub.example.com"]}, "hub.example.com", 401),
    ],
)
async def test_names_it_may_be_called_by(settings: dict[str, Any], host: str, status: int) -> None:
    assert (await ask(app(**settings), host=host)).status_code == status
    if status == 400:
        assert (await ask(app(), "/nowhere", host=host)).json()["status"] == 400


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("path", "headers", "status", "said"),
    [
        ("/nowhere/<b>", {}, 404, "There is nothing at /nowhere/&lt;b&gt;"),
        ("/api/v1/nowhere", {}, 404, "There is nothing at /api/v1/nowhere"),
        ("/static/nothing.css", {}, 404, "There is nothing at"),
        ("/api/v1/status", {"host": "evil.example"}, 421, "evil.example"),
        ("/api/v1/ready?strict=perhaps", {}, 400, "Bad Request"),
    ],
)
async def test_errors_are_pages_for_browsers_and_problems_for_programs(
    path: str, headers: dict[str, str], status: int, said: str
) -> None:
    page = await ask(app(), path, accept=BROWSER, **headers)
    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert said in page.text
    assert f"<span>{status}</span>" in page.text
    assert page.headers["x-request-id"] in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for accept in ("*/*", "application/json", "", "text/csv", ";;q=,"):
        problem = await ask(app(), path, accept=accept, **headers)
        assert (problem.status_code, problem.headers["content-type"]) == (status, "application/problem+json"), accept
        assert problem.json()["status"] == status
        assert "accept" in problem.headers["vary"]


async def test_browsers_find_an_icon_where_they_look_for_one() -> None:
    icon = await ask(app(authenticator=Nobody(), anonymous_read=False), "/favicon.ico", accept="image/*")
    assert (icon.status_code, icon.headers["content-type"]) == (200, "image/x-icon")
    assert icon.content.startswith(b"\0\0\1\0\1\0")
    assert b"\x89PNG" in icon.content


async def test_the_page_links_to_what_else_there_is() -> None:
    hub = app(links={"Grafana": "https://grafana.example.com/?a=1&b=2"})
    page = (await ask(hub, "/api/v1/docs", accept="text/html")).text
    assert '<a href="https://grafana.example.com/?a=1&amp;b=2">Grafana</a>' in page
    with pytest.raises(ValidationError):
        app(links={"Grafana": "javascript:alert(1)"})


async def test_a_webhook_comes_by_the_public_name_of_what_leads_it_here() -> None:
    @post("/webhooks/github", opt={"scope": None}, sync_to_thread=False)
    def github() -> None: ...

    hub = app([Router("/", route_handlers=[github])])
    assert (await ask(hub, "/api/v1/webhooks/github", "POST", host="machine.tailnet.ts.net")).status_code == 201
    assert (await ask(hub, "/api/v1/synthetic", "POST", host="machine.tailnet.ts.net")).status_code == 421


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1", 401),
        ("https://127.0.0.1", 401),
        ("http://127.0.0.1:1", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("http://[", 403),
        ("ftp://127.0.0.1", 403),
    ],
)
async def test_a_page_of_another_site_may_change_nothing(origin: str, status: int) -> None:
    answer = await ask(app(), "/api/v1/synthetic", "POST", origin=origin)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


async def test_what_is_wrong_with_baggage_is_not_logged(logged: Logged) -> None:
    assert (await ask(app(), "/api/v1/health", baggage=f"=,{'b' * 10_000}")).status_code == 200
    assert "bbb" not in logged.text


@pytest.mark.parametrize("settings", [{"endpoint": "0.0.0.0:8085"}, {"anonymous_read": False}])
async def test_where_reading_needs_a_token_nobody_is_told_what_runs(settings: dict[str, Any]) -> None:
    closed = app(**settings)
    page = (await ask(closed, "/", accept="text/html")).text
    assert "Not taking telemetry" in page
    assert "What runs" not in page
    assert (await ask(closed, "/health", accept="text/html")).status_code == 401
    assert "anonymous_read: true" in page, "how everybody can be let see it"
    dependencies = (await ask(closed, "/api/v1/ready")).json()["dependencies"]
    assert [set(each.values()) for each in dependencies if each["name"] == "receivers"] == [{"receivers", "down", ""}]
    assert "What runs" in (await ask(app(), "/health", accept="text/html")).text
    assert "nothing listens" in (await ask(app(), "/api/v1/ready")).text


async def test_the_document_says_whether_reading_needs_a_token() -> None:
    async def security(path: str, method: str, **settings: Any) -> Any:
        return (await ask(app(**settings), "/api/v1/openapi.json")).json()["paths"][path][method]["security"]

    assert await security("/api/v1/status", "get") == [{}, {"token": []}]
    assert await security("/api/v1/status", "get", anonymous_read=False) == [{"token": []}]
    assert await security("/api/v1/synthetic", "post") == [{"token": []}]


async def test_each_request_is_timed_by_its_route() -> None:
    told = Told()
    hub = app(told=told)
    await ask(hub, "/api/v1/health")
    await ask(hub, "/nothing/like/it", "BREW")
    found = told.metric("http.server.request.duration")
    assert set(found) == {("GET", 200, "/api/v1/health", "http"), ("_OTHER", 404, "http")}


async def test_a_status_is_counted_once_however_a_handler_writes_it() -> None:
    # The SDK tells attributes apart by their types, and exports what is 200 either way as two points of one series.
    @get("/enumerated", opt={"scope": None}, sync_to_thread=False)
    def enumerated(request: Request[Any, Any, Any]) -> Response[str]:
        return Response("", status_code=200 if request.url.query == "plain" else HTTPStatus.OK)

    told = Told()
    hub = app([Router("/", route_handlers=[enumerated])], told=told)
    await ask(hub, "/api/v1/enumerated?plain")
    await ask(hub, "/api/v1/enumerated")
    (point,) = told.points("http.server.request.duration")
    assert (point.attributes["http.response.status_code"], point.count) == (200, 2)


async def test_what_is_logged_for_a_request_has_its_id_and_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    @get("/telling", opt={"scope": None}, sync_to_thread=False)
    def telling() -> str:
        structlog.get_logger("test").warning("something happened")
        return ""

    root = logging.getLogger()
    before = (root.handlers, root.level)
    logs.configure("info", "json")
    try:
        hub = app([Router("/", route_handlers=[telling])], told=Told())
        answer = await ask(hub, "/api/v1/telling", **{"x-request-id": "the-id"})
    finally:
        root.handlers, root.level = before
        structlog.reset_defaults()
    line = next(json.loads(line) for line in capsys.readouterr().err.splitlines() if "something happened" in line)
    assert (line["request_id"], line["trace_id"]) == ("the-id", answer.headers["x-trace-id"])


TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def traced_app(told: Told, **settings: Any) -> Any:
    @get("/for/{name:str}", opt={"scope": Scope.READ}, sync_to_thread=False)
    def of(name: Annotated[str, Parameter(description="Whose")]) -> str:
        return name

    return app([Router("/", route_handlers=[of])], told=told, authenticator=Anybody(), **settings)


async def test_what_is_refused_is_not_written_down_whatever_it_says() -> None:
    told = Told()
    hub = traced_app(told, anonymous_read=False)
    long = "x" * 8_000
    for path, headers in [
        ("/api/v1/for/me", {}),
        (f"/api/v1/for/{long}", {}),
        (f"/nothing/{long}", {}),
        ("/api/v1/health", {"host": "evil.example"}),
        ("/api/v1/status", {}),
    ]:
        answer = await ask(hub, path, traceparent=PARENT, **{"user-agent": long}, **headers)
        assert answer.status_code in (401, 404, 421)
    await ask(hub, "/api/v1/synthetic", "POST", traceparent=PARENT, origin="http://evil.example")
    assert told.spans == []


async def test_a_stranger_who_may_ask_decides_nothing_about_the_span() -> None:
    """Not its trace, not whether it is sampled, and nothing that it says is in it."""
    told = Told()
    long = "x" * 8_000
    answer = await ask(traced_app(told), f"/api/v1/for/{long}", traceparent=PARENT, **{"user-agent": long})
    assert answer.status_code == 200
    (span,) = told.spans
    assert span.name == "GET /api/v1/for/{name}"
    assert span.parent is None
    assert answer.headers["x-trace-id"] != TRACE
    assert long not in span.to_json()


async def test_the_span_of_a_caller_who_is_known_belongs_to_the_caller_s_trace() -> None:
    told = Told()
    hub = traced_app(told, anonymous_read=False)
    answer = await ask(hub, "/api/v1/for/" + "x" * 8_000, authorization="Bearer t", traceparent=PARENT)
    assert answer.headers["x-trace-id"] == TRACE
    (span,) = told.spans
    assert span.attributes is not None
    assert len(str(span.attributes["url.path"])) == 256
    assert span.attributes["http.response.status_code"] == 200


async def test_the_document_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes milliseconds, and nobody is asked for a token for it."""
    hub = app()
    first = await ask(hub, "/api/v1/openapi.json")
    monkeypatch.setattr(Document, "render_json", None)
    again = [await ask(hub, path) for path in ("/api/v1/openapi.json", "/api/v1/openapi/openapi.json")]
    assert {answer.text for answer in again} == {first.text}
    assert "paths" in first.json()


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


async def test_a_header_that_browsers_refuse_on_plain_http_is_sent_by_tls_alone() -> None:
    tls = {"cert_file": "/nowhere.crt", "key_file": "/nowhere.key"}
    plain, encrypted = await ask(app(), "/", accept="text/html"), await ask(app(tls=tls), "/", accept="text/html")
    assert "cross-origin-opener-policy" not in plain.headers
    assert encrypted.headers["cross-origin-opener-policy"] == "same-origin"
    assert plain.headers["x-frame-options"] == encrypted.headers["x-frame-options"] == "DENY"


def test_who_is_refused_an_address_is_told_how_the_page_can_be_seen() -> None:
    with pytest.raises(ValidationError, match=r"'insecure: true' and 'anonymous_read: true'"):
        ApiConfig(endpoint="0.0.0.0:8085")
