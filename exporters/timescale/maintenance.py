"""What the gateway does for its store beside writing: partitions, rollups, receipts, dimensions.

Every gateway process runs this. What two must not do at once is done under an advisory lock, which is a transaction's
and not a session's, so that a pooler cannot keep it: whoever finds it taken leaves the rest to the other one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql

from exporters.timescale import layout, partitions, policies
from exporters.timescale.clock import Clock
from exporters.timescale.collection import collect_dimensions
from exporters.timescale.config import TimescaleConfig
from exporters.timescale.rejections import Acceptance
from exporters.timescale.schema import MAINTENANCE_LOCK
from gateway.pipeline import Signal

_log = logging.getLogger(__name__)

_AHEAD = 2  # partitions beyond the present one
_RECEIPTS_AT_ONCE = 20_000

# Values above 1e290 are left out of the sum: PostgreSQL raises an error for one that has no double.
_ROLL_UP = {
    "sample_1m": sql.SQL("""
        INSERT INTO sample_1m (time, series_id, count, sum, min, max, last)
        SELECT
            date_bin('1 minute', time, 'epoch'), series_id,
            count(*), sum(value) FILTER (WHERE abs(value) <= 1e290 OR abs(value) = 'Infinity'), min(value), max(value),
            (array_agg(value ORDER BY time DESC, time_ns DESC))[1]
        FROM sample
        WHERE time >= %(lower)s AND time < %(upper)s AND value <> 'NaN'
        GROUP BY 1, 2
    """),
    "sample_1h": sql.SQL("""
        INSERT INTO sample_1h (time, series_id, count, sum, min, max, last)
        SELECT
            date_bin('1 hour', time, 'epoch'), series_id,
            sum(count), sum(sum), min(min), max(max), (array_agg(last ORDER BY time DESC))[1]
        FROM sample_1m
        WHERE time >= %(lower)s AND time < %(upper)s
        GROUP BY 1, 2
    """),
}


class Maintenance:
    """One round of maintenance at a time, on a connection that is given."""

    def __init__(self, config: TimescaleConfig, present: layout.Layout) -> None:
        self._config = config
        self._layout = present
        self._partitions = partitions.Partitions(config.chunk_interval)
        self._clock = Clock(config.receipt_window)
        self._collected_at = time.monotonic()

    def run(self, connection: layout.Connection) -> bool:
        """Do what is due. Returns False when another gateway is at it. Raises `psycopg.Error`."""
        try:
            if self._layout.native:
                self._partitions.forget()  # some of them may have been dropped, here or by another gateway
                self.make_partitions(connection)
            if self._layout.gateway_rollups:
                self.roll_up(connection)
            now = self._clock.now(connection)
            if now is not None:
                if not self._layout.community:
                    self.apply_retention(connection, now)
                self.remove_receipts(connection, now)
                self.remove_identities(connection, now)
        except _TakenError:
            return False
        if time.monotonic() - self._collected_at >= self._config.collect_interval.total_seconds():
            self._collected_at = time.monotonic()
            removed = collect_dimensions(connection)
            if any(removed.values()):
                _log.info("removed dimensions that nothing refers to: %s", removed)
        return True

    def make_partitions(self, connection: layout.Connection) -> None:
        """Make the present partitions and the next ones."""
        now = partitions.interval_of(datetime.now(UTC), self._config.chunk_interval)
        for table in (*layout.FACTS, *layout.ROLLUPS):
            self._partitions.ensure(connection, table, range(now, now + _AHEAD + 1))

    def apply_retention(self, connection: layout.Connection, now: datetime) -> None:
        """Drop what is older than it may be, where TimescaleDB does not do so itself."""
        for table, kept in policies.retention_of(self._config).items():
            if kept is None:
                continue
            if not self._layout.native:
                with _alone(connection):
                    connection.execute("SELECT drop_chunks(%s::regclass, older_than => %s::interval)", (table, kept))
                continue
            try:
                dropped = partitions.drop_before(connection, table, now - kept)
            except psycopg.errors.LockNotAvailable:
                _log.info("partitions of %s are in use; they are dropped the next time", table)
                continue
            if dropped:
                _log.info("dropped expired partitions: %s", ", ".join(dropped))

    def roll_up(self, connection: layout.Connection) -> None:
        """Compute anew the rollups of the minutes that got data points, and of their hours."""
        minute, hour = timedelta(minutes=1), timedelta(hours=1)
        if not self._config.rollups:
            connection.execute("DELETE FROM rollup_pending")
            return
        if self._layout.native:
            _summarize(connection)
        with _alone(connection):
            pending = [row[0] for row in connection.execute("DELETE FROM rollup_pending RETURNING minute")]
            minutes = sorted(set(pending))
            hours = sorted({at.astimezone(UTC).replace(minute=0) for at in minutes})
            for table, starts, bucket in (("sample_1m", minutes, minute), ("sample_1h", hours, hour)):
                if self._layout.native:
                    its_intervals = {partitions.interval_of(at, self._config.chunk_interval) for at in starts}
                    self._partitions.ensure(connection, table, its_intervals)
                for lower, upper in _ranges(starts, bucket):
                    bounds = {"lower": lower, "upper": upper}
                    name = sql.Identifier(table)
                    connection.execute(
                        sql.SQL("DELETE FROM {} WHERE time >= %(lower)s AND time < %(upper)s").format(name), bounds
                    )
                    connection.execute(_ROLL_UP[table], bounds)

    def remove_identities(self, connection: layout.Connection, now: datetime) -> None:
        """Remove the identities of events so old that they would no longer be accepted."""
        past = Acceptance(self._config).past(Signal.LOGS) + self._config.receipt_window
        removed = _RECEIPTS_AT_ONCE
        while removed == _RECEIPTS_AT_ONCE:
            with _alone(connection):
                removed = connection.execute(
                    "DELETE FROM event_identity WHERE uid IN (SELECT uid FROM event_identity WHERE time < %s LIMIT %s)",
                    (now - past, _RECEIPTS_AT_ONCE),
                ).rowcount

    def remove_receipts(self, connection: layout.Connection, now: datetime) -> None:
        """Remove the receipts of batches older than the window in which they are recognized."""
        removed = _RECEIPTS_AT_ONCE
        while removed == _RECEIPTS_AT_ONCE:
            with _alone(connection):
                removed = connection.execute(
                    "DELETE FROM receipt WHERE digest IN (SELECT digest FROM receipt WHERE received_at < %s LIMIT %s)",
                    (now - self._config.receipt_window, _RECEIPTS_AT_ONCE),
                ).rowcount


class _TakenError(Exception):
    """Another gateway is at it."""


@contextmanager
def _alone(connection: layout.Connection) -> Iterator[None]:
    """Run a block in a transaction that no other gateway's maintenance is beside. Raises `_TakenError`."""
    with connection.transaction():
        row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (MAINTENANCE_LOCK,)).fetchone()
        if row != (True,):
            raise _TakenError
        yield


def _ranges(starts: Iterable[datetime], length: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Join adjacent intervals of one length into ranges. The starts are sorted."""
    lower: datetime | None = None
    upper: datetime | None = None
    for start in starts:
        if lower is None or upper is None:
            lower = start
        elif start != upper:
            yield lower, upper
            lower = start
        upper = start + length
    if lower is not None and upper is not None:
        yield lower, upper


def _summarize(connection: layout.Connection) -> None:
    """Let the BRIN indexes know the newest rows, which otherwise are read in full for every minute."""
    connection.execute(
        "SELECT brin_summarize_new_values(c.oid) FROM pg_class c JOIN pg_am a ON a.oid = c.relam"
        " JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_inherits h ON h.inhrelid = c.oid"
        " WHERE a.amname = 'brin' AND c.relkind = 'i' AND h.inhparent IN"
        " ('sample_time'::regclass, 'sample_1m_time'::regclass)"
    )
