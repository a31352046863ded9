"""How a program ended, for people."""

from __future__ import annotations

import signal


def ended_with(code: int) -> str:
    """Say how a program ended, by its return code as `subprocess` has it: below 0, a signal ended it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # one of the real-time signals
        return f"signal {-code}"
    why = ", which the kernel sends where memory runs out" if name == "SIGKILL" else ""
    return f"signal {-code} ({name}{why})"
