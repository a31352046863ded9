"""Signing in to the page: who may look, with what, and what a session does not open."""

from __future__ import annotations

import re
from http.cookies import SimpleCookie
from typing import Any, cast

import httpx
import pytest
from litestar import Request

from gateway.config import load
from gateway.extensions.api.access import Access
from gateway.extensions.api.app import create_app
from gateway.extensions.api.config import ApiConfig
from gateway.extensions.api.page.sign_in import Sessions
from gateway.extensions.api.queries import Queries
from gateway.extensions.view import HubView
from gateway.net.access import (
    Grant,
    PermissionDeniedError,
    RateLimitedError,
    Scope,
    UnauthenticatedError,
)
from gateway.operations import Operations
from gateway.query.service import QueryService
from tests.support.consumers import Collecting

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
TOKEN = "obs_good"


class Guests:
    """Knows two tokens: one that may read and do anything else, and one that may only send."""

    def __init__(self) -> None:
        self.failures = self.asked = 0
        self.known = {f"Bearer {TOKEN}": set(Scope), "Bearer obs_sender": {Scope.INGEST}}

    def authenticate(self, authorization: str | None, peer: str, scope: Scope) -> Grant:
        self.asked += 1
        scopes = self.known.get(authorization or "")
        if scopes is None:
            self.failures += authorization is not None
            if self.failures > 3:
                raise RateLimitedError("too many failed attempts from this address", 42.0)
            raise UnauthenticatedError("the token is not valid: it is unknown", presented=authorization is not None)
        if scope not in scopes:
            raise PermissionDeniedError("the token has no scope 'read'")
        return cast("Grant", None)


class Browser:
    """Asks a front as a browser does: it keeps cookies, and follows nothing by itself."""

    def __init__(self, guests: Guests | None = None, **settings: Any) -> None:
        self.guests = guests or Guests()
        config = ApiConfig.model_validate({"auth": {"authenticator": "tokens"}, "anonymous_read": False, **settings})
        nobody = Operations()
        view = HubView(config=load(None), consumer=Collecting(), tracer=nobody.tracer, meter=nobody.meter)
        queries = Queries(QueryService(config.query, lambda: None))
        authenticator = self.guests if config.auth else None
        self.app: Any = create_app(config, view, queries, authenticator).app
        self.cookies: dict[str, str] = {}

    async def ask(self, method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        sent = {**HTML, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answer = await client.request(method, path, data=form, headers=sent)
        for text in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(text).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        return answer

    async def sign_in(self, token: str = TOKEN, **more: str) -> httpx.Response:
        return await self.ask("POST", "/sign-in", {"token": token, **more}, origin="http://127.0.0.1")


async def test_a_token_opens_the_page_and_leads_back_to_where_one_was() -> None:
    browser = Browser()
    form = await browser.ask("GET", "/health?x=1")
    assert form.status_code == 401
    assert 'name="next" value="/health?x=1"' in form.text
    assert "Not taking telemetry" in form.text, "how the hub is, everybody may know"
    assert "What runs" not in form.text
    signed_in = await browser.sign_in(next="/health?x=1")
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/health?x=1")
    (cookie,) = signed_in.headers.get_list("set-cookie")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    page = await browser.ask("GET", "/health")
    assert page.status_code == 200
    assert "What runs" in page.text
    assert "Sign out" in page.text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/metrics?name=%00", "has no NUL in it"),
        ("/hosts/a%00b", "has no NUL in it"),
        ("/logs?q=a&q=%00", "has no NUL in it"),
        ("/logs?severity=loud", "loud"),
        ("/traces/zz", "zz"),
        ("/?from=2026-05-01T00:00:00Z&to=2026-04-01T00:00:00Z", "is not before"),
    ],
)
async def test_a_url_that_makes_no_sense_is_told_from_a_store_that_is_away(path: str, said: str) -> None:
    browser = Browser()
    await browser.sign_in()
    answer = await browser.ask("GET", path)
    assert answer.status_code == 400
    assert said in answer.text
    assert "<script" not in answer.text, "nothing loads it again and again"


def test_what_is_open_ends_with_its_token() -> None:
    guests = Guests()
    access = Access(guests, reads_are_open=False)
    reader = Request({"type": "http", "headers": [], "client": ("192.0.2.1", 1)})  # type: ignore[typeddict-item]
    assert access.still_admits(reader, Scope.READ, f"Bearer {TOKEN}")
    assert not access.still_admits(reader, Scope.READ), "signed out"
    assert guests.asked == 1, "which is no failed attempt"
    assert not access.still_admits(reader, Scope.READ, "Bearer obs_sender")
    del guests.known[f"Bearer {TOKEN}"]
    assert not access.still_admits(reader, Scope.READ, f"Bearer {TOKEN}"), "revoked"
    guests.failures = 99
    assert not access.still_admits(reader, Scope.READ, f"Bearer {TOKEN}"), "too many failures keep nothing open"


async def test_by_tls_the_cookie_is_of_this_host_alone() -> None:
    browser = Browser(tls={"cert_file": "/nowhere.crt", "key_file": "/nowhere.key"})
    (cookie,) = (await browser.sign_in()).headers.get_list("set-cookie")
    assert cookie.startswith("__Host-")
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie


async def test_a_session_opens_nothing_but_the_page() -> None:
    """The token may do anything; who has the cookie may look."""
    browser = Browser()
    await browser.sign_in()
    for method, path in (
        ("GET", "/api/v1/status"),
        ("POST", "/api/v1/synthetic"),
        ("GET", "/prometheus/api/v1/labels"),
        ("GET", "/tempo/api/echo"),
    ):
        assert (await browser.ask(method, path)).status_code == 401, path


async def test_signing_out_ends_the_session_also_for_a_copy_of_the_cookie() -> None:
    browser = Browser()
    await browser.sign_in()
    stolen = dict(browser.cookies)
    assert (await browser.ask("POST", "/sign-out", origin="http://127.0.0.1")).headers["location"] == "/"
    assert browser.cookies == {}
    browser.cookies = stolen
    assert (await browser.ask("GET", "/health")).status_code == 401


async def test_a_token_that_is_revoked_ends_its_sessions() -> None:
    browser = Browser()
    await browser.sign_in()
    del browser.guests.known[f"Bearer {TOKEN}"]
    assert (await browser.ask("GET", "/health")).status_code == 401


@pytest.mark.parametrize(
    ("token", "status", "said"),
    [
        ("nonsense", 401, "Paste a token of this hub"),
        ("obs_sender", 403, "--scope read"),
        ("   ", 400, "There was no token"),
    ],
)
async def test_a_token_that_does_not_open_it_says_what_to_do(token: str, status: int, said: str) -> None:
    browser = Browser()
    answer = await browser.sign_in(token, next="/health")
    assert answer.status_code == status
    assert said in answer.text
    assert re.search(r'role="alert"', answer.text)
    assert 'name="next" value="/health"' in answer.text
    assert token.strip() not in answer.text or not token.strip()
    assert browser.cookies == {}


async def test_guessing_is_slowed_down_as_everywhere() -> None:
    browser = Browser()
    for _ in range(3):
        assert (await browser.sign_in("guess")).status_code == 401
    slowed = await browser.sign_in("guess")
    assert (slowed.status_code, slowed.headers["retry-after"]) == (429, "42")
    assert "Wait 42 seconds" in slowed.text


async def test_opening_the_page_with_nothing_is_no_attempt() -> None:
    browser = Browser()
    answers = [await browser.ask("GET", "/logs") for _ in range(30)]
    assert {answer.status_code for answer in answers} == {401}
    assert browser.guests.asked == 0


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}])
async def test_a_page_of_another_site_signs_nobody_in_or_out(headers: dict[str, str]) -> None:
    browser = Browser()
    for path in ("/sign-in", "/sign-out"):
        assert (await browser.ask("POST", path, {"token": TOKEN}, **headers)).status_code == 403
    assert browser.cookies == {}


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", ""]
)
async def test_it_leads_to_pages_of_this_hub_alone(target: str) -> None:
    assert (await Browser().sign_in(next=target)).headers["location"] == "/"


async def test_a_link_from_elsewhere_is_asked_for_once_more_with_the_cookie() -> None:
    """A cookie that is SameSite=Strict does not come along with it."""
    browser = Browser()
    assert 'http-equiv="refresh"' in (await browser.ask("GET", "/", sec_fetch_site="cross-site")).text
    assert 'http-equiv="refresh"' not in (await browser.ask("GET", "/", sec_fetch_site="same-origin")).text


async def test_programs_send_the_token_itself() -> None:
    browser = Browser()
    page = await browser.ask("GET", "/health", authorization=f"Bearer {TOKEN}")
    assert page.status_code == 200
    refused = await browser.ask("GET", "/health", accept="text/event-stream")
    assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    assert (await browser.ask("GET", "/", accept="application/json")).json()["name"] == "Observability Hub"


async def test_where_reading_is_open_nobody_is_asked() -> None:
    browser = Browser(anonymous_read=True)
    assert (await browser.ask("GET", "/health")).status_code == 200
    assert (await browser.ask("GET", "/sign-in")).headers["location"] == "/"
    assert (await browser.sign_in()).headers.get_list("set-cookie") == []


async def test_without_anything_that_knows_tokens_it_says_what_to_set() -> None:
    closed = await Browser(auth=None).ask("GET", "/health")
    assert closed.status_code == 403
    assert "auth: {authenticator: tokens}" in closed.text
    assert "<form" not in closed.text


async def test_without_a_store_each_view_says_so_and_health_is_there() -> None:
    browser = Browser(anonymous_read=True)
    for path in ("/", "/metrics", "/hosts/a"):
        answer = await browser.ask("GET", path)
        assert answer.status_code == 503, path
        assert "No store is configured to read from." in answer.text
    assert (await browser.ask("GET", "/health")).status_code == 200


def test_sessions_are_bounded_and_end_when_nobody_uses_them() -> None:
    clock = [0.0]
    sessions = Sessions(most=2, clock=lambda: clock[0])
    first, second = sessions.begin("Bearer 1"), sessions.begin("Bearer 2")
    assert sessions.find(first) == "Bearer 1"
    third = sessions.begin("Bearer 3")
    assert (sessions.find(first), sessions.find(second), sessions.find(third)) == ("Bearer 1", None, "Bearer 3")
    clock[0] += 31 * 86_400
    assert sessions.find(first) is None
