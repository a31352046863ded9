"""What starts hubs for other tests: processes that it forks are like those of an interpreter of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from gateway import __version__
from tests.integration.cli.processes import config_text, environment, hubs
from tests.support import fork_server
from tests.support.waiting import PATIENCE


def start(folder: Path, *words: str, **variables: str) -> fork_server.ForkedProcess:
    with (folder / "out").open("wb") as stdout, (folder / "err").open("wb") as stderr:
        return fork_server.start(words, environment(**variables), stdout, stderr)


def test_a_command_is_run_to_its_end(tmp_path: Path) -> None:
    assert start(tmp_path, "--version").wait(PATIENCE) == 0
    assert (tmp_path / "out").read_text() == f"obs-hub, version {__version__}\n"


def test_one_that_fails_says_so_and_ends_as_it_should(tmp_path: Path) -> None:
    assert start(tmp_path, "serve", "--config", str(tmp_path / "nothing.yaml")).wait(PATIENCE) == 1
    assert "nothing.yaml" in (tmp_path / "err").read_text()


def test_a_hub_has_an_environment_and_a_session_of_its_own() -> None:
    with hubs(forked=True) as running:
        hub = running.start(config_text(), OBSHUB_DATA_DIR="/nowhere").until_ready()
        assert isinstance(hub.process, fork_server.ForkedProcess)
        assert os.getsid(hub.pid) == hub.pid != os.getsid(0)
        assert len(psutil.Process(hub.pid).children()) == 1, "its PostgreSQL"
        with pytest.raises(subprocess.TimeoutExpired):
            hub.process.wait(0.01)
        assert hub.stop() == 0
        assert "OBSHUB_DATA_DIR" not in os.environ


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_signal_is_told_as_one(tmp_path: Path, number: signal.Signals) -> None:
    with hubs(forked=True) as running:
        hub = running.start(config_text(timescale={"dsn": "host=/nowhere"})).until_ready()
        hub.signal(number)
        assert hub.process.wait(PATIENCE) == -number


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PYTHONPATH", "TZ", "LC_ALL"])
def test_what_only_a_new_interpreter_reads_needs_one(name: str) -> None:
    assert not fork_server.suits({name: "x"})
