"""Every view of the page, as people with all kinds of eyes, hands and screens meet it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import PHONE, axe_violations, overflow, weight

if TYPE_CHECKING:
    from playwright.sync_api import Page

VIEWS = ["/", "/api/v1/docs"]


@pytest.mark.parametrize("path", VIEWS)
def test_it_can_be_used_by_everybody(shown: Callable[[str], Page], path: str) -> None:
    page = shown(path)
    assert axe_violations(page) == []
    page.emulate_media(color_scheme="dark")
    assert axe_violations(page) == []
    page.set_viewport_size(PHONE)
    assert overflow(page) == []
    assert sum(weight(page).values()) < 150 * 1024, weight(page)
