"""Telemetry on the page, from the client that sends it to who looks: it appears, is found, and leads on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from opentelemetry._logs import SeverityNumber

from tests.browser.application import Application
from tests.browser.conftest import Show
from tests.browser.lab import Lab
from tests.support.browser import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def shop(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Application]:
    """An application on the host nas, whose service is one of the test's own."""
    application = Application(lab.otlp, service_of(request), "nas")
    yield application
    application.close()


def service_of(request: pytest.FixtureRequest) -> str:
    return request.node.name.removeprefix("test_").replace("_", "-")[:40]


def asked(page: Page) -> dict[str, str]:
    """The parameters of the page's URL that are not empty."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def test_what_an_sdk_sends_appears_without_a_reload(
    show: Show, shop: Application, request: pytest.FixtureRequest
) -> None:
    page = show(f"/logs?service={service_of(request)}")
    page.evaluate("window.loadedOnce = true")
    for number in (7, 8):
        shop.say(f"order {number} was placed")
        expect(page.locator(".stream .body").first).to_have_text(f"order {number} was placed")
    assert page.evaluate("window.loadedOnce")


def test_logs_are_found_by_text_and_severity_and_the_url_says_so(
    show: Show, shop: Application, request: pytest.FixtureRequest
) -> None:
    service = service_of(request)
    shop.say("the payment took 3 s", SeverityNumber.WARN)
    shop.say("the payment failed", SeverityNumber.ERROR)
    shop.say("the parcel is lost", SeverityNumber.ERROR)
    page = show(f"/logs?service={service}")
    expect(page.locator(".stream .line")).to_have_count(3)
    page.get_by_role("searchbox").fill("PAYMENT")
    page.keyboard.press("Enter")
    expect(page.locator(".stream .line")).to_have_count(2)
    page.get_by_role("combobox", name="Severity").select_option("error")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".stream .line")).to_have_count(1)
    assert asked(page) == {"q": "PAYMENT", "severity": "error", "service": service}
    page.go_back()
    expect(page.locator(".stream .line")).to_have_count(2)
    page.get_by_role("searchbox").fill("nothing says this")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No log records match")).to_be_visible()


def test_a_log_line_leads_to_its_trace_and_a_span_to_its_logs(
    show: Show, shop: Application, request: pytest.FixtureRequest
) -> None:
    service = service_of(request)
    with shop.span("check out"), shop.span("charge the card"):
        shop.say("the card was charged")
    page = show(f"/logs?service={service}")
    page.locator(".stream summary", has_text="the card was charged").click()
    page.get_by_role("link", name="Its trace").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("check out")
    opened = page.locator(".waterfall li.selected")
    expect(opened.locator(".name")).to_have_text("charge the card")
    opened.get_by_role("link", name="Logs of this span").click()
    expect(page.locator(".stream .body")).to_have_text(["the card was charged"])
    assert re.fullmatch("[0-9a-f]{16}", asked(page)["span"])


def test_what_is_hostile_stays_text(show: Show, lab: Lab) -> None:
    service, host = '"><img src=x onerror=alert(1)>', "</title><script>alert(2)</script>"
    body = "<script>document.title = 'taken'</script>'\"`${7*7}{{7*7}}\N{RIGHT-TO-LEFT OVERRIDE}"
    hostile = Application(lab.otlp, service, host)
    with hostile.span(f"{body} span"):
        hostile.say(body, event="<b>event</b>")
    hostile.measure("metric", 1, {"<u>key</u>": "<s>value</s>"}, "<em>")
    hostile.close()
    page = show("/logs")
    line = page.locator(".stream .line", has_text="document.title").first
    expect(line.locator(".body")).to_have_text(body)
    expect(line.locator(".service")).to_have_text(service)
    line.locator("summary").click()
    line.get_by_role("link", name="Its trace").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"{body} span")
    for path in ("/", "/events", "/traces", "/metrics", "/metrics?name=metric&by=<u>key</u>"):
        show(path)
        assert page.locator("img[src=x], script:not([src]), main u, main s, main em").count() == 0
