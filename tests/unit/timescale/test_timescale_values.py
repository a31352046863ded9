"""How OTLP values are written as JSON: the table in the manual of the store."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from exporters.timescale.values import Fragments, any_value_json, double_json, string_json
from exporters.timescale.values import _any_value_json as one_by_one
from tests.support.canonical import canonical, content
from tests.support.otlp_strategies import any_values, attributes, doubles
from tests.support.rebuild import any_value


def kvlist(*pairs: tuple[str, AnyValue]) -> AnyValue:
    return AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key=key, value=value) for key, value in pairs]))


def integer(value: int) -> AnyValue:
    return AnyValue(int_value=value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (AnyValue(), "null"),
        (AnyValue(string_value=""), '""'),
        (AnyValue(string_value='quote " and backslash \\'), r'"quote \" and backslash \\"'),
        (AnyValue(string_value="Grüße, 世界 😀"), '"Grüße, 世界 😀"'),
        (AnyValue(string_value="line\nbreak\x01"), '"line\\nbreak\\u0001"'),
        (AnyValue(bool_value=False), "false"),
        (AnyValue(bool_value=True), "true"),
        (integer(0), "0"),
        (integer(-(2**63)), "-9223372036854775808"),
        (integer(2**63 - 1), "9223372036854775807"),
        (AnyValue(double_value=0.0), "0.0"),
        (AnyValue(double_value=5.0), "5.0"),
        (AnyValue(double_value=0.1), "0.1"),
        (AnyValue(double_value=1e22), "10000000000000000000000.0"),
        (AnyValue(double_value=5e-324), "5e-324"),
        (AnyValue(double_value=-0.0), '{"$double":"-0"}'),
        (AnyValue(double_value=math.nan), '{"$double":"NaN"}'),
        (AnyValue(double_value=math.inf), '{"$double":"Infinity"}'),
        (AnyValue(double_value=-math.inf), '{"$double":"-Infinity"}'),
        (AnyValue(bytes_value=b""), '{"$bytes":""}'),
        (AnyValue(bytes_value=b"\x00\xff\xfe"), '{"$bytes":"AP/+"}'),
        (AnyValue(array_value=ArrayValue()), "[]"),
        (AnyValue(array_value=ArrayValue(values=[integer(1), AnyValue()])), "[1,null]"),
        (kvlist(), "{}"),
        (kvlist(("b", integer(2)), ("a", integer(1))), '{"a":1,"b":2}'),
        (kvlist(("", integer(1))), '{"":1}'),
        (kvlist(("$a", integer(1)), ("b", integer(2))), '{"$kvlist":[["$a",1],["b",2]]}'),
        (kvlist(("a", integer(1)), ("a", integer(2))), '{"$kvlist":[["a",1],["a",2]]}'),
        (kvlist(("a", kvlist(("$", integer(1))))), '{"a":{"$kvlist":[["$",1]]}}'),
    ],
)
def test_each_type_has_its_json(value: AnyValue, text: str) -> None:
    assert any_value_json(value).decode() == text


def test_nul_becomes_the_replacement_character() -> None:
    assert string_json("a\0b").decode() == '"a\ufffdb"'
    assert any_value_json(kvlist(("a\0", AnyValue(string_value="\0")))).decode() == '{"a\ufffd":"\ufffd"}'


@given(value=any_values)
def test_any_value_can_be_read_back(value: AnyValue) -> None:
    text = any_value_json(value)
    assert content(_as_body(any_value(json.loads(text)))) == content(_as_body(value))


@given(value=any_values)
def test_a_value_as_a_whole_is_written_like_its_parts_one_by_one(value: AnyValue) -> None:
    assert any_value_json(value) == one_by_one(value, value.WhichOneof("value"))


@pytest.mark.parametrize(
    "keys", [("a", "a b"), ("a", "a!"), ("a\x01", "a"), ("é", "z", "日"), ('"', "\\"), ("$", "a"), ("a\0",)]
)
def test_members_stand_in_the_order_of_their_keys_as_json(keys: tuple[str, ...]) -> None:
    value = kvlist(*((key, AnyValue(string_value=f"{key} \\u0000")) for key in keys))
    assert any_value_json(value) == one_by_one(value, "kvlist_value")


def _as_body(value: AnyValue) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add().body.CopyFrom(value)
    return canonical(request)


@given(value=doubles)
def test_a_double_never_looks_like_an_integer(value: float) -> None:
    assert isinstance(json.loads(double_json(value)), float | dict)


@given(value=any_values)
def test_equal_maps_have_equal_json_whatever_their_order(value: AnyValue) -> None:
    text = any_value_json(value)
    if value.WhichOneof("value") == "kvlist_value":
        value.kvlist_value.values.sort(key=lambda pair: pair.key, reverse=True)
    assert any_value_json(value) == text


def test_attributes_are_members_of_one_object() -> None:
    raw = [KeyValue(key=key, value=integer(n)).SerializeToString() for n, key in enumerate(["b", "$a", ""])]
    fragments = Fragments()
    assert fragments.object(raw) == b'{"b":0,"$a":1,"":2}'
    assert fragments.canonical(raw) == fragments.canonical(raw[::-1]) == b'{"":2,"$a":1,"b":0}'


@given(pairs=attributes)
def test_a_remembered_attribute_is_written_like_a_new_one(pairs: list[KeyValue]) -> None:
    raw = [pair.SerializeToString() for pair in pairs]
    fragments = Fragments(limit=2)
    first = fragments.object(raw)
    assert fragments.object(raw) == first == Fragments().object(raw)


def test_the_memory_of_attributes_is_bounded() -> None:
    fragments = Fragments(limit=10)
    for n in range(1000):
        raw = KeyValue(key=f"key {n}", value=integer(n)).SerializeToString()
        assert fragments.object([raw]) == b'{"key %d":%d}' % (n, n)
        assert len(fragments) <= 10


def test_attributes_in_use_outlast_those_that_come_once() -> None:
    fragments = Fragments(limit=10)
    used = KeyValue(key="used", value=integer(1)).SerializeToString()
    first = fragments[used]
    for n in range(1000):
        fragments.object([KeyValue(key=f"key {n}", value=integer(n)).SerializeToString(), used])
        assert fragments[used] is first, "it was decoded again"


def test_long_attributes_are_not_remembered() -> None:
    fragments = Fragments()
    fragments.object([KeyValue(key="k", value=AnyValue(string_value="x" * 300)).SerializeToString()])
    assert len(fragments) == 0
