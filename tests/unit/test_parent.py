"""A worker ends with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from tests.integration.cli.processes import ROOT, environment, has_ended, until

# Prints the child's number, and waits to be killed.
_PARENT = """
import multiprocessing, os, sys, time

def child(late):
    from gateway.parent import end_with_parent
    parent = os.getppid()
    print(os.getpid(), flush=True)
    while late and os.getppid() == parent:
        time.sleep(0.001)
    end_with_parent()
    print("tied", flush=True)
    time.sleep(600)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=child, args=(sys.argv[1] == "late",)).start()
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("when", ["running", "late"])
def test_it_ends_in_the_moment_its_parent_is_killed_or_was_killed_before_it_could_say_so(
    when: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    script = tmp_path_factory.mktemp("parent") / "parent.py"
    script.write_text(_PARENT)
    parent = subprocess.Popen(
        [sys.executable, script, when],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(PYTHONPATH=str(ROOT)),
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    if when == "running":
        assert parent.stdout.readline() == "tied\n"
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    try:
        until(lambda: has_ended(child))
    finally:
        with suppress(psutil.Error):
            child.kill()
    assert "tied" not in parent.stdout.read()
