"""The span of a request to the front, which begins once it is known whose the request is.

A stranger decides nothing about what is written into the store: whether their request is sampled is up to this hub
alone, the trace they say they are in is not believed, and what they send becomes no attribute. Of a request that is
refused before anybody knows whose it is, there is no span at all.
"""

from __future__ import annotations

import time
from contextvars import Token
from typing import Any

from opentelemetry import context as current
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

_KEY = "obs_hub_span"
_TRACE_CONTEXT = TraceContextTextMapPropagator()
"""Nothing else is taken up: nobody here reads baggage, and what is wrong with it would be logged as it came."""
_METHODS = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
_MOST_PATH = 256


def method_of(scope: Any) -> str:
    """Return a request's method as the semantic conventions have it: one that nobody knows is ``_OTHER``."""
    return scope["method"] if scope["method"] in _METHODS else "_OTHER"


class RequestSpan:
    """One request's span; put into its ASGI state for whoever finds out whose it is."""

    def __init__(self, tracer: Tracer, scope: Any) -> None:
        self._tracer = tracer
        self._scope = scope
        self._arrived = time.time_ns()
        self._span: Span = INVALID_SPAN
        self._token: Token[Context] | None = None
        scope["state"][_KEY] = self

    @property
    def trace_id(self) -> str | None:
        """The id of its trace in hexadecimal, once it has begun."""
        context = self._span.get_span_context()
        return format_trace_id(context.trace_id) if context.is_valid else None

    def begin(self, scope: Any, *, known: bool) -> None:
        """Begin it, as of when the request arrived; ``known``: its sender was asked who they are, and was let in."""
        if self._token is not None:
            return
        method, route = method_of(self._scope), scope.get("path_template", "")
        attributes: dict[str, AttributeValue] = {
            "http.request.method": method,
            "url.scheme": scope["scheme"],
            "http.route": route,
        }
        parent = Context()
        if known:
            attributes["url.path"] = scope["path"][:_MOST_PATH]
            carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            parent = _TRACE_CONTEXT.extract(carrier, parent)
        self._span = self._tracer.start_span(
            f"{method} {route}".rstrip(), parent, SpanKind.SERVER, attributes, start_time=self._arrived
        )
        self._token = current.attach(set_span_in_context(self._span))

    def answered(self, status: int) -> None:
        """Note what the answer is."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))

    def close(self) -> None:
        """End it, if it ever began."""
        if self._token is not None:
            current.detach(self._token)
            self._span.end()


def begin(scope: Any, *, known: bool) -> None:
    """Begin the span of a request; see `RequestSpan.begin`."""
    span = scope.get("state", {}).get(_KEY)
    if isinstance(span, RequestSpan):
        span.begin(scope, known=known)
