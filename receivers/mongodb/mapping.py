"""From a document to an event, as the settings say."""

from __future__ import annotations

import functools
import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from receivers.mongodb.config import MappingSettings
from receivers.mongodb.errors import DocumentError
from receivers.mongodb.event import Event
from receivers.mongodb.values import iso

_UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MISSING: Final = object()
_LONGEST_NAME = 256


def look_up(document: Mapping[str, Any], path: str) -> Any:
    """Return what a path leads to: a key of that name, dots included, or else step by step; or a mark for nothing."""
    if path in document:
        return document[path]
    found: Any = document
    for step in path.split("."):
        if not isinstance(found, Mapping) or step not in found:
            return _MISSING
        found = found[step]
    return found


def to_event(document: Mapping[str, Any], settings: MappingSettings, pipeline: str) -> Event:
    """Make the event of a document. Raises `DocumentError` for a document that is not as the settings expect."""
    attributes: dict[str, Any] = {}
    if settings.attributes_from is not None:
        found = look_up(document, settings.attributes_from)
        if isinstance(found, Mapping):
            attributes.update(found)
        elif found is not _MISSING and found is not None:
            raise DocumentError(f"{settings.attributes_from}: expected an object, found {_kind(found)}")
    for name, path in settings.attributes.items():
        found = look_up(document, path)
        if found is not _MISSING:
            attributes[name] = found
    body = look_up(document, settings.body)
    return Event(
        _name(document, settings),
        _time(document, settings),
        None if body is _MISSING else body,
        attributes,
        {"service.name": _service(document, settings, pipeline), **settings.resource},
        settings.severity_number,
    )


def _name(document: Mapping[str, Any], settings: MappingSettings) -> str:
    found = look_up(document, settings.event_name)
    if found is _MISSING:
        raise DocumentError(f"{settings.event_name}: missing; it names the event")
    if not isinstance(found, str) or not found:
        raise DocumentError(f"{settings.event_name}: expected the event's name, found {_kind(found)}")
    if len(found) > _LONGEST_NAME:
        raise DocumentError(f"{settings.event_name}: a name of {len(found)} characters, of at most {_LONGEST_NAME}")
    return settings.event_names.get(found, found)


def _service(document: Mapping[str, Any], settings: MappingSettings, pipeline: str) -> str:
    found = look_up(document, settings.service_name)
    if found is _MISSING or found is None or found == "":
        return pipeline
    if not isinstance(found, str):
        raise DocumentError(f"{settings.service_name}: expected a text, found {_kind(found)}")
    return found


def _time(document: Mapping[str, Any], settings: MappingSettings) -> int:
    found = look_up(document, settings.timestamp)
    if found is _MISSING or found is None:
        made = getattr(document.get("_id"), "generation_time", None)
        if made is None:
            raise DocumentError(f"{settings.timestamp}: missing, and the document's _id tells no time either")
        found = made
    try:
        nanoseconds = _nanoseconds(found, _UNITS[settings.timestamp_unit])
    except (ValueError, OverflowError):
        nanoseconds = None
    if nanoseconds is None:
        raise DocumentError(
            f"{settings.timestamp}: expected a date, a text in ISO 8601 or a number, found {_kind(found)}"
        )
    if not 0 < nanoseconds < 2**63:
        raise DocumentError(f"{settings.timestamp}: {_shown(found)} is not between the years 1970 and 2262")
    return nanoseconds


def _nanoseconds(found: Any, unit: int) -> int | None:
    """Return the nanoseconds since the Unix epoch, or None. Raises `ValueError` or `OverflowError`, too."""
    match found:
        case datetime():  # most are
            return _since_epoch(found)
        case bool():
            return None
        case int():
            return int(found) * unit
        case float():  # seconds as a double are good to about a microsecond
            return round(found * unit) if unit < 1000 else round(found * (unit // 1000)) * 1000
        case str():
            fraction = re.search(r"[.,](\d+)", found)
            at = datetime.fromisoformat(found.strip())
            rest = int(fraction[1][:9].ljust(9, "0")) % 1000 if fraction else 0
            return _since_epoch(at) + rest
        case _:
            return _of_bson(found)


def _of_bson(found: Any) -> int | None:
    from bson import Timestamp
    from bson.datetime_ms import DatetimeMS

    if isinstance(found, Timestamp):
        return found.time * 10**9
    return int(found) * 10**6 if isinstance(found, DatetimeMS) else None


def _since_epoch(at: datetime) -> int:
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def identity(document_id: Any, namespace: str) -> str:
    """Return what tells an event from all others, from its document's ``_id``.

    An ObjectId or a UUID is unique by itself. Anything else is so in its collection: ``namespace`` (the database, a
    dot, the collection) is put before it, and it is written as Extended JSON, so that 1 and "1" are two.
    """
    if isinstance(document_id, _unique_types()):
        return str(document_id)
    from bson import Binary
    from bson.json_util import CANONICAL_JSON_OPTIONS, dumps

    if isinstance(document_id, Binary) and document_id.subtype == 4 and len(document_id) == 16:
        return str(uuid.UUID(bytes=bytes(document_id)))
    if isinstance(document_id, str):
        return f"{namespace}/{json.dumps(document_id)}"
    return f"{namespace}/{dumps(document_id, json_options=CANONICAL_JSON_OPTIONS)}"


@functools.cache
def _unique_types() -> tuple[type, ...]:
    from bson import ObjectId

    return ObjectId, uuid.UUID


def _kind(found: Any) -> str:
    match found:
        case None:
            return "null"
        case str() | bool() | int() | float():
            return _shown(found)
        case Mapping():
            return "an object"
        case list() | tuple():
            return "an array"
        case _:
            return type(found).__name__


def _shown(found: Any) -> str:
    text = iso(found) if isinstance(found, datetime) else repr(found)
    return text if len(text) <= 60 else text[:59] + "…"
