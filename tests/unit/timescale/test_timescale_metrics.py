"""Number points are encoded by thousands at once. That must never give other rows than reading them one by one."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import NumberDataPoint

from exporters.timescale import metrics
from exporters.timescale.copy import COLUMNS, Rows
from exporters.timescale.dimensions import Dimensions
from exporters.timescale.exporter import TimescaleExporter
from exporters.timescale.metrics import MetricsEncoder
from exporters.timescale.numbers import Numbers
from exporters.timescale.points import sample_rows
from exporters.timescale.rejections import Acceptance, Rejections
from exporters.timescale.sets import Sets
from exporters.timescale.templates import Templates
from gateway.component import Batch, MalformedPayloadError, Signal
from gateway.otlp.bounds import Budget
from tests.support.copies import fields
from tests.support.otlp_strategies import DAYS_BACK, metrics_requests, number_points
from tests.support.stores import prepare, settings
from tests.support.telemetry import now

NOW = now()
Encoded = tuple[dict[str, list[tuple[bytes | None, ...]]], set[str], set[int], dict[str, set[int]]]


def encode(*payloads: bytes, dimensions: Dimensions | None = None) -> Encoded:
    """Encode requests one after the other; return the sorted rows of each table, and what else comes of it."""
    dimensions = dimensions or Dimensions(10_000)
    window = Acceptance(settings(accept={"past": f"{DAYS_BACK + 5}d"})).window(Signal.METRICS, now())
    rows = Rows(86_400_000_000)
    rejections = Rejections(Signal.METRICS)
    for payload in payloads:
        budget = Budget(len(payload))
        list(MetricsEncoder(dimensions, Sets(dimensions, 0), window, rows, rejections, budget).encode(payload))
    all_chunks = dict(rows.chunks)
    if samples := [chunk for points in rows.points for chunk in sample_rows(points)]:
        all_chunks["sample"] = samples
    read = {
        table: sorted((row for chunk in chunks for row in fields(chunk, len(COLUMNS[table]))), key=repr)
        for table, chunks in all_chunks.items()
    }
    assert rows.count == sum(len(its_rows) for table, its_rows in read.items() if table != "exemplar")
    # The reasons with their counts. Those of equal counts may be told in any order.
    reasons = set(rejections.outcome().message.partition(": ")[2].split("; ")) - {""}
    return read, reasons, rows.minutes, rows.intervals


def one_by_one(*payloads: bytes) -> Encoded:
    """Encode requests with every number point decoded on its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "layout_of", lambda _: None)
        patch.setattr(Templates, "find", lambda *_: None)
        return encode(*payloads)


def field(number: int, kind: int, content: bytes) -> bytes:
    """Write a protobuf field: kind 1 is eight bytes, 2 is length-delimited, 0 a varint."""
    tag = bytes([number << 3 | kind])
    return tag + bytes([len(content)]) + content if kind == 2 else tag + content


def fixed64(number: int, value: int) -> bytes:
    return field(number, 1, struct.pack("<Q", value))


def double(value: float) -> bytes:
    return field(4, 1, struct.pack("<d", value))


def attribute(key: str, value: str = "x") -> bytes:
    return field(7, 2, KeyValue(key=key, value=AnyValue(string_value=value)).SerializeToString())


def request(*metrics_points: Sequence[bytes], kind: int = 5) -> bytes:
    """A request with one metric for each sequence of serialized points."""

    def delimited(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    its_metrics = b"".join(
        delimited(2, delimited(1, b"m%d" % n) + delimited(kind, b"".join(delimited(1, point) for point in points)))
        for n, points in enumerate(metrics_points)
    )
    return delimited(1, delimited(2, its_metrics))


TIME, START = fixed64(3, NOW), fixed64(2, NOW - 5)
A, B = attribute("a"), attribute("b")
COMMON = TIME + double(1.0) + A
COMMON_WITH_START = START + TIME + double(1.0) + A

KNOWN = [
    COMMON,
    COMMON_WITH_START,
    TIME + double(1.0),
    START + TIME + double(1.0),
    double(1.0) + TIME + A,
    double(1.0) + TIME + START + A,
    double(1.0) + START + TIME + A,
    START + TIME + A + double(1.0),
]
"""What encoders write. Source: captured from the SDKs for Python, Java, .NET and Go and from the Collector."""

UNUSUAL = {
    "fields out of order": A + double(2.0) + TIME,
    "value before time": double(2.0) + TIME + A,
    "attributes between": TIME + A + double(2.0),
    "start after value": TIME + double(2.0) + START + A,
    "time twice, the last counts": fixed64(3, 1) + TIME + double(2.0) + A,
    "value twice, the last counts": TIME + double(1.0) + double(2.0) + A,
    "another value in the tail": TIME + double(1.0) + A + fixed64(6, 7),
    "another time in the tail": TIME + double(2.0) + A + fixed64(3, NOW - 7),
    "explicit zero start": fixed64(2, 0) + TIME + double(2.0) + A,
    "explicit zero time": fixed64(3, 0) + double(2.0) + A,
    "flags": TIME + double(2.0) + A + field(8, 0, b"\x01"),
    "flags only": TIME + field(8, 0, b"\x01"),
    "flags before the value": TIME + field(8, 0, b"\x01") + double(2.0) + A,
    "explicit zero flags": TIME + double(2.0) + A + field(8, 0, b"\x00"),
    "no value": TIME + A,
    "no value, with start": START + TIME + A,
    "no attributes": TIME + double(2.0),
    "no attributes, with start": START + TIME + double(2.0),
    "nothing": b"",
    "no time": double(2.0) + A,
    "exemplars before attributes": TIME + double(2.0) + field(5, 2, fixed64(2, NOW) + field(3, 1, bytes(8))) + A,
    "exemplars after attributes": TIME + double(2.0) + A + field(5, 2, b""),
    "an exemplar whose value is last": double(2.0) + TIME + field(5, 2, field(3, 1, bytes(8))),
    "an exemplar whose value is last, and no time": double(2.0) + A + field(5, 2, field(3, 1, bytes(8))),
    "a field that nobody knows": TIME + double(2.0) + A + field(15, 2, b"?"),
    "an integer": TIME + fixed64(6, 2**64 - 1) + A,
    "an integer that no double holds": TIME + fixed64(6, 2**53 + 1) + A,
    "value, time, start": double(2.0) + TIME + START + A,
    "value, start, time": double(2.0) + START + TIME + A,
    "value last": START + TIME + A + double(2.0),
    "value last, without a start": TIME + A + B + double(2.0),
    "value last, without attributes": START + TIME + double(2.0),
    "all last": A + B + START + TIME + double(2.0),
    "start and value last": TIME + A + B + START + fixed64(6, 2**64 - 1),
    "attributes in another order": TIME + double(2.0) + B + A,
    "a tail that is another head": TIME + double(2.0) + TIME + double(3.0),
    "a head of nothing but starts": START + START + START,
    "the value's bytes look like tags": START + fixed64(2, 0x1919191919191919) + TIME + double(2.0),
}
BROKEN = {
    "a truncated time": TIME[:-1],
    "a truncated value": TIME + double(1.0)[:-3],
    "a truncated attribute": COMMON[:-1],
    "a head without its end": COMMON_WITH_START[:20],
    "a field of no kind": TIME + double(1.0) + b"\x3f",
    "attributes that are no attributes": TIME + double(1.0) + field(7, 2, b"\xff\xff"),
    "a group that does not end": TIME + double(1.0) + b"\x7b",
}


@given(sent=st.lists(metrics_requests, min_size=1, max_size=3))
def test_encoding_together_gives_the_rows_of_encoding_one_by_one(sent: list[ExportMetricsServiceRequest]) -> None:
    payloads = [each.SerializeToString() for each in sent]
    assert encode(*payloads) == one_by_one(*payloads)


@given(
    points=st.lists(number_points, min_size=1, max_size=12),
    times=st.lists(st.sampled_from([0, 1, NOW, NOW - 3 * 10**9, NOW + 10**15, 2**64 - 1]), min_size=12, max_size=12),
)
def test_rejections_are_the_same_too(points: list[NumberDataPoint], times: list[int]) -> None:
    sent = ExportMetricsServiceRequest()
    data = sent.resource_metrics.add().scope_metrics.add().metrics.add(name="m").gauge
    for point, time in zip(points, times, strict=False):
        point.time_unix_nano = time
        data.data_points.append(point)
    payload = sent.SerializeToString()
    assert encode(payload) == one_by_one(payload)


def test_most_points_are_encoded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails the others prove nothing: they would compare a way with itself."""

    def one(*_: Any) -> None:
        raise AssertionError("this point was decoded on its own")

    monkeypatch.setattr(Numbers, "decode", one)
    rows, *_ = encode(request(*([point] * 3 for point in KNOWN)), request([COMMON]))
    assert len(rows["sample"]) == 3 * len(KNOWN) + 1


@pytest.mark.parametrize("name", UNUSUAL)
@pytest.mark.parametrize("known", KNOWN)
def test_points_with_unusual_bytes_are_read_for_what_they_say(name: str, known: bytes) -> None:
    """First, in the middle and last among points whose series is known."""
    point = UNUSUAL[name]
    for points in ([point], [point, known, known], [known, point, known], [known, known, point], [point, point]):
        payloads = [request([known] * 2), request(points), request(points, [known], points, kind=7)]
        assert encode(*payloads) == one_by_one(*payloads)


def test_what_begins_a_point_and_what_ends_it_are_never_the_same_bytes() -> None:
    """Its key would be empty, as that of a point without attributes, and the last nine bytes begin like a value."""
    time = fixed64(3, NOW & ~0xFF00 | 0x2100)
    short = START + time + field(8, 0, b"\x01")
    assert short[-9] == 0x21
    payloads = [request([START + TIME + double(1.0)]), request([START + TIME + A + double(1.0), short])]
    assert encode(*payloads) == one_by_one(*payloads)


def test_an_unusual_point_says_what_protobuf_says() -> None:
    """The comparison above is between two ways of the exporter's own; this one is with the published classes."""
    for name, point in UNUSUAL.items():
        message = NumberDataPoint.FromString(point)
        rows, reasons, *_ = encode(request([COMMON, point]))
        samples = [dict(zip(COLUMNS["sample"], row, strict=True)) for row in rows["sample"]]
        if not message.time_unix_nano:
            assert reasons == {"1 without a timestamp (set time_unix_nano)"}, name
            continue
        (own,) = [sample for sample in samples if sample["value"] != struct.pack(">d", 1.0)]
        assert not reasons, name
        if message.WhichOneof("value") is None:
            assert own["value"] is None, name
            assert own["int_value"] is None, name
        elif message.WhichOneof("value") == "as_int":
            assert own["int_value"] == struct.pack(">q", message.as_int), name
            assert own["value"] == struct.pack(">d", message.as_int), name
        else:
            assert own["value"] == struct.pack(">d", message.as_double), name
        flags = own["flags"]
        assert (struct.unpack(">q", flags)[0] if flags else 0) == message.flags, name
        assert (own["start_time"] is not None) == (message.start_time_unix_nano != 0), name
        assert len(rows.get("exemplar", ())) == len(message.exemplars), name


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("known", KNOWN)
def test_broken_points_are_malformed_wherever_they_stand(name: str, known: bytes) -> None:
    point = BROKEN[name]
    with pytest.raises(DecodeError):
        NumberDataPoint.FromString(point)
    for points in ([point], [point, known], [known, point], [known, point, known]):
        dimensions = Dimensions(10_000)
        encode(request([known]), dimensions=dimensions)
        with pytest.raises(DecodeError):
            encode(request(points), dimensions=dimensions)
        # And nothing wrong was learnt from it.
        assert encode(request([known] * 2), dimensions=dimensions) == one_by_one(request([known] * 2))


def test_a_broken_point_makes_the_request_malformed() -> None:
    exporter = TimescaleExporter("timescale", settings(), "")
    with pytest.raises(MalformedPayloadError, match="not a valid ExportMetricsServiceRequest"):
        prepare(exporter, Batch.of(Signal.METRICS, request([COMMON, TIME[:-1]])))


@given(data=st.data())
def test_bytes_cut_or_changed_anywhere_are_never_misread(data: st.DataObject) -> None:
    point = data.draw(st.sampled_from([*KNOWN, COMMON + B]))
    at = data.draw(st.integers(0, len(point) - 1))
    changed = data.draw(
        st.sampled_from([point[:at], point[at:], point[:at] + point[at + 1 :]])
        | st.binary(min_size=1, max_size=1).map(lambda byte: point[:at] + byte + point[at + 1 :])
    )
    payloads = [
        request([COMMON, COMMON_WITH_START]),
        request([COMMON, changed, COMMON_WITH_START, changed], [point, changed, point]),
    ]
    try:
        expected: Encoded | None = one_by_one(*payloads)
    except DecodeError:
        expected = None
    try:
        actual: Encoded | None = encode(*payloads)
    except DecodeError:
        actual = None
    assert actual == expected


def test_points_of_one_series_have_one_series_whatever_their_form() -> None:
    """With and without a start, unusual or not, attributes in any order: the key is of what they say."""
    forms = [
        TIME + double(1.0) + A + B,
        TIME + double(1.0) + B + A,
        START + TIME + double(1.0) + A + B,
        A + TIME + B + double(1.0),
        TIME + fixed64(6, 1) + A + B,
    ]
    rows, *_ = encode(request(forms))
    assert len({row[1] for row in rows["sample"]}) == 1
    assert len(rows["sample"]) == len(forms)
