"""What a message says beyond its text: JSON becomes body, severity, trace context and attributes.

Source of the names of trace ids: OpenTelemetry specification, "Trace Context in non-OTLP Log Formats", and W3C Trace
Context for ``traceparent``; the other spellings are those that common logging libraries write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from receivers.journald.conventions import LEVELS, NUMERIC_LEVELS
from receivers.journald.values import any_value, key_value

MAX_KEYS = 128
"""A JSON object with more keys stays text."""

_BODIES = ("message", "msg", "body", "event")
_LEVELS = ("level", "severity", "log.level", "lvl", "levelname")
_TRACE_IDS = ("trace_id", "traceId", "traceID", "trace.id", "TRACE_ID")
_SPAN_IDS = ("span_id", "spanId", "spanID", "span.id", "SPAN_ID")
_FLAGS = ("trace_flags", "traceFlags", "trace.flags", "TRACE_FLAGS")
_HEX = re.compile(r"[0-9a-fA-F]+")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Ids as OTLP has them, 16 and 8 bytes or empty, and W3C flags."""

    trace_id: bytes = b""
    span_id: bytes = b""
    flags: int = 0


NO_TRACE = TraceContext()


@dataclass(frozen=True, slots=True)
class Structured:
    """A JSON message taken apart. ``severity`` is 0 where it names no level that is known."""

    body: AnyValue
    severity: int = 0
    level: str = ""
    trace: TraceContext = NO_TRACE
    attributes: list[KeyValue] = field(default_factory=list)


def structured(message: str) -> Structured | None:
    """Take a JSON object apart; None for a message that is none, or too large or deep a one to be worth it."""
    if not (message.startswith("{") and message.endswith("}")):
        return None
    try:
        found = msgspec.json.decode(message)
        if not isinstance(found, dict) or len(found) > MAX_KEYS:
            return None
        return _taken_apart(found)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None


def _taken_apart(found: dict[str, Any]) -> Structured:
    severity, level = _take_level(found)
    trace = take_trace(found)
    body = next((key for key in _BODIES if isinstance(found.get(key), str)), None)
    if body is None:
        return Structured(any_value(found), severity, level, trace)
    text = found.pop(body)
    return Structured(
        any_value(text), severity, level, trace, [key_value(key, value) for key, value in found.items() if key]
    )


def _take_level(found: dict[str, Any]) -> tuple[int, str]:
    for key in _LEVELS:
        level = found.get(key)
        severity = 0
        if isinstance(level, str):
            severity = LEVELS.get(level.lower(), 0)
        elif isinstance(level, int):
            severity = NUMERIC_LEVELS.get(level, 0)
        if severity:
            return severity, str(found.pop(key))
    return 0, ""


def take_trace(found: dict[str, Any]) -> TraceContext:
    """Return the trace context that an object names, and remove from the object what was understood of it."""
    parent = found.get("traceparent")
    if isinstance(parent, str) and (match := _TRACEPARENT.fullmatch(parent)):
        trace_id, span_id = _id(match[1], 32), _id(match[2], 16)
        if trace_id and span_id:
            del found["traceparent"]
            return TraceContext(trace_id, span_id, int(match[3], 16))
    trace_key, trace_id = _find(found, _TRACE_IDS, 32)
    if not trace_key:
        return NO_TRACE
    del found[trace_key]
    span_key, span_id = _find(found, _SPAN_IDS, 16)
    if span_key:
        del found[span_key]
    return TraceContext(trace_id, span_id, _take_flags(found))


def _find(found: Mapping[str, Any], keys: tuple[str, ...], length: int) -> tuple[str, bytes]:
    for key in keys:
        if value := _id(found.get(key), length):
            return key, value
    return "", b""


def _id(value: object, length: int) -> bytes:
    """Return an id as bytes; empty when it is none. All zero is invalid (W3C Trace Context, 3.2.2.3)."""
    if not isinstance(value, str) or len(value) != length or not _HEX.fullmatch(value):
        return b""
    result = bytes.fromhex(value)
    return result if any(result) else b""


def _take_flags(found: dict[str, Any]) -> int:
    for key in _FLAGS:
        value = found.get(key)
        if isinstance(value, str) and len(value) == 2 and _HEX.fullmatch(value):
            del found[key]
            return int(value, 16)
        if isinstance(value, int) and 0 <= value < 256:
            del found[key]
            return int(value)
    return 0
