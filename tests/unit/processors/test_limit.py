"""The limit: each service gets so many records a second, and a batch that comes again becomes the same again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.component import Batch, MalformedPayloadError, Processed, Signal
from gateway.processors.limit.config import LimitConfig
from gateway.processors.limit.processor import Limit
from tests.support.processing import read, records_of
from tests.support.telemetry import gauge, logs, spans


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def limit(clock: Clock, **settings: Any) -> Limit:
    config = LimitConfig.model_validate({"records_per_second": 10, "burst": 10} | settings)
    return Limit("limit", config, "logs", clock)


def of(service: str, count: int, start: int = 0) -> Batch:
    return logs(*(f"{service} {number}" for number in range(start, start + count)), resource={"service.name": service})


def count(result: Processed) -> int:
    return len(records_of(read(result.batch)))


async def test_what_is_more_than_the_limit_is_left_out_and_counted() -> None:
    result = await limit(Clock()).process(of("a", 25))
    assert (count(result), result.dropped) == (10, 15)
    kept = [each.body.string_value for each in records_of(read(result.batch))]
    assert kept == [f"a {number}" for number in range(10)], "the first ones"


async def test_time_brings_more() -> None:
    clock = Clock()
    limited = limit(clock)
    await limited.process(of("a", 25))
    assert (await limited.process(of("a", 5, 100))).batch is None
    clock.now += 0.3
    assert count(await limited.process(of("a", 5, 200))) == 3
    clock.now += 3600
    assert count(await limited.process(of("a", 100, 300))) == 10, "no more than the burst at once"


async def test_each_service_has_its_own() -> None:
    limited = limit(Clock())
    await limited.process(of("a", 25))
    assert count(await limited.process(of("b", 8))) == 8
    assert (await limited.process(of("c", 8))).dropped == 0


async def test_services_are_told_apart_as_is_asked_for() -> None:
    limited = limit(Clock(), by=["host.name"])
    await limited.process(of("a", 8))
    assert count(await limited.process(of("b", 8))) == 2, "neither has a host.name"


async def test_a_batch_that_comes_again_becomes_the_same_and_takes_nothing() -> None:
    clock = Clock()
    limited = limit(clock)
    batch, other = of("a", 15), of("a", 4, 100)
    first = await limited.process(batch)
    clock.now += 0.5
    again = await limited.process(batch)
    assert first.batch is not None
    assert again.batch is not None
    assert again.batch.payload == first.batch.payload
    assert count(await limited.process(other)) == 4
    assert (await limited.process(batch)).batch == first.batch


async def test_a_batch_that_comes_twice_at_once_is_decided_once() -> None:
    limited = limit(Clock(), burst=30_000)
    batch = of("a", 20_000)
    results = await asyncio.gather(*(limited.process(batch) for _ in range(3)))
    assert [count(each) for each in results] == [20_000] * 3
    assert count(await limited.process(of("a", 20_000, 50_000))) == 10_000


async def test_logs_without_a_time_may_be_equal_and_be_two() -> None:
    limited = limit(Clock())
    batch = logs(*(f"{number}" for number in range(8)), at=0)
    assert count(await limited.process(batch)) == 8
    assert count(await limited.process(batch)) == 2


async def test_a_batch_that_cannot_be_read_holds_nobody_up() -> None:
    limited = limit(Clock())
    broken = Batch.of(Signal.LOGS, b"\x0a\xff")
    for _ in range(2):
        with pytest.raises(MalformedPayloadError):
            await limited.process(broken)


@pytest.mark.parametrize("batch", [gauge([1.0] * 12), spans(*"abcdefghijkl")], ids=["metrics", "traces"])
async def test_points_and_spans_are_counted_like_log_records(batch: Batch) -> None:
    result = await limit(Clock()).process(batch)
    assert (count(result), result.dropped) == (10, 2)
