"""The page in a real browser: nothing is blocked, nothing fails, and its numbers live."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.integration.api.conftest import Front
from tests.support.browser import CHROMIUM, browse


@pytest.fixture(autouse=True)
def _there_is_a_browser() -> None:
    if CHROMIUM is None:
        pytest.skip("there is no chromium on PATH")


def test_the_page_lives_and_nothing_is_blocked(front: Front) -> None:
    html, console = browse(f"{front.url}/health", "--dump-dom")
    assert not console
    pushes = re.search(r'data-pushes="(\d+)"', html)
    assert pushes is not None, "nothing was pushed"
    assert int(pushes[1]) >= 1
    assert "Everything works" in html


def test_the_page_of_the_api_lists_every_operation(front: Front) -> None:
    html, console = browse(f"{front.url}/api/v1/docs", "--dump-dom")
    assert not console
    for path in ("/api/v1/health", "/api/v1/ready", "/api/v1/status", "/api/v1/synthetic"):
        assert f"<code>{path}</code>" in html


@pytest.mark.parametrize("size", ["1280,900", "390,844"])
def test_it_can_be_drawn_at_every_width(front: Front, tmp_path: Path, size: str) -> None:
    picture = tmp_path / "page.png"
    _, console = browse(f"{front.url}/", f"--window-size={size}", f"--screenshot={picture}")
    assert not console
    assert picture.stat().st_size > 10_000
    if folder := os.environ.get("OBSHUB_TEST_SCREENSHOTS"):
        shutil.copy(picture, Path(folder) / f"page-{size.replace(',', 'x')}.png")
