"""Traces of the store as OTLP: what was sent comes back, field by field."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, LiteralString

import msgspec
import numpy as np
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData
from psycopg import sql

from gateway.query.errors import BadQueryError
from gateway.query.reading.arrays import ids
from gateway.query.reading.connection import Reading

_ID = re.compile(r"[0-9a-fA-F]{1,32}")

_SPANS: LiteralString = """
SELECT to_jsonb(found)::text FROM (
    SELECT
        resource_id, scope_id, (extract(epoch FROM time) * 1000000)::bigint AS time, time_ns,
        (extract(epoch FROM end_time) * 1000000)::bigint AS end_time, end_time_ns, flags, dropped_attributes_count,
        dropped_events_count, dropped_links_count, kind, status_code, trace_id, span_id, parent_span_id, trace_state,
        name, status_message, attributes, events, links
    FROM span WHERE trace_id = {trace_id} ORDER BY span.time, span.time_ns, span_id LIMIT {most}
) AS found
"""
_RESOURCES: LiteralString = """
SELECT to_jsonb(found)::text FROM (
    SELECT id, attributes, dropped_attributes_count, entity_refs, schema_url
    FROM resource WHERE id = ANY({keys}::bigint[])
) AS found
"""
_SCOPES: LiteralString = """
SELECT to_jsonb(found)::text FROM (
    SELECT id, name, version, attributes, dropped_attributes_count, schema_url
    FROM scope WHERE id = ANY({keys}::bigint[])
) AS found
"""

_Row = Mapping[str, Any]


def trace_id(text: str) -> str:
    """Return the id of a trace as the store has it. Raises `BadQueryError` for what is none."""
    if not _ID.fullmatch(text):
        raise BadQueryError(f"{text[:100]!r} is no id of a trace: expected up to 32 hexadecimal digits")
    return text.lower().zfill(32)


def read(reading: Reading, its_id: str) -> TracesData | None:
    """Return the spans of a trace; None where there are none. Raises `LimitExceededError` for too many."""
    most = reading.usage.limits.samples
    query = sql.SQL(_SPANS).format(trace_id=sql.Literal(its_id), most=most + 1)
    spans = _rows(reading, query)
    if not spans:
        return None
    reading.usage.add_samples(len(spans))
    resources, scopes = (
        {row["id"]: row for row in _rows(reading, statement.format(keys=_keys(spans, column)))}
        for statement, column in ((sql.SQL(_RESOURCES), "resource_id"), (sql.SQL(_SCOPES), "scope_id"))
    )
    data = TracesData()
    owners: dict[int, ResourceSpans] = {}
    places: dict[tuple[int, int], ScopeSpans] = {}
    for row in spans:
        key = row["resource_id"], row["scope_id"]
        if (place := places.get(key)) is None:
            if (owner := owners.get(key[0])) is None:
                owner = owners[key[0]] = data.resource_spans.add()
                _fill_resource(owner, resources.get(key[0], {}))
            place = places[key] = owner.scope_spans.add()
            _fill_scope(place, scopes.get(key[1], {}))
        _fill_span(place.spans.add(), row)
    return data


def _rows(reading: Reading, query: sql.Composed) -> list[_Row]:
    return [msgspec.json.decode(text) for (text,) in reading.texts(query) if text is not None]


def _keys(spans: Sequence[_Row], column: str) -> sql.SQL:
    return ids(np.unique(np.array([row[column] for row in spans], np.int64)))


def _fill_resource(owner: ResourceSpans, row: _Row) -> None:
    owner.schema_url = row.get("schema_url", "")
    if row.get("attributes") is not None:
        owner.resource.SetInParent()
        owner.resource.attributes.extend(_attributes(row["attributes"]))
        owner.resource.dropped_attributes_count = row["dropped_attributes_count"]
        for ref in row["entity_refs"] or ():
            owner.resource.entity_refs.add(**ref)


def _fill_scope(place: ScopeSpans, row: _Row) -> None:
    """Fill in the scope. There is always one, for Grafana's Tempo data source fails on spans without."""
    place.schema_url = row.get("schema_url", "")
    place.scope.SetInParent()
    if row.get("name") is not None:
        place.scope.name, place.scope.version = row["name"], row["version"]
        place.scope.attributes.extend(_attributes(row["attributes"]))
        place.scope.dropped_attributes_count = row["dropped_attributes_count"]


def _fill_span(span: Span, row: _Row) -> None:
    span.trace_id, span.span_id = bytes.fromhex(row["trace_id"]), bytes.fromhex(row["span_id"])
    span.parent_span_id = bytes.fromhex(row["parent_span_id"] or "")
    span.trace_state, span.flags, span.name = row["trace_state"] or "", row["flags"] or 0, row["name"]
    span.kind = row["kind"]
    span.start_time_unix_nano = _unix_nano(row["time"], row["time_ns"])
    span.end_time_unix_nano = _unix_nano(row["end_time"], row["end_time_ns"])
    span.attributes.extend(_attributes(row["attributes"]))
    for name in ("dropped_attributes_count", "dropped_events_count", "dropped_links_count"):
        setattr(span, name, row[name] or 0)
    for event in row["events"] or ():
        span.events.add(**{**event, "attributes": _attributes(event["attributes"])})
    for link in row["links"] or ():
        own = {name: bytes.fromhex(link[name] or "") for name in ("trace_id", "span_id")}
        span.links.add(**{**link, **own, "attributes": _attributes(link["attributes"])})
    if row["status_code"] is not None:
        span.status.code, span.status.message = row["status_code"], row["status_message"] or ""
        span.status.SetInParent()


def _unix_nano(microseconds: int | None, nanoseconds: int | None) -> int:
    return 0 if microseconds is None else microseconds * 1000 + (nanoseconds or 0)


def _attributes(members: Mapping[str, Any]) -> Iterable[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in members.items()]


def any_value(value: Any) -> AnyValue:
    """Return a value of the store's JSON as OTLP has it. Source: docs/store.md, "What is kept exactly"."""
    found = AnyValue()
    match value:
        case None:
            pass
        case bool():
            found.bool_value = value
        case int():
            found.int_value = value
        case float():
            found.double_value = value
        case str():
            found.string_value = value
        case list():
            found.array_value.SetInParent()
            found.array_value.values.extend(map(any_value, value))
        case {"$bytes": str(content)} if len(value) == 1:
            found.bytes_value = b64decode(content)
        case {"$double": str(name)} if len(value) == 1:
            found.double_value = float(name)
        case {"$kvlist": list(pairs)} if len(value) == 1:
            found.kvlist_value.SetInParent()
            found.kvlist_value.values.extend(KeyValue(key=key, value=any_value(item)) for key, item in pairs)
        case _:
            found.kvlist_value.SetInParent()
            found.kvlist_value.values.extend(_attributes(value))
    return found
