"""Redaction of requests: every place of a record that holds what somebody wrote."""

from __future__ import annotations

from typing import Any

from gateway.component.batch import Batch
from gateway.processors.common.editing import Editor, Verdict
from gateway.processors.common.messages import LOG_RECORD, RESOURCE, SCOPE, SPAN
from gateway.processors.common.processor import EditingProcessor
from gateway.processors.redact.config import RedactConfig
from gateway.processors.redact.redactor import Redactor


class Redact(EditingProcessor):
    """Replaces what is not for everybody who reads telemetry."""

    def __init__(self, name: str, config: RedactConfig) -> None:
        super().__init__(name)
        self._redactor = Redactor(config)

    def editor(self, batch: Batch) -> Editor | None:
        """Return what redacts one batch."""
        return _Redacting(self._redactor) if self._redactor.may_change(batch.payload) else None


class _Redacting(Editor):
    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def resource(self, resource: Any) -> Verdict:
        if self._redactor.may_change(resource.resource):
            message = RESOURCE.FromString(resource.resource)
            if self._redactor.attributes(message.attributes):
                resource.resource = message.SerializeToString()
                self.changed = True
        return Verdict.LOOK

    def scope(self, scope: Any) -> Verdict:
        if self._redactor.may_change(scope.scope):
            message = SCOPE.FromString(scope.scope)
            if self._redactor.attributes(message.attributes):
                scope.scope = message.SerializeToString()
                self.changed = True
        return Verdict.LOOK

    def metric(self, metric: Any, kind: str) -> Verdict:
        if metric.metadata and self._redactor.attributes(metric.metadata):
            self.changed = True
        return Verdict.LOOK

    def record(self, raw: bytes, message: Any) -> bytes | None:
        if not self._redactor.may_change(raw):
            return raw
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
            if text and (redacted := self._redactor.text(text)) is not text:
                setattr(owner, name, redacted)
                changed = True
        return changed

    def _log_record(self, record: Any) -> bool:
        changed = self._redactor.attributes(record.attributes)
        body = record.body
        if body and (redacted := self._redactor.value(body)) != body:
            record.body = redacted
            changed = True
        return self._text(record, "event_name", "severity_text") or changed

    def _span(self, span: Any) -> bool:
        changed = self._redactor.attributes(span.attributes)
        changed = self._text(span, "name") or changed
        for event in span.events:
            changed = self._redactor.attributes(event.attributes) or changed
            changed = self._text(event, "name") or changed
        for link in span.links:
            changed = self._redactor.attributes(link.attributes) or changed
        if span.status.message:
            changed = self._text(span.status, "message") or changed
        return changed

    def _point(self, point: Any) -> bool:
        changed = self._redactor.attributes(point.attributes)
        for exemplar in getattr(point, "exemplars", ()):
            changed = self._redactor.attributes(exemplar.filtered_attributes) or changed
        return changed
