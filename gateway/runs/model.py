"""What a run is."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


class RunState(enum.StrEnum):
    """Where a run is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Its gateway ended under way, and the run is not to be tried again."""
    SUPERSEDED = "superseded"
    """A later request does its work too."""


FINISHED = frozenset(RunState) - {RunState.QUEUED, RunState.RUNNING}


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a run belongs among traces: 32 and 16 hexadecimal digits. ``span_id`` is the span that asked for it."""

    trace_id: str
    span_id: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One run that is asked for. ``trigger`` says who or what asks, as JSON can hold it."""

    kind: str
    name: str
    trigger: Mapping[str, Any]
    trace: Trace | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One run as the store has it. Times are of the database's clock."""

    id: UUID
    kind: str
    name: str
    state: RunState
    trigger: dict[str, Any]
    requested_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    heartbeat_at: datetime | None = None
    attempt: int = 0
    holder: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    output: str = ""
    error: str | None = None
    superseded_by: UUID | None = None
    trace_id: str | None = None
    parent_span_id: str | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in FINISHED

    @property
    def resumed(self) -> bool:
        """Whether it was started before by a gateway that ended under way."""
        return self.attempt > 1

    @property
    def trace(self) -> Trace | None:
        """The trace it belongs to."""
        return None if self.trace_id is None else Trace(self.trace_id, self.parent_span_id)


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of a delivery: the runs it asked for. ``replayed``: it did so earlier, and now asked for nothing."""

    run_ids: tuple[UUID, ...]
    replayed: bool = False
