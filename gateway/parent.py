"""A worker process ends with the process that started it, however that ends."""

from __future__ import annotations

import multiprocessing
import os
import signal

from gateway.base.parent_death import signal_on_parent_death


def end_with_parent() -> None:
    """Have the kernel end this process with SIGKILL in the moment its parent ends. For a process of `multiprocessing`.

    A worker that lost its parent is to take and write nothing more: the next hub may already look at what is there.
    Nothing is lost by ending in the middle. Who got no OK sends again, and what was spooled is delivered by the next
    hub. Other systems than Linux do not offer this; there the worker ends when its event loop sees the end of its
    parent, and until then still holds the locks of what it writes to.
    """
    parent = multiprocessing.parent_process()
    # What made this process is its parent's first thread, which ends last.
    if parent is None or not signal_on_parent_death(signal.SIGKILL):
        return
    if os.getppid() != parent.pid:  # it ended before that call
        end_at_once()


def end_at_once() -> None:
    """End this process without finishing anything."""
    os.kill(os.getpid(), signal.SIGKILL)
