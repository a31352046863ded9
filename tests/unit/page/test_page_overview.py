"""The overview, of however many hosts and services."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.extensions.api.page import overview as page
from gateway.extensions.api.page.view import Asked, link
from gateway.extensions.api.templates import block
from gateway.query import overview

NOW = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)


def shown(
    monkeypatch: pytest.MonkeyPatch,
    found: list[overview.Service],
    *query: tuple[str, str],
    hosts: Sequence[page.HostRow] = (),
) -> str:
    """Return what the page shows of services, and of hosts."""
    sources = overview.Sources({}, {each.name: each for each in found})
    monkeypatch.setattr(overview, "sources", lambda *_: sources)
    reader: Any = SimpleNamespace(reading=None, hub=SimpleNamespace(endpoints=dict))
    asked = Asked("/", {}, query, "http://hub", NOW)
    values = {**page.read_overview(cast("Any", reader), asked), "asked": asked, "link": link}
    if hosts:
        values |= {"hosts": hosts, "host_count": len(hosts), "is_empty": False}
    return block("live/overview.html", "above", values) + block("live/overview.html", "live", values)


def seen(html: str) -> str:
    """Return the classes of when the one row last sent something."""
    (classes,) = re.findall(r'<td class="number (seen[^"]*)">', html)
    return classes


def service(number: int, **more: Any) -> overview.Service:
    return overview.Service(f"service-{number:05}", last=NOW.timestamp(), spans=[1], logs=[0], entries=1, **more)


def test_of_ten_thousand_services_those_are_shown_that_somebody_should_look_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [service(number) for number in range(9_999)]
    html = shown(monkeypatch, [*many, service(9_999, failed_entries=1)])
    assert html.count("<tr id=") == page.MOST_ROWS
    assert 'class="count">10000<' in html
    assert f"The {page.MOST_ROWS} that are most in need of a look" in html
    assert html.index("service-09999") < html.index("service-00000"), "the worst is first"
    assert 'name="q"' in html, "the others can be looked for"


def test_those_that_are_not_shown_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [service(number) for number in range(1_000)]
    html = shown(monkeypatch, many, ("q", "ICE-0099"), ("range", "6h"))
    assert html.count("<tr id=") == 10
    assert "service-00999" in html
    assert 'value="ICE-0099"' in html
    assert 'name="range" value="6h"' in html
    assert "No service of that name" in shown(monkeypatch, many, ("q", "nobody"))


def test_only_what_is_late_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"id": "x", "name": "nas", "url": "/", "why": "", "weight": 1.0, "spark": "", "seen": "then"}
    gauges: dict[str, Any] = dict.fromkeys(("cpu", "memory", "disk"))
    full = page.HostRow(state="down", is_silent=False, **row, **gauges)
    silent = page.HostRow(state="down", is_silent=True, **row, **gauges)
    assert [seen(shown(monkeypatch, [], hosts=[host])) for host in (full, silent)] == ["seen", "seen late"]
    html = shown(monkeypatch, [service(0, failed_entries=1)])
    assert 'class="down"' in html, "it fails"
    assert seen(html) == "seen", "and sends, all the same"


def test_few_need_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    html = shown(monkeypatch, [service(number) for number in range(3)])
    assert html.count("<tr id=") == 3
    assert "search" not in html
    assert "in need of a look" not in html
