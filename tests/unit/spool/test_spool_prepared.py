"""What was prepared before it went to the spool is not prepared again, as long as there is room to remember it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.base.settings import SpoolSettings
from gateway.component import Batch, Prepared, UnavailableError
from gateway.pipeline import Delivery
from gateway.pipeline.prepared_cache import PreparedCache
from gateway.pipeline.spool import Spool
from tests.support.waiting import PATIENCE
from tests.unit.pipeline.fakes import FakeExporter, Telemetry, batch, until
from tests.unit.spool.test_spool_replay import AT_ONCE, spooled


class Counting(FakeExporter):
    """Lists what it prepares."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[str] = []

    def _prepared(self, batch: Batch) -> Prepared:
        self.prepared.append(batch.payload.decode())
        return super()._prepared(batch)


def delivery_to(exporter: FakeExporter, spool: Spool) -> Delivery:
    telemetry = Telemetry()
    return Delivery(exporter, telemetry.instruments, telemetry.tracer, settings=AT_ONCE, spool=spool)


async def deliver_while_away(delivery: Delivery, exporter: FakeExporter, *texts: str) -> None:
    exporter.error = UnavailableError("away", retry_after=0)
    async with asyncio.timeout(PATIENCE):
        for text in texts:
            await delivery.deliver(batch(text))


async def test_what_waited_in_the_spool_is_prepared_once_however_often_it_is_tried(tmp_path: Path) -> None:
    exporter, spool = Counting(), Spool(tmp_path, SpoolSettings())
    delivery = delivery_to(exporter, spool)
    await delivery.start()
    await deliver_while_away(delivery, exporter, "one", "two", "three")
    tried = len(exporter.commits)
    await until(lambda: len(exporter.commits) > tried + 2)
    exporter.error = None
    await until(lambda: spool.empty)
    await delivery.stop()
    assert exporter.stored == ["one", "two", "three"]
    assert exporter.prepared == ["one", "two", "three"]


async def test_what_an_earlier_run_left_is_prepared(tmp_path: Path) -> None:
    exporter, spool = Counting(), await spooled(tmp_path, "one", "two")
    delivery = delivery_to(exporter, spool)
    await delivery.start()
    await until(lambda: spool.empty)
    await delivery.stop()
    assert exporter.stored == exporter.prepared == ["one", "two"]


async def test_nothing_is_remembered_of_what_got_through_or_was_refused(tmp_path: Path) -> None:
    exporter, spool = Counting(), Spool(tmp_path, SpoolSettings())
    delivery = delivery_to(exporter, spool)
    await delivery.start()
    await deliver_while_away(delivery, exporter, "one", "bad two", "three")
    assert delivery._spool is not None
    cache = delivery._spool._replay._prepared
    assert cache.size > 0
    exporter.error = None
    await until(lambda: spool.empty)
    await delivery.stop()
    assert exporter.stored == ["one", "three"]
    assert cache.size == 0


async def test_a_spool_that_drops_the_oldest_remembers_nothing_of_what_it_may_drop(tmp_path: Path) -> None:
    settings = SpoolSettings.model_validate({"when_full": "drop_oldest"})
    exporter, spool = Counting(), Spool(tmp_path, settings)
    delivery = delivery_to(exporter, spool)
    await delivery.start()
    await deliver_while_away(delivery, exporter, "one")
    assert delivery._spool is not None
    assert delivery._spool._replay._prepared.size == 0
    exporter.error = None
    await until(lambda: spool.empty)
    await delivery.stop()
    assert exporter.stored == ["one"]


def test_the_oldest_are_remembered_up_to_the_bound_and_without_their_payloads() -> None:
    cache = PreparedCache(5_000)
    batches = [batch(f"{number} {'x' * 1_000}") for number in range(3)]
    for each in batches:
        cache.keep(Prepared(each, 2))
    assert cache.size <= 5_000
    assert [cache.of(each) for each in batches] == [Prepared(batches[0], 2), Prepared(batches[1], 2), None]
    assert all(not prepared.batch.payload for prepared, _ in cache._kept.values())
    for each in batches:
        cache.forget((each.digest, each.received_at))
    assert cache.size == 0
