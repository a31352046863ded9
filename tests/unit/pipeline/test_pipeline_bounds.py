"""What a request may cost once it is decoded, however small it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from exporters.timescale.exporter import TimescaleExporter
from gateway.component import Batch, MalformedPayloadError, OverloadedError, Signal, TooLargeError
from gateway.otlp import bounds, mending, splitting
from gateway.otlp.bounds import Budget, InFlight
from gateway.otlp.wire_format import length_delimited
from receivers.otlp.otlp_json import to_protobuf
from tests.support.stores import settings
from tests.support.telemetry import gauge, logs, now, spans

EMPTY = b"\x12\0"


def scopes(count: int, records: int) -> Batch:
    return Batch.of(Signal.LOGS, length_delimited(1, length_delimited(2, EMPTY * records) * count))


def described(entries: int, key: str = "", sound: bytes = b"") -> Batch:
    """A gauge of one point with much metadata, and a request beside it."""
    point = length_delimited(5, length_delimited(1, b""))
    metric = length_delimited(1, b"m") + length_delimited(12, length_delimited(1, key.encode())) * entries + point
    return Batch.of(Signal.METRICS, length_delimited(1, length_delimited(2, length_delimited(2, metric))) + sound)


@pytest.mark.parametrize(
    "batch",
    [
        scopes(1, 200_000),
        scopes(34, 20_000),
        Batch.of(Signal.TRACES, length_delimited(1, EMPTY * 200_000)),
        Batch.of(Signal.METRICS, b"\x0a\0" * 200_000),
        Batch.of(Signal.METRICS, length_delimited(1, length_delimited(2, EMPTY * 200_000))),
        Batch.of(
            Signal.METRICS,
            length_delimited(1, length_delimited(2, length_delimited(2, length_delimited(11, b"\x0a\0" * 200_000)))),
        ),
    ],
    ids=["records", "records of many scopes", "scopes", "resources", "metrics", "data points"],
)
@pytest.mark.parametrize("prepare", [TimescaleExporter("timescale", settings(), "").prepare, mending.check])
async def test_what_repeats_is_bounded_in_all(prepare: Callable[[Batch], Awaitable[object]], batch: Batch) -> None:
    with pytest.raises(TooLargeError, match=r"holds too much to decode: with its .* send smaller batches"):
        await prepare(batch)


@pytest.mark.parametrize("batch", [scopes(34, 240_000), described(1_000_000)], ids=["records", "metadata"])
async def test_a_large_request_of_nothing_but_empty_parts_is_found_before_it_is_parsed(batch: Batch) -> None:
    with pytest.raises(TooLargeError):
        await bounds.check(batch)


async def test_a_metric_with_too_much_metadata_is_rejected_alone() -> None:
    batch = described(50_001, "some key", sound=gauge([1.0]).payload)
    prepare = TimescaleExporter("timescale", settings(), "").prepare
    with pytest.raises(MalformedPayloadError, match="a metric of the request has more than 50000 entries of metadata"):
        await prepare(batch)
    mended, outcome = await mending.mend_batch(batch)
    assert (outcome.rejected, (await prepare(mended)).records) == (1, 1)
    assert "metrics[0]: it has more than 50000 entries of metadata" in outcome.message


@pytest.mark.parametrize(
    "batch", [scopes(1, 8_000), logs(*["a"] * 50_000), spans(*["a"] * 20_000), gauge([1.0] * 50_000)]
)
async def test_what_says_something_is_taken(batch: Batch) -> None:
    await bounds.check(batch)
    await mending.check(batch)


async def test_a_request_to_be_mended_is_weighed_too() -> None:
    broken = length_delimited(1, length_delimited(2, length_delimited(2, b"\x1a\x01\xff")))
    with pytest.raises(TooLargeError):
        await mending.mend(Signal.LOGS, broken + scopes(1, 200_000).payload)


async def test_a_large_request_of_line_breaks_is_taken() -> None:
    await bounds.check(logs(*["\n" * 100_000] * 20))


@pytest.mark.parametrize("payload", [b"\xff" * 100_000, b"\x0a\xff\xff\xff\x7f" * 20_000, b"\x0a\x12" * 600_000])
async def test_what_cannot_be_read_is_found_elsewhere(payload: bytes) -> None:
    await bounds.check(Batch.of(Signal.LOGS, payload))


# -- what records hold -------------------------------------------------------------------------------------------------

NOW = b"\x09" + now().to_bytes(8, "little")
POINT_NOW = b"\x19" + now().to_bytes(8, "little")
ARRAY = length_delimited(5, b"\x0a\0" * 2_000)  # of values of nothing


def log_of(inside: bytes) -> Batch:
    return Batch.of(Signal.LOGS, length_delimited(1, length_delimited(2, length_delimited(2, NOW + inside) * 20)))


def span_of(inside: bytes) -> Batch:
    ids = length_delimited(1, b"\1" * 16) + length_delimited(2, b"\1" * 8) + b"\x39" + now().to_bytes(8, "little")
    return Batch.of(Signal.TRACES, length_delimited(1, length_delimited(2, length_delimited(2, ids + inside) * 20)))


def points_of(kind: int, inside: Callable[[int], bytes]) -> Batch:
    points = b"".join(length_delimited(1, POINT_NOW + inside(number)) for number in range(20))
    metric = length_delimited(1, b"m") + length_delimited(kind, points)
    return Batch.of(Signal.METRICS, length_delimited(1, length_delimited(2, length_delimited(2, metric))))


def others(field: int) -> Callable[[int], bytes]:
    """Many attributes, other ones in each point, since those of a series that is known are not decoded."""
    return lambda number: length_delimited(field, b"\x0a\0") * (2_000 + number)


REPEATED = {
    "attributes of log records": log_of(length_delimited(6, b"") * 2_000),
    "values in an attribute": log_of(length_delimited(6, length_delimited(2, ARRAY))),
    "values in a body": log_of(length_delimited(5, ARRAY)),
    "attributes of spans": span_of(length_delimited(9, b"") * 2_000),
    "events": span_of(length_delimited(11, b"") * 2_000),
    "attributes of events": span_of(length_delimited(11, length_delimited(3, b"") * 2_000)),
    "links": span_of(length_delimited(13, b"") * 2_000),
    "attributes of links": span_of(length_delimited(13, length_delimited(4, b"") * 2_000)),
    "attributes of a sum": points_of(7, others(7)),
    "attributes of a histogram": points_of(9, others(9)),
    "exemplars": points_of(7, lambda _: length_delimited(5, b"") * 2_000),
    "attributes of exemplars": points_of(7, lambda _: length_delimited(5, length_delimited(7, b"") * 2_000)),
    "buckets": points_of(10, lambda _: length_delimited(8, length_delimited(2, bytes(4_000)))),
    "quantiles": points_of(11, lambda _: length_delimited(6, b"") * 2_000),
}


@pytest.fixture
def low_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds in the same proportion for small requests that those have which are large by default."""
    monkeypatch.setattr(bounds, "_ALWAYS", 2**14)
    monkeypatch.setattr(bounds, "_PROPORTION", 10)


@pytest.mark.usefixtures("low_bounds")
@pytest.mark.parametrize("batch", REPEATED.values(), ids=REPEATED)
async def test_what_repeats_inside_records_is_bounded_over_the_whole_request(batch: Batch) -> None:
    with pytest.raises(TooLargeError, match="holds too much to decode"):
        await TimescaleExporter("timescale", settings(), "").prepare(batch)


@pytest.mark.usefixtures("low_bounds")
@pytest.mark.parametrize("batch", [log_of(b""), span_of(b""), *map(points_of, (7, 9, 10, 11), [lambda _: b""] * 4)])
async def test_records_that_hold_little_are_taken(batch: Batch) -> None:
    assert (await TimescaleExporter("timescale", settings(), "").prepare(batch)).records == 20


async def test_a_request_may_weigh_as_much_as_the_bound_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = log_of(length_delimited(6, b"") * 2_000)
    weight = (1 + 1 + 20) * bounds.RECORD + 20 * 2_000 * bounds.ATTRIBUTE
    monkeypatch.setattr(bounds, "most_weight", lambda size: weight)
    assert (await TimescaleExporter("timescale", settings(), "").prepare(batch)).records == 20
    monkeypatch.setattr(bounds, "most_weight", lambda size: weight - 1)
    with pytest.raises(TooLargeError):
        await TimescaleExporter("timescale", settings(), "").prepare(batch)


@pytest.mark.parametrize("size", [2**10, 2**20, 2**24, 2**26])
def test_what_a_request_of_any_size_may_weigh(size: int) -> None:
    most = bounds.most_weight(size)
    assert max(4 * 2**20, 12 * size) <= most <= max(4 * 2**20, 32 * size)
    Budget(size).take(1, most, "records")
    with pytest.raises(TooLargeError):
        Budget(size).take(1, most + 1, "records")


def test_the_parts_of_a_request_weigh_no_more_together_than_the_whole() -> None:
    whole = 2**24
    for parts in (4, 8):
        budgets = [Budget(whole // parts, whole) for _ in range(parts)]
        for budget in budgets:
            budget.take(1, bounds.most_weight(whole) // parts, "records")
            with pytest.raises(TooLargeError):
                budget.take(1, 1, "records")


def test_a_request_is_not_cut_into_more_records_than_it_may_have() -> None:
    batch = scopes(1, 20_000)
    with pytest.raises(TooLargeError):
        splitting.cut(Signal.LOGS, batch.payload, 1_000, Budget.of(batch))
    assert len(splitting.cut(Signal.LOGS, scopes(1, 10_000).payload, 1_000, Budget.of(batch))) > 10


def test_records_of_json_are_weighed_before_they_are_made() -> None:
    """One in seven bytes is not too many objects, and too many records."""
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b{}]}]}]}' % (b'{"":1},' * 40_000)
    with pytest.raises(TooLargeError, match="with its log records about"):
        to_protobuf(Signal.LOGS, body)
    assert to_protobuf(Signal.LOGS, body.replace(b'{"":1},' * 30_000, b"")).payload.count(b"\x12\0") > 9_000


@pytest.mark.parametrize("size", [100, 2_000])
def test_json_is_bounded_in_proportion_too(size: int) -> None:
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b{}]}]}]}' % (b"{}," * (size * 1_000 - 1))
    with pytest.raises(TooLargeError, match="objects and arrays, which is more than a request of that size may"):
        to_protobuf(Signal.LOGS, body)


# -- what is in flight -------------------------------------------------------------------------------------------------


async def test_what_decodes_to_much_counts_as_more_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """By as much as it takes, and once, however often and by whom it is encoded."""
    batch = log_of(length_delimited(6, b"") * 2_000)
    weight = (1 + 1 + 20) * bounds.RECORD + 20 * 2_000 * bounds.ATTRIBUTE
    in_flight = InFlight(2**30)
    load = in_flight.admit(len(batch.payload))
    assert in_flight.size == len(batch.payload)
    for _ in range(2):
        await TimescaleExporter("timescale", settings(), "").prepare(replace(batch, load=load))
    assert len(batch.payload) < in_flight.size <= weight // 8
    assert in_flight.size > weight // 10
    await TimescaleExporter("timescale", settings(), "").prepare(replace(batch, load=load).part(batch.payload))
    load.release()
    load.release()
    assert in_flight.size == 0
    await TimescaleExporter("timescale", settings(), "").prepare(replace(batch, load=load))
    assert in_flight.size == 0


async def test_what_there_is_no_room_for_once_it_is_decoded_comes_again_later_unless_it_is_alone() -> None:
    batch = log_of(length_delimited(6, b"") * 2_000)
    in_flight = InFlight(2 * len(batch.payload))
    other = in_flight.admit(1)
    load = in_flight.admit(len(batch.payload))
    with pytest.raises(OverloadedError, match="max_in_flight"):
        await TimescaleExporter("timescale", settings(), "").prepare(replace(batch, load=load))
    other.release()
    assert (await TimescaleExporter("timescale", settings(), "").prepare(replace(batch, load=load))).records == 20
    with pytest.raises(OverloadedError):
        in_flight.admit(1)
    load.release()
    assert in_flight.size == 0
