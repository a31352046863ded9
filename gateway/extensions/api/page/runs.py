"""Runs of pipelines and of GitOps: how each ended last, and which there were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.base.instants import SECOND, short_duration, unix_nano
from gateway.extensions.api.page.shown import Moment, ago, exact, trace_link
from gateway.extensions.api.page.view import Asked, Reader, View
from gateway.query.errors import BadQueryError
from gateway.query.runs import STATES, Run, latest_runs, recent_runs
from gateway.query.store import Store

MOST = 100
KINDS = {"gitops": "GitOps", "pipeline": "Pipeline"}
_GOOD = {"succeeded": "ok", "failed": "down", "interrupted": "degraded"}
_AHEAD = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Row:
    """A run. ``state_class`` is how it went: ok, degraded, down, or empty while nobody knows."""

    id: str
    kind: str
    name: str
    state: str
    state_class: str
    at: Moment
    ago: str
    took: str
    waited: str
    attempt: int
    holder: str
    counts: list[tuple[str, str]]
    trace: str | None
    only: str
    """The URL of the runs of this name alone."""


def read(reader: Reader, asked: Asked) -> Mapping[str, object]:
    """Return the runs that are wanted, and the latest of each repository and pipeline."""
    store = Store.of(reader.reading)
    kind, name, state = asked.text("kind"), asked.text("name"), asked.text("state")
    for what, value, known in (("kind", kind, tuple(KINDS)), ("state", state, STATES)):
        if value and value not in known:
            raise BadQueryError(f"{what}={value[:40]!r} is none of {', '.join(known)}")
    start, end = asked.range.start, asked.range.end
    until = end + _AHEAD if asked.range.name is not None else end
    found = recent_runs(store, start, until, MOST, kind or None, name or None, state or None)
    latest = latest_runs(store)
    return {
        "rows": [_row(run, asked) for run in found],
        "latest": [_row(run, asked) for run in latest],
        "kinds": KINDS,
        "states": STATES,
        "kind": kind,
        "name_asked": name,
        "state": state,
        "is_narrowed": bool(kind or name or state),
        "older": asked.url(from_=exact(start), to=exact(found[-1].requested_at)) if len(found) == MOST else None,
    }


def _row(run: Run, asked: Asked) -> Row:
    waited = None if run.started_at is None else run.started_at - run.requested_at
    return Row(
        id=run.id,
        kind=KINDS.get(run.kind, run.kind),
        name=run.name,
        state=run.state,
        state_class=_GOOD.get(run.state, ""),
        at=Moment.of(unix_nano(run.requested_at)),
        ago=ago(run.requested_at, asked.now),
        took=_length(_took(run, asked.now)),
        waited=_length(waited) if waited is not None and waited >= timedelta(seconds=1) else "",
        attempt=run.attempt,
        holder=run.holder or "",
        counts=[(what, f"{count:,}" if isinstance(count, int) else str(count)) for what, count in run.counts.items()],
        trace=trace_link(run.trace_id),
        only=asked.url(name=run.name, kind=run.kind),
    )


def _took(run: Run, now: datetime) -> timedelta | None:
    """Return how long a run took, or has taken so far."""
    if run.state == "running" and run.started_at is not None:
        return now - run.started_at
    return run.took


def _length(length: timedelta | None) -> str:
    return "" if length is None else short_duration(max(length.total_seconds(), 0) * SECOND)


VIEW = View(path="/runs", name="Runs", template="live/runs.html", read=read, every=10, default_range="7d")
