"""Named steps at which the fault tests let a gateway die.

``OBSHUB_TEST_CRASH_AT="after spool fsync:3"`` ends the process with SIGKILL the third time it gets to that step. Unset,
as it always is outside those tests, a step costs one look at a global.
"""

from __future__ import annotations

import os
import signal

_name, _, _count = os.environ.get("OBSHUB_TEST_CRASH_AT", "").partition(":")
_left = int(_count or 1)


def crashpoint(name: str) -> None:
    """Die here if a test asked for it."""
    global _left
    if _name and name == _name:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
