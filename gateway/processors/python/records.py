"""What a function of a user's is given: records as Python has them, read as far as the function looks."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gateway.processors.common.values import Value, decode, encode


def attributes_of(message: Any) -> dict[str, Value]:
    """Return the attributes of a message as a mapping."""
    return {each.key: decode(each.value) for each in message.attributes}


class Surroundings:
    """The resource and scope that records have in common."""

    __slots__ = ("_resource", "resource_message", "scope_message")

    def __init__(self) -> None:
        self.resource_message: Any = None
        self.scope_message: Any = None
        self._resource: Mapping[str, Value] | None = None

    def enter_resource(self, message: Any) -> None:
        """Go on to a resource."""
        self.resource_message, self._resource = message, None

    @property
    def resource(self) -> Mapping[str, Value]:
        """The attributes of the resource. They cannot be changed here."""
        if self._resource is None:
            self._resource = MappingProxyType(attributes_of(self.resource_message))
        return self._resource


class Record:
    """A log record, span or data point. What is set, and what is changed of ``attributes``, is written back."""

    __slots__ = ("_around", "_attributes", "_changed", "_message")

    def __init__(self, message: Any, around: Surroundings) -> None:
        self._message = message
        self._around = around
        self._attributes: dict[str, Value] | None = None
        self._changed = False

    @property
    def attributes(self) -> dict[str, Value]:
        """Its attributes. Values are text, bool, int, float, bytes, lists, mappings, or None."""
        if self._attributes is None:
            self._attributes = attributes_of(self._message)
        return self._attributes

    @attributes.setter
    def attributes(self, attributes: Mapping[str, Value]) -> None:
        self._attributes = dict(attributes)

    @property
    def resource(self) -> Mapping[str, Value]:
        """The attributes of its resource, to be read."""
        return self._around.resource

    @property
    def scope_name(self) -> str:
        """The name of its instrumentation scope."""
        return str(self._around.scope_message.name)

    @property
    def scope_version(self) -> str:
        """The version of its instrumentation scope."""
        return str(self._around.scope_message.version)

    def _set(self, field: str, value: Any) -> None:
        if getattr(self._message, field) != value:
            setattr(self._message, field, value)
            self._changed = True

    def written(self, raw: bytes) -> bytes:
        """Return it serialized; the same bytes where nothing was changed.

        Raises `TypeError` or `ValueError` for what OTLP cannot carry.
        """
        if self._attributes is not None and not _same(self._attributes, attributes_of(self._message)):
            pairs = [(key, encode(value)) for key, value in self._attributes.items()]
            del self._message.attributes[:]
            for key, value in pairs:
                self._message.attributes.add(key=key, value=value)
            self._changed = True
        return bytes(self._message.SerializeToString()) if self._changed else raw


def _same(one: Value, other: Value) -> bool:
    """Tell whether two values are equal, to OTLP, which tells a bool from a number and 1 from 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


class LogRecord(Record):
    """A log record, or an event."""

    __slots__ = ()

    @property
    def body(self) -> Value:
        """What it says. To change a list or mapping, set it anew."""
        return decode(self._message.body)

    @body.setter
    def body(self, value: Value) -> None:
        self._set("body", encode(value))

    @property
    def name(self) -> str:
        """The name of the event; empty where it is none."""
        return str(self._message.event_name)

    @name.setter
    def name(self, value: str) -> None:
        self._set("event_name", value)

    @property
    def severity_number(self) -> int:
        """1 to 24: trace from 1, debug 5, info 9, warn 13, error 17, fatal 21; 0 where it has none."""
        return int(self._message.severity_number)

    @severity_number.setter
    def severity_number(self, value: int) -> None:
        self._set("severity_number", value)

    @property
    def severity_text(self) -> str:
        """The severity as its source calls it."""
        return str(self._message.severity_text)

    @severity_text.setter
    def severity_text(self, value: str) -> None:
        self._set("severity_text", value)

    @property
    def time_unix_nano(self) -> int:
        """When it happened, or was observed, in nanoseconds since the Unix epoch."""
        return int(self._message.time or self._message.observed_time)

    @property
    def trace_id(self) -> str:
        """The trace that it belongs to, in hexadecimal; empty where it belongs to none."""
        return str(self._message.trace_id.hex())

    @property
    def span_id(self) -> str:
        """The span that it belongs to, in hexadecimal; empty where it belongs to none."""
        return str(self._message.span_id.hex())


class Span(Record):
    """A span."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """Its name."""
        return str(self._message.name)

    @name.setter
    def name(self, value: str) -> None:
        self._set("name", value)

    @property
    def kind(self) -> int:
        """1 internal, 2 server, 3 client, 4 producer, 5 consumer."""
        return int(self._message.kind)

    @property
    def status_code(self) -> int:
        """0 unset, 1 ok, 2 error."""
        return int(self._message.status.code)

    @property
    def status_message(self) -> str:
        """What went wrong."""
        return str(self._message.status.message)

    @status_message.setter
    def status_message(self, value: str) -> None:
        if self._message.status.message != value:
            self._message.status.message = value
            self._changed = True

    @property
    def start_time_unix_nano(self) -> int:
        """When it began, in nanoseconds since the Unix epoch."""
        return int(self._message.start_time)

    @property
    def end_time_unix_nano(self) -> int:
        """When it ended, in nanoseconds since the Unix epoch."""
        return int(self._message.end_time)

    @property
    def trace_id(self) -> str:
        """Its trace, in hexadecimal."""
        return str(self._message.trace_id.hex())

    @property
    def span_id(self) -> str:
        """Its id, in hexadecimal."""
        return str(self._message.span_id.hex())

    @property
    def parent_span_id(self) -> str:
        """Its parent's id, in hexadecimal; empty for a root span."""
        return str(self._message.parent_span_id.hex())


class DataPoint(Record):
    """A data point of a metric."""

    __slots__ = ("_kind", "_metric")

    def __init__(self, message: Any, around: Surroundings, metric: Any, kind: str) -> None:
        super().__init__(message, around)
        self._metric = metric
        self._kind = kind

    @property
    def name(self) -> str:
        """The name of its metric, which cannot be changed here."""
        return str(self._metric.name)

    @property
    def unit(self) -> str:
        """The unit of its metric."""
        return str(self._metric.unit)

    @property
    def type(self) -> str:
        """What its metric is: gauge, sum, histogram, exponential_histogram, summary."""
        return self._kind

    @property
    def time_unix_nano(self) -> int:
        """When it was observed, in nanoseconds since the Unix epoch."""
        return int(self._message.time)

    @property
    def value(self) -> int | float | None:
        """The value of a gauge or sum; None for the others."""
        if self._kind not in ("gauge", "sum"):
            return None
        match self._message.WhichOneof("value"):
            case "as_double":
                number: float = struct.unpack("<d", self._message.as_double.to_bytes(8, "little"))[0]
                return number
            case "as_int":
                return int.from_bytes(self._message.as_int.to_bytes(8, "little"), "little", signed=True)
            case _:
                return None
