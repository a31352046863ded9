"""The page in a real browser: nothing is blocked, nothing fails, and its numbers live."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.integration.api.conftest import Front
from tests.support.waiting import PATIENCE

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(autouse=True)
def _there_is_a_browser() -> None:
    if CHROMIUM is None:
        pytest.skip("there is no chromium on PATH")


def browse(url: str, *options: str) -> tuple[str, str]:
    """Load a page, let it run for some seconds of its own time; return its final HTML and what it logged."""
    assert CHROMIUM is not None
    profile = tempfile.mkdtemp(prefix="obs-hub-browser-")
    command = [CHROMIUM, "--headless", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={profile}", "--enable-logging=stderr", "--virtual-time-budget=12000", *options]
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # which Chromium cannot have as root
    try:
        done = subprocess.run([*command, url], capture_output=True, text=True, timeout=PATIENCE, check=True)
    finally:
        shutil.rmtree(profile, ignore_errors=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_the_page_lives_and_nothing_is_blocked(front: Front) -> None:
    html, console = browse(f"{front.url}/", "--dump-dom")
    assert not console
    live = re.search(r'data-live="(\d+)"', html)
    assert live is not None, "the status was never fetched"
    assert int(live[1]) >= 2, "it is not fetched again"
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
