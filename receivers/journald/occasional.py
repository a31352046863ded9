"""Logging that cannot feed on itself.

What is logged here may itself get into the journal, be read again, and fail again. So each kind of message is logged at
most once in a while, and then says how many there were.
"""

from __future__ import annotations

import logging
import time

INTERVAL = 60.0
"""Seconds between two messages of one kind."""

_KINDS = 100


class Occasional:
    """Logs the first message of a kind, and then at most one in each interval."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._kinds: dict[str, tuple[float, int]] = {}

    def __call__(self, level: int, kind: str, message: str, *values: object) -> None:
        """Log a message, unless one of its kind was logged just now."""
        now = time.monotonic()
        next_at, omitted = self._kinds.get(kind, (0.0, 0))
        if now < next_at:
            self._kinds[kind] = (next_at, omitted + 1)
            return
        if len(self._kinds) >= _KINDS:
            self._kinds.clear()
        self._kinds[kind] = (now + INTERVAL, 0)
        self._log.log(level, message + (f" ({omitted} more like this before)" if omitted else ""), *values)

    def over(self, kind: str) -> None:
        """Note that what a kind of message is about is over, so that the next one is logged at once."""
        self._kinds.pop(kind, None)
