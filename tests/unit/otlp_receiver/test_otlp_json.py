"""OTLP/JSON: what is taken, what is refused, and that nothing is lost on the way to protobuf."""

import base64
import functools
import json
import math
import random
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway.component import ACCEPTED, MalformedPayloadError, Signal
from receivers.otlp import otlp_json
from receivers.otlp.otlp_json import MAX_DEPTH, to_protobuf
from receivers.otlp.quick_json import QuickJson

REQUESTS: dict[Signal, type[Message]] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
}


def request(signal: Signal, document: Any) -> Any:
    return REQUESTS[signal].FromString(to_protobuf(signal, json.dumps(document).encode()).payload)


def span(**fields: Any) -> Span:
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]}
    return request(Signal.TRACES, document).resource_spans[0].scope_spans[0].spans[0]


def metric(**fields: Any) -> Metric:
    document = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [fields]}]}]}
    return request(Signal.METRICS, document).resource_metrics[0].scope_metrics[0].metrics[0]


def log_record(**fields: Any) -> LogRecord:
    document = {"resourceLogs": [{"scopeLogs": [{"logRecords": [fields]}]}]}
    return request(Signal.LOGS, document).resource_logs[0].scope_logs[0].log_records[0]


def holding(signal: Signal, *records: Any) -> Any:
    """A request that has these records, or metrics, in one scope."""
    resources, scopes, items = {
        Signal.TRACES: ("resourceSpans", "scopeSpans", "spans"),
        Signal.METRICS: ("resourceMetrics", "scopeMetrics", "metrics"),
        Signal.LOGS: ("resourceLogs", "scopeLogs", "logRecords"),
    }[signal]
    return {resources: [{scopes: [{items: list(records)}]}]}


def body(value: Any) -> AnyValue:
    return log_record(body=value).body


def refused(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(MalformedPayloadError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


# Every message survives


@functools.cache
def messages(cls: type[Message], depth: int = 0) -> st.SearchStrategy[Message]:
    """Random messages of a published class, with any of its fields set. Made once: that costs as much as drawing."""
    fields = [field for field in cls.DESCRIPTOR.fields if depth <= 8 or field.message_type is None]
    chosen = st.lists(st.sampled_from(fields), max_size=5) if fields else st.just([])
    return _messages(cls, depth, chosen)


@functools.cache
def values_of(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    """What a field may hold: lists where it is repeated."""
    kind = field.message_type
    values = SCALARS[field.type] if kind is None else messages(kind._concrete_class, depth + 1)
    return st.lists(values, max_size=2) if field.is_repeated else values


@st.composite
def _messages(draw: st.DrawFn, cls: type[Message], depth: int, chosen: st.SearchStrategy[list[Any]]) -> Message:
    message: Any = cls()
    for field in draw(chosen):
        value = draw(values_of(field, depth))
        if field.is_repeated:
            getattr(message, field.name).extend(value)
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)
    return message


INT32 = st.integers(-(2**31), 2**31 - 1)
SCALARS = {
    FieldDescriptor.TYPE_STRING: st.text(st.characters(exclude_categories=["Cs"])),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=20),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_ENUM: INT32,
    FieldDescriptor.TYPE_INT32: INT32,
    FieldDescriptor.TYPE_SINT32: INT32,
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: st.integers(0, 2**64 - 1),
}


def encode(message: Message, spelling: random.Random) -> dict[str, Any]:
    """Write OTLP/JSON, choosing between the spellings that it allows."""
    document: dict[str, Any] = {}
    for field, value in message.ListFields():
        first, *rest = field.name.split("_")
        key = first + "".join(word[:1].upper() + word[1:] for word in rest)
        if field.is_repeated:
            document[key] = [encode_value(field, item, spelling) for item in value]
        else:
            document[key] = encode_value(field, value, spelling)
    if spelling.random() < 0.2:
        document["notInTheProto"] = {"of": ["this", "version"]}
    return document


def encode_value(field: FieldDescriptor, value: Any, spelling: random.Random) -> Any:
    if field.message_type is not None:
        return encode(value, spelling)
    if field.type == FieldDescriptor.TYPE_BYTES:
        if field.name.endswith("_id"):
            return spelling.choice([value.hex(), value.hex().upper()])
        encoder = spelling.choice([base64.standard_b64encode, base64.urlsafe_b64encode])
        return encoder(value).decode().rstrip(spelling.choice(["", "="]))
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return spelling.choice([value, repr(value)])
    if isinstance(value, int) and field.type not in (FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_ENUM):
        return spelling.choice([value, str(value), f"{value}.0"])
    return value


@pytest.mark.parametrize("signal", Signal)
@given(data=st.data(), spelling=st.randoms(use_true_random=False))
def test_any_message_survives(signal: Signal, data: st.DataObject, spelling: random.Random) -> None:
    message = data.draw(messages(REQUESTS[signal]))
    document = json.dumps(encode(message, spelling)).encode()
    # Compared as bytes, for NaN is not equal to itself; and JSON has but one of the many that protobuf can carry.
    unify_nans(message)
    assert to_protobuf(signal, document).payload == message.SerializeToString()


class KnownKeys(random.Random):
    """Spells as `encode` may, without keys that OTLP does not have."""

    getrandbits = random.Random.getrandbits  # by which it chooses, and not by what is said here

    def random(self) -> float:
        return 1.0


@pytest.mark.parametrize("signal", Signal)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_any_message_that_is_written_as_encoders_do_survives(signal: Signal, data: st.DataObject, seed: int) -> None:
    message = data.draw(messages(REQUESTS[signal]))
    document = json.dumps(encode(message, KnownKeys(seed))).encode()
    unify_nans(message)
    expected = message.SerializeToString()
    for _ in range(2):  # the second time with what is remembered of the first
        assert to_protobuf(signal, document).payload == expected


USUAL: dict[Signal, Any] = {
    Signal.LOGS: {
        "timeUnixNano": "1700000000000000001",
        "observedTimeUnixNano": "1700000000000000002",
        "severityNumber": 9,
        "severityText": "INFO",
        "body": {"stringValue": "a ünïcode body"},
        "attributes": [
            {"key": "text", "value": {"stringValue": "x"}},
            {"key": "count", "value": {"intValue": "-5"}},
            {"key": "number", "value": {"intValue": 5}},
            {"key": "share", "value": {"doubleValue": 0.5}},
            {"key": "flag", "value": {"boolValue": False}},
            {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "1"}]}}},
            {"key": "nothing", "value": {}},
        ],
        "droppedAttributesCount": 0,
        "flags": 1,
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "eventName": "clicked",
    },
    Signal.TRACES: {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "parentSpanId": "",
        "name": "GET /",
        "kind": 2,
        "startTimeUnixNano": "1700000000000000001",
        "endTimeUnixNano": "1700000000000000009",
        "attributes": [{"key": "http.response.status_code", "value": {"intValue": 200}}],
        "droppedAttributesCount": 0,
        "events": [
            {
                "timeUnixNano": "1700000000000000003",
                "name": "fetchStart",
                "attributes": [{"key": "n", "value": {"intValue": 1}}],
                "droppedAttributesCount": 0,
            }
        ],
        "droppedEventsCount": 0,
        "links": [{"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "attributes": []}],
        "droppedLinksCount": 0,
        "status": {"code": 0},
        "flags": 257,
    },
    Signal.METRICS: {
        "name": "http.requests",
        "description": "how many",
        "unit": "1",
        "sum": {
            "aggregationTemporality": 2,
            "isMonotonic": True,
            "dataPoints": [
                {
                    "attributes": [{"key": "route", "value": {"stringValue": "/"}}],
                    "startTimeUnixNano": "1700000000000000001",
                    "timeUnixNano": "1700000000000000009",
                    value: number,
                }
                for value, number in (("asInt", "-7"), ("asInt", 7), ("asDouble", 7), ("asDouble", 0.0))
            ],
        },
    },
}


@pytest.mark.parametrize("signal", Signal)
def test_what_sdks_write_is_not_walked_through_and_comes_out_the_same(
    signal: Signal, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = holding(signal, USUAL[signal], USUAL[signal])
    (resource,) = next(iter(document.values()))
    resource |= {"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}}
    payload = json.dumps(document).encode()
    with monkeypatch.context() as patched:
        patched.setattr(QuickJson, "transcode", lambda *_: None)
        walked = to_protobuf(signal, payload)
    monkeypatch.setattr(otlp_json, "_Transcoding", None)
    assert to_protobuf(signal, payload).payload == walked.payload
    assert to_protobuf(signal, payload).left_out is ACCEPTED


def test_one_odd_record_of_a_request_is_transcoded_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_json, "_Transcoding", None)
    odd = USUAL[Signal.LOGS] | {"severityNumber": "SEVERITY_NUMBER_WARN", "timeUnixNano": 1.7e18}
    told = request(Signal.LOGS, holding(Signal.LOGS, USUAL[Signal.LOGS], odd)).resource_logs[0].scope_logs[0]
    assert [(each.severity_number, each.time_unix_nano) for each in told.log_records] == [
        (9, 1_700_000_000_000_000_001),
        (13, 1_700_000_000_000_000_000),
    ]


def test_what_is_remembered_of_attributes_is_bounded() -> None:
    for first in range(0, 10_000, 100):
        numbers = range(first, first + 100)
        attributes = [{"key": f"n{number}", "value": {"stringValue": "x" * (number % 700)}} for number in numbers]
        assert [each.key for each in log_record(attributes=attributes).attributes] == [f"n{n}" for n in numbers]
    known = otlp_json._quick(False)._of_log
    assert 0 < len(known) <= 2048
    assert max(map(len, known)) <= 256


def unify_nans(message: Any) -> None:
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                unify_nans(each)
        elif field.type == FieldDescriptor.TYPE_DOUBLE and field.is_repeated:
            value[:] = [math.nan if math.isnan(each) else each for each in value]
        elif field.type == FieldDescriptor.TYPE_DOUBLE and math.isnan(value):
            setattr(message, field.name, math.nan)


def test_the_example_of_the_specification() -> None:
    """The span of opentelemetry-proto's ``examples/trace.json``."""
    read = span(
        traceId="5B8EFFF798038103D269B633813FC60C",
        spanId="EEE19B7EC3C1B174",
        parentSpanId="EEE19B7EC3C1B173",
        name="I'm a server span",
        startTimeUnixNano="1544712660000000000",
        endTimeUnixNano="1544712661000000000",
        kind=2,
        attributes=[{"key": "my.span.attr", "value": {"stringValue": "some value"}}],
    )
    assert read.trace_id.hex() == "5b8efff798038103d269b633813fc60c"
    assert read.parent_span_id.hex() == "eee19b7ec3c1b173"
    assert (read.end_time_unix_nano, read.kind) == (1544712661000000000, Span.SPAN_KIND_SERVER)
    assert read.attributes[0].value.string_value == "some value"


# Keys


def test_unknown_keys_are_ignored() -> None:
    assert span(name="kept", fromTheFuture={"a": [1]}).name == "kept"


def test_snake_case_keys_are_unknown_keys() -> None:
    assert span(name="kept", trace_id="00") == Span(name="kept")


def test_null_is_the_same_as_absent() -> None:
    assert span(name=None, attributes=None, status=None) == Span()
    assert metric(gauge=None, sum={}).WhichOneof("data") == "sum"


# Ids and bytes


def test_ids_are_hex_everywhere() -> None:
    assert span(links=[{"traceId": "aB", "spanId": "Cd"}]).links[0].span_id == b"\xcd"
    assert log_record(traceId="AB").trace_id == b"\xab"
    exemplars = metric(gauge={"dataPoints": [{"exemplars": [{"spanId": "0F"}]}]}).gauge.data_points[0].exemplars
    assert exemplars[0].span_id == b"\x0f"


@pytest.mark.parametrize("bad", ["xyz", "abc", "ab cd", "q83v", 12, ["ab"]])
def test_an_id_that_is_not_hex_is_malformed(bad: Any) -> None:
    message = refused(span, traceId=bad)
    assert message.startswith("resourceSpans[0].scopeSpans[0].spans[0].traceId: expected a hex string, found ")


@pytest.mark.parametrize("text", ["-_8=", "+/8=", "-_8", "+/8"])
def test_bytes_are_base64_in_either_alphabet(text: str) -> None:
    assert body({"bytesValue": text}).bytes_value == b"\xfb\xff"


@pytest.mark.parametrize("bad", ["a", "a*==", "é", 5])
def test_bytes_that_are_not_base64_are_malformed(bad: Any) -> None:
    assert "body.bytesValue: expected a base64 string" in refused(body, {"bytesValue": bad})


# Numbers


@pytest.mark.parametrize("spelled", [1000, "1000", 1000.0, "1000.0", "1e3", "10.00e2"])
def test_integers_may_be_spelled_in_several_ways(spelled: Any) -> None:
    assert log_record(timeUnixNano=spelled).time_unix_nano == 1000
    assert log_record(flags=spelled).flags == 1000
    assert body({"intValue": spelled}).int_value == 1000


def test_exponents_without_quotes_are_integers_too() -> None:
    payload, _ = to_protobuf(Signal.LOGS, b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":1e3}]}]}]}')
    logs = ExportLogsServiceRequest.FromString(payload)
    assert logs.resource_logs[0].scope_logs[0].log_records[0].time_unix_nano == 1000


def test_integers_keep_all_their_digits() -> None:
    assert body({"intValue": "9007199254740993"}).int_value == 9007199254740993
    assert body({"intValue": "9007199254740993.0"}).int_value == 9007199254740993
    assert body({"intValue": -(2**63)}).int_value == -(2**63)
    assert log_record(timeUnixNano=2**64 - 1).time_unix_nano == 2**64 - 1


def test_a_float_that_may_be_a_rounded_integer_out_of_range_is_malformed() -> None:
    """Some versions of msgspec decode -9223372036854775809 as the float -2^63."""
    assert "body.intValue: expected an integer" in refused(body, {"intValue": -(2.0**63)})


@pytest.mark.parametrize(
    "bad",
    [
        1.5,
        "1.5",
        "",
        " 1",
        "1 ",
        "+1",
        "0x10",
        "1_000",
        "\u0661",
        True,
        [1],
        {},
        2**63,
        str(2**63),
        -(2**63) - 1,
        "1e999999999",
    ],
)
def test_what_is_no_64_bit_integer_is_malformed(bad: Any) -> None:
    message = refused(body, {"intValue": bad})
    assert f"body.intValue: expected an integer from {-(2**63)} to {2**63 - 1}, found " in message


def test_integers_are_held_to_the_range_of_their_field() -> None:
    assert "expected an integer from 0 to 4294967295, found 4294967296" in refused(log_record, flags=2**32)
    assert "expected an integer from 0 to 18446744073709551615" in refused(log_record, timeUnixNano=-1)
    assert "expected an integer from 0 to 18446744073709551615" in refused(log_record, timeUnixNano=str(2**64))
    points = [{"scale": 2**31}]
    assert "dataPoints[0].scale" in refused(metric, exponentialHistogram={"dataPoints": points})


@pytest.mark.parametrize(
    ("spelled", "value"),
    [(1, 1.0), (0.5, 0.5), ("0.5", 0.5), ("-2E-3", -0.002), ("Infinity", math.inf), ("-Infinity", -math.inf)],
)
def test_doubles_may_be_numbers_or_strings(spelled: Any, value: float) -> None:
    assert body({"doubleValue": spelled}).double_value == value


def test_nan_is_a_double() -> None:
    assert math.isnan(body({"doubleValue": "NaN"}).double_value)


@pytest.mark.parametrize("bad", ["nan", "inf", "", "1,5", "1e400", 10**400, False, {}])
def test_what_is_no_double_is_malformed(bad: Any) -> None:
    refused(body, {"doubleValue": bad})


@pytest.mark.parametrize("bad", [0, 1, "true"])
def test_booleans_are_true_or_false_only(bad: Any) -> None:
    assert "body.boolValue: expected true or false" in refused(body, {"boolValue": bad})


@pytest.mark.parametrize("bad", [1, True, ["a"]])
def test_strings_are_strings_only(bad: Any) -> None:
    assert "name: expected a string" in refused(span, name=bad)


def test_enums_are_integers() -> None:
    assert span(kind=3).kind == Span.SPAN_KIND_CLIENT
    assert span(kind=77).kind == 77  # proto3 enums are open: a later version may know it
    assert "kind: expected a value of SpanKind, by its number" in refused(span, kind="3")


def test_enums_may_be_named() -> None:
    """Senders must not, and libraries of proto3 JSON do."""
    assert span(kind="SPAN_KIND_CLIENT").kind == Span.SPAN_KIND_CLIENT
    assert log_record(severityNumber="SEVERITY_NUMBER_INFO").severity_number == 9
    assert "severityNumber: expected" in refused(log_record, severityNumber="INFO")


# Presence


@pytest.mark.parametrize(
    ("value", "alternative"),
    [
        ({"intValue": "0"}, "int_value"),
        ({"stringValue": ""}, "string_value"),
        ({"boolValue": False}, "bool_value"),
        ({"doubleValue": 0}, "double_value"),
        ({"bytesValue": ""}, "bytes_value"),
        ({"arrayValue": {}}, "array_value"),
        ({"kvlistValue": {"values": []}}, "kvlist_value"),
        ({}, None),
    ],
)
def test_an_explicit_default_is_still_a_value(value: Any, alternative: str | None) -> None:
    assert body(value).WhichOneof("value") == alternative


def test_optional_fields_tell_zero_from_absent() -> None:
    def point(**fields: Any) -> HistogramDataPoint:
        return metric(histogram={"dataPoints": [fields]}).histogram.data_points[0]

    assert point(sum=0, min=0.0, max="0") == HistogramDataPoint(sum=0, min=0, max=0)
    assert point(sum=0).HasField("sum")
    assert not point().HasField("sum")


def test_of_a_oneof_given_twice_the_last_counts_as_in_the_collector() -> None:
    assert body({"stringValue": "one", "intValue": "2"}) == AnyValue(int_value=2)
    assert (
        body({"arrayValue": {"values": [{"intValue": "1"}]}, "kvlistValue": {}}).WhichOneof("value") == "kvlist_value"
    )
    assert body({"intValue": "2", "stringValue": None}) == AnyValue(int_value=2)
    assert metric(sum={}, gauge={}).WhichOneof("data") == "gauge"
    assert metric(gauge={}, sum={}, histogram=None).WhichOneof("data") == "sum"


def test_points_of_an_alternative_that_does_not_count_are_told_of() -> None:
    sums, gauges = {"dataPoints": [{}, {}]}, {"dataPoints": [{"asInt": "1"}]}
    document = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"sum": sums, "gauge": gauges}]}]}]}
    left_out = to_protobuf(Signal.METRICS, json.dumps(document).encode()).left_out
    assert left_out.rejected == 2
    assert left_out.message == (
        "2 data points passed over: resourceMetrics[0].scopeMetrics[0].metrics[0].sum: "
        "only one alternative of 'data' counts, and gauge is the last"
    )


@pytest.mark.parametrize(
    ("signal", "record", "complaint"),
    [
        (Signal.LOGS, {"body": {"stringValue": "", "intValue": 1}}, "body.intValue: only one alternative of 'value'"),
        (Signal.LOGS, {"severityNumber": "SEVERITY_NUMBER_INFO"}, "severityNumber: expected a value of SeverityNumber"),
        (Signal.TRACES, {"kind": "SPAN_KIND_SERVER"}, "kind: expected a value of SpanKind, by its number"),
        (Signal.METRICS, {"gauge": {}, "sum": {}}, "metrics[0].sum: only one alternative of 'data'"),
    ],
)
def test_strictness_keeps_to_the_letter_of_the_specification(signal: Signal, record: Any, complaint: str) -> None:
    document = json.dumps(holding(signal, record)).encode()
    to_protobuf(signal, document)
    with pytest.raises(MalformedPayloadError) as caught:
        to_protobuf(signal, document, strict=True)
    assert complaint in str(caught.value)
    ((place, description),) = caught.value.violations
    assert f"{place}: {description}" == str(caught.value)


def test_strictness_costs_only_the_record_it_is_about() -> None:
    records = [{"body": {"stringValue": "kept"}}, {"severityNumber": "SEVERITY_NUMBER_INFO"}]
    transcoded = to_protobuf(Signal.LOGS, json.dumps(holding(Signal.LOGS, *records)).encode(), strict=True)
    assert transcoded.left_out.rejected == 1
    assert b"kept" in transcoded.payload


# Keys that were meant for something


@pytest.mark.parametrize(
    ("signal", "document", "said"),
    [
        (
            Signal.TRACES,
            {"resource_spans": [{"scope_spans": [{"spans": [{}, {}]}]}]},
            "2 spans passed over: resource_spans: keys are lowerCamelCase, so write resourceSpans",
        ),
        (
            Signal.LOGS,
            {"resourceLogs": [{"scopeLogs": [{"log_records": [{}]}]}]},
            "1 log records passed over: resourceLogs[0].scopeLogs[0].log_records: "
            "keys are lowerCamelCase, so write logRecords",
        ),
        (
            Signal.TRACES,
            {"resourceSpans": [{"instrumentationLibrarySpans": [{"spans": [{}]}]}]},
            "1 spans passed over: resourceSpans[0].instrumentationLibrarySpans: "
            "a former version of OTLP had it; now there is scopeSpans",
        ),
        (
            Signal.LOGS,
            {"resource_logs": [{"instrumentation_library_logs": [{"logs": [{}, {}, {}]}]}]},
            "3 log records passed over: resource_logs: keys are lowerCamelCase, so write resourceLogs",
        ),
        (
            Signal.METRICS,
            {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"intGauge": {"dataPoints": [{}]}}]}]}]},
            "1 data points passed over: resourceMetrics[0].scopeMetrics[0].metrics[0].intGauge: "
            "a former version of OTLP had it; now there is gauge",
        ),
        (
            Signal.METRICS,
            {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"sum": {"data_points": [{}]}}]}]}]},
            "1 data points passed over: resourceMetrics[0].scopeMetrics[0].metrics[0].sum.data_points: "
            "keys are lowerCamelCase, so write dataPoints",
        ),
    ],
)
def test_records_under_keys_that_are_not_otlps_are_told_of(signal: Signal, document: Any, said: str) -> None:
    left_out = to_protobuf(signal, json.dumps(document).encode()).left_out
    assert left_out.message == said
    assert left_out.rejected == int(said.split()[0])


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"resourceLogs": [{"scopeLogs": []}]}, "passed over: resourceLogs: send that to /v1/logs"),
        (
            {"spans": [{"traceId": "00"}]},
            'passed over: the body: it has no "resourceSpans", so nothing of it is stored',
        ),
        ({}, ""),
        ({"resourceSpans": []}, ""),
        ({"resourceSpans": [{"scopeSpans": [{"spans": [{"fromTheFuture": 1}]}], "fromTheFuture": 1}]}, ""),
    ],
)
def test_a_body_of_which_nothing_is_stored_is_told_of(document: Any, said: str, strict: bool) -> None:
    for spaces in (None, 2):
        body = json.dumps(document, indent=spaces).encode()
        left_out = to_protobuf(Signal.TRACES, body, strict=strict).left_out
        assert (left_out.rejected, left_out.message) == (0, said)


def test_snake_case_inside_a_record_is_told_of() -> None:
    records = [{"time_unix_nano": "1", "body": {"string_value": "a"}}, {"time_unix_nano": "2", "body": {}}]
    transcoded = to_protobuf(Signal.LOGS, json.dumps(holding(Signal.LOGS, *records)).encode())
    assert transcoded.left_out.rejected == 0
    assert transcoded.left_out.message == (
        "passed over: time_unix_nano (2 of them): keys are lowerCamelCase, so write timeUnixNano; "
        "string_value (1 of them): keys are lowerCamelCase, so write stringValue"
    )
    assert to_protobuf(Signal.LOGS, json.dumps(holding(Signal.LOGS, {})).encode()).left_out.message == ""


# Structure


def test_the_path_of_an_error_leads_to_it() -> None:
    good = {"gauge": {"dataPoints": []}}
    bad = {"gauge": {"dataPoints": [{}, {"timeUnixNano": "noon"}]}}
    scopes = [{}, {}, {"metrics": [bad, good]}]
    document = json.dumps({"resourceMetrics": [{"scopeMetrics": scopes}]}).encode()
    left_out = to_protobuf(Signal.METRICS, document).left_out
    assert left_out.rejected == 1
    assert left_out.message == (
        "1 data points rejected: resourceMetrics[0].scopeMetrics[2].metrics[0].gauge.dataPoints[1].timeUnixNano: "
        'expected an integer from 0 to 18446744073709551615, found "noon"'
    )


def test_the_path_of_an_error_in_an_array_of_numbers_has_its_index() -> None:
    points = [{"bucketCounts": ["1", "2", None]}]
    message = refused(metric, histogram={"dataPoints": points})
    assert "dataPoints[0].bucketCounts[2]: expected an integer" in message


def test_a_shape_that_does_not_fit_is_malformed() -> None:
    assert refused(request, Signal.LOGS, []) == "the body: expected an object, found an array"
    assert refused(request, Signal.LOGS, None) == "the body: expected an object, found null"
    assert refused(request, Signal.LOGS, {"resourceLogs": {}}).startswith("resourceLogs: expected an array")
    assert refused(request, Signal.LOGS, {"resourceLogs": [None]}).startswith("resourceLogs[0]: expected an object")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"{} {}",
        b"{'resourceLogs': []}",
        b'{"resourceLogs": "\xff"}',
        b'{"resourceLogs": NaN}',
        b"\x0a\x00",
    ],
)
def test_what_is_not_json_is_malformed(document: bytes) -> None:
    assert refused(to_protobuf, Signal.LOGS, document).startswith("the body is not valid JSON: ")


def test_a_long_value_is_shortened_in_the_error() -> None:
    assert len(refused(body, {"intValue": "x" * 100_000})) < 300


# Depth


def nested(arrays: int) -> Any:
    value: Any = {"intValue": 1}
    for _ in range(arrays):
        value = {"arrayValue": {"values": [value]}}
    return value


# A body is the 4th message inside its request, an attribute's value the 5th, and each array adds two: with this many
# arrays the innermost value is number 100 in a body and number 101 in an attribute.
ARRAYS = (MAX_DEPTH - 4) // 2


def test_the_deepest_request_taken_can_be_parsed() -> None:
    value = body(nested(ARRAYS))
    for _ in range(ARRAYS):
        value = value.array_value.values[0]
    assert value.int_value == 1


def test_one_message_deeper_is_malformed() -> None:
    message = refused(log_record, attributes=[{"key": "deep", "value": nested(ARRAYS)}])
    assert "nested too deeply, expected at most 100 messages inside each other" in message
    assert len(message) < 500


def test_the_limit_is_protobufs_own() -> None:
    logs = ExportLogsServiceRequest()
    value = logs.resource_logs.add().scope_logs.add().log_records.add().attributes.add().value
    for _ in range(ARRAYS):
        value = value.array_value.values.add()
    with pytest.raises(DecodeError):
        ExportLogsServiceRequest.FromString(logs.SerializeToString())


def test_json_too_deep_to_be_decoded_is_malformed() -> None:
    assert refused(to_protobuf, Signal.LOGS, b"[" * 30_000) == "the body is nested too deeply"


def test_keys_that_are_not_known_cost_next_to_nothing() -> None:
    """They are passed over where they stand, not made into something first."""
    unknown = b",".join(b'"k%d":[]' % number for number in range(1_000))
    body = b'{%s,"resourceLogs":[{%s,"scopeLogs":[{%s,"logRecords":[{"body":{"stringValue":"a"}}]}]}]}'
    request = ExportLogsServiceRequest.FromString(to_protobuf(Signal.LOGS, body % ((unknown,) * 3)).payload)
    assert request.resource_logs[0].scope_logs[0].log_records[0].body.string_value == "a"


def test_a_record_of_too_many_values_is_left_out_and_its_neighbours_are_not() -> None:
    numbers = b",".join([b"1"] * 600_000)
    point = b'{"timeUnixNano":"1","count":"1","bucketCounts":[%s]}'
    body = b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"a","histogram":{"dataPoints":[%s,%s]}}]}]}]}'
    found = to_protobuf(Signal.METRICS, body % (point % numbers, point % b"1"))
    assert found.left_out.rejected == 1
    assert "dataPoints[0]: it has more than 500000 values" in found.left_out.message


def test_what_surrounds_records_is_bounded_as_they_are() -> None:
    attributes = b",".join([b'{"value":{}}'] * 60_000)
    body = b'{"resourceLogs":[{"resource":{"attributes":[%s]},"scopeLogs":[{"logRecords":[{}]}]}]}' % attributes
    with pytest.raises(MalformedPayloadError, match="resource: it has more than 100000 objects and arrays"):
        to_protobuf(Signal.LOGS, body)
