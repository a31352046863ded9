"""Encode an ``ExportLogsServiceRequest`` as rows. Events are log records with an event name."""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Sequence
from typing import Any

from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2

from exporters.timescale import wire
from exporters.timescale.copy import (
    NULL,
    IdentifiedRow,
    Rows,
    Texts,
    ids_or_null,
    int4,
    int8_or_null,
    jsonb,
    short_string,
    text,
    time_and_ns,
)
from exporters.timescale.dimensions import Dimensions
from exporters.timescale.rejections import Rejections, TimeWindow
from exporters.timescale.values import KVLIST, Fragments, short_text
from exporters.timescale.walk import PACE, by_scope, decode_large
from gateway.base.slices import LARGE, Steps
from gateway.component import Batch
from gateway.otlp.bounds import RECORD, Budget, check_parts
from gateway.store import POSTGRES_EPOCH_US

_FIELDS = b"\0\x10"
_BEGIN = struct.Struct(">hiq24siiihiqih").pack
"""What a row begins with that has both times: time, resource and scope, severity, observed time."""

_NOTHING = NULL + NULL
_EVENT_NAME_TAG = b"\x62"
_UID_BYTES = b"log.record.uid"
_IDENTITY = hashlib.blake2b(digest_size=16, person=_UID_BYTES)


def encode_logs(
    batch: Batch,
    dimensions: Dimensions,
    texts: Texts,
    window: TimeWindow,
    rows: Rows,
    rejections: Rejections,
    budget: Budget,
    *,
    events_only: bool = False,
) -> Steps[bool]:
    """Encode a request, or only the events in it, with a pause now and then. Returns whether any record is timestamped.

    An id of a log record that is none is left out: ``logs.proto`` asks to take the record for one without. Raises
    `google.protobuf.message.DecodeError` when the request is malformed.
    """
    request = wire.LogsRequest.FromString(batch.payload)
    arrived = batch.received_at
    encoded: list[bytes] = []
    identified: list[IdentifiedRow] = []
    has_identities = _UID_BYTES in batch.payload
    intervals: set[int] = set()
    seen = since = 0
    interval_ns = rows.interval * 1000
    timestamped = (yield from _leave_events(request, budget)) if events_only else False
    fragments = dimensions.fragments
    if len(batch.payload) > LARGE:
        yield from decode_large(request.resource_logs, dimensions, "scope_logs")
    for owner, records, _ in by_scope(request.resource_logs, dimensions, budget, "scope_logs", "log_records"):
        if not records:
            yield None
        for index, raw in enumerate(records, seen):
            since += len(raw)
            if index % PACE == 0 or since > LARGE:
                since = 0
                yield None
            if len(raw) > LARGE:
                record, inside, counted = yield functools.partial(_large, raw)
                fragments.counted += counted
            else:
                record, inside = wire.LogRecord.FromString(raw), None
            own = record.time_unix_nano
            observed = record.observed_time_unix_nano
            unix_nano = own or observed
            timestamped = timestamped or unix_nano != 0
            if unix_nano and (reason := window.reason(unix_nano)) is not None:
                rejections.add(reason)
                continue
            name = record.event_name
            if own and observed:
                at, observed_at = own // 1000, observed // 1000
                begin = _BEGIN(
                    16, 8, at - POSTGRES_EPOCH_US, owner, 4, record.severity_number, 2, own - 1000 * at,
                    8, observed_at - POSTGRES_EPOCH_US, 2, observed - 1000 * observed_at,
                )  # fmt: skip
            else:
                begin = _begin(own, observed, arrived, owner, record.severity_number)
            flags, dropped = record.flags, record.dropped_attributes_count
            row = b"".join(
                (
                    begin,
                    texts[record.severity_text],
                    texts[name],
                    ids_or_null(record.trace_id, record.span_id),
                    int8_or_null(flags) + int8_or_null(dropped) if flags or dropped else _NOTHING,
                    _inside(record, fragments) if inside is None else inside,
                )
            )
            uid = _identity(record.attributes) if has_identities and name else None
            if uid is None:
                encoded.append(row)
            else:
                identified.append(IdentifiedRow(uid, unix_nano or arrived, row))
            intervals.add((unix_nano or arrived) // interval_ns)
        seen += len(records)
    if encoded:
        rows.add("log", b"".join(encoded), len(encoded), intervals)
    if identified:
        rows.add_identified(identified, intervals)
    return timestamped


def _begin(own: int, observed: int, arrived: int, owner: bytes, severity: int) -> bytes:
    """Encode what a row begins with, of which a time or both may be missing."""
    at, ns = time_and_ns(own or observed or arrived)
    observed_at, observed_ns = time_and_ns(observed)
    return b"".join((_FIELDS, at, owner, int4(severity), ns if own else NULL, observed_at, observed_ns))


def _leave_events(request: Any, budget: Budget) -> Steps[bool]:
    """Take the records without an event name out of a request. Returns whether any of them carries a timestamp."""
    timestamped = False
    for resource_logs in request.resource_logs:
        for scope_logs in resource_logs.scope_logs:
            records = scope_logs.log_records
            budget.take(len(records), RECORD, "log records")
            events = []
            for index, raw in enumerate(records):
                if index % PACE == 0:
                    yield None
                if timestamped and _EVENT_NAME_TAG not in raw:
                    continue
                name = wire.LogRecordName.FromString(raw)
                if name.event_name:
                    events.append(raw)
                else:
                    timestamped = timestamped or bool(name.time_unix_nano or name.observed_time_unix_nano)
            if len(events) < len(records):
                del records[:]
                records.extend(events)
    return timestamped


def _large(raw: bytes) -> tuple[Any, bytes, int]:
    """Decode a record that is large; return it with what `_inside` does, and how many values were counted."""
    check_parts(raw, logs_pb2.LogRecord.DESCRIPTOR)
    record, fragments = wire.LogRecord.FromString(raw), Fragments()
    return record, _inside(record, fragments), fragments.counted


def _inside(record: Any, fragments: Fragments) -> bytes:
    """Encode the fields ``body`` and ``body_json``, of which one is NULL or both, and ``attributes``."""
    attributes = jsonb(fragments.object(record.attributes))
    if not record.HasField("body"):
        return NULL + NULL + attributes
    body = record.body
    if (plain := short_string(body)) is not None:
        return plain + NULL + attributes
    if not body.startswith(KVLIST):
        value = common_pb2.AnyValue.FromString(body)
        if value.WhichOneof("value") == "string_value":
            return text(value.string_value) + NULL + attributes
    return NULL + jsonb(fragments.value(body)) + attributes


def _identity(attributes: Sequence[bytes]) -> bytes | None:
    """Return the 128-bit hash of the attribute ``log.record.uid``, where it is among serialized attributes.

    Source: OpenTelemetry semantic conventions, "General log identification attributes": records with the same one are
    the same record.
    """
    for raw in attributes:
        if _UID_BYTES in raw:
            key, uid = short_text(raw) or _key_and_text(raw)
            if key == _UID_BYTES and uid:
                identity = _IDENTITY.copy()
                identity.update(uid)
                return identity.digest()
    return None


def _key_and_text(raw: bytes) -> tuple[bytes, bytes]:
    pair = common_pb2.KeyValue.FromString(raw)
    return pair.key.encode(), pair.value.string_value.encode()
