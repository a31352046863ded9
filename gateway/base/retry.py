"""When a destination that failed is tried again."""

from __future__ import annotations

import random
import time
from datetime import timedelta

from gateway.base.settings import RetrySettings

_SECOND = timedelta(seconds=1)

_LONGEST_ASKED = 600.0
"""The longest pause that a destination gets by asking, in seconds. It may ask by the time of day, while a clock is
wrong, or by mistake for days."""


class Backoff:
    """Growing pauses between attempts, each varied at random."""

    def __init__(self, settings: RetrySettings) -> None:
        self._settings = settings
        self._pause = settings.initial_interval / _SECOND

    def reset(self) -> None:
        """Begin again with the shortest pause: an attempt succeeded."""
        self._pause = self._settings.initial_interval / _SECOND

    def next(self, asked_for: float = 0.0) -> float:
        """Return the next pause in seconds, at least what the destination asked for, unless that is very long."""
        pause, spread = self._pause, self._settings.randomization_factor
        self._pause = min(self._pause * self._settings.multiplier, self._settings.max_interval / _SECOND)
        return max(pause * random.uniform(1 - spread, 1 + spread), min(asked_for, _LONGEST_ASKED))  # noqa: S311 - no secret


class Circuit:
    """Keeps attempts away from a destination that failed, until it is time to try again."""

    def __init__(self, settings: RetrySettings) -> None:
        self._backoff = Backoff(settings)
        self._retry_at = 0.0
        self._open = False

    @property
    def open(self) -> bool:
        """Whether the latest attempt failed, or takes too long."""
        return self._open

    @property
    def pause(self) -> float:
        """Seconds until the next attempt is due."""
        return max(self._retry_at - time.monotonic(), 0.0)

    def trip(self) -> None:
        """Note that an attempt takes too long."""
        self._open = True

    def fail(self, asked_for: float) -> None:
        """Note that an attempt failed. ``asked_for``: the pause in seconds that the destination wants."""
        self._open = True
        self._retry_at = time.monotonic() + self._backoff.next(asked_for)

    def close(self) -> None:
        """Note that an attempt succeeded."""
        self._open = False
        self._retry_at = 0.0
        self._backoff.reset()
