"""Events as OTLP log records, and requests of them."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs

from receivers.mongodb.errors import DocumentError
from receivers.mongodb.event import Event
from receivers.mongodb.values import put

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
SCOPE: Final = "obs_hub.mongodb"
UID: Final = "log.record.uid"
"""The attribute that tells an event from all others. Source: OpenTelemetry semantic conventions, "General logs"."""


def to_record(event: Event, uid: str) -> tuple[bytes, LogRecord]:
    """Make the log record of an event, and the serialized resource it belongs to.

    Raises `DocumentError` for what OTLP cannot carry.
    """
    if not isinstance(event.name, str) or not event.name:
        raise DocumentError("the event has no name")
    if not isinstance(event.time_unix_nano, int) or not 0 < event.time_unix_nano < 2**63:
        raise DocumentError("the event has no time")
    try:
        record = LogRecord(
            time_unix_nano=event.time_unix_nano,
            observed_time_unix_nano=time.time_ns(),
            severity_number=event.severity_number,  # type: ignore[arg-type]  # protobuf takes the number
            event_name=event.name,
        )
        if event.body is not None:
            put(record.body, event.body, "body")
        _put_attributes(record.attributes, {**event.attributes, UID: uid}, "attributes")
        return _owner_of(event.resource), record
    except UnicodeEncodeError as error:
        raise DocumentError(f"{error.object[:20]!r}…: not valid Unicode") from None


def _owner_of(resource: dict[str, Any]) -> bytes:
    """Serialize a ``ResourceLogs`` that has no records yet. Most documents share a few resources, of texts alone."""
    if all(type(value) is str for value in resource.values()):
        return _owner_of_texts(tuple(resource.items()))
    return _serialized_owner(resource)


@functools.lru_cache(maxsize=256)
def _owner_of_texts(resource: tuple[tuple[str, str], ...]) -> bytes:
    return _serialized_owner(dict(resource))


def _serialized_owner(resource: dict[str, Any]) -> bytes:
    owner = ResourceLogs(schema_url=SCHEMA_URL)
    _put_attributes(owner.resource.attributes, resource, "resource")
    owner.scope_logs.add(schema_url=SCHEMA_URL).scope.name = SCOPE
    return bytes(owner.SerializeToString())


def _put_attributes(attributes: Any, values: dict[str, Any], path: str) -> None:
    for key, found in values.items():
        if not isinstance(key, str) or not key:
            raise DocumentError(f"{path}: {key!r} is not the name of an attribute")
        put(attributes.add(key=key).value, found, f"{path}.{key}")


def request(records: Iterable[tuple[bytes, LogRecord]]) -> bytes:
    """Serialize an ``ExportLogsServiceRequest`` of records and the resources they belong to."""
    message = ExportLogsServiceRequest()
    owners: dict[bytes, Any] = {}
    for resource, record in records:
        scope = owners.get(resource)
        if scope is None:
            owner = message.resource_logs.add()
            owner.MergeFromString(resource)
            scope = owners[resource] = owner.scope_logs[0]
        scope.log_records.append(record)
    return bytes(message.SerializeToString())
