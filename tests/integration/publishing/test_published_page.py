"""The page that is published, made by the command: true, and whole at any moment."""

from __future__ import annotations

import io
import json
import re
import socket
import ssl
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.extensions.api.status import HubStatus, State
from gateway.publishing.content import SHIPPED, load
from gateway.publishing.hub import StatusUnavailableError, read_status
from gateway.publishing.site import Build, write
from tests.integration.api.conftest import Front, config
from tests.integration.cli.processes import free_port, hubs, obs_hub
from tests.support.certificates import Authority
from tests.support.databases import Server, fresh_store
from tests.support.publishing import SITE, hub_status
from tests.support.waiting import until

AT = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)


def build(folder: Path, status: HubStatus | None) -> None:
    write(folder, Build(load(SHIPPED), AT, asked=True, status=status))


def test_nobody_who_answers_is_no_status() -> None:
    assert read_status("http://127.0.0.1:1", None) is None


def test_a_build_that_fails_leaves_the_page_before_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, hub_status())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            super().write(content[:10])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fdopen", lambda descriptor, mode: Full(descriptor, mode))
    with pytest.raises(OSError, match="No space"):
        build(tmp_path, hub_status(State.DOWN))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")], "halves are left"


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
    command = ["page", "build", "--output", tmp_path / "site", "--title", "Home & more"]
    made = obs_hub(*command, "--url", front.url, OBSHUB_DATA_DIR=data_dir)
    assert made.returncode == 0, made.stderr
    assert made.stdout.endswith("index.html: ok\n")
    page = (tmp_path / "site/index.html").read_text()
    assert "Everything works" in page
    assert "<title>Home &amp; more: " in page
    assert json.loads((tmp_path / "site/status.json").read_text())["exporters"] == {"timescale": "ok"}
    assert socket.gethostname() not in re.sub("obs-hub", "", page)
    refused = obs_hub("page", "build", "--output", tmp_path, "--url", f"{front.url}/nowhere", OBSHUB_DATA_DIR=data_dir)
    assert refused.returncode == 1
    assert "another --url" in refused.stderr


async def test_what_comes_along_asks_for_what_a_hub_tells_of_itself(embedded_server: Server, tmp_path: Path) -> None:
    """Every component and line of the hub's own content is in the store of a hub; but for Loki, which it has not."""
    with fresh_store(embedded_server) as database, hubs(forked=True) as running:
        port = free_port()
        document = yaml.safe_load(config(database.dsn, port, {}))
        document["service"]["telemetry"] = {"metrics": {"interval": "1s"}}
        hub = running.start(yaml.safe_dump(document)).until_ready()
        obs_hub("send", "log", "hello", OBSHUB_DATA_DIR=str(hub.data_dir))
        obs_hub("send", "span", "hello", OBSHUB_DATA_DIR=str(hub.data_dir))
        told = "SELECT count(*) FROM metric_series WHERE name = 'obs_hub.records.accepted'"
        await until(lambda: database.value(told) == 3)
        command = ["page", "build", "--output", tmp_path / "site", "--url", f"http://127.0.0.1:{port}"]
        made = obs_hub(*command, OBSHUB_DATA_DIR=str(hub.data_dir))
    assert (made.returncode, made.stderr) == (
        0,
        "Note: component 'Logs': the store has no such series of obs_hub.circuit.open\n",
    )
    page = (tmp_path / "site/index.html").read_text()
    assert "In figures" in page
    assert "Waiting on disk" in page


def test_the_command_publishes_that_nobody_answers_only_when_told_to(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    command = ["page", "build", "--output", tmp_path / "site", "--url", nobody]
    failed = obs_hub(*command, OBSHUB_DATA_DIR=str(tmp_path))
    assert (failed.returncode, failed.stdout) == (1, "")
    assert f"nobody answers at {nobody}" in failed.stderr
    assert "--publish-outage" in failed.stderr
    assert not (tmp_path / "site").exists()
    told = obs_hub(*command, "--publish-outage", OBSHUB_DATA_DIR=str(tmp_path))
    assert told.returncode == 0
    assert told.stderr.startswith("Without charts and history: no hub runs on ")
    assert told.stdout.endswith("index.html: the hub does not answer\n")
    assert "The hub does not answer" in (tmp_path / "site/index.html").read_text()


@pytest.mark.parametrize("name", ["index.html", "status.json", "style.css", ".index.html.new", ".status.json.new"])
def test_a_planted_link_is_not_written_through(tmp_path: Path, name: str) -> None:
    """Others may write to a web server's folder, and this may be run as somebody who may write where they may not."""
    victim, folder = tmp_path / "victim", tmp_path / "page"
    victim.write_text("precious")
    folder.mkdir()
    (folder / name).symlink_to(victim)
    build(folder, hub_status())
    assert victim.read_text() == "precious"
    for file in ("index.html", "status.json", "style.css"):
        assert not (folder / file).is_symlink()
        assert (folder / file).stat().st_mode & 0o777 == 0o644


def test_a_page_needs_no_hub(tmp_path: Path) -> None:
    made = obs_hub("page", "build", "--output", tmp_path / "site", "--without-hub", OBSHUB_DATA_DIR=str(tmp_path))
    assert (made.returncode, made.stderr, made.stdout) == (0, "", f"{tmp_path}/site/index.html\n")
    assert not (tmp_path / "site/status.json").exists()
    page = (tmp_path / "site/index.html").read_text()
    assert f'As of <time datetime="{load(SHIPPED).entries[0].date}T00:00:00+00:00">' in page, (
        "the clock does not matter"
    )
    refused = obs_hub("page", "build", "--output", tmp_path, "--without-hub", "--url", "http://127.0.0.1:1")
    assert refused.returncode == 2


@pytest.mark.parametrize("moment", [("--at", "2026-05-04T12:30:00Z"), ("--at", "2026-05-04T14:30:00+02:00"), None])
def test_the_moment_is_given_where_the_same_bytes_are_wanted(tmp_path: Path, moment: tuple[str, str] | None) -> None:
    command = ["page", "build", "--output", tmp_path / "site", "--without-hub", *(moment or ())]
    made = obs_hub(*command, **({} if moment else {"SOURCE_DATE_EPOCH": str(int(AT.timestamp()))}))
    assert made.returncode == 0, made.stderr
    assert 'As of <time datetime="2026-05-04T12:30:00+00:00">' in (tmp_path / "site/index.html").read_text()


def test_a_page_of_ones_own_begins_with_a_copy(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert obs_hub("page", "new", folder).returncode == 0
    checked = obs_hub("page", "check", folder)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert re.fullmatch(rf"{folder}: \d+ entries, \d+ components, \d+ charts\n", checked.stdout)
    again = obs_hub("page", "new", folder)
    assert (again.returncode, again.stdout) == (1, "")
    assert "already" in again.stderr
    (folder / "site.yaml").write_text(SITE + "tagine: x\nlinks: {Mine: nowhere}\n")
    for command in (("check", folder), ("build", "--without-hub", "--content", folder, "--output", tmp_path / "site")):
        refused = obs_hub("page", *command)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"{folder}/site.yaml:4: tagine: unknown setting 'tagine'; did you mean 'tagline'?\n" in refused.stderr
        assert f"\n{folder}/site.yaml:5: links.Mine: expected a URL" in refused.stderr, "each problem has a line"
    assert not (tmp_path / "site").exists()
    (folder / "site.yaml").write_text(SITE)
    assert obs_hub("page", "build", "--without-hub", "--content", folder, "--output", tmp_path / "site").returncode == 0
    assert "It hums." in (tmp_path / "site/index.html").read_text()
