"""What the page costs, with a month of data of ten hosts:

    python -m tests.browser.measure [--hosts 10] [--days 30] [--rounds 5] [--seconds 60] [--first]

For each view: the quickest and the median of some answers in milliseconds, as a client sees them, and what one takes of
processors, gateway and PostgreSQL together; the bytes of the page and all that it loads, compressed; how much of it
moves while it loads; and for how long its main thread is at work until it is quiet, in processor time. Then what a page
that is left open costs, against none, in percent of a core. With ``--first`` instead: how long it takes from the
address that a new hub prints to a chart that moves.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import psutil

from tests.browser.lab import Lab, lab_of
from tests.browser.views import VIEWS, newest_trace
from tests.integration.cli.processes import free_port, hubs
from tests.support.browser import chromium, layout_shift, missing, new_page, wait_until, weight

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LONG = {
    "host, 24 h": "/hosts/nas?range=24h",
    "host, 30 d": "/hosts/nas?range=30d",
    "metrics, all hosts, 24 h": "/metrics?name=system.cpu.utilization&by=host.name&range=24h",
    "metrics, all hosts, 30 d": "/metrics?name=system.cpu.utilization&by=host.name&range=30d",
    "logs, searched, 30 d": "/logs?q=unreadable&range=30d",
    "logs, found nowhere, 30 d": "/logs?q=nowhere-to-be-found&range=30d",
    "logs, errors of a host, 7 d": "/logs?severity=error&host=nas&range=7d",
    "traces, 7 d": "/traces?range=7d",
    "events, 30 d": "/events?range=30d",
}


def processor_seconds(lab: Lab) -> float:
    """What gateway and PostgreSQL have taken until now."""
    with lab.database.connect() as connection:  # which is there for as long as its parent is asked for
        postmaster = psutil.Process(connection.info.backend_pid).parent()
    hub = psutil.Process(lab.hub.pid)
    total = 0.0
    for process in [hub, *hub.children(recursive=True), *([postmaster] if postmaster else [])]:
        with suppress(psutil.Error):
            its = process.cpu_times()
            total += its.user + its.system
            if process == postmaster:
                total += its.children_user + its.children_system
                for child in process.children():
                    with suppress(psutil.Error):
                        own = child.cpu_times()
                        total += own.user + own.system
    return total


def main_thread(page: Page, url: str) -> float:
    """Load a page; return for how long its main thread was at work, in milliseconds of a processor."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(url, wait_until="load")
    page.wait_for_timeout(1_000)  # what begins when it is loaded
    found = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return 1_000 * float(found["TaskDuration"])


def measure_views(lab: Lab, browser: Browser, rounds: int) -> None:
    """Print a row for each view."""
    print("| view | quickest ms | median ms | processor ms | KiB | shift | main thread ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with httpx.Client(base_url=lab.url, timeout=60, trust_env=False, headers={"accept": "text/html"}) as client:
        for name, path in (VIEWS | {"trace": newest_trace(lab.database)} | LONG).items():
            took, before = [], processor_seconds(lab)
            for _ in range(rounds):
                began = time.perf_counter()
                answer = client.get(path)
                took.append(1_000 * (time.perf_counter() - began))
            each = 1_000 * (processor_seconds(lab) - before) / rounds
            page = new_page(browser)
            work = main_thread(page, lab.url + path)
            kib, shift = sum(weight(page).values()) / 1_024, layout_shift(page)
            page.context.close()
            failed = "" if answer.is_success else f" (answers {answer.status_code})"
            print(
                f"| {name}{failed} | {min(took):.0f} | {statistics.median(took):.0f} | {each:.0f} | {kib:.1f} | "
                f"{shift:.4f} | {work:.0f} |",
                flush=True,
            )


def measure_open(lab: Lab, browser: Browser, seconds: float) -> None:
    """Print what an open page costs, of some views, and no page."""
    print(f"\n| open for {seconds:.0f} s | % of a core |\n| --- | --- |")
    for name, path in {"none": None, **{name: VIEWS[name] for name in ("overview", "host", "logs", "health")}}.items():
        page = new_page(browser)
        if path is not None:
            page.goto(lab.url + path)
        page.wait_for_timeout(2_000)
        before, began = processor_seconds(lab), time.monotonic()
        page.wait_for_timeout(1_000 * seconds)
        share = 100 * (processor_seconds(lab) - before) / (time.monotonic() - began)
        page.context.close()
        print(f"| {name} | {share:.2f} |", flush=True)


def measure_first(browser: Browser) -> None:
    """Print how long a newcomer waits."""
    port = free_port()
    config = f"""\
receivers: {{hostmetrics: }}
exporters: {{timescale: }}
extensions: {{api: {{endpoint: "127.0.0.1:{port}"}}}}
service:
  extensions: [api]
  pipelines: {{metrics: {{receivers: [hostmetrics], exporters: [timescale]}}}}
"""
    with hubs() as running:
        began = time.monotonic()
        hub = running.start(config, command="up", first=True)
        hub.until(lambda: "Ctrl-C" in hub.stdout)
        printed = time.monotonic()
        page = new_page(browser)
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("[data-drawn], svg.spark, svg.sparkline")
        drawn = time.monotonic()
        pushes = "Number(document.documentElement.dataset.pushes || 0)"
        wait_until(page, f"{pushes} > {page.evaluate(pushes)}")
        moved = time.monotonic()
    print(
        f"\nA new hub printed its address after {printed - began:.1f} s; from then, the first chart was there after "
        f"{drawn - printed:.1f} s and moved after {moved - printed:.1f} s"
    )


def main() -> None:
    """Measure what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=5, help="how often each view is asked for")
    parser.add_argument("--seconds", type=float, default=60, help="for how long a page is left open")
    parser.add_argument("--first", action="store_true", help="measure the first chart of a new hub instead")
    arguments = parser.parse_args()
    if reason := missing():
        parser.error(reason)
    if arguments.first:
        with chromium() as browser:
            measure_first(browser)
        return
    with lab_of(arguments.hosts, timedelta(days=arguments.days)) as lab, chromium() as browser:
        measure_views(lab, browser, arguments.rounds)
        measure_open(lab, browser, arguments.seconds)


if __name__ == "__main__":
    main()
