"""The processor of attributes: actions done to each record that they might change."""

from __future__ import annotations

from typing import Any

from gateway.component.batch import Batch, Signal
from gateway.processors.attributes.config import AttributesConfig
from gateway.processors.common.actions import Actions
from gateway.processors.common.conditions import Condition, Known
from gateway.processors.common.editing import Editor, Verdict
from gateway.processors.common.processor import EditingProcessor

_NUMBERS = {Signal.LOGS: 6, Signal.TRACES: 9}
"""The number of the field that holds a record's attributes, as ``logs.proto`` and ``trace.proto`` say. Those of data
points differ, and the store reads them quickest where they stand together."""


class Attributes(EditingProcessor):
    """Changes the attributes of records."""

    def __init__(self, name: str, config: AttributesConfig, signal: Signal) -> None:
        super().__init__(name)
        self._where = config.where
        self._config = config
        self._signal = signal
        self._actions = self._made(config)

    def reconfigure(self, settings: AttributesConfig) -> bool:
        """Hash by another secret from now on."""
        self._actions = self._made(settings)
        return True

    def _made(self, config: AttributesConfig) -> Actions:
        return Actions(self._config.actions, config.hash_secret, _NUMBERS.get(self._signal))

    def editor(self, batch: Batch) -> Editor | None:
        """Return what does the actions to one batch."""
        if not self._actions.may_change(batch.payload):
            return None
        return _Changing(self._actions, self._where)


class _Changing(Editor):
    def __init__(self, actions: Actions, where: Condition | None) -> None:
        self._actions = actions
        self._where = where
        self._known = Known()

    def _verdict(self) -> Verdict:
        return Verdict.KEEP if self._where is not None and self._where(self._known) is False else Verdict.LOOK

    def resource(self, resource: Any) -> Verdict:
        self._known.enter_resource(resource.resource)
        return self._verdict()

    def scope(self, scope: Any) -> Verdict:
        self._known.enter_scope(scope.scope)
        return self._verdict()

    def metric(self, metric: Any, kind: str) -> Verdict:
        self._known.enter_metric(metric, kind)
        return self._verdict()

    def record(self, raw: bytes, message: Any) -> bytes | None:
        if self._where is not None:
            self._known.enter_record(raw, message)
            if not self._where(self._known):
                return raw
        if not self._actions.may_change(raw):
            return raw
        record = message.FromString(raw)
        if (added := self._actions.appended(raw)) is not None:
            return raw + added
        return bytes(record.SerializeToString()) if self._actions.apply(record.attributes) else raw
