"""The page in a real browser: nothing is blocked, nothing fails, and its numbers live."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from gateway.extensions.api.status import Dependency, ExporterStatus, HubStatus, PipelineStatus, State
from gateway.extensions.api.templates import FOLDER, rendered
from tests.integration.api.conftest import Front
from tests.support.browser import CHROMIUM, browse


@pytest.fixture(autouse=True)
def _there_is_a_browser() -> None:
    if CHROMIUM is None:
        pytest.skip("there is no chromium on PATH")


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


UNKNOWN = "\N{EN DASH}"


def status_of(state: State) -> HubStatus:
    """A hub whose every part is in a state."""
    return HubStatus(
        "1",
        state,
        90.0,
        {} if state is State.DOWN else {"otlp grpc": "127.0.0.1:4317"},
        {"metrics": PipelineStatus(["otlp"], ["timescale"]), "logs": PipelineStatus(["otlp"], ["timescale", "loki"])},
        {name: ExporterStatus(["logs"], state, 7, 10, 3) for name in ("timescale", "loki")},
        Dependency("store", state, "PostgreSQL 18"),
    )


@contextmanager
def page_of(then: HubStatus | int | None) -> Iterator[str]:
    """Serve the page of a hub that works, whose state is then another; or an error, or no answer at all."""

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/api/v1/status":
                if then is None:
                    self.close_connection = True
                    return
                code = then if isinstance(then, int) else 200
                self._answer(b"" if isinstance(then, int) else msgspec.json.encode(then), "application/json", code)
            elif self.path.startswith("/static/"):
                kind = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}[Path(self.path).suffix]
                self._answer((FOLDER / self.path[1:]).read_bytes(), kind)
            else:
                page = rendered("index.html", status=status_of(State.OK), reads_are_open=True, here="http://hub")
                self._answer(page.encode(), "text/html; charset=utf-8")

        def _answer(self, body: bytes, kind: str, code: int = 200) -> None:
            self.send_response(code)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Tell nobody."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("then", "state", "badge", "said"),
    [
        (status_of(State.OK), "ok", "Everything works", "works"),
        (status_of(State.DEGRADED), "degraded", "Working, with something amiss", "away; what comes is kept on disk"),
        (status_of(State.DOWN), "down", "Not taking telemetry", "away, and the disk space for it is full"),
        (None, "lost", "The hub does not answer", "not known"),
        (503, "lost", "The hub does not say how it is", "not known"),
        (401, "lost", "load this page again", "not known"),
    ],
    ids=["ok", "degraded", "down", "away", "fails", "closed"],
)
def test_every_part_shows_the_state_that_the_badge_shows(
    tmp_path: Path, then: HubStatus | int | None, state: str, badge: str, said: str
) -> None:
    with page_of(then) as url:
        html, _ = browse(url, "--dump-dom")
        if folder := os.environ.get("OBSHUB_TEST_SCREENSHOTS"):
            browse(url, "--window-size=1280,900", f"--screenshot={folder}/page-{state}.png")
    assert badge in html
    states = re.findall(r'<(?:p|div) class="(?:state|box) (\w+)"', html)
    assert len(states) == 7
    # A hub that is degraded still listens.
    assert [each for each in states if each != state] == (["ok"] if state == "degraded" else [])
    assert re.findall(r'<span data-field="state">([^<]*)</span>', html) == [said, said]
    spooled = re.findall(r'<output data-field="spool">([^<]*)</output>', html)
    assert spooled == [UNKNOWN if state == "lost" else "7"] * 2
