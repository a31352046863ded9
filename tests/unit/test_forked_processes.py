"""What forks the workers of a hub: each forked process is its child's owner's to end, and none outlives another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from gateway.fork_server import ForkServer
from tests.integration.cli.processes import ROOT, environment, has_ended, until
from tests.support.waiting import PATIENCE

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")

# Has processes forked that say who they are and wait; obeys what it reads, and tells how they ended.
_OWNER = """
import asyncio, json, multiprocessing, os, signal, sys, time
from gateway.fork_server import ForkServer
from gateway.parent import end_with_parent

def child(name, connection):
    end_with_parent()
    connection.send((name, os.getpid(), os.getppid(), prepared, sorted(map(int, signal.pthread_sigmask(0, [])))))
    if name == "fails":
        raise RuntimeError("it failed")
    if name == "leaves":
        sys.exit(7)
    signal.pause()

def prepare():
    global prepared
    prepared = os.getpid()

async def main(server):
    processes = []
    for name in sys.argv[1:]:
        ours, theirs = multiprocessing.Pipe()
        processes.append(server.fork(theirs, name))
        theirs.close()
        told = await asyncio.to_thread(ours.recv)
        while processes[-1].pid is None:  # the server says it after the fork: a child may be quicker
            await asyncio.sleep(0.001)
        print(json.dumps({"told": told, "server": server.pid}), flush=True)
    loop = asyncio.get_running_loop()
    while order := (await loop.run_in_executor(None, sys.stdin.readline)).split():
        if order[0] == "signal":
            getattr(processes[0], order[1])()
        elif order[0] == "fork":
            ours, theirs = multiprocessing.Pipe()
            try:
                server.fork(theirs, "late")
            except OSError:
                print(json.dumps("nothing can be forked"), flush=True)
        else:
            await asyncio.wait_for(asyncio.gather(*(each.ended() for each in processes)), 300)
            print(json.dumps([[each.pid, each.exitcode, each.is_alive()] for each in processes]), flush=True)
    server.close()

prepared = None
# Whoever runs this in the background may have both ignored: a shell the first, nohup the second.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
asyncio.run(main(ForkServer.begin(child, prepare)))
"""


class Owner:
    """A process that has others forked, each told by its name what to do."""

    def __init__(self, *names: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OWNER, *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
            start_new_session=True,
        )
        said = [self.read() for _ in names]
        self.told = [each["told"] for each in said]
        self.server = psutil.Process(said[0]["server"])
        self.forked = [psutil.Process(pid) for name, pid, *_ in self.told if name == "waits"]

    def read(self) -> object:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate(timeout=PATIENCE)[1]
        return json.loads(line)

    def order(self, words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()


@contextmanager
def owner(*names: str) -> Iterator[Owner]:
    made = Owner(*names)
    try:
        yield made
    finally:
        with suppress(ProcessLookupError):
            os.killpg(made.process.pid, signal.SIGKILL)
        made.process.communicate()


@linux
def test_what_was_prepared_once_is_there_in_each_which_can_be_signalled_as_any_process() -> None:
    with owner("waits", "waits") as made:
        for _, _, parent, prepared, blocked in made.told:
            assert parent == prepared == made.server.pid
            assert blocked == []
        assert made.server.name() == "obs-hub-forks"


@linux
def test_the_owner_learns_how_each_ended() -> None:
    with owner("waits", "leaves", "fails") as made:
        made.order("signal terminate")
        made.order("ends?")
        pids = [pid for _, pid, *_ in made.told]
        assert made.read() == [[pids[0], -signal.SIGTERM, False], [pids[1], 7, False], [pids[2], 1, False]]
        made.order("signal kill")  # of what has ended: another may have its number
        made.order("ends?")
        made.read()
        _, stderr = made.process.communicate(timeout=PATIENCE)
        assert made.process.returncode == 0
        assert "RuntimeError: it failed" in stderr


@linux
@pytest.mark.parametrize("victim", ["owner", "server"])
def test_when_one_is_killed_what_it_forked_ends_as_well(victim: str) -> None:
    with owner("waits", "waits") as made:
        os.kill(made.process.pid if victim == "owner" else made.server.pid, signal.SIGKILL)
        until(lambda: all(map(has_ended, made.forked)))
        until(lambda: has_ended(made.server))
        if victim == "server":
            made.order("ends?")
            assert made.read() == [[each.pid, -signal.SIGKILL, False] for each in made.forked]
            made.order("fork")
            assert made.read() == "nothing can be forked"


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_stop_ends_only_what_is_forked(number: signal.Signals) -> None:
    """A service manager or a terminal tells all of them. The owner is still to be told how those that stop ended."""
    with owner("waits") as made:
        made.server.send_signal(number)
        made.forked[0].send_signal(number)
        made.order("ends?")
        ((pid, code, alive),) = made.read()  # type: ignore[misc]
        assert (pid, alive) == (made.forked[0].pid, False)
        assert code == (1 if number is signal.SIGINT else -number)  # SIGINT is KeyboardInterrupt in Python
        assert not has_ended(made.server)


def test_a_process_with_threads_is_not_forked() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        assert ForkServer.begin(print, list) is None
    finally:
        end.set()
        thread.join()
