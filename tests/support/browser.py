"""A real browser without a window: the machine's own Chromium, driven by Playwright; what a page is held to in it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

OPTIONS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 375, "height": 812}

# Both are said by the browser as soon as they are, and kept for whoever asks later.
_OBSERVE = """
addEventListener("securitypolicyviolation", event =>
  console.error(`content security policy: ${event.violatedDirective} ${event.blockedURI || "inline"}`));
window.layoutShift = 0;
new PerformanceObserver(list => list.getEntries().forEach(entry => {
  if (!entry.hadRecentInput) window.layoutShift += entry.value;
})).observe({type: "layout-shift", buffered: true});
"""


def missing() -> str | None:
    """What a browser would need that is not here; None: nothing."""
    if CHROMIUM is None:
        return "there is no chromium on PATH"
    absent = [name for name in ("playwright", "axe_playwright_python") if importlib.util.find_spec(name) is None]
    return f"not installed: {' and '.join(absent)}, which no wheel is there for on every machine" if absent else None


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, for the length of a block. No event loop can run in this thread meanwhile."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []  # which Chromium cannot have as root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*OPTIONS, *as_root], timeout=PATIENCE * 1_000
        )
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser: Browser, **options: Any) -> Page:
    """A page in a context of its own, which has no cookies. It waits for what it is to find as tests do."""
    from playwright.sync_api import expect

    context = browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
    context.set_default_timeout(PATIENCE * 1_000)
    expect.set_options(timeout=PATIENCE * 1_000)
    context.add_init_script(_OBSERVE)
    return context.new_page()


def expect(what: Any) -> Any:
    """What Playwright's ``expect`` returns, which is not imported where no browser is used."""
    from playwright.sync_api import expect as playwright_expect

    return playwright_expect(what)


def wait_until(page: Page, expression: str) -> None:
    """Wait until an expression of JavaScript is true. Playwright's own way evaluates it in a way that pages forbid."""
    deadline = time.monotonic() + PATIENCE
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"still not true: {expression}"
        page.wait_for_timeout(50)


class Complaints:
    """What a page has done that none of ours may: errors on the console, what the policy forbids (which is one),
    exceptions that nobody caught, requests that leave the origin, answers of the server's that are errors."""

    def __init__(self, page: Page, origin: str) -> None:
        self._origin = origin
        self._found: list[str] = []
        self._allowed: list[re.Pattern[str]] = []
        self._listeners: list[tuple[str, Any]] = [
            ("console", self._on_console),
            ("pageerror", lambda error: self._found.append(f"exception: {error}")),
            ("request", self._on_request),
        ]
        self._page = page
        for event, listener in self._listeners:
            page.on(event, listener)  # type: ignore[call-overload]

    def allow(self, pattern: str) -> None:
        """Do not mind what matches: the test is about it."""
        self._allowed.append(re.compile(pattern))

    def end(self) -> list[str]:
        """Listen no more, and return what there was."""
        for event, listener in self._listeners:
            self._page.remove_listener(event, listener)
        return [each for each in self._found if not any(pattern.search(each) for pattern in self._allowed)]

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning", "assert"):
            self._found.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _on_request(self, request: Any) -> None:
        if not request.url.startswith((f"{self._origin}/", "data:", "blob:", "about:")):
            self._found.append(f"request that leaves the origin: {request.url}")


def axe_violations(page: Page, *rules: str) -> list[str]:
    """What axe-core finds wrong with a page as it is shown: by these rules, or by those of WCAG 2 and good practice."""
    import axe_playwright_python

    only = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    script = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(script)  # not as an element, which the policy would refuse
    found = page.evaluate("options => axe.run(document, options)", {"resultTypes": ["violations"]} | only)
    return [
        f"{violation['id']}: {violation['help']}: {node['html'][:200]} ({node['failureSummary']})"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


def overflow(page: Page) -> list[str]:
    """What is wider than the window, where the page as a whole can be scrolled sideways."""
    found: list[str] = page.evaluate("""() => {
      const width = document.documentElement.clientWidth;
      if (document.documentElement.scrollWidth <= width) return [];
      return [...document.querySelectorAll("body *")].filter(each => each.getBoundingClientRect().right > width + 1)
        .map(each => each.outerHTML.slice(0, 120));
    }""")
    return found


def layout_shift(page: Page) -> float:
    """How much of what was there already has moved since the page was loaded; 0 is nothing, 0.1 is felt."""
    shift: float = page.evaluate("window.layoutShift")
    return shift


def weight(page: Page) -> dict[str, int]:
    """The bytes of the page and of everything that it loaded, as they come over the wire, by URL."""
    found: dict[str, int] = page.evaluate("""() => Object.fromEntries(
      [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
        .map(entry => [entry.name, entry.encodedBodySize]))""")
    return found
