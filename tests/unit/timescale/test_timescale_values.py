"""How OTLP values are written as JSON: the table in the manual of the store."""

from __future__ import annotations

import json
import math

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from exporters.timescale.values import Fragments, any_value_json, double_json, string_json
from exporters.timescale.values import _any_value_json as one_by_one
from tests.support.canonical import canonical, content
from tests.support.otlp_strategies import any_values, attributes, doubles, keys
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


@given(value=any_values)
def test_a_serialized_value_is_written_like_one_that_was_decoded(value: AnyValue) -> None:
    raw, fragments = value.SerializeToString(), Fragments(limit=2)
    assert fragments.value(raw) == any_value_json(value)
    assert fragments.value(raw) == any_value_json(value), "as remembered"


@pytest.mark.parametrize(
    "keys", [("a", "a"), ("$a",), ("b", '"$'), ("a", "a b", 'a"'), ("é", "z", "a\0", "a\ufffd"), ()]
)
def test_a_serialized_object_is_written_like_one_that_was_decoded(keys: tuple[str, ...]) -> None:
    value = kvlist(*((key, AnyValue(string_value='"$')) for key in keys))
    assert Fragments().value(value.SerializeToString()) == any_value_json(value)


def test_of_several_values_in_one_the_last_counts() -> None:
    raw = kvlist(("a", integer(1))).SerializeToString() + integer(2).SerializeToString()
    assert Fragments().value(raw) == b"2"


def test_what_is_nested_in_an_object_is_counted() -> None:
    fragments = Fragments()
    fragments.value(kvlist(*((f"key {n}", integer(n)) for n in range(100))).SerializeToString())
    assert fragments.counted >= 99


def _by_protobuf(raw: bytes) -> bytes | None:
    try:
        pair = KeyValue.FromString(raw)
    except DecodeError:
        return None
    return string_json(pair.key) + b":" + any_value_json(pair.value)


def _by_fragments(raw: bytes) -> bytes | None:
    try:
        return Fragments()[raw]
    except DecodeError:
        return None


@given(pair=st.builds(KeyValue, key=keys, value=any_values), at=st.integers(0, 200), byte=st.integers(0, 255))
def test_an_attribute_is_read_as_protobuf_reads_it(pair: KeyValue, at: int, byte: int) -> None:
    raw = bytearray(pair.SerializeToString())
    assert _by_fragments(bytes(raw)) == _by_protobuf(bytes(raw))
    if at < len(raw):
        raw[at] = byte
        assert _by_fragments(bytes(raw)) == _by_protobuf(bytes(raw)), "damaged"
    assert _by_fragments(bytes(raw[:at])) == _by_protobuf(bytes(raw[:at])), "cut short"


@pytest.mark.parametrize("size", [0, 1, 100, 115, 116, 117, 118, 119, 120, 125, 126, 127, 128, 200])
@pytest.mark.parametrize("key", ["", "k", "key", "k" * 117, "k" * 127, "k" * 128])
def test_texts_of_any_length_are_read(key: str, size: int) -> None:
    for value in (AnyValue(string_value="x" * size), AnyValue(double_value=size + 0.5)):
        raw = KeyValue(key=key, value=value).SerializeToString()
        assert Fragments()[raw] == string_json(key) + b":" + any_value_json(value)


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


def test_what_is_another_text_in_each_record_pushes_out_nothing_that_repeats() -> None:
    """Request ids and the like are most of what is new, and never come again."""
    fragments = Fragments(limit=100)
    repeated = [serialized("http.route", f"/{number}") for number in range(40)]
    for number in range(1_000):
        fragments.object([serialized("request.id", f"{number:x}"), *repeated])
    ids = [raw for raw in fragments if b"request.id" in raw]
    assert len(ids) <= 60, "what was remembered until it was noticed"
    kept = dict(fragments)
    fragments.object([serialized("request.id", "another"), serialized("http.route", "/3")])
    assert dict(fragments) == kept


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_text_means_the_same_however_it_is_found(key: str, value: str) -> None:
    fragments, expected = Fragments(), string_json(key) + b":" + string_json(value)
    for _ in range(3):
        assert fragments.object([serialized(key, value)]) == b"{" + expected + b"}"


def serialized(key: str, value: str) -> bytes:
    pair = KeyValue(key=key)
    pair.value.string_value = value
    return pair.SerializeToString()
