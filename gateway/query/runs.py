"""Runs of GitOps and of pipelines, as readers of the store may see them: without what their steps wrote."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.query.store import Store

STATES = ("queued", "running", "succeeded", "failed", "interrupted", "superseded")


@dataclass(frozen=True, slots=True)
class Run:
    """A run. ``counts`` is how much was done, by what it is called."""

    id: str
    kind: str
    name: str
    state: str
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempt: int
    holder: str | None
    counts: dict[str, Any]
    trace_id: str | None

    @property
    def took(self) -> timedelta | None:
        """How long it ran; None while it does, and where it never did."""
        return None if self.started_at is None or self.finished_at is None else self.finished_at - self.started_at


def recent_runs(
    store: Store,
    start: datetime,
    end: datetime,
    most: int,
    kind: str | None = None,
    name: str | None = None,
    state: str | None = None,
) -> list[Run]:
    """Return the runs that were asked for in a range, the newest first, at most ``most``."""
    return store.rows(
        """
        SELECT id, kind, name, state, requested_at, started_at, finished_at, attempt, holder, counts, trace_id
        FROM runs
        WHERE requested_at >= %(start)s AND requested_at < %(end)s
            AND (%(kind)s::text IS NULL OR kind = %(kind)s) AND (%(name)s::text IS NULL OR name = %(name)s)
            AND (%(state)s::text IS NULL OR state = %(state)s)
        ORDER BY requested_at DESC LIMIT %(most)s
        """,
        {"start": start, "end": end, "kind": kind, "name": name, "state": state, "most": most},
        Run,
    )


def latest_runs(store: Store) -> list[Run]:
    """Return the latest run of each repository and pipeline."""
    return store.rows(
        """
        WITH RECURSIVE known AS (
            (SELECT kind, name FROM runs ORDER BY kind, name LIMIT 1)
            UNION ALL
            SELECT next.kind, next.name FROM known CROSS JOIN LATERAL (
                SELECT r.kind, r.name FROM runs r WHERE (r.kind, r.name) > (known.kind, known.name)
                ORDER BY r.kind, r.name LIMIT 1
            ) AS next
        )
        SELECT latest.* FROM known CROSS JOIN LATERAL (
            SELECT id, kind, name, state, requested_at, started_at, finished_at, attempt, holder, counts, trace_id
            FROM runs r WHERE r.kind = known.kind AND r.name = known.name ORDER BY requested_at DESC LIMIT 1
        ) AS latest
        ORDER BY kind, name
        """,
        {},
        Run,
    )
