"""Links and forms work by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.lab import Lab
from tests.support.browser import new_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_logs_are_searched_without_scripts(browser: Browser, lab: Lab) -> None:
    page = new_page(browser, java_script_enabled=False)
    try:
        page.goto(f"{lab.url}/")
        page.get_by_role("navigation", name="Views").get_by_role("link", name="Logs").click()
        page.get_by_role("searchbox").fill("publickey")
        page.get_by_role("button", name="Search").click()
        page.locator(".stream .body", has_text="Accepted publickey").first.wait_for()
    finally:
        page.context.close()
