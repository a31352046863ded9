"""Processes that end with the process that started them, however that ends."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""Source: ``linux/prctl.h``."""

# Loaded here: what runs between fork and exec had better load nothing.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def signal_on_parent_death(number: signal.Signals) -> bool:
    """Have the kernel send this process a signal in the moment its parent ends. Returns whether the system can.

    It is about the thread that made this process. Whoever calls this then looks whether the parent had ended before.
    Only Linux offers it.
    """
    if _LIBC is None:
        return False
    with contextlib.suppress(OSError, AttributeError):
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    return True
