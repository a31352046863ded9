"""Draws views of the page, for documents: python -m tests.browser.screenshots docs/images

A store is filled with what a homelab has sent for a day, a hub serves it, and the browser draws it. What is drawn below
``FOLDER/page-NAME.png`` are the views that documents show; with ``--all`` each view, in both colour schemes and on a
phone, to be looked at.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.browser.lab import lab_of
from tests.browser.views import VIEWS, newest_trace
from tests.support.browser import PHONE, chromium, missing, new_page, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SHOWN = ("overview", "host", "logs", "trace")
"""What documents show."""

SIZE = {"width": 1200, "height": 750}


def draw(browser: Browser, url: str, file: Path, *, whole: bool = False, **options: Any) -> None:
    """Draw what is at a URL, once it is live and its charts are drawn."""
    page = new_page(browser, **options)
    page.goto(url)
    wait_until(page, "[...document.querySelectorAll('.plot[data-chart]')].every(plot => plot.dataset.drawn)")
    page.wait_for_timeout(500)  # for nothing in particular: a picture of what people see
    page.screenshot(path=file, full_page=whole)
    page.context.close()
    print(f"{file}: {file.stat().st_size // 1_024} kB")


def main() -> None:
    """Draw into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="draw every view, light and dark and on a phone")
    parser.add_argument("--hosts", type=int, default=7)
    arguments = parser.parse_args()
    if reason := missing():
        parser.error(reason)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with lab_of(arguments.hosts, timedelta(days=1), own_host=arguments.all) as lab, chromium() as browser:
        views = VIEWS | {"trace": newest_trace(lab.database)}
        if not arguments.all:
            for name in SHOWN:
                draw(browser, lab.url + views[name], arguments.folder / f"page-{name}.png", viewport=SIZE)
            return
        for name, path in views.items():
            for kind, options in {
                "light": {"viewport": SIZE},
                "dark": {"viewport": SIZE, "color_scheme": "dark"},
                "phone": {"viewport": PHONE},
            }.items():
                draw(browser, lab.url + path, arguments.folder / f"{name}-{kind}.png", whole=True, **options)


if __name__ == "__main__":
    main()
