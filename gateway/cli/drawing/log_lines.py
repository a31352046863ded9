"""A log record as a line for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.base.instants import local_time
from gateway.cli.drawing.screen import Screen, safe, safe_lines
from gateway.query.logs.records import LogRecord, severity_range
from gateway.query.values import text_of

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
