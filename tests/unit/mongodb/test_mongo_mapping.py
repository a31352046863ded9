"""From a document to an event, and what of a document OTLP can carry."""

from __future__ import annotations

import math
import re
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import bson
import pytest
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from exporters.timescale.values import any_value_json
from receivers.mongodb.config import MappingSettings
from receivers.mongodb.errors import DocumentError
from receivers.mongodb.event import Event
from receivers.mongodb.mapping import identity, look_up, to_event
from receivers.mongodb.records import SCHEMA_URL, request, to_record
from receivers.mongodb.values import MAX_DEPTH, any_value

AT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
AT_NS = 1_772_368_215_250_000_000
DEFAULTS = MappingSettings()


def document(**changes: Any) -> dict[str, Any]:
    return {"_id": bson.ObjectId(), "source": "reading", "event_type": "book.opened", "timestamp": AT, **changes}


def event(settings: dict[str, Any] | None = None, **changes: Any) -> Event:
    return to_event(document(**changes), MappingSettings.model_validate(settings or {}), "reading")


def json_of(found: Any) -> str:
    return any_value_json(AnyValue.FromString(any_value(found, "body"))).decode()


@pytest.mark.parametrize(
    ("found", "unit", "nanoseconds"),
    [
        (AT, "ms", AT_NS),
        (AT.replace(tzinfo=None), "ms", AT_NS),
        (AT.astimezone(timezone(timedelta(hours=5))), "ms", AT_NS),
        ("2026-03-01T12:30:15.250Z", "ms", AT_NS),
        ("2026-03-01T12:30:15.250", "ms", AT_NS),
        ("2026-03-01 14:30:15.250+02:00", "ms", AT_NS),
        ("2026-03-01T12:30:15.250000123Z", "ms", AT_NS + 123),
        (AT_NS // 10**6, "ms", AT_NS),
        (bson.Int64(AT_NS // 10**6), "ms", AT_NS),
        (1772368215.25, "s", AT_NS),
        (1772368215.123457, "s", 1_772_368_215_123_457_000),
        (float(AT_NS // 10**6), "ms", AT_NS),
        (AT_NS // 10**3, "us", AT_NS),
        (AT_NS, "ns", AT_NS),
        (bson.Timestamp(AT_NS // 10**9, 7), "ms", AT_NS - 250_000_000),
        (DatetimeMS(AT_NS // 10**6), "ms", AT_NS),
    ],
)
def test_times_are_read_in_many_shapes(found: Any, unit: str, nanoseconds: int) -> None:
    assert event({"timestamp_unit": unit}, timestamp=found).time_unix_nano == nanoseconds


@pytest.mark.parametrize(
    "found",
    [True, "soon", "", [], {}, math.nan, math.inf, -1, 0, 2**70, DatetimeMS(2**60), datetime(1800, 1, 1, tzinfo=UTC)],
)
def test_what_is_no_time_is_said(found: Any) -> None:
    with pytest.raises(DocumentError, match=r"^timestamp: "):
        event(timestamp=found)


def test_without_a_time_the_object_id_tells_one() -> None:
    made = bson.ObjectId.from_datetime(AT)
    assert event(_id=made, timestamp=None).time_unix_nano == AT_NS - 250_000_000
    with pytest.raises(DocumentError, match="missing, and the document's _id tells no time"):
        event(_id="a", timestamp=None)


def test_a_path_is_a_key_or_leads_inside() -> None:
    found = {"meta": {"device": "tablet"}, "meta.device": "phone", "a": {"b": 1}, "text": "x"}
    assert (look_up(found, "meta.device"), look_up(found, "a.b")) == ("phone", 1)
    missing = look_up(found, "a.c")
    assert look_up(found, "text.length") is missing
    assert missing is not None


def test_parts_that_are_not_there_have_their_defaults() -> None:
    made = event(source=None)
    assert (made.body, made.attributes, made.resource) == (None, {}, {"service.name": "reading"})
    with pytest.raises(DocumentError, match="event_type: missing"):
        to_event({"_id": 1, "timestamp": AT}, DEFAULTS, "reading")
    with pytest.raises(DocumentError, match="source: expected a text, found an object"):
        event(source={})
    with pytest.raises(DocumentError, match="meta: expected an object, found an array"):
        event(meta=[])


def test_the_parts_of_a_document_are_where_the_settings_say() -> None:
    parts = {"meta": {"device": "tablet", "who": "?"}, "payload": {"user": 7, "page": 12}}
    made = event(**parts)
    assert (made.name, made.body, made.attributes) == ("book.opened", parts["payload"], parts["meta"])
    assert made.resource == {"service.name": "reading"}
    settings = {
        "attributes": {"who": "payload.user", "gone": "payload.gone"},
        "event_names": {"book.opened": "opened"},
        "resource": {"deployment.environment.name": "cellar"},
    }
    made = event(settings, source="app", **parts)
    assert (made.name, made.body) == ("opened", parts["payload"])
    assert made.attributes == {"device": "tablet", "who": 7}
    assert made.resource == {"service.name": "app", "deployment.environment.name": "cellar"}
    assert event({"attributes_from": None}, **parts).attributes == {}


@pytest.mark.parametrize("name", [7, "", None, {}, "x" * 10_000])
def test_what_is_no_name_is_said(name: Any) -> None:
    with pytest.raises(DocumentError, match=r"^event_type: "):
        event(event_type=name)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("é", '"é"'),
        (True, "true"),
        (bson.Int64(2**63 - 1), "9223372036854775807"),
        (2**63, '"9223372036854775808"'),
        (5.0, "5.0"),
        (math.nan, '{"$double":"NaN"}'),
        (None, "null"),
        ([1, "a", None], '[1,"a",null]'),
        ((), "[]"),
        ({}, "{}"),
        ({"a.b": {"c": []}}, '{"a.b":{"c":[]}}'),
        (bson.SON([("a", 1)]), '{"a":1}'),
        (b"\0\xff", '{"$bytes":"AP8="}'),
        (bson.Binary(b"\0\xff", 0), '{"$bytes":"AP8="}'),
        (bson.Binary.from_uuid(uuid.UUID(int=7)), '"00000000-0000-0000-0000-000000000007"'),
        (uuid.UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
        (bson.ObjectId("65a000000000000000000001"), '"65a000000000000000000001"'),
        (bson.Decimal128("12.50"), '"12.50"'),
        (AT, '"2026-03-01T12:30:15.250Z"'),
        (AT.astimezone(timezone(timedelta(hours=5))), '"2026-03-01T12:30:15.250Z"'),
        (AT.replace(tzinfo=None, microsecond=1), '"2026-03-01T12:30:15.000001Z"'),
        (DatetimeMS(2**60), str(2**60)),
        (bson.Timestamp(0, 1), '"1970-01-01T00:00:00.000Z"'),
        (bson.Regex("^a", "im"), '"/^a/im"'),
        (bson.Code("x"), '"x"'),
        (bson.DBRef("books", 7), '{"$kvlist":[["$id",7],["$ref","books"]]}'),
        (bson.MinKey(), '"MinKey"'),
    ],
)
def test_values_of_every_type(found: Any, expected: str) -> None:
    assert json_of(found) == expected


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"a": {1, 2}}, "body.a: a set cannot be sent"),
        ({1: "a"}, "body: the key 1 is not a text"),
        ([{"a": "\ud800"}], "body.0.a: not valid Unicode"),
        pytest.param(1 << 20_000, "body: an integer of 20001 bits", id="huge"),
        (object, "body: a type cannot be sent"),
    ],
)
def test_what_cannot_be_sent_is_said_with_its_place(found: Any, reason: str) -> None:
    with pytest.raises(DocumentError, match=re.escape(reason)):
        json_of(found)


def test_the_deepest_that_is_sent_can_be_read() -> None:
    nested: Any = "deep"
    for number in range(MAX_DEPTH):
        nested = {"in": nested} if number % 2 else [nested]
    serialized = any_value(nested, "body")
    assert AnyValue.FromString(serialized).SerializeToString() == serialized
    with pytest.raises(DocumentError, match="nested more than 30 deep"):
        json_of({"in": nested})


_found: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([0, 127, 128, -1, 2**63 - 1, -(2**63), bson.Int64(5), bson.Int64(-5)])
    | st.floats()
    | st.text()
    | st.sampled_from(["x" * size for size in (125, 126, 127, 128, 300)])
    | st.binary(max_size=200),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def _set(value: AnyValue, found: Any) -> None:
    """Set a value by protobuf's own library."""
    match found:
        case str():
            value.string_value = found
        case bool():
            value.bool_value = found
        case int():
            value.int_value = found
        case float():
            value.double_value = found
        case bytes():
            value.bytes_value = found
        case list():
            value.array_value.SetInParent()
            for inner in found:
                _set(value.array_value.values.add(), inner)
        case dict():
            value.kvlist_value.SetInParent()
            for key, inner in found.items():
                _set(value.kvlist_value.values.add(key=key).value, inner)


@given(found=_found)
def test_values_are_the_bytes_that_protobufs_library_writes(found: Any) -> None:
    value = AnyValue()
    _set(value, found)
    assert any_value(found, "body") == value.SerializeToString()


@pytest.mark.parametrize("key", ["k", "k" * 60, "k" * 118, "k" * 200, ""])
def test_texts_and_numbers_of_every_size_are_what_protobufs_library_writes(key: str) -> None:
    for size in (*range(140), 16_380, 16_400):
        for found in ({key: "x" * size}, {key: ["x" * size]}, {key: size}):
            value = AnyValue()
            _set(value, found)
            assert any_value(found, "body") == value.SerializeToString(), (key, size)


@given(body=_found, attributes=st.dictionaries(st.text(min_size=1, max_size=5), _found, max_size=3))
def test_requests_are_the_bytes_that_protobufs_library_writes(body: Any, attributes: dict[str, Any]) -> None:
    events = [Event("e", AT_NS, body, attributes, {"service.name": name}, 17) for name in ("a", "b", "x" * 200)]
    serialized = request(to_record(event, "uid") for event in events)
    message = ExportLogsServiceRequest.FromString(serialized)
    assert message.SerializeToString() == serialized
    record = message.resource_logs[2].scope_logs[0].log_records[0]
    assert (record.time_unix_nano, record.severity_number, record.event_name) == (AT_NS, 17, "e")
    assert {each.schema_url for each in (*message.resource_logs, message.resource_logs[0].scope_logs[0])} == {
        SCHEMA_URL
    }
    assert [each.key for each in record.attributes] == [*attributes, "log.record.uid"]
    wanted = AnyValue()
    _set(wanted, body)
    assert record.body.SerializeToString() == wanted.SerializeToString()


def test_identities_are_unique() -> None:
    an_id = bson.ObjectId()
    assert identity(an_id, "apps.events") == str(an_id)
    assert identity(uuid.UUID(int=7), "apps.events") == "00000000-0000-0000-0000-000000000007"
    of_the_driver = bson.Binary(uuid.UUID(int=7).bytes, 4)
    assert identity(of_the_driver, "apps.events") == "00000000-0000-0000-0000-000000000007"
    assert identity(bson.Binary(of_the_driver, 0), "apps.events").startswith("apps.events/")
    assert identity("a", "apps.events") == 'apps.events/"a"'
    others = [1, "1", 1.0, True, None, "null", {"a": 1}, {"a": "1"}, [1], b"1", AT, math.nan, str(an_id)]
    assert len({identity(each, "apps.events") for each in others}) == len(others)


def test_records_are_grouped_by_their_resource() -> None:
    events = [Event(f"e{number}", AT_NS, number, {}, {"service.name": f"app-{number % 2}"}) for number in range(4)]
    message = ExportLogsServiceRequest.FromString(request(to_record(each, each.name) for each in events))
    found = {
        owner.resource.attributes[0].value.string_value: [r.event_name for r in owner.scope_logs[0].log_records]
        for owner in message.resource_logs
    }
    assert found == {"app-0": ["e0", "e2"], "app-1": ["e1", "e3"]}
    record = message.resource_logs[0].scope_logs[0].log_records[0]
    assert {each.key: each.value.string_value for each in record.attributes} == {"log.record.uid": "e0"}
    assert record.observed_time_unix_nano > AT_NS


def test_a_transform_cannot_make_another_event_of_it() -> None:
    _, record = to_record(Event("a", AT_NS, attributes={"log.record.uid": "mine"}), "its own")
    attributes = LogRecord.FromString(record).attributes
    assert [each.value.string_value for each in attributes] == ["its own"]
    nonsense = Event("a", AT_NS, severity_number="INFO")  # type: ignore[arg-type]
    no_attribute, no_text = Event("a", AT_NS, attributes={"": 1}), Event("\ud800", AT_NS)
    for wrong in (Event("", AT_NS), Event("a", 0), no_attribute, no_text, nonsense):
        with pytest.raises(DocumentError):
            to_record(wrong, "uid")
