"""A request that came before is not decoded again. That must never give other points than decoding it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from exporters.timescale import wire
from exporters.timescale.copy import Rows
from exporters.timescale.dimensions import Dimensions
from exporters.timescale.exporter import TimescaleExporter
from exporters.timescale.metrics import MetricsEncoder
from exporters.timescale.points import NumberPoints, concatenate
from exporters.timescale.rejections import Acceptance, Rejections
from exporters.timescale.sets import Sets
from exporters.timescale.templates import Templates
from gateway.base.slices import at_once
from gateway.component import Batch, MalformedPayloadError, Signal
from gateway.otlp import mending
from gateway.otlp.bounds import Budget
from tests.support.otlp_orders import ORDERS, Order, written
from tests.support.otlp_strategies import DAYS_BACK, metrics_requests
from tests.support.stores import settings
from tests.support.telemetry import now

NOW = now()
WINDOW = Acceptance(settings(accept={"past": f"{DAYS_BACK + 5}d"})).window(Signal.METRICS, NOW)
Arrays = tuple[list[Any], ...]


def encode(payload: bytes, dimensions: Dimensions) -> tuple[NumberPoints | None, Rows, set[str]]:
    """Encode a request; return its number points, everything else, and why others were left out."""
    rows, rejections = Rows(86_400_000_000), Rejections(Signal.METRICS)
    sets = Sets(dimensions, 0)  # none is declared: all points are rows
    list(MetricsEncoder(dimensions, sets, WINDOW, rows, rejections, Budget(len(payload))).encode(payload))
    reasons = set(rejections.outcome().message.partition(": ")[2].split("; "))
    return (concatenate(rows.points) if rows.points else None), rows, reasons


def said(payload: bytes, dimensions: Dimensions) -> tuple[Any, ...]:
    """Return all that comes of a request, in an order of its own."""
    points, rows, reasons = encode(payload, dimensions)
    arrays: list[Any] = []
    if points is not None:
        flags = np.zeros(len(points), np.uint32) if points.flags is None else points.flags
        its = (points.series, points.time, points.start, points.value, points.kind, flags)
        whose = [(points.metrics[at].metric_id, points.metrics[at].resource_id) for at in points.metric.tolist()]
        arrays = [array.tolist() for array in its] + [whose]
    others = {table: sorted(b"".join(chunks)) for table, chunks in rows.chunks.items()}
    return arrays, others, reasons, rows.count, rows.minutes, rows.intervals


def plain() -> Dimensions:
    """Return dimensions without templates."""
    dimensions = Dimensions(10_000)
    dimensions.templates = Templates(0)
    return dimensions


def later(request: ExportMetricsServiceRequest, seed: int) -> ExportMetricsServiceRequest:
    """Return what the same client sends some seconds later: other times and values, the rest as it was."""
    chance, copy = random.Random(seed), ExportMetricsServiceRequest()
    copy.CopyFrom(request)
    for point in number_points(copy):
        if point.time_unix_nano:
            point.time_unix_nano = chance.choice([point.time_unix_nano + seed, NOW - seed, 1, NOW + 10**17, 2**64 - 1])
        if point.start_time_unix_nano:
            point.start_time_unix_nano += chance.choice([0, -1, 1]) if point.start_time_unix_nano < 2**63 else -1
        if point.WhichOneof("value") == "as_double":
            point.as_double = chance.choice([0.5, -0.0, float("nan"), float("inf"), 5e-324, chance.random()])
        elif point.WhichOneof("value") == "as_int":
            point.as_int = chance.choice([0, -1, 2**63 - 1, -(2**63), 2**53 + 1, seed])
    return copy


def number_points(request: ExportMetricsServiceRequest) -> Sequence[Any]:
    return [
        point
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for data in (metric.gauge, metric.sum)
        for point in data.data_points
    ]


def collection(series: int = 6, **attributes: str) -> ExportMetricsServiceRequest:
    """Return what a host may send: gauges, counters, and a histogram between."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    for key, value in ({"host.name": "nas"} | attributes).items():
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_metrics.add()
    scope.scope.name = "host"
    load, seconds = scope.metrics.add(name="load"), scope.metrics.add(name="latency")
    disk = scope.metrics.add(name="disk.io", unit="By")
    disk.sum.is_monotonic, disk.sum.aggregation_temporality = True, 2
    seconds.histogram.data_points.add(time_unix_nano=NOW, count=3, bucket_counts=[1, 2], explicit_bounds=[0.5])
    for number in range(series):
        load.gauge.data_points.add(time_unix_nano=NOW, as_double=1.0).attributes.add(key="n").value.int_value = number
        counter = disk.sum.data_points.add(time_unix_nano=NOW, start_time_unix_nano=NOW - 10**12, as_int=number)
        counter.attributes.add(key="device").value.string_value = f"sd{number}"
    return request


@given(sent=metrics_requests, order=st.sampled_from([*ORDERS]), seed=st.integers(1, 10**9))
def test_a_request_that_came_before_says_what_it_would_say_decoded(
    sent: ExportMetricsServiceRequest, order: Order, seed: int
) -> None:
    dimensions, without = Dimensions(10_000), plain()
    for each in (sent, later(sent, seed), later(sent, seed + 1), later(sent, seed + 2)):
        payload = written(each, order)
        assert said(payload, dimensions) == said(payload, without)


@pytest.mark.parametrize("order", ORDERS)
def test_the_third_of_equal_collections_is_not_decoded(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails the others prove nothing: they would compare decoding with itself."""
    dimensions, without, sent = Dimensions(10_000), plain(), collection()
    for seed in (1, 2):
        for each in (dimensions, without):
            encode(written(later(sent, seed), order), each)
    expected = said(written(sent, order), without)
    monkeypatch.setattr(wire, "MetricsRequest", None)
    assert said(written(sent, order), dimensions) == expected
    assert len(expected[0][0]) == 12


@pytest.mark.parametrize("order", ORDERS)
def test_points_of_any_order_are_not_decoded_one_by_one_either(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    """While what a client sends changes from one request to the next."""
    dimensions = Dimensions(10_000)
    encode(written(collection(9), order), dimensions)
    monkeypatch.setattr(wire, "NumberPoint", None)
    for series in range(1, 9):
        payload = written(collection(series), order)
        assert encode(payload, dimensions)[1].count == 2 * series + 1
    assert not len(dimensions.templates)


CAPTURED = ("python", "go", "collector")


@pytest.mark.parametrize("client", CAPTURED)
def test_bytes_of_real_encoders_take_the_quick_way(client: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = (Path(__file__).parent / "captured" / f"{client}.bin").read_bytes()
    sent = ExportMetricsServiceRequest.FromString(raw)
    assert written(sent, client) == raw, "the other tests write what it writes"
    for point in number_points(sent):
        point.time_unix_nano = NOW
    payload = written(sent, client)
    dimensions, expected = Dimensions(10_000), said(payload, plain())
    for _ in range(2):
        assert said(payload, dimensions) == expected
    monkeypatch.setattr(wire, "NumberPoint", None)
    monkeypatch.setattr(wire, "MetricsRequest", None)
    assert said(payload, dimensions) == expected
    assert expected[3] == len(number_points(sent))


def test_what_lies_around_the_blanks_is_compared_whole() -> None:
    """Of every byte that is not a number of a point, another value is another request."""
    dimensions, payload = Dimensions(10_000), written(collection(2), "collector")
    for _ in range(2):
        encode(payload, dimensions)
    (template,) = dimensions.templates.all()
    numbers = sum(len(its) for its in template.places) * 8
    opaque = sum(each.end - each.begin for each in template.opaque)
    same = 0
    for at in range(len(payload)):
        changed = payload[:at] + bytes([payload[at] ^ 0x55]) + payload[at + 1 :]
        same += template.fit(changed) is not None
    assert same == numbers + opaque
    assert numbers == (2 * 2 + 2 * 3) * 8


def test_clients_that_differ_in_one_byte_of_their_resource_keep_their_own_series() -> None:
    """Equal in length, in their order and in all their slices that are looked up but one."""
    dimensions, without = Dimensions(10_000), plain()
    clients = [collection(**{"service.instance.id": f"{number:036}"}) for number in range(20)]
    for seed in range(1, 5):
        for client in clients:
            payload = written(later(client, seed), "go")
            assert said(payload, dimensions) == said(payload, without)
    assert len(dimensions.templates) == 20


def test_templates_are_of_one_generation_of_dimensions() -> None:
    dimensions, payload = Dimensions(10_000), written(collection(), "python")
    for _ in range(3):
        encode(payload, dimensions)
    dimensions.forget(7)
    assert not dimensions.templates.all()
    encode(payload, dimensions)
    assert dimensions.pending()["series"], "they are declared again"


def test_a_message_in_several_pieces_is_no_template() -> None:
    """A parser puts them together, or takes the last; what is counted by their places may be another point."""
    point = written(collection(1), "python")
    twice = collection(2)
    del twice.resource_metrics[0].scope_metrics[0].metrics[1]
    raw = twice.SerializeToString() + point
    dimensions, without = Dimensions(10_000), plain()
    for _ in range(4):
        assert said(raw, dimensions) == said(raw, without)


def test_templates_in_use_are_not_given_up_for_others() -> None:
    """With one more than there is room for, all but that one are found; the first in, first out would find none."""
    payloads = [written(collection(**{"host.id": f"{number}"}), "go") for number in range(12)]
    probe = Dimensions(10_000)
    for _ in range(2):
        encode(payloads[0], probe)
    dimensions = Dimensions(10_000)
    dimensions.templates = Templates(round(probe.templates.size * 10.5))
    for _ in range(30):
        for payload in payloads:
            encode(payload, dimensions)
    assert len(dimensions.templates) == 10
    assert sum(dimensions.templates.find(payload) is not None for payload in payloads) == 10


def test_a_collection_that_changes_by_one_series_is_learnt_at_once() -> None:
    """Where what the client sent before was found again."""
    dimensions, payload = Dimensions(10_000), written(collection(6), "go")
    for _ in range(3):
        encode(payload, dimensions)
    changed = written(collection(7), "go")
    encode(changed, dimensions)
    assert len(dimensions.templates) == 2
    for _ in range(100):
        encode(changed, dimensions)
    for series in range(8, 80):  # and never what changes each time
        encode(written(collection(series), "go"), dimensions)
    assert len(dimensions.templates) < 40


def test_what_does_not_come_any_more_makes_room() -> None:
    probe, payload = Dimensions(10_000), written(collection(), "go")
    for _ in range(2):
        encode(payload, probe)
    dimensions = Dimensions(10_000)
    dimensions.templates = Templates(round(probe.templates.size * 1.5))
    other = written(collection(**{"host.id": "1"}), "go")
    for each in [payload] * 3 + [other] * 60:
        encode(each, dimensions)
    assert dimensions.templates.find(other) is not None
    assert dimensions.templates.find(payload) is None
    assert len(dimensions.templates) == 1


def test_a_refusal_by_weight_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a request holds is weighed before it is worked on, found or decoded."""
    weights: list[int] = []
    monkeypatch.setattr(Budget, "take", lambda _, count, weight, what: weights.append(count * weight))
    dimensions, payload, taken = Dimensions(10_000), written(collection(), "collector"), []
    for _ in range(3):
        weights.clear()
        encode(payload, dimensions)
        taken.append(sum(weights))
    assert taken[0] == taken[1] == taken[2]


def prepare(exporter: TimescaleExporter, payload: bytes) -> Batch:
    batch = Batch.of(Signal.METRICS, payload)
    at_once(exporter._encode(batch))
    return batch


@pytest.mark.parametrize("points", [3, 500])
async def test_whether_others_can_read_a_request_is_known_from_one_of_its_shape(points: int) -> None:
    exporter = TimescaleExporter("timescale", settings(), "")
    request = ExportMetricsServiceRequest()
    gauge = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m").gauge
    for number in range(points):
        point = gauge.data_points.add(time_unix_nano=NOW, as_double=number)
        point.attributes.add(key="n").value.int_value = number
    payloads = [later(request, seed).SerializeToString() for seed in range(5)]
    for payload in payloads[:2]:
        prepare(exporter, payload)  # decoded: there is no template yet
    third = prepare(exporter, payloads[2])
    assert third.soundness.records is None, "nobody has looked at it"
    assert await mending.check(third) == points
    assert prepare(exporter, payloads[3]).soundness.records == points


async def test_nothing_is_known_of_a_request_whose_points_are_not_all_compared() -> None:
    exporter = TimescaleExporter("timescale", settings(), "")
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    for number in range(3):
        scope.metrics.add(name=f"m{number}").gauge.data_points.add(time_unix_nano=NOW, as_double=1)
    histogram = scope.metrics.add(name="h").histogram.data_points.add(time_unix_nano=NOW)
    histogram.attributes.add(key="n").value.string_value = "text"
    payload = request.SerializeToString()
    for _ in range(2):
        prepare(exporter, payload)
    assert len(exporter._dimensions.templates) == 1
    assert await mending.check(prepare(exporter, payload)) == 4
    assert prepare(exporter, payload).soundness.records is None
    with pytest.raises(MalformedPayloadError):
        await mending.check(prepare(exporter, payload.replace(b"text", b"t\xffxt")))
