"""The gateway under test, as people run it: ``obs-hub serve`` in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import psutil
import yaml

from gateway.datadir import DataDir, Running, read_running
from tests.bench.loads import Protocol
from tests.integration.cli.processes import free_port

_ROOT = Path(__file__).parents[2]
_START_TIMEOUT = 300.0  # on a machine with much else to do, as tests have
_STOP_TIMEOUT = 60.0
_POLL = 0.05
_SAMPLE_INTERVAL = 0.1
_MIB = 2**20


class SubjectError(Exception):
    """The gateway did not start or did not stay."""


@dataclass(slots=True, frozen=True)
class Usage:
    """CPU seconds that the gateway's processes have used until a moment."""

    at: float
    cpu_seconds: float

    def since(self, earlier: Usage) -> float:
        """Return the CPU seconds used since an earlier moment."""
        return self.cpu_seconds - earlier.cpu_seconds

    def share_since(self, earlier: Usage) -> float:
        """Return the part of one core used since an earlier moment."""
        return self.since(earlier) / (self.at - earlier.at)


class Subject:
    """A gateway with fresh data: on the embedded server, or on the database that ``dsn`` names.

    ``settings`` are those of its exporter.

    The processes counted are the gateway's own, PostgreSQL's are not.
    """

    def __init__(
        self, dsn: str | None = None, workers: int = 1, settings: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self._dsn = dsn
        self._settings = settings
        self._workers = workers
        self._ports: dict[Protocol, int] = {"grpc": free_port(), "http": free_port()}
        self._folder = Path()
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._running: Running | None = None
        self._peak = 0
        self._stopping = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Subject:
        self._folder = Path(tempfile.mkdtemp(prefix="obs-hub-bench-"))
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._log is not None:
            self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def dsn(self) -> str:
        """The connection string of its store."""
        if self._dsn is not None:
            return self._dsn
        assert self._running is not None
        assert self._running.dsn is not None
        return self._running.dsn

    def endpoint(self, protocol: Protocol) -> str:
        """Return where it listens."""
        return f"127.0.0.1:{self._ports[protocol]}"

    def postmaster(self) -> psutil.Process:
        """Return the embedded PostgreSQL, which has children of its own."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children()
        (found,) = [child for child in children if child.name().startswith("postgres")]
        return found

    def usage(self) -> Usage:
        """Return the CPU seconds used until now, user and system."""
        times = [process.cpu_times() for process in self._processes()]
        return Usage(time.perf_counter(), sum(each.user + each.system for each in times))

    def memory(self) -> float:
        """Return the resident memory of now, in MiB."""
        return sum(process.memory_info().rss for process in self._processes()) / _MIB

    def peak_memory(self) -> float:
        """Return the most resident memory since the start, in MiB."""
        peaks = [_peak(process.pid) for process in self._processes()]
        return max(self._peak, sum(peaks)) / _MIB

    def said(self) -> str:
        """Return the end of its log."""
        return "\n".join((self._folder / "gateway.log").read_text("utf-8", "replace").splitlines()[-15:])

    def _start(self) -> None:
        config = self._folder / "bench.yaml"
        config.write_text(yaml.safe_dump(self._config()), "utf-8")
        data = self._folder / "data"
        self._log = (self._folder / "gateway.log").open("wb")
        command = [sys.executable, "-m", "gateway", "serve", "-c", str(config), "--data-dir", str(data)]
        self._process = subprocess.Popen(
            [*command, "--workers", str(self._workers)],
            cwd=_ROOT,
            env={key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OBSHUB_"))},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        deadline = time.monotonic() + _START_TIMEOUT
        while (running := read_running(DataDir(data))) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SubjectError(f"the gateway did not start; the end of its log:\n{self.said()}")
            time.sleep(_POLL)
        self._running = running
        self._sampler.start()

    def _config(self) -> dict[str, Any]:
        protocols = {protocol: {"endpoint": self.endpoint(protocol)} for protocol in self._ports}
        pipeline = {"receivers": ["otlp"], "exporters": ["timescale"]}
        return {
            "receivers": {"otlp": {"protocols": protocols}},
            "exporters": {"timescale": {**({"dsn": self._dsn} if self._dsn else {}), **self._settings}},
            "service": {"pipelines": {signal: dict(pipeline) for signal in ("metrics", "logs", "traces")}},
        }

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        # What PostgreSQL has is not the gateway's.
        return [main, *(each for each in main.children(recursive=True) if not each.name().startswith("postgres"))]

    def _sample(self) -> None:
        while not self._stopping.wait(_SAMPLE_INTERVAL):
            try:
                self._peak = max(self._peak, sum(process.memory_info().rss for process in self._processes()))
            except psutil.Error:
                return


def _peak(pid: int) -> int:
    """Return the most resident memory that a process ever had, in bytes; 0 where the kernel does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 if found else 0
