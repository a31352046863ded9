"""Whether the clock can be trusted with throwing data away.

A clock that is a year ahead for a minute (no battery, a bad time server) makes everything look expired. What is stored
too long is dropped the next time; what was dropped is gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from exporters.timescale.layout import Connection

_log = logging.getLogger(__name__)

TOLERANCE = timedelta(hours=1)
"""By how much the clock may be set, or differ from the database's, without giving cause for doubt."""
DOUBT = timedelta(hours=1)
"""How long nothing is thrown away after that. A time server needs minutes to set a clock right."""
LONGEST_PAUSE = timedelta(days=1)
"""Since the store last took something, when a gateway starts. After more, the clock is given time to be set."""


def _wall() -> datetime:
    return datetime.now(UTC)


class Clock:
    """Watches the clock from one round of maintenance to the next."""

    def __init__(self, wall: Callable[[], datetime] = _wall, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset: datetime | None = None
        self._doubted_until = float("-inf")

    def trusted(self, connection: Connection) -> datetime | None:
        """Return the time, or None while it is not to be trusted. Raises `psycopg.Error`."""
        now, monotonic = self._wall(), self._monotonic()
        row = connection.execute("SELECT now(), (SELECT max(received_at) FROM receipt)").fetchone()
        assert row is not None
        of_database, last_stored = row
        offset = now - timedelta(seconds=monotonic)
        reason = ""
        if self._offset is None:
            if last_stored is None or abs(now - last_stored) > LONGEST_PAUSE:
                reason = "the store has taken nothing for long"
        elif abs(offset - self._offset) > TOLERANCE:
            reason = "the clock of this machine was set"
        if abs(now - of_database) > TOLERANCE:
            reason = f"the clock of this machine says {now:%Y-%m-%d %H:%M}, the database's {of_database:%Y-%m-%d %H:%M}"
        self._offset = offset
        if reason:
            if monotonic >= self._doubted_until:
                _log.warning("%s; for an hour nothing is dropped as expired", reason)
            self._doubted_until = monotonic + DOUBT.total_seconds()
        return None if monotonic < self._doubted_until else now
