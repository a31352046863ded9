"""Charts: they lead to the logs of their host, and are used without a mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tests.browser.conftest import Show
from tests.support.browser import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page


def tab_to(page: Page, selector: str) -> None:
    """Press the tab key until what is selected has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"the tab key does not lead to {selector}")


def test_a_chart_leads_to_the_logs_of_its_host(show: Show) -> None:
    page = show("/hosts/nas?range=1h")
    page.locator("figure.chart").first.get_by_role("link", name="Logs").click()
    expect(page.locator(".stream .line").first).to_be_visible()
    assert parse_qs(urlsplit(page.url).query)["host"] == ["nas"]
    assert set(page.locator(".stream .host").all_inner_texts()) == {"nas"}


def test_metrics_are_explored_by_keyboard(show: Show) -> None:
    page = show("/metrics")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    tab_to(page, "#q")
    page.keyboard.type("cpu.utilization")
    expect(page.locator("#live tbody th a")).to_have_text(["system.cpu.utilization"])
    tab_to(page, "#live tbody th a")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("system.cpu.utilization")
    tab_to(page, ".plot")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("figure.chart [data-when]")).not_to_be_empty()
