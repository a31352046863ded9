"""Journal entries become log records, and those one request.

A request depends on the entries and the settings alone: no clock is read, nothing is random.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs
from opentelemetry.util.re import parse_env_headers

from receivers.journald.config import JournaldConfig
from receivers.journald.conventions import (
    ATTRIBUTES,
    NUMBERS,
    ORIGINAL_SIZE,
    PRIORITIES,
    RESOURCE,
    SCHEMA_URL,
    SCOPE,
    SEVERITIES,
    attribute_of,
)
from receivers.journald.message import structured, take_trace
from receivers.journald.units import unit_of
from receivers.journald.values import key_value, number, text, texts

Entry = dict[str, Any]
"""One entry, as ``journalctl -o json`` prints it."""

_CACHED = 1024
_CACHED_BYTES = 8 * 1024
_UNKNOWN = "unknown_service"  # the conventions' own value for a service without a name


class Converter:
    """Makes log records of entries. Keeps what the entries of one process have in common, within bounds."""

    def __init__(self, config: JournaldConfig, environ: Mapping[str, str] | None = None) -> None:
        self._config = config
        self._fields = ATTRIBUTES | {name: attribute_of(name) for name in config.fields if name not in ATTRIBUTES}
        # A message cannot pass for what the journal says of its sender.
        self._names = frozenset(self._fields.values()) | {ORIGINAL_SIZE}
        self._cache: dict[tuple[Any, ...], bytes] = {}
        variables = os.environ if environ is None else environ
        given = parse_env_headers(variables.get("OTEL_RESOURCE_ATTRIBUTES", ""), liberal=True)
        self._resource = {name: value for name, value in given.items() if not name.startswith("service.")}

    def resource(self, entry: Entry) -> tuple[tuple[str, str], ...]:
        """Return the attributes of the resource that an entry is of.

        ``OTEL_RESOURCE_ATTRIBUTES`` adds to it and wins, except about the service: that is the one that logged.
        """
        found = {"service.name": service_name(entry)}
        for field, name in RESOURCE.items():
            if value := text(entry.get(field)):
                found[name] = value
        return tuple((found | self._resource).items())

    def fill(self, record: LogRecord, entry: Entry) -> int:
        """Fill a log record; return its approximate size in bytes. Raises `ValueError` for an entry without a time."""
        received = number(entry.get("__REALTIME_TIMESTAMP"))
        if not received:
            raise ValueError("no __REALTIME_TIMESTAMP")
        record.observed_time_unix_nano = received * 1000
        record.time_unix_nano = _happened(entry, received) * 1000
        priority = number(entry.get("PRIORITY"))
        if priority is not None and priority < len(SEVERITIES):
            record.severity_number = SEVERITIES[priority]  # type: ignore[assignment]  # the stubs want the enum
            record.severity_text = PRIORITIES[priority]
        size = self._message(record, entry)
        common = self._common(entry)
        record.MergeFromString(common)
        return size + len(common) + 64

    def _message(self, record: LogRecord, entry: Entry) -> int:
        message = "\n".join(texts(entry.get("MESSAGE")))
        size = len(message)
        if size > self._config.max_message_size // 4:  # no character has more bytes than that
            encoded = message.encode()
            if len(encoded) > self._config.max_message_size:
                message = encoded[: self._config.max_message_size].decode(errors="ignore")
                record.attributes.append(key_value(ORIGINAL_SIZE, len(encoded)))
                size = self._config.max_message_size
        parts = structured(message) if self._config.parse_json else None
        if parts is None:
            trace = take_trace({name: text(entry.get(name)) for name in ("TRACE_ID", "SPAN_ID", "TRACE_FLAGS")})
            if entry.get("MESSAGE") is not None:
                record.body.string_value = message
        else:
            trace = parts.trace
            record.body.CopyFrom(parts.body)
            record.attributes.extend(each for each in parts.attributes if each.key not in self._names)
            if parts.severity:
                record.severity_number = parts.severity  # type: ignore[assignment]
                record.severity_text = parts.level
        record.trace_id, record.span_id, record.flags = trace.trace_id, trace.span_id, trace.flags
        return size

    def _common(self, entry: Entry) -> bytes:
        """Return the attributes that come from the table, serialized as a log record of nothing else."""
        unit, user_unit = unit_of(entry)
        values = (unit, user_unit, *(entry.get(field) for field in self._fields))
        try:
            known = self._cache.get(values)
        except TypeError:  # a field with several values
            return self._encoded(entry, unit, user_unit)
        if known is None:
            known = self._encoded(entry, unit, user_unit)
            if len(known) <= _CACHED_BYTES:
                if len(self._cache) >= _CACHED:
                    self._cache.clear()
                self._cache[values] = known
        return known

    def _encoded(self, entry: Entry, unit: str | None, user_unit: str | None) -> bytes:
        record = LogRecord()
        for field, name in self._fields.items():
            value = self._value(name, entry.get(field))
            if field == "_SYSTEMD_UNIT":
                value = unit
            elif field == "_SYSTEMD_USER_UNIT":
                value = user_unit
            if value is not None:
                record.attributes.append(key_value(name, value))
        return bytes(record.SerializeToString())

    def _value(self, name: str, value: object) -> object:
        if name in NUMBERS:
            return number(value)
        found = texts(value)
        if name not in ATTRIBUTES.values() and len(found) > 1:
            return found
        return found[0] if found else None


class Request:
    """An ``ExportLogsServiceRequest`` in the making."""

    def __init__(self, converter: Converter) -> None:
        self._converter = converter
        self._request = ExportLogsServiceRequest()
        self._scopes: dict[tuple[tuple[str, str], ...], ScopeLogs] = {}
        self.records = 0
        self.size = 0

    def add(self, entry: Entry) -> None:
        """Add an entry. Raises `ValueError` for one that cannot be a log record; it leaves nothing behind."""
        record = LogRecord()
        size = self._converter.fill(record, entry)
        self._scope(self._converter.resource(entry)).log_records.append(record)
        self.size += size
        self.records += 1

    def payload(self) -> bytes:
        """Return the request, serialized."""
        return bytes(self._request.SerializeToString())

    def _scope(self, resource: tuple[tuple[str, str], ...]) -> ScopeLogs:
        scope = self._scopes.get(resource)
        if scope is None:
            added = self._request.resource_logs.add(schema_url=SCHEMA_URL)
            added.resource.attributes.extend(key_value(name, value) for name, value in resource)
            scope = added.scope_logs.add(schema_url=SCHEMA_URL)
            scope.scope.name = SCOPE
            self._scopes[resource] = scope
            self.size += 128 + sum(len(name) + len(value) for name, value in resource)
        return scope


def service_name(entry: Entry) -> str:
    """Return what logged: the container, else the service unit without instance, else the syslog identifier.

    Sessions and other scopes have names of their own each time, and say less than the program that runs in them.
    """
    if container := text(entry.get("CONTAINER_NAME")):
        return container
    for field in ("_SYSTEMD_USER_UNIT", "_SYSTEMD_UNIT"):
        unit = text(entry.get(field)) or ""
        if unit.endswith(".service") and not unit.startswith("user@"):
            name = unit.removesuffix(".service").partition("@")[0]
            if name:
                return name
    for field in ("SYSLOG_IDENTIFIER", "_COMM"):
        if name := text(entry.get(field)) or "":
            return name
    return "kernel" if entry.get("_TRANSPORT") == "kernel" else _UNKNOWN


def _happened(entry: Entry, received: int) -> int:
    """Return when it happened, in microseconds: as the sender says, else as the journal does.

    The kernel's messages have the sender's time by the monotonic clock only; those from before the journal ran are
    received seconds later.
    """
    if source := number(entry.get("_SOURCE_REALTIME_TIMESTAMP")):
        return source
    source, now = number(entry.get("_SOURCE_MONOTONIC_TIMESTAMP")), number(entry.get("__MONOTONIC_TIMESTAMP"))
    if source is not None and now is not None and 0 <= now - source < received:
        return received - (now - source)
    return received
