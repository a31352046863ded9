"""A log record as a line for people, or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.explore.instants import iso_time, local_time
from gateway.explore.records import LogRecord, severity_range
from gateway.explore.terminal import Screen, safe, safe_lines

_STYLES: dict[str | None, dict[str, Any]] = {
    "trace": {"dim": True},
    "debug": {"dim": True},
    "info": {"fg": "green"},
    "warn": {"fg": "yellow", "bold": True},
    "error": {"fg": "red", "bold": True},
    "fatal": {"fg": "white", "bg": "red", "bold": True},
}
_INDENT = "    "


def log_line(record: LogRecord, screen: Screen, attributes: bool = False) -> str:
    """Return time, severity, who, and what: one line, and an indented one for each further line of the body.

    The attributes of an event are what it says, and always shown.
    """
    severity = safe(record.severity or "-")[:5]
    who = "/".join(safe(name) for name in (record.host_name, record.service_name) if name) or "-"
    first, *rest = safe_lines(text_of(record.body))
    parts = [
        screen.paint(local_time(record.time_unix_nano), dim=True),
        screen.paint(f"{severity:<5}", **_STYLES.get(severity_range(record.severity_number, record.severity), {})),
        screen.paint(who, fg="cyan"),
        screen.paint(safe(record.event_name or ""), bold=True),
        first,
        screen.paint(_pairs(record), dim=True) if attributes or record.event_name else "",
    ]
    return "\n".join([" ".join(part for part in parts if part), *(_INDENT + line for line in rest)])


def text_of(value: Any) -> str:
    """Return a value as text: what is not text already as compact JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def pairs(attributes: Mapping[str, Any]) -> str:
    """Return attributes as ``key=value``, quoted where a value could be taken for more than one."""
    shown = []
    for key, value in attributes.items():
        text = text_of(value)
        if isinstance(value, str) and (not text or any(sign in text for sign in ' "=\n')):
            text = json.dumps(text, ensure_ascii=False)
        shown.append(f"{safe(key)}={safe(text)}")
    return " ".join(shown)


def _pairs(record: LogRecord) -> str:
    return pairs({**record.attributes, **({"trace_id": record.trace_id} if record.trace_id else {})})


def as_json(value: Any) -> str:
    """Return a value as one line of JSON. Floats that JSON has not become text."""
    try:
        return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(", ", ": "))
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=True)


def _finite(value: Any) -> Any:
    match value:
        case float() if value - value != 0:
            return str(value)
        case Mapping():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value


def log_json(record: LogRecord) -> dict[str, Any]:
    """Return a record as JSON has it; what it does not have is left out."""
    shown = {
        "time": iso_time(record.time_unix_nano),
        "time_unix_nano": record.time_unix_nano,
        "severity": record.severity,
        "severity_number": record.severity_number or None,
        "service_name": record.service_name,
        "host_name": record.host_name,
        "scope_name": record.scope_name,
        "event_name": record.event_name,
        "trace_id": record.trace_id,
        "span_id": record.span_id,
        "body": record.body,
        "attributes": dict(record.attributes),
        "resource": dict(record.resource),
        "source": record.source,
    }
    return {key: value for key, value in shown.items() if value not in (None, {})}
