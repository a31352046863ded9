"""Where the threads and tasks of a process are, for a test that waits in vain: it sends a signal, they are written."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
from typing import Any

SIGNAL = signal.SIGUSR1
END = "(all tasks)"
"""The last line that a process writes."""


def tell_on_signal() -> None:
    """Have this process, and all that it forks, write its stacks to stderr when it gets the signal.

    Those of the threads come first, whatever they are at; those of the tasks need the main thread to get a turn.
    """
    signal.signal(SIGNAL, _tell_tasks)
    faulthandler.register(SIGNAL, chain=True)


def _tell_tasks(*_: object) -> None:
    try:
        tasks = asyncio.all_tasks()
        lines = [f"task {task.get_name()}: {' > '.join(_awaited(task.get_coro()))}" for task in tasks]
    except RuntimeError as error:  # no loop runs
        lines = [str(error)]
    sys.stderr.write("\n".join([f"process {os.getpid()}:", *lines, END, ""]))
    sys.stderr.flush()


def _awaited(waiting: Any) -> list[str]:
    """The places at which a coroutine waits, the outermost first."""
    found = []
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is None:
            found.append(str(waiting))
            break
        code = frame.f_code
        found.append(f"{'/'.join(code.co_filename.split('/')[-2:])}:{frame.f_lineno} {code.co_name}")
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return found
