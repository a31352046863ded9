"""Whether the database's clock can be believed where age decides what is removed.

A clock that is set forward by mistake makes everything look old: partitions would be dropped, and receipts forgotten
that still keep batches from being stored twice. So after a jump nothing is removed for a while, in which somebody may
notice and set the clock right.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import structlog

from gateway.store.layout import Connection

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_JUMP = timedelta(minutes=10)


# Receipts tell when something was stored. After a gap, time is believed again from when it has passed without one.
_SINCE_GAP = """
SELECT max(at) FROM (
    SELECT at, at - lag(at) OVER (ORDER BY at) AS gap
    FROM (SELECT received_at FROM receipt WHERE received_at <= %(now)s UNION ALL SELECT %(now)s) AS moments (at)
) AS gaps
WHERE gap > %(patience)s
"""


class Clock:
    """Watches the database's clock, compared with the time that really passes.

    ``patience`` is for how long nothing is removed after a jump. A new process cannot know of earlier jumps, but the
    receipts show when nothing was stored for longer than ``patience``: the gateway was off, or the clock jumped.
    """

    def __init__(self, patience: timedelta) -> None:
        self._patience = patience
        self._last: tuple[datetime, float] | None = None
        self._believed_from = 0.0

    def now(self, connection: Connection) -> datetime | None:
        """Return the database's time, or None as long as it is not to be believed."""
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        now: datetime = row[0]
        ticks = time.monotonic()
        if self._last is None:
            self._begin(connection, now, ticks)
        else:
            then, its_ticks = self._last
            ahead = now - then - timedelta(seconds=ticks - its_ticks)
            if ahead > _JUMP:
                self._doubt(f"the database's clock went forward by {ahead}", self._patience, ticks)
        self._last = (now, ticks)
        return now if ticks >= self._believed_from else None

    def _begin(self, connection: Connection, now: datetime, ticks: float) -> None:
        row = connection.execute(_SINCE_GAP, {"now": now, "patience": self._patience}).fetchone()
        since = row[0] if row else None
        if since is not None and now - since < self._patience:
            self._doubt(
                f"nothing was stored in the {self._patience} before {since:%Y-%m-%d %H:%M}, "
                "unless the database's clock went forward then",
                self._patience - (now - since),
                ticks,
            )

    def _doubt(self, why: str, pause: timedelta, ticks: float) -> None:
        _log.warning("nothing is removed because of its age for a while", reason=why, until_then=str(pause))
        self._believed_from = ticks + pause.total_seconds()
