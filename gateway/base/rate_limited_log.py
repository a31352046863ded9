"""Logs of what happens often: the first time at once, and then once in each interval, with how often it was."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import structlog

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
    """Logs the first message of a kind, and then at most one in each interval, which says how many were ``suppressed``.

    So a message cannot feed on itself where what is logged is read and fails again, as in the journal.
    """

    def __init__(self, logger: structlog.stdlib.BoundLogger) -> None:
        self._logger = logger
        self._kinds: dict[str, LogRateLimit] = {}

    def info(self, kind: str, event: str, /, **fields: object) -> None:
        """Log what happened, unless something of its kind was logged just now."""
        self._log(self._logger.info, kind, event, fields)

    def warning(self, kind: str, event: str, /, **fields: object) -> None:
        """Log a warning, unless one of its kind was logged just now."""
        self._log(self._logger.warning, kind, event, fields)

    def error(self, kind: str, event: str, /, **fields: object) -> None:
        """Log an error, unless one of its kind was logged just now."""
        self._log(self._logger.error, kind, event, fields)

    def _log(self, log: Callable[..., object], kind: str, event: str, fields: dict[str, object]) -> None:
        if kind not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        if counted := self._kinds.setdefault(kind, LogRateLimit()).count():
            suppressed = {"suppressed": counted - 1} if counted > 1 else {}
            log(event, **fields, **suppressed)

    def forget(self, kind: str) -> None:
        """Note that what a kind of message is about is over, so that the next one is logged at once."""
        self._kinds.pop(kind, None)
