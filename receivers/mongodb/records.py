"""Events as OTLP log records, and requests of them, serialized.

Source of the field numbers: ``opentelemetry/proto/logs/v1/logs.proto`` and ``collector/logs/v1/logs_service.proto``.
"""

from __future__ import annotations

import functools
import struct
import time
from collections.abc import Iterable
from typing import Any, Final

from gateway.otlp.wire_format import varint
from receivers.mongodb.errors import DocumentError
from receivers.mongodb.event import Event
from receivers.mongodb.values import any_value, field, pairs

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
SCOPE: Final = "obs_hub.mongodb"
UID: Final = "log.record.uid"
"""The attribute that tells an event from all others. Source: OpenTelemetry semantic conventions, "General logs"."""

_time = struct.Struct("<BQ").pack
_SCOPE = field(0x0A, field(0x0A, SCOPE.encode()))
_SCHEMA_URL = field(0x1A, SCHEMA_URL.encode())


def to_record(event: Event, uid: str) -> tuple[bytes, bytes]:
    """Serialize the resource of an event, and its log record. Raises `DocumentError` for what OTLP cannot carry."""
    if not isinstance(event.name, str) or not event.name:
        raise DocumentError("the event has no name")
    if not isinstance(event.time_unix_nano, int) or not 0 < event.time_unix_nano < 2**63:
        raise DocumentError("the event has no time")
    severity = event.severity_number
    if not isinstance(severity, int) or not 0 <= severity < 2**31:
        raise DocumentError("the event's severity_number is not one of OpenTelemetry's, 0 to 24")
    try:
        body = any_value(event.body, "body")
        record = (
            _time(0x09, event.time_unix_nano),
            b"\x10" + varint(severity) if severity else b"",
            field(0x2A, body) if body else b"",
            _attributes(0x32, {**event.attributes, UID: uid}, "attributes"),
            _time(0x59, time.time_ns()),
            field(0x62, event.name.encode()),
        )
        return _resource(event.resource), b"".join(record)
    except UnicodeEncodeError as error:
        raise DocumentError(f"{error.object[:20]!r}…: not valid Unicode") from None


def _resource(resource: dict[str, Any]) -> bytes:
    """Serialize a resource. Most documents share a few, of texts alone."""
    if all(type(value) is str for value in resource.values()):
        return _resource_of_texts(tuple(resource.items()))
    return _attributes(0x0A, resource, "resource")


@functools.lru_cache(maxsize=256)
def _resource_of_texts(resource: tuple[tuple[str, str], ...]) -> bytes:
    return _attributes(0x0A, dict(resource), "resource")


def _attributes(tag: int, values: dict[str, Any], path: str) -> bytes:
    for key in values:
        if not isinstance(key, str) or not key:
            raise DocumentError(f"{path}: {key!r} is not the name of an attribute")
    return pairs(tag, values.items(), path, 0)


def request(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Serialize an ``ExportLogsServiceRequest`` of log records and the resources they belong to."""
    by_resource: dict[bytes, list[bytes]] = {}
    for resource, record in records:
        by_resource.setdefault(resource, []).append(record)
    return b"".join(
        field(0x0A, (field(0x0A, resource) if resource else b"") + field(0x12, _scope_logs(its_records)) + _SCHEMA_URL)
        for resource, its_records in by_resource.items()
    )


def _scope_logs(records: list[bytes]) -> bytes:
    parts = [_SCOPE]
    for record in records:
        parts += (b"\x12" + varint(len(record)), record)
    parts.append(_SCHEMA_URL)
    return b"".join(parts)
