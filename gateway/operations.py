"""What the gateway tells about the work it does on somebody's behalf: runs, their steps, webhooks.

Unlike the spans about batches these are few, and each is wanted: none is sampled away. `Operations` is what such work
is given; `gateway.telemetry.SelfTelemetry` makes it and says where it is sent to.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from opentelemetry._logs import Logger, LogRecord, NoOpLogger, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracer,
    Span,
    SpanContext,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

SCOPE = "obs_hub.operations"


class Operations:
    """A tracer whose spans are all kept, a meter, and events: log records with an event name."""

    def __init__(self, tracer: Tracer | None = None, meter: Meter | None = None, logger: Logger | None = None) -> None:
        self.tracer = tracer or NoOpTracer()
        self.meter = meter or NoOpMeter(SCOPE)
        self._logger = logger or NoOpLogger(SCOPE)

    def event(
        self,
        name: str,
        body: str,
        attributes: Mapping[str, AttributeValue],
        severity: SeverityNumber = SeverityNumber.INFO,
        context: Context | None = None,
    ) -> None:
        """Emit an event. It belongs to the span of ``context``, or else to the current one.

        ``name`` is like ``gitops.run.finished``; ``body`` is one sentence for people.
        """
        at = time.time_ns()
        self._logger.emit(
            LogRecord(
                timestamp=at,
                observed_timestamp=at,
                context=context,
                severity_text=severity.name,
                severity_number=severity,
                body=body,
                attributes=dict(attributes),
                event_name=name,
            )
        )


def parent_context(trace_id: str, span_id: str) -> Context:
    """Return the context of a span that is elsewhere, or was before a restart, for spans that continue its trace.

    Both ids are in hexadecimal.
    """
    span_context = SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
    return set_span_in_context(NonRecordingSpan(span_context))


def ids_of(span: Span) -> tuple[str, str] | None:
    """Return the trace id and the span id of a span in hexadecimal; None of a span that is not recorded."""
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"
