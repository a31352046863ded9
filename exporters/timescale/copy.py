"""PostgreSQL's binary COPY format, as far as the store needs it.

A row is the number of its fields (int16) and, for each, its length in bytes (int32, -1 for NULL) and its content.
Source: PostgreSQL documentation, COPY, "Binary Format".
"""

from __future__ import annotations

import struct
from binascii import hexlify
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from exporters.timescale.values import without_nul
from gateway.store import OID_FLOAT8, OID_INT8, POSTGRES_EPOCH_US

if TYPE_CHECKING:
    from exporters.timescale.points import NumberPoints

NULL = b"\xff\xff\xff\xff"
_TWO_NULLS = NULL + NULL

_int2 = struct.Struct(">ih").pack
_int4 = struct.Struct(">ii").pack
_int8 = struct.Struct(">iq").pack
_float8 = struct.Struct(">id").pack
_length = struct.Struct(">i").pack
_OID_INT4 = 23
_FEW = 64

COLUMNS: dict[str, tuple[str, ...]] = {
    "sample": (
        "time", "series_id", "value", "start_time", "int_value", "flags", "time_ns", "start_time_ns",
    ),
    "frame": (
        "time", "set_id", "time_ns", "start_time", "start_time_ns", "vals", "ints", "starts",
    ),
    "histogram_sample": (
        "time", "series_id", "time_ns", "start_time", "start_time_ns", "flags",
        "count", "sum", "min", "max", "explicit_bounds", "bounds_id", "small_bucket_counts", "bucket_counts",
    ),
    "exp_histogram_sample": (
        "time", "series_id", "time_ns", "start_time", "start_time_ns", "flags",
        "count", "sum", "min", "max", "scale", "zero_count", "zero_threshold",
        "positive_offset", "small_positive_bucket_counts", "positive_bucket_counts",
        "negative_offset", "small_negative_bucket_counts", "negative_bucket_counts",
    ),
    "summary_sample": (
        "time", "series_id", "time_ns", "start_time", "start_time_ns", "flags",
        "count", "sum", "quantiles", "quantiles_id", "quantile_values",
    ),
    "exemplar": (
        "time", "series_id", "time_ns", "exemplar_time", "exemplar_time_ns",
        "value", "int_value", "trace_id", "span_id", "filtered_attributes",
    ),
    "log": (
        "time", "resource_id", "scope_id", "severity_number", "time_ns", "observed_time", "observed_time_ns",
        "severity_text", "event_name", "trace_id", "span_id", "flags", "dropped_attributes_count",
        "body", "body_json", "attributes",
    ),
    "span": (
        "time", "resource_id", "scope_id", "kind", "time_ns", "end_time", "end_time_ns",
        "trace_id", "span_id", "parent_span_id", "trace_state", "name", "flags",
        "status_code", "status_message", "attributes", "dropped_attributes_count",
        "events", "dropped_events_count", "links", "dropped_links_count",
    ),
}  # fmt: skip
"""The fact tables, each with its columns in the order in which its rows are encoded."""


def int2(value: int) -> bytes:
    """Encode a ``smallint`` field."""
    return _int2(2, value)


def int4(value: int) -> bytes:
    """Encode an ``integer`` field."""
    return _int4(4, value)


def int8(value: int) -> bytes:
    """Encode a ``bigint`` field. Raises `struct.error` beyond 64 bits signed."""
    return _int8(8, value)


def int8_or_null(value: int) -> bytes:
    """Encode a ``bigint`` field in which NULL stands for 0."""
    return _int8(8, value) if value else NULL


def float8(value: float) -> bytes:
    """Encode a ``double precision`` field."""
    return _float8(8, value)


def text(value: str) -> bytes:
    """Encode a ``text`` field."""
    content = without_nul(value).encode()
    return _length(len(content)) + content


def short_string(value: bytes) -> bytes | None:
    """Encode a serialized ``AnyValue`` as a ``text`` field where it is a string of up to 127 bytes of ASCII.

    None for any other.
    """
    if value[:1] == b"\x0a" and len(value) < 130 and value[1] == len(value) - 2 and value.isascii():
        content = value[2:]
        if b"\0" not in content:
            return _length(len(content)) + content
    return None


def jsonb(value: bytes) -> bytes:
    """Encode a ``jsonb`` field from JSON text."""
    return _length(len(value) + 1) + b"\x01" + value


NO_TRACE_ID = bytes(16)
NO_SPAN_ID = bytes(8)
"""Ids of all zeros are none. Source: ``trace.proto``, ``trace_id`` and ``span_id``."""


def id_or_null(value: bytes, none: bytes) -> bytes:
    """Encode an id as hexadecimal text; NULL when it is no id: all zeros as ``none`` is, or not of its length."""
    if not value or value == none or len(value) != len(none):
        return NULL
    return sound_id(value)


def sound_id(value: bytes) -> bytes:
    """Encode an id, which is known to be one, as hexadecimal text."""
    return _length(2 * len(value)) + hexlify(value)


def id_text(value: bytes, none: bytes) -> bytes:
    """Return an id as hexadecimal text, which is empty when it is no id."""
    return hexlify(value) if value != none and len(value) == len(none) else b""


_ids = struct.Struct(">i32si16s").pack
_BOTH = len(NO_TRACE_ID) + len(NO_SPAN_ID)


def ids_or_null(trace_id: bytes, span_id: bytes) -> bytes:
    """Encode the ids of a trace and of a span in it, each as `id_or_null` does."""
    if len(trace_id) + len(span_id) == _BOTH and len(span_id) == len(NO_SPAN_ID):
        if trace_id != NO_TRACE_ID and span_id != NO_SPAN_ID:
            return _ids(32, hexlify(trace_id), 16, hexlify(span_id))
    elif not trace_id and not span_id:
        return _TWO_NULLS
    return id_or_null(trace_id, NO_TRACE_ID) + id_or_null(span_id, NO_SPAN_ID)


def time_and_ns(unix_nano: int) -> tuple[bytes, bytes]:
    """Encode nanoseconds since the Unix epoch as a ``timestamptz`` and a ``smallint`` field, both NULL for 0."""
    if not unix_nano:
        return NULL, NULL
    microseconds, ns = divmod(unix_nano, 1000)
    return _int8(8, microseconds - POSTGRES_EPOCH_US), _int2(2, ns)


def _array(oid: int, kind: str, size: int, values: Sequence[float]) -> bytes:
    count = len(values)
    if not count:
        content = struct.pack(">iii", 0, 0, oid)
    else:
        content = struct.pack(">iiiii", 1, 0, oid, count, 1) + _items(kind, size, values)
    return _length(len(content)) + content


def _items(kind: str, size: int, values: Sequence[float]) -> bytes:
    if len(values) <= _FEW:
        return struct.pack(f">{f'i{kind}' * len(values)}", *[part for value in values for part in (size, value)])
    # `struct` keeps the last hundred formats, 64 bytes for each value: hundreds of MiB for arrays as long as a request.
    items = np.empty(len(values), [("size", ">i4"), ("value", f">{kind}")])
    items["size"] = size
    try:
        items["value"] = np.fromiter(values, kind, len(values))
    except OverflowError as error:
        raise struct.error(str(error)) from error
    return items.tobytes()


def int8_array(values: Sequence[int]) -> bytes:
    """Encode a ``bigint[]`` field. Raises `struct.error` for a value beyond 64 bits signed."""
    return _array(OID_INT8, "q", 8, values)


def counts(values: Sequence[int]) -> bytes:
    """Encode counts as two fields, ``integer[]`` and ``bigint[]``: in the second where one is too large for the first.

    Raises `struct.error` for a value beyond 64 bits signed.
    """
    try:
        return _array(_OID_INT4, "i", 4, values) + NULL
    except struct.error:
        return NULL + _array(OID_INT8, "q", 8, values)


def float8_array(values: Sequence[float]) -> bytes:
    """Encode a ``double precision[]`` field."""
    return _array(OID_FLOAT8, "d", 8, values)


class Texts(dict[str, bytes]):
    """Encoded ``text`` fields by their string, for strings that repeat: names, severities. NULL for the empty string.

    Forgotten all at once when there are more than ``limit``.
    """

    def __init__(self, limit: int = 10_000) -> None:
        super().__init__()
        self._limit = limit

    def __missing__(self, value: str) -> bytes:
        """Encode a string, and remember it unless it is long."""
        encoded = text(value) if value else NULL
        if len(encoded) <= 256:
            if len(self) >= self._limit:
                self.clear()
            self[value] = encoded
        return encoded


_A_POINT, _EVENT = 41, 150
"""Bytes of a number point as `NumberPoints` has it, and of an event beside its row."""


class IdentifiedRow(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The encoded row of an event with an identity of its own, of 16 bytes. ``unix_nano`` is the event's time."""

    uid: bytes
    unix_nano: int
    row: bytes


class Rows:
    """Encoded rows of the fact tables, with the time intervals they fall into.

    ``count`` is the number of records. ``interval`` is the length of a partition in microseconds; the intervals touched
    are collected by table so that the partitions can be there before the rows. ``minutes`` are those since the Unix
    epoch that got number points, for the rollups; ``points`` are the number points, which are no rows yet.
    ``identified`` are rows of the table ``log`` that are stored only if their identity is new.
    """

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.chunks: dict[str, list[bytes]] = {}
        self.count = 0
        self.intervals: dict[str, set[int]] = {}
        self.minutes: set[int] = set()
        self.points: list[NumberPoints] = []
        self.identified: list[IdentifiedRow] = []

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        encoded = sum(len(chunk) for chunks in self.chunks.values() for chunk in chunks)
        return encoded + _A_POINT * sum(map(len, self.points)) + sum(_EVENT + len(each.row) for each in self.identified)

    def add(self, table: str, chunk: bytes, rows: int, intervals: Iterable[int]) -> None:
        """Add encoded rows of one table that fall into the given intervals since the Unix epoch."""
        self.chunks.setdefault(table, []).append(chunk)
        if table != "exemplar":  # a part of a data point, not a record
            self.count += rows
        self.intervals.setdefault(table, set()).update(intervals)

    def add_points(self, points: NumberPoints, intervals: Iterable[int]) -> None:
        """Add number points that fall into the given intervals since the Unix epoch."""
        self.points.append(points)
        self.count += len(points)
        self.intervals.setdefault("sample", set()).update(intervals)

    def add_identified(self, rows: Sequence[IdentifiedRow], intervals: Iterable[int]) -> None:
        """Add encoded events that each have an identity."""
        self.identified += rows
        self.count += len(rows)
        self.intervals.setdefault("log", set()).update(intervals)
