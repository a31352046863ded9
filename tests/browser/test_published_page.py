"""The page that is published, on any web server that serves files: as people meet it, and without a complaint."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page

from gateway.publishing.content import SHIPPED, Content, load
from gateway.publishing.readings import DrawnChart, DrawnLine, Readings, Span
from gateway.publishing.site import Build, write
from gateway.publishing.uptime import DAY, Day, History, Outage
from tests.browser.conftest import Watch
from tests.support.browser import DESKTOP, PHONE, axe_violations, layout_shift, overflow, weight
from tests.support.publishing import hub_status

AT = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def told(content: Content) -> Readings:
    """Of every component 90 days, some of them unknown and some with outages; of every chart a few lines."""
    days = [Day((AT - n * DAY).date(), 1, 1 - n % 7 / 20, 0.0, n % 7 / 20) for n in reversed(range(80))]
    unknown = [Day((AT - n * DAY).date(), 1, 0, 0, 0) for n in reversed(range(80, 90))]
    outages = [Outage(AT - n * DAY, AT - n * DAY + timedelta(hours=2), timedelta(hours=2)) for n in range(1, 9)]
    histories = {each.name: History(unknown + days, outages) for each in content.status.components}
    charts = []
    for chart in content.charts.charts:
        values = itertools.cycle([1e3, 2e3, 1.5e3, None, 4e3])
        lines = [DrawnLine(line.name, list(itertools.islice(values, 168))) for line in chart.lines]
        charts.append(DrawnChart(chart, True, [Span(days, AT - days * DAY, AT, lines) for days in (2, 7, 30)]))
    return Readings(charts, histories)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("site")
    content = load(SHIPPED)
    status = hub_status()
    write(folder, Build(content, AT, True, status, told(content), repository="https://example.com/hub"))
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("name", ["", "status.html", "evolution.html"])
def test_it_can_be_used_by_everybody(page: Page, watch: Watch, site: str, name: str) -> None:
    watch(site)
    page.goto(f"{site}/{name}")
    assert layout_shift(page) < 0.01
    assert sum(weight(page).values()) <= 100 * 1_024, weight(page)
    for colours in ("light", "dark"):
        page.emulate_media(color_scheme=colours)  # type: ignore[arg-type]
        for size in (DESKTOP, PHONE):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            assert axe_violations(page) == []
            assert overflow(page) == []


def test_a_chart_shows_another_range_without_a_script(page: Page, watch: Watch, site: str) -> None:
    watch(site)
    page.goto(site)
    chart = page.locator("figure").first
    assert [each.is_visible() for each in chart.locator(".span").all()] == [True, False, False]
    chart.get_by_label("2 days", exact=True).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert [each.is_visible() for each in chart.locator(".span").all()] == [False, False, True]
    chart.get_by_text("7 days", exact=True).first.click()
    assert [each.is_visible() for each in chart.locator(".span").all()] == [False, True, False]


def test_from_the_landing_to_a_day_and_to_how_it_began(page: Page, watch: Watch, site: str) -> None:
    watch(site)
    page.goto(site)
    page.get_by_role("link", name="Every component, day by day").click()
    page.get_by_text("Gateway, day by day").click()
    assert page.get_by_role("rowheader", name="2026-11-28").first.is_visible()
    page.get_by_role("navigation").get_by_role("link", name="Evolution").click()
    assert page.get_by_role("heading", name="The first batch is stored").is_visible()
