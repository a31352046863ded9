"""Encode an ``ExportTraceServiceRequest`` as rows."""

from __future__ import annotations

import functools
import struct
from binascii import hexlify
from typing import Any

from opentelemetry.proto.trace.v1 import trace_pb2

from exporters.timescale import wire
from exporters.timescale.copy import (
    NO_SPAN_ID,
    NO_TRACE_ID,
    NULL,
    Rows,
    Texts,
    id_or_null,
    id_text,
    int4,
    int8,
    int8_or_null,
    jsonb,
)
from exporters.timescale.dimensions import Dimensions
from exporters.timescale.rejections import BAD_SPAN_ID, BAD_TRACE_ID, NO_TIMESTAMP, Rejections, TimeWindow
from exporters.timescale.values import Fragments, string_json
from exporters.timescale.walk import PACE, by_scope, decode_large
from gateway.base.slices import LARGE, Steps
from gateway.otlp.bounds import PART, Budget, check_parts
from gateway.store import POSTGRES_EPOCH_US

_BEGIN = struct.Struct(">hiq24siiih").pack
_END_TIME = struct.Struct(">iqih").pack
_IDS = struct.Struct(">i32si16s").pack
_EMPTY_TEXT = b"\0\0\0\0"
_NO_TIME = NULL + NULL
_NOTHING_ELSE = 5 * NULL


def encode_traces(
    payload: bytes,
    dimensions: Dimensions,
    texts: Texts,
    window: TimeWindow,
    rows: Rows,
    rejections: Rejections,
    budget: Budget,
) -> Steps[None]:
    """Encode a request, pausing now and then. Raises `google.protobuf.message.DecodeError` when it is malformed."""
    request = wire.TraceRequest.FromString(payload)
    encoded: list[bytes] = []
    intervals: set[int] = set()
    seen = since = 0
    interval_ns = rows.interval * 1000
    fragments = dimensions.fragments
    if len(payload) > LARGE:
        yield from decode_large(request.resource_spans, dimensions, "scope_spans")
    for owner, records, place in by_scope(request.resource_spans, dimensions, budget, "scope_spans", "spans"):
        if not records:
            yield None
        for index, raw in enumerate(records):
            since += len(raw)
            if (seen + index) % PACE == 0 or since > LARGE:
                since = 0
                yield None
            if len(raw) > LARGE:
                span, inside, counted = yield functools.partial(_large, raw)
                fragments.counted += counted
            else:
                span, inside = wire.Span.FromString(raw), None
            events, links = span.events, span.links
            if events or links:
                budget.take(len(events) + len(links), PART, "events and links")
            start = span.start_time_unix_nano
            trace_id = span.trace_id
            span_id = span.span_id
            parent = span.parent_span_id
            reason = _reason(window, start, trace_id, span_id, parent)
            if reason is not None:
                rejections.add(reason, place=f"{place}[{index}]")
                continue
            at = start // 1000
            end, name = span.end_time_unix_nano, span.name
            end_at = end // 1000
            encoded.append(
                b"".join(
                    (
                        _BEGIN(21, 8, at - POSTGRES_EPOCH_US, owner, 4, span.kind, 2, start - 1000 * at),
                        _END_TIME(8, end_at - POSTGRES_EPOCH_US, 2, end - 1000 * end_at) if end else _NO_TIME,
                        _IDS(32, hexlify(trace_id), 16, hexlify(span_id)),
                        id_or_null(parent, NO_SPAN_ID) if parent else NULL,
                        texts[span.trace_state],
                        texts[name] if name else _EMPTY_TEXT,
                        int8(flags) if (flags := span.flags) else NULL,
                        int4(span.status.code) + texts[span.status.message] if span.HasField("status") else NULL + NULL,
                        _inside(span, fragments) if inside is None else inside,
                    )
                )
            )
            intervals.add(start // interval_ns)
        seen += len(records)
    if encoded:
        rows.add("span", b"".join(encoded), len(encoded), intervals)


def _reason(window: TimeWindow, start: int, trace_id: bytes, span_id: bytes, parent_span_id: bytes) -> str | None:
    if not start:
        return NO_TIMESTAMP
    if len(trace_id) != 16 or trace_id == NO_TRACE_ID:
        return BAD_TRACE_ID
    if len(span_id) != 8 or span_id == NO_SPAN_ID or len(parent_span_id) not in (0, 8):
        return BAD_SPAN_ID
    return window.reason(start)


def _large(raw: bytes) -> tuple[Any, bytes, int]:
    """Decode a span that is large; return it with what `_inside` does, and how many values were counted."""
    check_parts(raw, trace_pb2.Span.DESCRIPTOR)
    span, fragments = wire.Span.FromString(raw), Fragments()
    return span, _inside(span, fragments), fragments.counted


def _inside(span: Any, fragments: Fragments) -> bytes:
    """Encode what repeats inside a span, its attributes, events and links, with the counts of those dropped."""
    events, links = span.events, span.links
    attributes, dropped = jsonb(fragments.object(span.attributes)), span.dropped_attributes_count
    if not (events or links or dropped or span.dropped_events_count or span.dropped_links_count):
        return attributes + _NOTHING_ELSE
    return b"".join(
        (
            attributes,
            int8_or_null(dropped),
            jsonb(_list(_event, wire.counted(events, "events"), fragments)) if events else NULL,
            int8_or_null(span.dropped_events_count),
            jsonb(_list(_link, wire.counted(links, "links"), fragments)) if links else NULL,
            int8_or_null(span.dropped_links_count),
        )
    )


def _list(encode: Any, items: Any, fragments: Fragments) -> bytes:
    return b"[" + b",".join([encode(item, fragments) for item in items]) + b"]"


def _event(raw: bytes, fragments: Fragments) -> bytes:
    event = wire.Event.FromString(raw)
    return b'{"time_unix_nano":%d,"name":%b,"attributes":%b,"dropped_attributes_count":%d}' % (
        event.time_unix_nano,
        string_json(event.name),
        fragments.object(event.attributes),
        event.dropped_attributes_count,
    )


def _link(raw: bytes, fragments: Fragments) -> bytes:
    link = wire.Link.FromString(raw)
    return (
        b'{"trace_id":"%b","span_id":"%b","trace_state":%b,"attributes":%b,"dropped_attributes_count":%d,"flags":%d}'
        % (
            id_text(link.trace_id, NO_TRACE_ID),
            id_text(link.span_id, NO_SPAN_ID),
            string_json(link.trace_state),
            fragments.object(link.attributes),
            link.dropped_attributes_count,
            link.flags,
        )
    )
