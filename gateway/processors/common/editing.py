"""A request taken apart by its resources, scopes and records, and put together again with what an editor made of them.

What an editor leaves alone keeps its bytes; a request of which it leaves all is returned as the same object. The work
is done in steps (`gateway.base.slices`), so that the event loop is not held by a large request, nor by a large record.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from gateway.base.slices import LARGE, Steps
from gateway.component.batch import Batch, Signal
from gateway.component.errors import MalformedPayloadError
from gateway.otlp.bounds import RECORD, Budget, check_parts
from gateway.processors.common.messages import LOG_RECORD, POINTS, PUBLISHED, REQUESTS, RESOURCE, SCOPE, SPAN

_PACE = 32
"""How many records are looked at between two looks at the clock."""


class Verdict(enum.Enum):
    """What is to become of what a resource, scope or metric holds."""

    KEEP = enum.auto()
    """It stays as it is; no record of it is looked at."""
    DROP = enum.auto()
    """It is left out."""
    LOOK = enum.auto()
    """Its parts are looked at."""


class Editor:
    """What a processor does to a request. It is one request's; a method that is not overridden changes nothing.

    The methods are called from the outside in: a resource, a scope of it, a metric, its records. What they are given
    may be large, and then they run in a thread; never two at once.
    """

    def resource(self, resource: Any) -> Verdict:
        """Look at a resource and what it holds. ``resource.resource`` may be replaced."""
        return Verdict.LOOK

    def scope(self, scope: Any) -> Verdict:
        """Look at a scope and what it holds. ``scope.scope`` may be replaced."""
        return Verdict.LOOK

    def metric(self, metric: Any, kind: str) -> Verdict:
        """Look at a metric, whose data are in its field ``kind``. It may be changed in place."""
        return Verdict.LOOK

    def record(self, raw: bytes, message: Any) -> bytes | None:
        """Return a record, the same object where it is to stay as it is; None to leave it out.

        ``message`` is the shadow message of its kind.
        """
        return raw

    changed: bool = False
    """To be set by whoever changes something else than records."""


@dataclass(slots=True)
class Edited:
    """What is left of a request: None when that is no record. ``dropped`` counts the records that were left out."""

    payload: bytes | None
    dropped: int


def edit(batch: Batch, editor: Editor) -> Steps[Edited]:
    """Have an editor go through a batch.

    Raises `MalformedPayloadError` for what cannot be read, which is to be mended before, and `TooLargeError` for what
    holds too much for its size.
    """
    try:
        return (yield from _edit(batch, editor))
    except DecodeError as error:
        raise MalformedPayloadError(f"the body is not a valid request of {batch.signal.value}: {error}") from error


def _edit(batch: Batch, editor: Editor) -> Steps[Edited]:
    parse = REQUESTS[batch.signal].FromString
    request: Any = (
        parse(batch.payload) if len(batch.payload) <= LARGE else (yield functools.partial(parse, batch.payload))
    )
    budget = Budget.of(batch)
    budget.take(len(request.resources), RECORD, "resources")
    dropped = 0
    empty_resources: list[int] = []
    for index, resource in enumerate(request.resources):
        yield None
        budget.take(len(resource.scopes), RECORD, "scopes")
        verdict = yield from _asked(editor.resource, resource, resource.resource, RESOURCE)
        if verdict is Verdict.DROP:
            dropped += sum(records_of(scope, batch.signal) for scope in resource.scopes)
            empty_resources.append(index)
        elif verdict is Verdict.LOOK:
            empty_scopes: list[int] = []
            for number, scope in enumerate(resource.scopes):
                left_out, is_empty = yield from _scope(scope, batch.signal, editor, budget)
                dropped += left_out
                if is_empty:
                    empty_scopes.append(number)
            if empty_scopes and len(empty_scopes) == len(resource.scopes):
                empty_resources.append(index)
            else:
                _remove(resource.scopes, empty_scopes)
    if empty_resources and len(empty_resources) == len(request.resources):
        return Edited(None, dropped)
    if not (editor.changed or empty_resources or dropped):
        return Edited(batch.payload, 0)
    _remove(request.resources, empty_resources)
    if len(batch.payload) <= LARGE:
        return Edited(request.SerializeToString(), dropped)
    payload = yield request.SerializeToString
    return Edited(payload, dropped)


def _scope(scope: Any, signal: Signal, editor: Editor, budget: Budget) -> Steps[tuple[int, bool]]:
    """Return how many records were left out of a scope, and whether that leaves nothing of it."""
    budget.take(len(scope.records), RECORD, "metrics" if signal is Signal.METRICS else signal.records)
    verdict = yield from _asked(editor.scope, scope, scope.scope, SCOPE)
    if verdict is Verdict.DROP:
        return records_of(scope, signal), True
    if verdict is Verdict.KEEP:
        return 0, False
    if signal is not Signal.METRICS:
        dropped = yield from _records(scope.records, LOG_RECORD if signal is Signal.LOGS else SPAN, editor)
        return dropped, dropped > 0 and not scope.records
    dropped = 0
    empty_metrics: list[int] = []
    for index, metric in enumerate(scope.records):
        yield None
        kind = metric.WhichOneof("data")
        if kind is None:
            continue
        points = getattr(metric, kind).points
        budget.take(len(points), RECORD, signal.records)
        metric_verdict = editor.metric(metric, kind)
        if metric_verdict is Verdict.DROP:
            dropped += len(points)
            empty_metrics.append(index)
        elif metric_verdict is Verdict.LOOK:
            left_out = yield from _records(points, POINTS[kind], editor)
            dropped += left_out
            if left_out and not points:
                empty_metrics.append(index)
    if empty_metrics:
        editor.changed = True
        if len(empty_metrics) == len(scope.records):
            return dropped, True
        _remove(scope.records, empty_metrics)
    return dropped, False


def _records(records: Any, message: Any, editor: Editor) -> Steps[int]:
    """Have an editor go through the records of one container; return how many it left out."""
    look = editor.record
    found: list[bytes] = list(records)
    made: list[bytes | None] = []
    since = 0
    changed = False
    for count, raw in enumerate(found):
        since += len(raw)
        if since > LARGE or count % _PACE == 0:
            since = 0
            yield None
        if len(raw) > LARGE:
            new: bytes | None = yield functools.partial(_look_at_large, look, raw, message)
        else:
            new = look(raw, message)
        if new is not raw:
            changed = True
        made.append(new)
    if not changed:
        return 0
    kept = [each for each in made if each is not None]
    del records[:]
    records.extend(kept)
    editor.changed = True
    return len(made) - len(kept)


def _look_at_large(look: Any, raw: bytes, message: Any) -> bytes | None:
    check_parts(raw, PUBLISHED[message])
    result: bytes | None = look(raw, message)
    return result


def _asked(look: Callable[[Any], Verdict], container: Any, inner: bytes, message: Any) -> Steps[Verdict]:
    if len(inner) <= LARGE:
        return look(container)

    def look_at_large() -> Verdict:
        check_parts(inner, PUBLISHED[message])
        return look(container)

    verdict: Verdict = yield look_at_large
    return verdict


def _remove(container: Any, indexes: Sequence[int]) -> None:
    for index in reversed(indexes):
        del container[index]


def records_of(scope: Any, signal: Signal) -> int:
    """Return how many records a scope holds."""
    if signal is not Signal.METRICS:
        return len(scope.records)
    kinds = ((metric, metric.WhichOneof("data")) for metric in scope.records)
    return sum(len(getattr(metric, kind).points) for metric, kind in kinds if kind is not None)
