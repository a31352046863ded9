"""OTLP requests up to what OTLP leaves open: the order of records and attributes, and equal containers being one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, TypeVar, cast

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

Request = TypeVar("Request", bound=Any)

_ATTRIBUTES = ("attributes", "filtered_attributes", "metadata")
_CONTAINERS = {
    "resource_metrics": ("scope_metrics", "metrics"),
    "resource_logs": ("scope_logs", "log_records"),
    "resource_spans": ("scope_spans", "spans"),
}
_IDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
_DATA = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


def canonical(request: Request) -> Request:
    """Return the same request, normalized: equal requests serialize to equal bytes (see `content`).

    Equal resources, scopes and metrics are merged; records, exemplars and attributes are sorted; the order of what is
    a list to OTLP (events, links, buckets, array values, entity references) is kept. Ids of all zeros, or
    of another length than theirs, are none.
    """
    resource_field = request.DESCRIPTOR.fields[0].name
    scope_field, record_field = _CONTAINERS[resource_field]
    result: Any = type(request)()
    resources: dict[bytes, Any] = {}
    scopes: dict[tuple[bytes, bytes], Any] = {}
    metrics: dict[tuple[bytes, bytes, bytes], Any] = {}
    for owner in getattr(request, resource_field):
        owner_key, owner_shell = _shell(owner, scope_field)
        for scope in getattr(owner, scope_field):
            scope_key, scope_shell = _shell(scope, record_field)
            for record in getattr(scope, record_field):
                if owner_key not in resources:
                    resources[owner_key] = getattr(result, resource_field).add()
                    resources[owner_key].CopyFrom(owner_shell)
                if (owner_key, scope_key) not in scopes:
                    scopes[owner_key, scope_key] = getattr(resources[owner_key], scope_field).add()
                    scopes[owner_key, scope_key].CopyFrom(scope_shell)
                its_records = getattr(scopes[owner_key, scope_key], record_field)
                if record_field != "metrics":
                    its_records.add().CopyFrom(_normal(_copy(record)))
                    continue
                kind = record.WhichOneof("data")
                metric_shell = _copy(record)
                getattr(metric_shell, kind).ClearField("data_points")
                _normal(metric_shell)
                key = (owner_key, scope_key, content(metric_shell))
                if key not in metrics:
                    metrics[key] = its_records.add()
                    metrics[key].CopyFrom(metric_shell)
                for point in getattr(record, kind).data_points:
                    getattr(metrics[key], kind).data_points.add().CopyFrom(_normal(_copy(point)))
    for owner in getattr(result, resource_field):
        for scope in getattr(owner, scope_field):
            for metric in scope.metrics if record_field == "metrics" else ():
                _sort(getattr(metric, metric.WhichOneof("data")).data_points)
            _sort(getattr(scope, record_field))
        _sort(getattr(owner, scope_field))
    _sort(getattr(result, resource_field))
    return cast("Request", result)


def content(message: Any) -> bytes:
    """Return a canonical message's bytes. Unlike ``==`` on messages, they tell -0.0 from 0.0 and NaN equals NaN."""
    content: bytes = message.SerializeToString(deterministic=True)
    return content


def normal_attributes(attributes: Iterable[KeyValue]) -> Hashable:
    """Return a value that is equal for equal sets of attributes."""
    return frozenset(content(_normal(_copy(pair))) for pair in attributes)


def _shell(container: Any, records: str) -> tuple[bytes, Any]:
    shell = _copy(container)
    shell.ClearField(records)
    _normal(shell)
    return content(shell), shell


def _copy(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _normal(message: Any) -> Any:
    """Sort in place what has no order, and clear ids that are none, at every depth. Returns the message."""
    for field, value in message.ListFields():
        if field.message_type is None:
            if field.name in _IDS and (len(value) != _IDS[field.name] or not any(value)):
                message.ClearField(field.name)
            continue
        if isinstance(value, AnyValue):
            _normal_value(value)
        elif hasattr(value, "DESCRIPTOR"):
            _normal(value)
        else:
            for item in value:
                _normal(item)
            if field.name in _ATTRIBUTES:
                value.sort(key=lambda pair: pair.key)
            elif field.name == "exemplars":
                _sort(value)
    return message


def _normal_value(value: AnyValue) -> None:
    if value.WhichOneof("value") == "array_value":
        for item in value.array_value.values:
            _normal_value(item)
    elif value.WhichOneof("value") == "kvlist_value":
        for pair in value.kvlist_value.values:
            _normal_value(pair.value)
        value.kvlist_value.values.sort(key=lambda pair: pair.key)


def _sort(messages: Any) -> None:
    messages.sort(key=content)
