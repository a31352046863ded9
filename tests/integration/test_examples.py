"""The examples of the documentation: each is run as its page says, and what it sends is found in the store."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.integration.cli.processes import (
    ROOT,
    HubProcess,
    config_text,
    environment,
    free_port,
    hubs,
    obs_hub,
    until,
)
from tests.support.waiting import PATIENCE

EXAMPLES = ROOT / "docs/examples"


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with hubs(forked=True) as started:
        yield started.start(config_text()).until_ready()


def run_the_program(endpoint: str, test: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "python/app.py"],
        env=environment(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_RESOURCE_ATTRIBUTES=f"service.instance.id={test}"),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")


def assert_stored(hub: HubProcess, test: str) -> None:
    """What the program did is in the store, each once, and its parts belong together."""
    with psycopg.connect(hub.dsn, autocommit=True) as store:

        def rows(query: str) -> list[tuple[object, ...]]:
            return store.execute(query.encode(), {"test": f'{{"service.instance.id": "{test}"}}'}).fetchall()

        events = rows(
            "SELECT e.body #>> '{}', s.name FROM events e JOIN spans s USING (trace_id, span_id)"
            " WHERE e.name = 'order.taken' AND e.resource @> %(test)s::jsonb ORDER BY 1"
        )
        assert events == [(f"took order {number}", "take order") for number in (1, 2, 3)]
        spans = rows("SELECT name, count(*) FROM spans WHERE resource @> %(test)s::jsonb GROUP BY 1 ORDER BY 1")
        assert spans == [("charge", 3), ("take order", 3)]
        assert rows("SELECT value, unit FROM metrics WHERE name = 'orders' AND resource @> %(test)s::jsonb") == [
            (3.0, "{order}")
        ]
        query = "SELECT count, unit FROM histograms WHERE name = 'order.duration' AND resource @> %(test)s::jsonb"
        assert rows(query) == [(3, "s")]


def test_a_program_with_the_sdk(hub: HubProcess) -> None:
    run_the_program(f"http://{hub.grpc}", "alone")
    assert_stored(hub, "alone")


def test_what_its_page_says_to_look_at_is_there(hub: HubProcess) -> None:
    run_the_program(f"http://{hub.grpc}", "page")
    page = (EXAMPLES / "python/README.md").read_text()
    commands = [shlex.split(line)[1:] for line in page.splitlines() if line.startswith("obs-hub ")]
    assert len(commands) == 4
    for command in commands:
        shown = obs_hub(*command, "--data-dir", hub.data_dir)
        assert (shown.returncode, shown.stderr) == (0, ""), command
        assert "order" in shown.stdout, command


def test_alloy_between_such_a_program_and_the_hub(hub: HubProcess, tmp_path: Path) -> None:
    with alloy(hub.running.endpoints["otlp http"], tmp_path) as endpoint:
        run_the_program(endpoint, "alloy")
        assert_stored(hub, "alloy")


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@contextmanager
def alloy(hub: str, folder: Path) -> Iterator[str]:
    """Run Alloy with the example, on free ports instead of those it names, for the length of a block."""
    program = shutil.which("alloy")
    if program is None:
        pytest.skip("there is no alloy on PATH")
    port = free_port()
    text = (EXAMPLES / "alloy/config.alloy").read_text()
    for documented, free in (("127.0.0.1:4317", f"127.0.0.1:{port}"), ("127.0.0.1:4318", f"127.0.0.1:{free_port()}")):
        assert documented in text
        text = text.replace(documented, free)
    (folder / "config.alloy").write_text(text)
    options = [f"--server.http.listen-addr=127.0.0.1:{free_port()}", f"--storage.path={folder}", "--disable-reporting"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "run", *options, folder / "config.alloy"],
            env=environment(OBSHUB_ENDPOINT=f"http://{hub}"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)
