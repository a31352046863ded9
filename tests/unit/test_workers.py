"""A worker process of a hub, without the hub that starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import supervisor
from gateway.data_paths import spool_directory
from gateway.files.ownership import DirectoryLock
from tests.integration.cli.processes import ROOT, config_text, environment
from tests.support.logged import Logged
from tests.support.waiting import PATIENCE

# Its parent tells it to end when asyncio has closed the pipe of its signal handlers, and not yet removed them.
_WORKER = """
import asyncio, multiprocessing, os, signal, sys
from pathlib import Path
from gateway import supervisor
from gateway.config import load

close = asyncio.SelectorEventLoop._close_self_pipe

def close_and_be_told(loop):
    close(loop)
    os.kill(os.getpid(), signal.SIGTERM)

asyncio.SelectorEventLoop._close_self_pipe = close_and_be_told
ours, theirs = multiprocessing.Pipe()
supervisor._worker(load(Path(sys.argv[1])), None, Path(sys.argv[2]), 0, None, 1, theirs)
"""


def test_one_that_cannot_start_and_is_told_to_end_at_that_moment_says_nothing_of_it(tmp_path: Path) -> None:
    config = tmp_path / "hub.yaml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        away = {"dsn": "postgresql://127.0.0.1:9/none"}
        config.write_text(config_text(grpc=taken.getsockname()[1], timescale=away))
        worker = subprocess.run(
            [sys.executable, "-c", _WORKER, config, tmp_path / "data"],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    assert worker.returncode == -signal.SIGTERM
    assert "wakeup" not in worker.stderr
    assert "Traceback" not in worker.stderr


def test_a_start_waits_for_the_workers_of_a_killed_hub_and_goes_on_without_what_one_still_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    directory = spool_directory(tmp_path, "timescale") / "1"
    directory.mkdir(parents=True)
    former = DirectoryLock(directory)
    former.acquire()
    monkeypatch.setattr(supervisor.time, "sleep", lambda _: former.release())
    supervisor._wait_for_former_workers(tmp_path)
    assert not logged.entries
    former.acquire()
    monkeypatch.setattr(supervisor, "_FORMER_PATIENCE", -1)
    supervisor._wait_for_former_workers(tmp_path)
    (line,) = logged.of("still written to")
    assert (line["spool"], line["by"]) == (str(directory), f"process {os.getpid()}")
    former.release()
