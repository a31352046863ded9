"""Redaction of requests: every place of a record that holds what somebody wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.component.batch import Batch
from gateway.processors.common.editing import Editor, Verdict
from gateway.processors.common.messages import LOG_RECORD, RESOURCE, SCOPE, SPAN
from gateway.processors.common.processor import EditingProcessor
from gateway.processors.redact.config import RedactConfig
from gateway.processors.redact.redactor import Finder, Redactor


class Redact(EditingProcessor):
    """Replaces what is not for everybody who reads telemetry."""

    def __init__(self, name: str, config: RedactConfig) -> None:
        super().__init__(name)
        self._redactor = Redactor(config)

    def editor(self, batch: Batch) -> Editor | None:
        """Return what redacts one batch."""
        redactor = self._redactor.for_payload(batch.payload)
        return None if redactor is None else _Redacting(redactor)


class _Redacting(Editor):
    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._finders: Sequence[Finder] = ()

    def _attributes(self, owner: Any) -> bool:
        return self._redactor.attributes(owner, self._finders)

    def _surroundings(self, raw: bytes, message: Any) -> bytes:
        """Return a resource or scope redacted."""
        if (finders := self._redactor.finders(raw)) is None:
            return raw
        self._finders = finders
        made = message.FromString(raw)
        if not self._attributes(made.attributes):
            return raw
        self.changed = True
        return bytes(made.SerializeToString())

    def resource(self, resource: Any) -> Verdict:
        raw = resource.resource
        if (made := self._surroundings(raw, RESOURCE)) is not raw:
            resource.resource = made
        return Verdict.LOOK

    def scope(self, scope: Any) -> Verdict:
        raw = scope.scope
        if (made := self._surroundings(raw, SCOPE)) is not raw:
            scope.scope = made
        return Verdict.LOOK

    def metric(self, metric: Any, kind: str) -> Verdict:
        if metric.metadata:
            raw = b"".join(each.SerializeToString() for each in metric.metadata)
            if (finders := self._redactor.finders(raw)) is not None:
                self._finders = finders
                self.changed = self._attributes(metric.metadata) or self.changed
        return Verdict.LOOK

    def record(self, raw: bytes, message: Any) -> bytes | None:
        if (finders := self._redactor.finders(raw)) is None:
            return raw
        self._finders = finders
        record = message.FromString(raw)
        if message is LOG_RECORD:
            changed = self._log_record(record)
        elif message is SPAN:
            changed = self._span(record)
        else:
            changed = self._point(record)
        return bytes(record.SerializeToString()) if changed else raw

    def _text(self, owner: Any, *names: str) -> bool:
        """Redact fields that are text. Returns whether that changed any."""
        changed = False
        for name in names:
            text = getattr(owner, name)
            if text and (redacted := self._redactor.text(text, self._finders)) is not text:
                setattr(owner, name, redacted)
                changed = True
        return changed

    def _log_record(self, record: Any) -> bool:
        changed = self._attributes(record.attributes)
        body = record.body
        if body and (redacted := self._redactor.value(body, self._finders)) != body:
            record.body = redacted
            changed = True
        return self._text(record, "event_name", "severity_text") or changed

    def _span(self, span: Any) -> bool:
        changed = self._attributes(span.attributes)
        changed = self._text(span, "name") or changed
        for event in span.events:
            changed = self._attributes(event.attributes) or changed
            changed = self._text(event, "name") or changed
        for link in span.links:
            changed = self._attributes(link.attributes) or changed
        if span.status.message:
            changed = self._text(span.status, "message") or changed
        return changed

    def _point(self, point: Any) -> bool:
        changed = self._attributes(point.attributes)
        for exemplar in getattr(point, "exemplars", ()):
            changed = self._attributes(exemplar.filtered_attributes) or changed
        return changed
