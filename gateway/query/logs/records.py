"""Log records, wherever they are read, and the questions asked for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.base.instants import iso_time

SEVERITIES = ("trace", "debug", "info", "warn", "error", "fatal")
"""The ranges of OpenTelemetry's severity numbers, lowest first: four numbers each, from 1."""

# Names that sources use for a range besides its own, in lower case.
_OTHER_NAMES = {
    "debug": ("verbose",),
    "info": ("information", "informational", "notice"),
    "warn": ("warning",),
    "error": ("err", "severe"),
    "fatal": ("critical", "crit", "alert", "emerg", "emergency", "panic"),
}
_OF_REGEXES = re.compile(r"[\\.+*?()\[\]{}|^$]")
_RANGES = {name: severity for severity in SEVERITIES for name in (severity, *_OTHER_NAMES.get(severity, ()))}


def lowest_number(severity: str) -> int:
    """Return the lowest severity number of a range."""
    return 1 + 4 * SEVERITIES.index(severity)


def names_from(severity: str) -> list[str]:
    """Return every name, in lower case, of a range and those above it."""
    wanted = SEVERITIES[SEVERITIES.index(severity) :]
    return [name for name, range_ in _RANGES.items() if range_ in wanted]


def severity_named(name: str) -> str | None:
    """Return the range that a name stands for, in any case: ``warn`` for ``WARNING``."""
    return _RANGES.get(name.lower())


def severity_range(number: int, name: str | None) -> str | None:
    """Return the range that a record belongs to, by its number or else by its name."""
    if 1 <= number <= 24:
        return SEVERITIES[(number - 1) // 4]
    return severity_named(name or "")


def literally(text: str) -> str:
    """Return a regular expression, of PostgreSQL and of Loki alike, that finds a text as it is."""
    return _OF_REGEXES.sub(r"\\\g<0>", text)


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A log record. `body` is text or what JSON gives; `attributes` are those of the record.

    Loki does not tell attributes of the record from those of its resource: there, all are in `attributes`.
    """

    time_unix_nano: int
    body: Any
    source: str
    severity: str | None = None
    severity_number: int = 0
    service_name: str | None = None
    host_name: str | None = None
    scope_name: str | None = None
    event_name: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    resource: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[object, ...]:
        """What two sources say alike of the same record, its time first.

        To the microsecond: the store has no more of a record that carries no time but that of its observation.
        """
        return (self.time_unix_nano // 1000 * 1000, self.trace_id, self.span_id, _alike(self.body))

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it; what it does not have is left out."""
        shown = {
            "time": iso_time(self.time_unix_nano),
            "time_unix_nano": self.time_unix_nano,
            "severity": self.severity,
            "severity_number": self.severity_number or None,
            "service_name": self.service_name,
            "host_name": self.host_name,
            "scope_name": self.scope_name,
            "event_name": self.event_name,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "body": self.body,
            "attributes": dict(self.attributes),
            "resource": dict(self.resource),
            "source": self.source,
        }
        return {key: value for key, value in shown.items() if value not in (None, {})}


def _alike(body: Any) -> str:
    """Return a body such that its value in the store and its text in Loki are the same."""
    if isinstance(body, dict) and body.keys() == {"$bytes"}:
        return str(body["$bytes"])
    if isinstance(body, str):
        if not body.startswith(("{", "[")):
            return body
        try:
            body = json.loads(body)
        except ValueError:
            return str(body)
    return json.dumps(_whole(body), sort_keys=True)


def _whole(value: Any) -> Any:
    """Return JSON with numbers written one way: Loki writes 5.0 as 5."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _whole(item) for key, item in value.items()}
        case list():
            return [_whole(item) for item in value]
        case _:
            return value


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which records are asked for. What is empty or None asks for nothing in particular; several services or hosts are
    alternatives."""

    services: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    severity: str | None = None
    grep: str | None = None
    ignore_case: bool = False
    events_only: bool = False
    events: tuple[str, ...] = ()
    trace_id: str | None = None
    span_id: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()


class LogSource(Protocol):
    """A place to read logs from. Instants are nanoseconds since the Unix epoch; records come oldest first."""

    name: str

    def latest(self, wanted: LogFilter, start: int, end: int, limit: int) -> list[LogRecord]:
        """Return the newest records from `start` to before `end`, at most `limit`."""
        ...

    def between(self, wanted: LogFilter, start: int, end: int | None) -> Iterator[LogRecord]:
        """Yield all records from `start` to before `end`; None stands for whatever there is."""
        ...


class SourceError(Exception):
    """A source cannot be read. The text says which, why, and what to do."""


class TemporarySourceError(SourceError):
    """A source cannot be read now, and may be later."""
