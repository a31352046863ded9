"""What a process is called in `ps` and `top`, beside its command line."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_PR_SET_NAME = 15
"""Source: ``linux/prctl.h``."""


def name_process(name: str) -> None:
    """Set the name of this process, of which the kernel keeps 15 bytes. Called on its first thread. Linux only."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
