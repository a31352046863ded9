"""Reads a store with SQL and writes the OTLP requests that it was filled with.

This is the other half of the proof that nothing is lost, so it shares no code with the exporter: it follows the
comments of the tables, and for attributes and bodies the JSON encoding that ``exporters/timescale/values.py``
documents.
"""

from __future__ import annotations

from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from psycopg.rows import DictRow, dict_row

Connection = psycopg.Connection[Any]
Row = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_OWNER = """
    r.attributes AS resource_attributes, r.dropped_attributes_count AS resource_dropped, r.entity_refs,
    r.schema_url AS resource_schema_url,
    c.name AS scope_name, c.version AS scope_version, c.attributes AS scope_attributes,
    c.dropped_attributes_count AS scope_dropped, c.schema_url AS scope_schema_url
"""
_RECORDS = f"""
SELECT f.*, {_OWNER}
FROM {{table}} f JOIN resource r ON r.id = f.resource_id JOIN scope c ON c.id = f.scope_id
"""
_POINTS = f"""
SELECT f.*, m.name, m.type, m.unit, m.description, m.temporality, m.is_monotonic, m.metadata,
    e.attributes, {_OWNER}
FROM {{table}} f
JOIN series e ON e.id = f.series_id JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id JOIN scope c ON c.id = e.scope_id
"""

FACTS = {
    "metrics": ("sample", "frame", "histogram_sample", "exp_histogram_sample", "summary_sample", "exemplar"),
    "logs": ("log",),
    "traces": ("span",),
}
"""The fact tables of each signal."""


def rebuild(connection: Connection, signal: str) -> Any:
    """Return one request with everything that the store holds of a signal: metrics, logs or traces."""
    return _REBUILD[signal](connection)


def clear(connection: Connection, signal: str) -> None:
    """Remove a signal's facts, and the memory of which batches were stored. Dimensions stay."""
    for table in (*FACTS[signal], "receipt"):
        connection.execute(f"DELETE FROM {table}".encode())


# -- values ------------------------------------------------------------------------------------------------------------


def any_value(value: Any) -> AnyValue:
    """Read a value from its JSON. The JSON parser tells an integer from a number with a fraction."""
    result = AnyValue()
    match value:
        case None:
            pass
        case bool():
            result.bool_value = value
        case int():
            result.int_value = value
        case float():
            result.double_value = value
        case str():
            result.string_value = value
        case list():
            result.array_value.SetInParent()
            result.array_value.values.extend(map(any_value, value))
        case {"$bytes": content} if len(value) == 1:
            result.bytes_value = b64decode(content, validate=True)
        case {"$double": ("NaN" | "Infinity" | "-Infinity" | "-0") as name} if len(value) == 1:
            result.double_value = float(name)
        case {"$kvlist": pairs} if len(value) == 1:
            result.kvlist_value.SetInParent()
            result.kvlist_value.values.extend(KeyValue(key=key, value=any_value(item)) for key, item in pairs)
        case dict():
            assert not any(key.startswith("$") for key in value), f"a map with such keys is written otherwise: {value}"
            result.kvlist_value.SetInParent()
            result.kvlist_value.values.extend(attributes(value))
        case _:
            raise AssertionError(f"unexpected JSON: {value!r}")
    return result


def attributes(members: Mapping[str, Any]) -> list[KeyValue]:
    """Read attributes from their JSON object, in which a key may be any string."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in members.items()]


def unix_nano(at: datetime | None, ns: int | None) -> int:
    """Return nanoseconds since the Unix epoch, 0 for a time that was not given."""
    if at is None or ns is None:
        return 0
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000 + ns


def _id(text: str | None) -> bytes:
    return bytes.fromhex(text or "")


# -- containers --------------------------------------------------------------------------------------------------------


def _rows(connection: Connection, query: str) -> list[DictRow]:
    # Binary, because the text of a double has no room for the bits of a NaN.
    with connection.cursor(row_factory=dict_row, binary=True) as cursor:
        return cursor.execute(query.encode()).fetchall()


def _owner(result: Any, scope_field: str, row: Row) -> Any:
    """Add the resource and the scope of a row, and return the latter's container."""
    owner = result.add(schema_url=row["resource_schema_url"])
    if row["resource_attributes"] is not None:
        owner.resource.SetInParent()
        owner.resource.attributes.extend(attributes(row["resource_attributes"]))
        owner.resource.dropped_attributes_count = row["resource_dropped"]
        for ref in row["entity_refs"] or ():
            owner.resource.entity_refs.add(**ref)
    scope = getattr(owner, scope_field).add(schema_url=row["scope_schema_url"])
    if row["scope_name"] is not None:
        scope.scope.SetInParent()
        scope.scope.name = row["scope_name"]
        scope.scope.version = row["scope_version"]
        scope.scope.attributes.extend(attributes(row["scope_attributes"]))
        scope.scope.dropped_attributes_count = row["scope_dropped"]
    return scope


# -- metrics -----------------------------------------------------------------------------------------------------------


def _metrics(connection: Connection) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    exemplars: dict[tuple[Any, ...], list[DictRow]] = defaultdict(list)
    for row in _rows(connection, "SELECT * FROM exemplar"):
        exemplars[row["series_id"], row["time"], row["time_ns"]].append(row)
    for table, fill in _POINT_TABLES.items():
        for row in _rows(connection, _POINTS.format(table=table)):
            metric = _owner(request.resource_metrics, "scope_metrics", row).metrics.add(
                name=row["name"],
                unit=row["unit"],
                description=row["description"],
                metadata=attributes(row["metadata"]),
            )
            data = getattr(metric, row["type"])
            if row["type"] in ("sum", "histogram", "exponential_histogram"):
                data.aggregation_temporality = row["temporality"]
            if row["type"] == "sum":
                data.is_monotonic = row["is_monotonic"]
            point = data.data_points.add(
                attributes=attributes(row["attributes"]),
                time_unix_nano=unix_nano(row["time"], row["time_ns"]),
                start_time_unix_nano=unix_nano(row["start_time"], row["start_time_ns"]),
                flags=row["flags"] or 0,
            )
            fill(point, row)
            for exemplar in exemplars.pop((row["series_id"], row["time"], row["time_ns"]), ()):
                _exemplar(point, exemplar)
    assert not exemplars, f"exemplars without a data point: {exemplars}"
    return request


def _number_value(message: Any, row: Row) -> None:
    if row["int_value"] is not None:
        message.as_int = row["int_value"]
        assert row["value"] == float(row["int_value"]), "value is the same number, for those who only read that"
    elif row["value"] is not None:
        message.as_double = row["value"]


def _exemplar(point: Any, row: Row) -> None:
    exemplar = point.exemplars.add(
        time_unix_nano=unix_nano(row["exemplar_time"], row["exemplar_time_ns"]),
        trace_id=_id(row["trace_id"]),
        span_id=_id(row["span_id"]),
        filtered_attributes=attributes(row["filtered_attributes"]),
    )
    _number_value(exemplar, row)


def _distribution(point: Any, row: Row) -> None:
    point.count = row["count"]
    for name in ("sum", "min", "max"):
        if row[name] is not None:
            setattr(point, name, row[name])


def _histogram(point: Any, row: Row) -> None:
    _distribution(point, row)
    point.explicit_bounds.extend(row["explicit_bounds"])
    point.bucket_counts.extend(row["bucket_counts"])


def _exponential_histogram(point: Any, row: Row) -> None:
    _distribution(point, row)
    point.scale = row["scale"]
    point.zero_count = row["zero_count"]
    point.zero_threshold = row["zero_threshold"]
    for name in ("positive", "negative"):
        if row[f"{name}_offset"] is not None:
            getattr(point, name).SetInParent()
            getattr(point, name).offset = row[f"{name}_offset"]
            getattr(point, name).bucket_counts.extend(row[f"{name}_bucket_counts"])


def _summary(point: Any, row: Row) -> None:
    point.count = row["count"]
    point.sum = row["sum"]
    for quantile, value in zip(row["quantiles"], row["quantile_values"], strict=True):
        point.quantile_values.add(quantile=quantile, value=value)


_POINT_TABLES: dict[str, Callable[[Any, Row], None]] = {
    "number_point": _number_value,
    "histogram_point": _histogram,
    "exp_histogram_point": _exponential_histogram,
    "summary_point": _summary,
}

# -- logs and traces ---------------------------------------------------------------------------------------------------


def _logs(connection: Connection) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    # A body without a value is the JSON null, which Python does not tell from no body.
    log = "(SELECT *, body_json IS NOT NULL AS has_body_json FROM log)"
    for row in _rows(connection, _RECORDS.format(table=log)):
        record = _owner(request.resource_logs, "scope_logs", row).log_records.add(
            time_unix_nano=unix_nano(row["time"], row["time_ns"]),
            observed_time_unix_nano=unix_nano(row["observed_time"], row["observed_time_ns"]),
            severity_number=row["severity_number"],
            severity_text=row["severity_text"] or "",
            event_name=row["event_name"] or "",
            trace_id=_id(row["trace_id"]),
            span_id=_id(row["span_id"]),
            flags=row["flags"] or 0,
            dropped_attributes_count=row["dropped_attributes_count"] or 0,
            attributes=attributes(row["attributes"]),
        )
        if row["body"] is not None:
            record.body.string_value = row["body"]
        elif row["has_body_json"]:
            record.body.CopyFrom(any_value(row["body_json"]))
    return request


def _traces(connection: Connection) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for row in _rows(connection, _RECORDS.format(table="span")):
        span = _owner(request.resource_spans, "scope_spans", row).spans.add(
            trace_id=_id(row["trace_id"]),
            span_id=_id(row["span_id"]),
            parent_span_id=_id(row["parent_span_id"]),
            trace_state=row["trace_state"] or "",
            flags=row["flags"] or 0,
            name=row["name"],
            kind=row["kind"],
            start_time_unix_nano=unix_nano(row["time"], row["time_ns"]),
            end_time_unix_nano=unix_nano(row["end_time"], row["end_time_ns"]),
            attributes=attributes(row["attributes"]),
            dropped_attributes_count=row["dropped_attributes_count"] or 0,
            dropped_events_count=row["dropped_events_count"] or 0,
            dropped_links_count=row["dropped_links_count"] or 0,
        )
        for event in row["events"] or ():
            span.events.add(**event | {"attributes": attributes(event["attributes"])})
        for link in row["links"] or ():
            own = {name: _id(link[name]) for name in ("trace_id", "span_id")}
            span.links.add(**link | own | {"attributes": attributes(link["attributes"])})
        if row["status_code"] is not None:
            span.status.SetInParent()
            span.status.code = row["status_code"]
            span.status.message = row["status_message"] or ""
    return request


_REBUILD: dict[str, Callable[[Connection], Any]] = {"metrics": _metrics, "logs": _logs, "traces": _traces}
