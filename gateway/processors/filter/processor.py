"""The filter: conditions asked of each part of a request, from the outside in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.component.batch import Batch
from gateway.processors.common.conditions import Known, any_of
from gateway.processors.common.editing import Editor, Verdict
from gateway.processors.common.processor import EditingProcessor
from gateway.processors.filter.config import FilterConfig

_VERDICTS = {True: Verdict.DROP, False: Verdict.KEEP, None: Verdict.LOOK}


class Filter(EditingProcessor):
    """Leaves out what the conditions say."""

    def __init__(self, name: str, config: FilterConfig) -> None:
        super().__init__(name)
        self._is_dropped = any_of(config.drop)
        self._is_kept = any_of(config.keep) if config.keep else None

    def editor(self, batch: Batch) -> Editor:
        """Return what asks the conditions of one batch."""
        return _Filtering(self._is_out)

    def _is_out(self, known: Known) -> bool | None:
        """Tell whether a record is to be left out; None where that is not known yet."""
        dropped = self._is_dropped(known)
        if self._is_kept is None or dropped:
            return dropped
        kept = self._is_kept(known)
        if kept is False:
            return True
        return None if kept is None else dropped


class _Filtering(Editor):
    def __init__(self, is_out: Callable[[Known], bool | None]) -> None:
        self._is_out = is_out
        self._known = Known()

    def resource(self, resource: Any) -> Verdict:
        self._known.enter_resource(resource.resource)
        return _VERDICTS[self._is_out(self._known)]

    def scope(self, scope: Any) -> Verdict:
        self._known.enter_scope(scope.scope)
        return _VERDICTS[self._is_out(self._known)]

    def metric(self, metric: Any, kind: str) -> Verdict:
        self._known.enter_metric(metric, kind)
        return _VERDICTS[self._is_out(self._known)]

    def record(self, raw: bytes, message: Any) -> bytes | None:
        self._known.enter_record(raw, message)
        return None if self._is_out(self._known) else raw
