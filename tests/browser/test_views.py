"""Every view of the page, as people with all kinds of eyes, hands and screens meet it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import Show, Watch
from tests.browser.lab import Lab
from tests.browser.views import VIEWS, newest_trace
from tests.support.browser import (
    DESKTOP,
    PHONE,
    axe_violations,
    expect,
    layout_shift,
    new_page,
    overflow,
    wait_until,
    weight,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

PAGES = [*VIEWS.values(), "/api/v1/docs", "/sign-in"]


@pytest.mark.parametrize("path", PAGES)
def test_it_can_be_used_by_everybody(show: Show, path: str) -> None:
    check(show(path))


def test_a_trace_can_be_used_by_everybody(show: Show, lab: Lab) -> None:
    page = show(newest_trace(lab.database))
    check(page)
    page.locator(".waterfall summary").first.click()
    check(page)


def check(page: Page) -> None:
    page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]
    page.emulate_media(color_scheme="light")
    assert layout_shift(page) < 0.01
    assert sum(weight(page).values()) <= 150 * 1_024, weight(page)
    assert axe_violations(page) == []
    page.emulate_media(color_scheme="dark")
    assert axe_violations(page, "color-contrast") == []
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert overflow(page) == []


def test_how_long_a_trace_took_is_seen_in_its_bar(show: Show) -> None:
    def fills(path: str, rows: str) -> list[str]:
        bar = show(path).locator(f".traces {rows} .share").first
        found: list[str] = bar.evaluate("bar => [...bar.children].map(rect => getComputedStyle(rect).fill)")
        return found

    whole, part = fills("/traces?range=6h", "tr:not(.failed)")
    of_all, failed = fills("/traces?range=6h&errors=1", "tr.failed")
    assert whole == of_all
    assert len({whole, part, failed}) == 3


def test_commands_to_copy_are_aligned_and_whole(show: Show) -> None:
    """As a view that has nothing yet shows them, which none of the lab's is."""
    page = show("/logs")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    begins, is_whole = page.evaluate(
        """() => {
            const list = document.createElement("ol"), text = "export A=1\\nexport B=" + "long/".repeat(30);
            list.className = "ways";
            list.innerHTML = `<li><pre><code>${text}</code></pre></li>`;
            document.getElementById("main").append(list);
            const code = list.querySelector("code"), lines = document.createRange();
            lines.selectNodeContents(code);
            const begins = {};
            for (const { top, left } of lines.getClientRects()) begins[top] = Math.min(left, begins[top] ?? left);
            return [Object.values(begins), code.parentElement.scrollWidth <= code.parentElement.clientWidth];
        }"""
    )
    assert len(begins) > 2
    assert len(set(begins)) == 1
    assert is_whole


@pytest.mark.parametrize("path", ["/", "/runs", "/health"])
def test_the_view_that_is_open_is_in_sight_in_the_navigation(show: Show, path: str) -> None:
    page = show("/events")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.goto(page.url.replace("/events", path))
    place = """link => { const own = link.getBoundingClientRect(), all = link.parentElement.getBoundingClientRect();
        return own.left >= all.left && own.right <= all.right }"""
    assert page.locator("nav.views [aria-current]").evaluate(place)


def test_what_stays_open_lives(show: Show) -> None:
    page = show("/health")
    wait_until(page, "document.documentElement.dataset.pushes >= 2")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (503, '{"detail": "too many pages are open; please try again"}', "Too many pages are open; please try again"),
        (500, '{"title": "Internal Server Error"}', "Internal Server Error"),
    ],
)
def test_why_nothing_is_pushed_is_said(page: Page, watch: Watch, lab: Lab, status: int, body: str, said: str) -> None:
    def refuse(route: Route) -> None:
        if route.request.headers.get("accept") != "text/event-stream":
            route.continue_()
            return
        route.fulfill(status=status, content_type="application/problem+json", body=body)

    watch(lab.url).allow(str(status))
    page.route("**/health", refuse)
    try:
        page.goto(f"{lab.url}/health")
        expect(page.locator("#liveness")).to_have_text(said)
    finally:
        page.unroute("**/health")


_SLOW_SOURCE = """window.EventSource = class {
  addEventListener(name, listener) { setTimeout(() => listener({data: name === "pace" ? "120" : ""})); }
  close() {}
}"""


def test_how_seldom_a_dear_view_is_read_is_said(browser: Browser, lab: Lab) -> None:
    page = new_page(browser)
    page.add_init_script(_SLOW_SOURCE)
    page.goto(f"{lab.url}/health")
    expect(page.locator("#liveness")).to_contain_text("every 2 min")
    page.context.close()


def test_the_page_of_the_api_lists_every_operation(show: Show) -> None:
    page = show("/api/v1/docs")
    for path in ("/api/v1/health", "/api/v1/ready", "/api/v1/status", "/api/v1/synthetic"):
        page.locator("code", has_text=path).first.wait_for()
