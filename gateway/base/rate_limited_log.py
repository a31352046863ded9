"""Logs of what happens often: the first time at once, and then once in each interval, with how often it was."""

from __future__ import annotations

import logging
import math
import time

INTERVAL = 60.0
"""Seconds between two messages about the same thing."""

_MOST_KINDS = 100


class LogRateLimit:
    """Counts what happens, and tells when it is to be logged: at the first time, and once in each interval after."""

    __slots__ = ("_logged_at", "_unlogged")

    def __init__(self) -> None:
        self._unlogged = 0
        self._logged_at = -math.inf

    def count(self, number: int = 1) -> int:
        """Count. Returns 0 when nothing is to be logged now, and else how many were counted since something was."""
        self._unlogged += number
        now = time.monotonic()
        if now - self._logged_at < INTERVAL:
            return 0
        counted, self._unlogged, self._logged_at = self._unlogged, 0, now
        return counted


class RateLimitedLogger:
    """Logs the first message of a kind, and then at most one in each interval, which says how many there were.

    So a message cannot feed on itself where what is logged is read and fails again, as in the journal.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._kinds: dict[str, LogRateLimit] = {}

    def log(self, level: int, kind: str, message: str, *values: object) -> None:
        """Log a message, unless one of its kind was logged just now."""
        if kind not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        if counted := self._kinds.setdefault(kind, LogRateLimit()).count():
            more = f" ({counted - 1} more like this before)" if counted > 1 else ""
            self._logger.log(level, message + more, *values)

    def forget(self, kind: str) -> None:
        """Note that what a kind of message is about is over, so that the next one is logged at once."""
        self._kinds.pop(kind, None)
