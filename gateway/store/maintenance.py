"""What the gateway does for its store beside writing: partitions, rollups, receipts, dimensions.

Every gateway process runs this; one of them has the turn and does the work, the others find it taken.
"""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import structlog

from gateway.store import layout, partitions, policies, restore_mark, rollups, turns
from gateway.store.clock import Clock
from gateway.store.collection import collect_dimensions
from gateway.store.dropped_before import note_dropped
from gateway.store.schema import SchemaError, may_maintain
from gateway.store.seen import look_back
from gateway.store.settings import StoreSettings
from gateway.store.turns import Turn

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_AHEAD = 2  # partitions beyond the present one
_RECEIPTS_AT_ONCE = 20_000


class Maintenance:
    """One round of maintenance at a time, on a connection that is given."""

    def __init__(self, settings: StoreSettings, present: layout.Layout) -> None:
        self._settings = settings
        self._layout = present
        self._partitions = partitions.Partitions(settings.chunk_interval)
        self._clock = Clock(settings.receipt_window)
        self._has_caught_up = False
        self._has_told = False

    def run(self, connection: layout.Connection) -> bool:
        """Do what is due. Returns False when another gateway has the turn, or it is left to those of a later version.

        Raises `psycopg.Error`, and `schema.SchemaError` when the store is not whole.
        """
        if restore_mark.is_unfinished(connection):
            raise SchemaError(restore_mark.MESSAGE)
        if not may_maintain(connection):
            if not self._has_told:
                self._has_told = True
                _log.warning(
                    "a newer gateway has migrated the store; this one goes on writing, and leaves rollups, retention "
                    "and all other maintenance to newer ones",
                    what_to_do="upgrade this gateway",
                )
            return False
        if not self._has_caught_up:
            rollups.note_unnoted(connection)
            self._has_caught_up = True
        if not turns.take(connection, Turn.MAINTENANCE, self._settings.maintenance_interval):
            return False
        if self._layout.native:
            self._partitions.forget()  # some of them may have been dropped, here or by another gateway
            self.make_partitions(connection)
        if not self.roll_up(connection):
            return False
        now = self._clock.now(connection)
        if now is not None:
            if not self._layout.community:
                self.apply_retention(connection, now)
            self.remove_receipts(connection, now)
            self.remove_identities(connection, now)
        look_back(connection)
        if turns.take(connection, Turn.COLLECTION, self._settings.collect_interval, at_first=False):
            removed = collect_dimensions(connection)
            if any(removed.values()):
                _log.info("removed dimensions that nothing refers to", **removed)
        return True

    def make_partitions(self, connection: layout.Connection) -> None:
        """Make the present partitions and the next ones."""
        now = partitions.interval_of(datetime.now(UTC), self._settings.chunk_interval)
        for table in (*layout.FACTS, *layout.ROLLUPS):
            self._partitions.ensure(connection, table, range(now, now + _AHEAD + 1))

    def apply_retention(self, connection: layout.Connection, now: datetime) -> None:
        """Drop what is older than it may be, where TimescaleDB does not do so itself."""
        for table, kept in policies.retention_of(self._settings).items():
            if kept is None:
                continue
            if table in ("sample", "sample_1m"):
                note_dropped(connection, table, now - kept)
            if not self._layout.native:
                connection.execute(
                    "SELECT drop_chunks(%s::regclass, older_than => %s::timestamptz)", (table, now - kept)
                )
                continue
            try:
                dropped = partitions.drop_before(connection, table, now - kept)
            except psycopg.errors.LockNotAvailable:
                _log.info("partitions are in use; they are dropped the next time", table=table)
                continue
            if dropped:
                _log.info("dropped expired partitions", partitions=dropped)

    def roll_up(self, connection: layout.Connection) -> bool:
        """Roll up what has ended. Returns False when another gateway is at it."""
        if self._layout.native and self._settings.rollups:
            _summarize(connection)
        return rollups.roll_up(connection, self._layout, self._settings, self._partitions)

    def remove_identities(self, connection: layout.Connection, now: datetime) -> None:
        """Remove the identities of events so old that they would no longer be accepted."""
        past = self._settings.accepted_past(self._settings.retention.logs) + self._settings.receipt_window
        removed = _RECEIPTS_AT_ONCE
        while removed == _RECEIPTS_AT_ONCE:
            removed = connection.execute(
                "DELETE FROM event_identity WHERE uid IN (SELECT uid FROM event_identity WHERE time < %s LIMIT %s)",
                (now - past, _RECEIPTS_AT_ONCE),
            ).rowcount

    def remove_receipts(self, connection: layout.Connection, now: datetime) -> None:
        """Remove the receipts of batches older than the window in which they are recognized."""
        removed = _RECEIPTS_AT_ONCE
        while removed == _RECEIPTS_AT_ONCE:
            removed = connection.execute(
                "DELETE FROM receipt WHERE digest IN (SELECT digest FROM receipt WHERE received_at < %s LIMIT %s)",
                (now - self._settings.receipt_window, _RECEIPTS_AT_ONCE),
            ).rowcount


def _summarize(connection: layout.Connection) -> None:
    """Let the BRIN indexes know the newest rows, which otherwise are read in full for every minute."""
    connection.execute(
        "SELECT brin_summarize_new_values(c.oid) FROM pg_class c JOIN pg_am a ON a.oid = c.relam"
        " JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_inherits h ON h.inhrelid = c.oid"
        " WHERE a.amname = 'brin' AND c.relkind = 'i' AND h.inhparent IN"
        " ('sample_time'::regclass, 'sample_1m_time'::regclass)"
    )
