"""The hub as its users run it: processes of their own, started and ended with signals."""

from __future__ import annotations

import gc
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import psutil
import yaml
from click.testing import CliRunner

from gateway.cli import main
from gateway.datadir import DataDir, Running, read_running
from tests.support import clusters, fork_server
from tests.support.logged import logging_taken_back
from tests.support.waiting import PATIENCE as PATIENCE
from tests.support.waiting import until_true

ROOT = Path(__file__).parents[3]
_T = TypeVar("_T")


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without anything that a hub listens to, and with the given variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OBSHUB_", "OTEL_"))}
    return kept | {"NO_COLOR": "1", "COLUMNS": "200"} | variables


def obs_hub(*arguments: object, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in this process, as `obs_hub_process` would in one of its own.

    That takes a thousandth of the time. What is about processes, signals, terminals, locales or time zones needs one.
    """
    words = list(map(str, arguments))
    with _as_a_process(words, environment(**variables)):
        width = min(shutil.get_terminal_size().columns, main.context_settings["max_content_width"]) - 2
        result = CliRunner().invoke(main, words, stdin, prog_name="python -m gateway", terminal_width=width)
    stderr = result.stderr
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        stderr += "".join(traceback.format_exception(result.exception))
    return subprocess.CompletedProcess(["obs-hub", *words], result.exit_code, result.stdout, stderr)


@contextmanager
def _as_a_process(words: list[str], variables: Mapping[str, str]) -> Iterator[None]:
    """Give a command the environment of a process of its own, and take back what it sets for its process."""
    folder, thresholds = Path.cwd(), gc.get_threshold()
    os.chdir(ROOT)
    try:
        with (
            logging_taken_back(),
            mock.patch.dict(os.environ, variables, clear=True),
            mock.patch.object(sys, "argv", [str(ROOT / "gateway/__main__.py"), *words]),
        ):
            yield
    finally:
        os.chdir(folder)
        gc.set_threshold(*thresholds)


def obs_hub_process(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment(**variables),
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )


def _own_ports() -> Iterator[int]:
    """Ports below those that the kernel gives to outgoing connections, in an order of this process's own.

    The processes among which pytest-xdist divides the tests have none in common.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(20_000 + number, 30_000, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    return itertools.cycle(random.sample(ports, len(ports)))


_ports = _own_ports()


def free_port() -> int:
    """A port that nobody listens on, and that no earlier call gave to somebody who does not listen on it yet."""
    while True:
        port = next(_ports)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def config_text(
    *,
    grpc: int = 0,
    http: int = 0,
    timescale: Mapping[str, object] | None = None,
    service: Mapping[str, object] | None = None,
    receivers: Mapping[str, object] | None = None,
    exporters: Mapping[str, object] | None = None,
    routes: Mapping[str, list[str]] | None = None,
) -> str:
    """A configuration file: OTLP on loopback, all signals into the store, no telemetry of its own unless asked for.

    ``exporters`` are more of them, ``routes`` those of signals that do not go into the store alone.
    """
    ways = {"metrics": ["timescale"], "logs": ["timescale"], "traces": ["timescale"], **(routes or {})}
    silent = {"metrics": {"enabled": False}, "traces": {"enabled": False}}
    more = dict(receivers or {})
    return yaml.safe_dump(
        {
            "receivers": {
                "otlp": {
                    "protocols": {
                        "grpc": {"endpoint": f"127.0.0.1:{grpc}"},
                        "http": {"endpoint": f"127.0.0.1:{http}"},
                    }
                },
                **more,
            },
            "exporters": {"timescale": dict(timescale or {}), **(exporters or {})},
            "service": {
                "pipelines": {
                    "metrics": {"receivers": ["otlp", *more], "exporters": ways["metrics"]},
                    "logs": {"receivers": ["otlp"], "exporters": ways["logs"]},
                    "traces": {"receivers": ["otlp"], "exporters": ways["traces"]},
                },
                "telemetry": silent,
                **(service or {}),
            },
        }
    )


class HubProcess:
    """``obs-hub serve`` (or ``up``) in a process of its own.

    What it writes is kept in files in its folder, so that nothing blocks and all can be read at any time. ``forked``:
    by `fork_server`, where that suits the variables.
    """

    def __init__(
        self,
        folder: Path,
        config: str | None,
        *options: str,
        command: str = "serve",
        forked: bool = False,
        program: Sequence[str] = (sys.executable, "-m", "gateway"),
        cwd: Path = ROOT,
        **variables: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data_dir = folder / "data"
        self.config_file = folder / "hub.yaml"
        arguments = [command, "--data-dir", str(self.data_dir), *options]
        if config is not None:
            self.config_file.write_text(config)
            arguments += ["--config", str(self.config_file)]
        self.process: subprocess.Popen[bytes] | fork_server.ForkedProcess
        with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
            if forked and fork_server.suits(variables):
                self.process = fork_server.start(arguments, environment(**variables), stdout, stderr)
                return
            self.process = subprocess.Popen(
                [*program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                env=environment(**variables),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The structured log so far."""
        return [json.loads(line) for line in self.stderr.splitlines() if line.startswith("{") and line.endswith("}")]

    @property
    def postgres(self) -> psutil.Process | None:
        """The embedded PostgreSQL of this hub, while it runs."""
        with suppress(OSError, ValueError, IndexError, psutil.Error):
            pid = int((self.data_dir / "postgres/data/postmaster.pid").read_text().splitlines()[0])
            process = psutil.Process(pid)
            if process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    @property
    def workers(self) -> list[psutil.Process]:
        """The worker processes of this hub, while it runs, in the order of their starts."""
        return named("obs-hub-worker", self.pid)

    @property
    def running(self) -> Running:
        """What the hub says of itself."""
        found = read_running(DataDir(self.data_dir))
        assert found is not None, self.stderr
        return found

    @property
    def dsn(self) -> str:
        assert self.running.dsn is not None
        return self.running.dsn

    @property
    def grpc(self) -> str:
        return self.running.endpoints["otlp grpc"]

    def until_ready(self) -> HubProcess:
        """Wait until the hub says that it is ready."""
        self.until(lambda: "ready: " in self.stderr or "Ctrl-C stops the hub" in self.stdout)
        return self

    def until(self, condition: Callable[[], _T]) -> _T:
        """Wait until something holds that needs this hub to run."""

        def holds() -> _T:
            result = condition()
            assert result or self.process.poll() is None, (
                f"the hub ended with {self.process.returncode}:\n{self.stderr}"
            )
            return result

        return until_true(holds, lambda: f"it did not come true:\n{self.stderr}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def end(self) -> None:
        """End at once whatever this hub has left running, for the end of a test: nothing depends on it any more."""
        left: list[psutil.Process] = []
        if self.process.poll() is None:
            with suppress(psutil.Error):
                left += self.workers + psutil.Process(self.pid).children()
            self.process.kill()
            self.process.wait()
        postgres = self.postgres  # only now: a hub that runs starts another when one ends
        if postgres:
            left.append(postgres)
        for process in left:
            with suppress(psutil.Error):  # PostgreSQL gets the chance to give back its shared memory
                process.send_signal(signal.SIGQUIT if process == postgres else signal.SIGKILL)
        until(lambda: all(map(has_ended, left)))


def named(name: str, pid: int) -> list[psutil.Process]:
    """The processes of a name below this one."""
    found = []
    for each in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):  # it has ended
            if each.name() == name and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return sorted(found, key=psutil.Process.create_time)


def has_ended(process: psutil.Process) -> bool:
    """Tell whether a process is no more, be it that nobody has asked for its exit code."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition: Callable[[], _T]) -> _T:
    """Wait until something holds."""
    return until_true(condition, lambda: "it did not come true")


class Hubs:
    """Starts hubs, each on a folder of its own or on that of an earlier one, and ends them all."""

    def __init__(self, folder: Path, *, forked: bool = False) -> None:
        self.folder = folder
        self._forked = forked
        self._started: list[HubProcess] = []

    def start(
        self,
        config: str | None,
        *options: str,
        name: str = "hub",
        command: str = "serve",
        first: bool = False,
        **variables: str,
    ) -> HubProcess:
        """Start a hub, and do not wait for it.

        Where it has an embedded PostgreSQL and none yet, it finds one that was made already unless this is what the
        test is about: the ``first`` start.
        """
        postgres = self.folder / name / "data/postgres"
        if not (first or postgres.exists() or "dsn: " in (config or "")):
            clusters.place(postgres, waits_for_disk=True)  # as `obs-hub doctor` wants it
        hub = HubProcess(self.folder / name, config, *options, command=command, forked=self._forked, **variables)
        self._started.append(hub)
        return hub

    def end(self) -> None:
        # The last one first: of several on one folder only that may run, and PostgreSQL is its.
        for hub in reversed(self._started):
            hub.end()


@contextmanager
def hubs(*, forked: bool = False) -> Iterator[Hubs]:
    """Hubs, for the length of a block. ``forked``: where nothing is tested that only a new interpreter shows."""
    # Not under pytest's own directory: nobody else may enter that, and PostgreSQL may run as another user.
    folder = Path(tempfile.mkdtemp(prefix="obs-hub-cli-"))
    started = Hubs(folder, forked=forked)
    try:
        yield started
    finally:
        started.end()
        shutil.rmtree(folder, ignore_errors=True)
