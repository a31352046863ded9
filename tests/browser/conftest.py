"""One browser, one page in it, and one hub are shared by all tests of this folder: each costs more than most tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import Lab, start_lab
from tests.integration.cli.processes import Hubs, hubs
from tests.support.browser import DESKTOP, Complaints, chromium, missing, new_page
from tests.support.databases import Server, fresh_store
from tests.support.homelab_store import fill

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTS = 3


@pytest.fixture(scope="package")
def running() -> Iterator[Hubs]:
    if reason := missing():
        pytest.skip(reason)
    with hubs(forked=True) as started:
        yield started


@pytest.fixture(scope="package")
def lab(running: Hubs, embedded_server: Server) -> Iterator[Lab]:
    """A hub of some hosts and services that have sent for some hours, and of this machine."""
    with fresh_store(embedded_server) as database:
        fill(database, HOSTS, timedelta(hours=3))
        yield start_lab(running, database)


@pytest.fixture(scope="package")
def browser(lab: Lab) -> Iterator[Browser]:
    """The browser, after the hub: no event loop can run in a thread once Playwright is at work in it."""
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="package")
def _one_page(browser: Browser) -> Page:
    return new_page(browser)


@pytest.fixture
def page(_one_page: Page) -> Iterator[Page]:
    """A page that has nothing open, at a desk, in the light; nobody is signed in by its cookies."""
    _one_page.context.clear_cookies()
    _one_page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]
    _one_page.emulate_media(color_scheme="light", reduced_motion="reduce")
    yield _one_page
    _one_page.goto("about:blank")


Watch = Callable[[str], Complaints]


@pytest.fixture
def watch(page: Page, request: pytest.FixtureRequest) -> Iterator[Watch]:
    """Hold the page to what no page of an origin may do, from now to the end of the test."""
    watched: list[Complaints] = []

    def begin(origin: str) -> Complaints:
        watched.append(Complaints(page, origin))
        return watched[-1]

    yield begin
    if folder := os.environ.get("OBSHUB_TEST_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{request.node.name.replace('/', '-')}.png")
    assert [complaint for each in watched for complaint in each.end()] == []


Show = Callable[[str], "Page"]


@pytest.fixture
def show(page: Page, lab: Lab, watch: Watch) -> Show:
    """Go to a path of the lab's page, which is held to what no page may do, and return it."""
    watch(lab.url)

    def to(path: str) -> Page:
        answer = page.goto(lab.url + path)
        assert answer is not None
        assert answer.ok, f"{path}: {answer.status}"
        return page

    return to
