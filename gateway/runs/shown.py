"""Runs as they are shown: over HTTP, and by commands, which need nothing of HTTP for it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from gateway.runs.model import Run, RunState


class RunSummary(msgspec.Struct, kw_only=True):
    """A run, without what it wrote."""

    id: UUID
    kind: str
    name: str
    state: RunState
    trigger: dict[str, Any]
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempt: int
    counts: dict[str, int]
    result: dict[str, Any]
    error: str | None
    superseded_by: UUID | None
    trace_id: str | None


class RunDetails(RunSummary, kw_only=True):
    """A run, with what it wrote."""

    output: str


def summary(run: Run) -> RunSummary:
    """Return a run as it is listed."""
    return msgspec.convert(run, RunSummary, from_attributes=True)


def details(run: Run) -> RunDetails:
    """Return a run as it is shown alone."""
    return msgspec.convert(run, RunDetails, from_attributes=True)
