"""The page for the public: true, whole at any moment, and silent about what is nobody's business."""

from __future__ import annotations

import io
import json
import re
import ssl
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.extensions.api.public_page import StatusUnavailableError, build, read_status
from gateway.extensions.api.status import Dependency, ExporterStatus, HubStatus, PipelineStatus, State
from tests.integration.api.conftest import Front
from tests.integration.cli.processes import free_port, obs_hub
from tests.support.certificates import Authority

AT = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)


def status(state: State = State.OK) -> HubStatus:
    return HubStatus(
        "1",
        state,
        5.0,
        {"otlp grpc": "10.1.2.3:4317"},
        {"metrics": PipelineStatus(["otlp"], ["timescale", "loki/<b>"])},
        {"timescale": ExporterStatus(["metrics"], state, 0, 10, 3)},
        Dependency("store", state, "PostgreSQL 18 at db.internal"),
    )


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State.OK, "Everything works"),
        (State.DEGRADED, "Working, with something amiss"),
        (State.DOWN, "Not taking telemetry"),
    ],
)
def test_the_page_says_how_the_hub_is_and_no_more(tmp_path: Path, state: State, said: str) -> None:
    build(tmp_path / "site", status(state), "Home & more", AT)
    page = (tmp_path / "site/index.html").read_text()
    assert said in page
    assert "2026-05-04 12:30 UTC" in page
    assert "<title>Home &amp; more</title>" in page
    assert "loki/&lt;b&gt;" in page
    assert page.startswith("<!doctype html>")
    assert set(re.findall(r'<(?:p|div) class="(?:state|box) (\w+)"', page)) == {state}, "a part shows another state"
    facts = (tmp_path / "site/status.json").read_text()
    assert json.loads(facts)["exporters"] == {"timescale": state}
    for secret in ("10.1.2.3", "db.internal"):
        assert secret not in page + facts


def test_a_hub_that_does_not_answer_is_said_not_to(tmp_path: Path) -> None:
    assert read_status("http://127.0.0.1:1", None) is None
    build(tmp_path, None, "Home", AT)
    assert "The hub does not answer" in (tmp_path / "index.html").read_text()


def test_a_build_that_fails_leaves_the_page_before_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, status(), "Home", AT)
    before = (tmp_path / "index.html").read_text()

    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            super().write(content[:10])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fdopen", lambda descriptor, mode: Full(descriptor, mode))
    with pytest.raises(OSError, match="No space"):
        build(tmp_path, status(State.DOWN), "Home", AT)
    assert (tmp_path / "index.html").read_text() == before
    files = ["favicon.ico", "icon.svg", "index.html", "status.json", "style.css"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


class Front503(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(503)


def test_a_certificate_that_is_not_trusted_is_no_hub_that_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = Authority(tmp_path, "ca")
    own = ca.issue("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own.cert, own.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Front503) as front:
        front.socket = context.wrap_socket(front.socket, server_side=True)
        threading.Thread(target=front.serve_forever, daemon=True).start()
        try:
            url = f"https://127.0.0.1:{front.server_port}"
            with pytest.raises(StatusUnavailableError, match="no certificate that is trusted"):
                read_status(url, None)
            monkeypatch.setenv("SSL_CERT_FILE", str(ca.file))
            assert read_status(url, None) is None
        finally:
            front.shutdown()


@pytest.mark.parametrize("url", ["hub.example.com", "http://\0", "ftp://hub.example.com"])
def test_what_is_no_address_is_said_to_be_none(url: str) -> None:
    with pytest.raises(StatusUnavailableError, match="cannot be asked"):
        read_status(url, None)


def test_the_command_builds_it_from_the_running_hub(front: Front, tmp_path: Path) -> None:
    data_dir = str(front.hub.data_dir)
    made = obs_hub("page", "build", "--output", tmp_path / "site", "--url", front.url, OBSHUB_DATA_DIR=data_dir)
    assert made.returncode == 0, made.stderr
    assert "Everything works" in (tmp_path / "site/index.html").read_text()
    refused = obs_hub("page", "build", "--output", tmp_path, "--url", f"{front.url}/nowhere", OBSHUB_DATA_DIR=data_dir)
    assert refused.returncode == 1
    assert "another --url" in refused.stderr


def test_the_command_publishes_that_nobody_answers_only_when_told_to(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    command = ["page", "build", "--output", tmp_path / "site", "--url", nobody]
    failed = obs_hub(*command, OBSHUB_DATA_DIR=str(tmp_path))
    assert (failed.returncode, failed.stdout) == (1, "")
    assert f"nobody answers at {nobody}" in failed.stderr
    assert "--publish-outage" in failed.stderr
    assert not (tmp_path / "site").exists()
    told = obs_hub(*command, "--publish-outage", OBSHUB_DATA_DIR=str(tmp_path))
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.endswith("index.html: the hub does not answer\n")
    assert "The hub does not answer" in (tmp_path / "site/index.html").read_text()


@pytest.mark.parametrize("name", ["index.html", "status.json", "style.css", ".index.html.new", ".status.json.new"])
def test_a_planted_link_is_not_written_through(tmp_path: Path, name: str) -> None:
    """Others may write to a web server's folder, and this may be run as somebody who may write where they may not."""
    victim, folder = tmp_path / "victim", tmp_path / "page"
    victim.write_text("precious")
    folder.mkdir()
    (folder / name).symlink_to(victim)
    build(folder, status(), "The hub")
    assert victim.read_text() == "precious"
    for file in ("index.html", "status.json", "style.css"):
        assert not (folder / file).is_symlink()
        assert (folder / file).stat().st_mode & 0o777 == 0o644
