"""Who may look: the form to sign in, where reading needs a token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import Watch
from tests.browser.lab import Lab, start_lab
from tests.integration.cli.processes import Hubs, obs_hub
from tests.support.browser import axe_violations, expect
from tests.support.databases import Server, fresh_store

if TYPE_CHECKING:
    from playwright.sync_api import Page


EMPTY = ["/", "/logs", "/traces", "/events", "/runs"]


@pytest.fixture(scope="module")
def closed(running: Hubs, embedded_server: Server) -> Iterator[Lab]:
    """A hub whose store has nothing yet, and whose readers need a token."""
    with fresh_store(embedded_server) as database:
        yield start_lab(running, database, "closed", own_host=False, anonymous_read=False)


@pytest.fixture(scope="module")
def tokens(closed: Lab) -> dict[str, str]:
    """A token for each scope that a test signs in with."""
    found = {}
    for scope in ("ingest", "read"):
        made = obs_hub("token", "create", scope, "--scope", scope, "--quiet", OBSHUB_DATA_DIR=str(closed.hub.data_dir))
        assert made.returncode == 0, made.stderr
        found[scope] = made.stdout.strip()
    return found


def sign_in(page: Page, with_token: str) -> None:
    page.get_by_label("Token").fill(with_token)
    page.get_by_role("button", name="Sign in").click()


def test_a_token_opens_the_page_until_one_signs_out(
    page: Page, watch: Watch, closed: Lab, tokens: dict[str, str]
) -> None:
    watch(closed.url).allow("40[13]")  # the form itself is answered so
    page.goto(f"{closed.url}/logs?q=disk")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert axe_violations(page) == []
    sign_in(page, "nonsense")
    expect(page.get_by_role("alert")).to_be_visible()
    sign_in(page, tokens["ingest"])
    expect(page.get_by_role("alert")).to_contain_text("may not read")
    sign_in(page, tokens["read"])
    page.wait_for_url(f"{closed.url}/logs?q=disk")
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert tokens["read"] not in cookie["value"]
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.context.cookies() == []
    # Who had the cookie is not let in by it any more.
    page.context.add_cookies([cookie])  # type: ignore[list-item]
    page.goto(f"{closed.url}/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_an_empty_store_says_how_to_send_something(
    page: Page, watch: Watch, closed: Lab, tokens: dict[str, str]
) -> None:
    watch(closed.url).allow("401")
    page.goto(closed.url)
    sign_in(page, tokens["read"])
    for path in EMPTY:
        page.goto(closed.url + path)
        expect(page.locator("#live pre").first).to_contain_text("obs-hub")
        assert axe_violations(page) == []


def test_a_store_that_goes_away_is_told_and_comes_back(
    page: Page, watch: Watch, closed: Lab, tokens: dict[str, str]
) -> None:
    watch(closed.url).allow("401")
    page.goto(f"{closed.url}/")
    sign_in(page, tokens["read"])
    expect(page.locator("#liveness")).to_have_text("Live")
    shown = page.locator("#live").inner_text()
    closed.database.allow_connections(False)
    note = page.locator("#unread")
    expect(note).to_contain_text("What is below was there before")
    expect(page.locator("#liveness")).to_have_text("Not up to date")
    expect(page.locator("#live")).to_have_text(shown, use_inner_text=True)
    assert axe_violations(page) == []
    closed.database.allow_connections(True)
    expect(note).to_have_count(0)
    expect(page.locator("#liveness")).to_have_text("Live")
    expect(page.locator("#live")).to_have_text(shown, use_inner_text=True)
