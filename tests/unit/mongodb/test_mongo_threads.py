"""Threads that nobody waits for."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from receivers.mongodb.threads import in_daemon_thread
from tests.support.waiting import PATIENCE

_LEAVES_A_THREAD = """
import asyncio, threading
from receivers.mongodb.threads import in_daemon_thread

async def main():
    started, never = threading.Event(), threading.Event()
    task = asyncio.create_task(in_daemon_thread(lambda: (started.set(), never.wait())))
    await asyncio.to_thread(started.wait)
    task.cancel()

asyncio.run(main())
print("ended")
"""


async def test_what_work_returns_or_raises_comes_back() -> None:
    assert await in_daemon_thread(lambda: threading.current_thread().daemon) is True
    with pytest.raises(ZeroDivisionError):
        await in_daemon_thread(lambda: 1 // 0)


def test_a_process_ends_though_a_thread_does_not() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _LEAVES_A_THREAD], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert (result.returncode, result.stdout) == (0, "ended\n"), result.stderr
