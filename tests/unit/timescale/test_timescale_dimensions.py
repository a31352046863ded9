"""Dimensions have the same key everywhere, and what is remembered of them is bounded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from hypothesis import given
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from exporters.timescale.dimensions import Dimensions, MetricContext, MetricKey, in_order
from tests.support.otlp_strategies import resources, scopes

LIMIT = 1_000


def attribute(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def metric(dimensions: Dimensions, name: str = "m") -> MetricContext:
    return dimensions.metric(1, 2, MetricKey(name, "gauge", "1", "", 0, False, ()))


def series(dimensions: Dimensions, context: MetricContext, number: int) -> int:
    raw = attribute("n", str(number)).SerializeToString()
    return dimensions.series(context, hash(raw), [raw])


def test_the_key_is_the_hash_that_the_manual_describes() -> None:
    """Other versions and other programs must compute the same key, so this one never changes."""
    canonical = json.dumps(["scope", "name", "", {}, 0, ""], separators=(",", ":")).encode()
    expected = int.from_bytes(hashlib.blake2b(canonical).digest()[:8], "big", signed=True)
    raw = InstrumentationScope(name="name").SerializeToString()
    assert Dimensions(LIMIT).scope(raw, "") == expected == -5661998177337796139


@given(resource=resources)
def test_the_order_of_attributes_does_not_matter(resource: Resource) -> None:
    turned = Resource()
    turned.CopyFrom(resource)
    turned.attributes.sort(key=lambda pair: pair.key, reverse=True)
    keys = [Dimensions(LIMIT).resource(each.SerializeToString(), "") for each in (resource, turned)]
    assert keys[0] == keys[1]


def test_absent_and_empty_are_different() -> None:
    dimensions = Dimensions(LIMIT)
    assert dimensions.resource(None, "") != dimensions.resource(b"", "")
    assert dimensions.scope(None, "") != dimensions.scope(b"", "")
    assert dimensions.resource(b"", "") != dimensions.resource(b"", "url")


@given(scope=scopes)
def test_every_process_computes_the_same_key(scope: InstrumentationScope) -> None:
    raw = scope.SerializeToString()
    assert Dimensions(LIMIT).scope(raw, "url") == Dimensions(LIMIT).scope(raw, "url")


def test_a_dimension_is_pending_until_it_is_stored() -> None:
    dimensions = Dimensions(LIMIT)
    key = dimensions.resource(b"", "")
    assert set(dimensions.pending()["resource"]) == {key}
    dimensions.resource(b"", "")
    assert set(dimensions.pending()["resource"]) == {key}
    dimensions.stored(dimensions.pending())
    assert dimensions.pending() == {}
    dimensions.resource(b"", "")
    assert dimensions.pending() == {}


def test_pending_rows_are_inserted_in_the_order_of_their_keys() -> None:
    dimensions = Dimensions(LIMIT)
    context = metric(dimensions)
    for n in range(100):
        series(dimensions, context, n)
    keys = [row[0] for row in in_order(dimensions.pending()["series"])]
    assert keys == sorted(keys)
    assert len(keys) == 100


def test_what_was_forgotten_is_declared_anew() -> None:
    dimensions = Dimensions(LIMIT)
    key = dimensions.resource(b"", "")
    dimensions.stored(dimensions.pending())
    generation = dimensions.generation
    dimensions.forget(7)
    assert dimensions.epoch == 7
    assert dimensions.generation == generation + 1
    assert dimensions.resource(b"", "") == key
    assert set(dimensions.pending()["resource"]) == {key}


def test_a_series_known_costs_one_look_up() -> None:
    dimensions = Dimensions(LIMIT)
    context = metric(dimensions)
    key = series(dimensions, context, 1)

    def never() -> Iterator[bytes]:
        raise AssertionError("the attributes were read again")
        yield b""

    raw = attribute("n", "1").SerializeToString()
    assert dimensions.series(context, hash(raw), never()) == key


def test_the_series_remembered_are_bounded() -> None:
    dimensions = Dimensions(LIMIT)
    for n in range(10 * LIMIT):
        series(dimensions, metric(dimensions, f"metric {n % 7}"), n)
        assert len(dimensions.series_known) <= LIMIT
    assert len(dimensions.series_known) > LIMIT // 4


def test_series_in_use_survive_those_that_ended() -> None:
    dimensions = Dimensions(LIMIT)
    used = series(dimensions, metric(dimensions), -1)
    for n in range(5 * LIMIT):
        series(dimensions, metric(dimensions, "of the past"), n)
        if n % (LIMIT // 4) == 0:
            dimensions.stored(dimensions.pending())
            assert series(dimensions, metric(dimensions), -1) == used
            assert "series" not in dimensions.pending()


def remembered(dimensions: Dimensions) -> int:
    """How many entries all its memories have together, but for the fragments, which have a bound of their own."""
    memories = [value for name, value in vars(dimensions).items() if name != "fragments"]
    return sum(len(memory) for memory in memories if isinstance(memory, dict | set))


def test_resources_and_scopes_remembered_are_bounded() -> None:
    dimensions = Dimensions(LIMIT)
    for n in range(10 * LIMIT):
        raw = Resource(attributes=[attribute("n", str(n))]).SerializeToString()
        dimensions.resource(raw, "")
        dimensions.scope(InstrumentationScope(name=str(n)).SerializeToString(), "")
        dimensions.stored(dimensions.pending())
    assert remembered(dimensions) <= 5 * LIMIT


def test_metrics_remembered_are_bounded() -> None:
    """Even those of which no point was ever accepted."""
    dimensions = Dimensions(LIMIT)
    for n in range(10 * LIMIT):
        metric(dimensions, f"metric {n}")
        dimensions.stored(dimensions.pending())
    assert remembered(dimensions) <= 5 * LIMIT
