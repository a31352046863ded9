"""Metrics requests in the bytes of real encoders, which write the fields of a message in orders of their own.

What each writes was captured: by the SDKs for Python, Java and Go, by that for .NET, and by the Collector since 0.138,
whose encoder Alloy has, too.
"""

from __future__ import annotations

from typing import Literal

from google.protobuf.descriptor import Descriptor
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from gateway.otlp.wire_format import fields, length_delimited

Order = Literal["python", "go", "dotnet", "collector"]

ORDERS: dict[Order, tuple[int, ...]] = {
    "python": (2, 3, 4, 6, 5, 7, 8),
    "go": (2, 3, 5, 7, 8, 4, 6),
    "dotnet": (4, 6, 2, 3, 7, 5, 8),
    "collector": (4, 6, 3, 2, 5, 7, 8),
}
"""The fields of a number point: 2 is the start, 3 the time, 4 and 6 the value, 7 an attribute."""


def written(request: ExportMetricsServiceRequest, order: Order) -> bytes:
    """Serialize a request as a client does."""
    return _written(request.SerializeToString(), request.DESCRIPTOR, order)


def _written(raw: bytes, descriptor: Descriptor, order: Order) -> bytes:
    its: list[tuple[int, bytes]] = []
    for number, _, begin, content, end in fields(raw):
        message = descriptor.fields_by_number[number].message_type
        inner = None if message is None else length_delimited(number, _written(raw[content:end], message, order))
        its.append((number, raw[begin:end] if inner is None else inner))
    if descriptor.name == "NumberDataPoint":
        its.sort(key=lambda field: ORDERS[order].index(field[0]))
    elif order == "collector":  # which writes messages from their end
        its.sort(key=lambda field: -field[0])
    return b"".join([content for _, content in its])
