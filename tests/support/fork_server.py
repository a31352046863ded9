"""Starts ``obs-hub`` in processes of their own without importing it anew each time, which is most of what that costs.

A server process imports all that a hub needs, once, and forks for each hub: that has its own session, environment,
folder and files, runs the same `gateway.__main__`, and dies of signals like any other. It is not for tests of what only
a new interpreter shows: its command line, memory, locale, time zone or preloaded libraries.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.support import stacks
from tests.support.waiting import pauses

_ROOT = Path(__file__).parents[2]
_BEFORE_PYTHON = ("LD_", "PYTHON", "LC_", "LANG", "TZ", "GRPC_", "MALLOC_", "OPENBLAS_", "OMP_")
"""Beginnings of variables that are read when an interpreter or a library begins."""
_NOT_OF_HUBS = ("gateway.__main__", "gateway.cli.", "receivers.mongodb.")
_OF_HUBS = ("gateway.cli.run", "uvicorn.lifespan.off")
_MOST = 2**20


def suits(variables: Mapping[str, str]) -> bool:
    """Tell whether a process with these variables can be forked."""
    return not any(name.startswith(_BEFORE_PYTHON) for name in variables)


class ForkedProcess:
    """A process that the server forked, with as much of `subprocess.Popen` as tests of hubs use."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return how it ended, negative for a signal; None while it runs."""
        if self.returncode is None:
            self._server.look()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `subprocess.TimeoutExpired`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = pauses()
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            time.sleep(next(pause))
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The server, begun with the first process asked for, and ended with this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[int, ForkedProcess] = {}  # by their pids, which come again
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=_ROOT,
                pass_fds=(theirs.fileno(),),
            )
        atexit.register(self.close)

    def start(
        self, arguments: Sequence[str], variables: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes]
    ) -> ForkedProcess:
        """Start ``obs-hub`` with these arguments and this environment."""
        request = json.dumps([list(arguments), dict(variables)]).encode()
        descriptors = array.array("i", [stdout.fileno(), stderr.fileno()])
        with self._lock:
            self._socket.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            while (answer := self._next()) and "started" not in answer:
                self._note(answer)
            process = self._running[answer["started"]] = ForkedProcess(self, answer["started"])
        return process

    def look(self) -> None:
        """Let the processes that have ended know how."""
        with self._lock:
            while select.select([self._socket], [], [], 0)[0]:
                self._note(self._next())

    def close(self) -> None:
        """End the server; what it forked goes on."""
        self._socket.close()
        self._process.wait()

    def _next(self) -> dict[str, int]:
        received = self._socket.recv(_MOST)
        assert received, "the server that forks hubs has ended"
        message: dict[str, int] = json.loads(received)
        return message

    def _note(self, message: dict[str, int]) -> None:
        self._running.pop(message["pid"]).returncode = message["code"]


_server: ForkServer | None = None


def start(
    arguments: Sequence[str], variables: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes]
) -> ForkedProcess:
    """Start ``obs-hub`` by the server of this process."""
    global _server
    if _server is None:
        _server = ForkServer()
    return _server.start(arguments, variables, stdout, stderr)


def _import_all() -> None:
    """Import what hubs import; of the command line, only what runs one."""
    for package in map(importlib.import_module, ("gateway", "receivers", "exporters")):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith(_NOT_OF_HUBS):
                importlib.import_module(module.name)
    for name in _OF_HUBS:
        importlib.import_module(name)


def _serve(connection: socket.socket) -> tuple[list[str], dict[str, str]]:
    """Fork for each request. Returns in the forked process, with its arguments and environment."""
    children: dict[int, int] = {}  # descriptor of a process: its number
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if (pid := children.pop(descriptor, None)) is not None:
                poll.unregister(descriptor)
                os.close(descriptor)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                connection.send(json.dumps({"pid": pid, "code": code}).encode())
                continue
            data, files, _, _ = socket.recv_fds(connection, _MOST, 2)
            if not data:
                os._exit(0)
            if (pid := os.fork()) == 0:
                os.setsid()
                os.dup2(files[0], 1)
                os.dup2(files[1], 2)
                os.closerange(3, max([connection.fileno(), *files, *children], default=3) + 1)
                arguments, variables = json.loads(data)
                return arguments, variables
            for each in files:
                os.close(each)
            descriptor = os.pidfd_open(pid)
            children[descriptor] = pid
            poll.register(descriptor, select.POLLIN)
            connection.send(json.dumps({"started": pid}).encode())


def main() -> Any:
    connection = socket.socket(fileno=int(sys.argv[1]))
    _import_all()
    gc.collect()
    gc.freeze()
    arguments, variables = _serve(connection)
    connection.detach()
    defaults = {name: value for name, value in os.environ.items() if name.startswith("GRPC_")}
    os.environ.clear()
    os.environ.update(defaults | variables)
    if "OBSHUB_TEST_CRASH_AT" in variables:
        from gateway.base import crashpoints

        importlib.reload(crashpoints)
    stacks.tell_on_signal()
    sys.argv = [str(_ROOT / "gateway/__main__.py"), *arguments]
    return runpy.run_module("gateway", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
