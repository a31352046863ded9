"""Every view of the page, as people with all kinds of eyes, hands and screens meet it."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Show
from tests.browser.views import VIEWS
from tests.support.browser import PHONE, axe_violations, layout_shift, overflow, wait_until, weight

PAGES = [*VIEWS.values(), "/api/v1/docs", "/sign-in"]


@pytest.mark.parametrize("path", PAGES)
def test_it_can_be_used_by_everybody(show: Show, path: str) -> None:
    page = show(path)
    assert layout_shift(page) < 0.01
    assert sum(weight(page).values()) <= 150 * 1_024, weight(page)
    assert axe_violations(page) == []
    page.emulate_media(color_scheme="dark")
    assert axe_violations(page, "color-contrast") == []
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert overflow(page) == []


def test_what_stays_open_lives(show: Show) -> None:
    page = show("/health")
    wait_until(page, "document.documentElement.dataset.pushes >= 2")


def test_the_page_of_the_api_lists_every_operation(show: Show) -> None:
    page = show("/api/v1/docs")
    for path in ("/api/v1/health", "/api/v1/ready", "/api/v1/status", "/api/v1/synthetic"):
        page.locator("code", has_text=path).first.wait_for()
