"""What retention may have taken: noted in the store, so that no rollup is ever computed anew from what is left."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from gateway.store import layout


def dropped_before(connection: layout.Connection, table: str) -> datetime | None:
    """Return the instant before which rows of a table may have been dropped; None when none were."""
    noted = layout.read_setting(connection, f"taken_before_{table}")
    before = None if noted is None else datetime.fromisoformat(noted)
    # One that lies ahead is of a clock that was wrong, and would keep what arrives now from being rolled up.
    return before if before is not None and before <= datetime.now(UTC) else None


def note_dropped(connection: layout.Connection, table: str, before: datetime) -> None:
    """Note, before rows are dropped, that those from before an instant may be gone from now on."""
    noted = dropped_before(connection, table)
    if noted is None or before > noted:
        layout.write_setting(connection, f"taken_before_{table}", json.dumps(before.isoformat()))
