"""A worker process ends with the process that started it, however that ends."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""Source: ``linux/prctl.h``."""


def end_with_parent() -> None:
    """Have the kernel end this process with SIGKILL in the moment its parent ends. For a process of `multiprocessing`.

    A worker that lost its parent is to take and write nothing more: the next hub may already look at what is there.
    Nothing is lost by ending in the middle. Who got no OK sends again, and what was spooled is delivered by the next
    hub. Other systems than Linux do not offer this; there the worker ends when its event loop sees the end of its
    parent, and until then still holds the locks of what it writes to.
    """
    parent = multiprocessing.parent_process()
    if parent is None or sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        # It is about the thread that made this process: the first one, which ends last.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent.pid:  # it ended before that call
        end_at_once()


def end_at_once() -> None:
    """End this process without finishing anything."""
    os.kill(os.getpid(), signal.SIGKILL)
