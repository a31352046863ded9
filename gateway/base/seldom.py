"""When to say again what happens often."""

from __future__ import annotations

import math
import time

INTERVAL = 60.0
"""Seconds between two messages about the same thing."""


class Seldom:
    """Counts what happens, and tells when it is to be said: at the first time, and once in each interval after."""

    def __init__(self) -> None:
        self._untold = 0
        self._told_at = -math.inf

    def count(self, number: int = 1) -> int:
        """Count. Returns 0 when nothing is to be said now, and else how many were counted since it last was."""
        self._untold += number
        now = time.monotonic()
        if now - self._told_at < INTERVAL:
            return 0
        told, self._untold, self._told_at = self._untold, 0, now
        return told
