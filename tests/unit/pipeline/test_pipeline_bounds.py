"""What a request may cost once it is decoded, however small it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from exporters.timescale.exporter import TimescaleExporter
from gateway.pipeline import Batch, MalformedPayloadError, Signal, TooLargeError, bounds, mending
from gateway.pipeline.wire_format import length_delimited
from tests.support.stores import settings
from tests.support.telemetry import gauge, logs, spans

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
