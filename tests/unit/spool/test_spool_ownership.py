"""One owner of each spool, and what becomes of those whose owner is no more."""

# ruff: noqa: ASYNC240 - tests may block

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gateway.base.settings import ExporterSettings, RetrySettings, SpoolSettings
from gateway.component import UnavailableError
from gateway.files.ownership import DirectoryLock
from gateway.pipeline import Delivery
from gateway.pipeline.spool import Spool, segments, status
from tests.unit.pipeline.fakes import FakeExporter, Telemetry, batch, until

AT_ONCE = ExporterSettings(retry_on_failure=RetrySettings(initial_interval=timedelta(), max_interval=timedelta()))


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.files.locks.PATIENCE", 0)
    monkeypatch.setattr("gateway.pipeline.spool_sender._POLL_SECONDS", 0)


async def left_by_a_worker(directory: Path, *texts: str) -> Spool:
    """A spool with these batches, of a worker that still lives."""
    spool = Spool(directory, SpoolSettings())
    await spool.open()
    for text in texts:
        await spool.append(batch(text))
    return spool


def delivery_of(exporter: FakeExporter, spool: Spool, *former: Path) -> Delivery:
    telemetry = Telemetry()
    return Delivery(
        exporter, telemetry.instruments, telemetry.tracer, settings=AT_ONCE, spool=spool, former=lambda: former
    )


async def test_a_spool_that_another_owns_refuses_and_touches_nothing(tmp_path: Path) -> None:
    former = await left_by_a_worker(tmp_path, "one")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    spool = Spool(tmp_path, SpoolSettings())
    await spool.open()
    with pytest.raises(UnavailableError, match="still uses it"):
        await spool.append(batch("two"))
    assert (await spool.read(1))[0] == []
    await spool.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    await former.append(batch("three"))
    await former.close()


async def test_what_the_former_owner_wrote_last_is_delivered_once_it_has_ended(tmp_path: Path) -> None:
    former = await left_by_a_worker(tmp_path, "one")
    exporter, spool = FakeExporter(), Spool(tmp_path, SpoolSettings())
    delivery = delivery_of(exporter, spool)
    await delivery.start()
    await delivery.deliver(batch("new"))
    await former.append(batch("two"))
    assert exporter.stored == ["new"]
    await former.close()
    await until(lambda: spool.is_open and spool.empty)
    await delivery.stop()
    assert exporter.stored == ["new", "one", "two"]
    assert segments(tmp_path) == []


async def test_what_a_worker_left_that_is_no_more_is_delivered_while_the_hub_runs(tmp_path: Path) -> None:
    former = await left_by_a_worker(tmp_path / "1", "one", "two")
    exporter, spool = FakeExporter(), Spool(tmp_path / "0", SpoolSettings())
    delivery = delivery_of(exporter, spool, tmp_path / "1", tmp_path / "2")
    await delivery.start()
    await delivery.deliver(batch("new"))
    assert exporter.stored == ["new"], "its owner may write to it yet"
    assert former.size
    await former.close()
    await until(lambda: not status(tmp_path / "1").segments)
    await until(lambda: not delivery.spools[1:])
    free = DirectoryLock(tmp_path / "1")
    free.acquire()
    free.release()
    await delivery.stop()
    assert exporter.stored == ["new", "one", "two"]


async def test_what_was_left_counts_as_spooled_and_stays_when_the_hub_ends_before_it_is_delivered(
    tmp_path: Path,
) -> None:
    await (await left_by_a_worker(tmp_path / "1", "one")).close()
    exporter, spool = FakeExporter(), Spool(tmp_path / "0", SpoolSettings())
    exporter.error = UnavailableError("away", retry_after=0)
    delivery = delivery_of(exporter, spool, tmp_path / "1")
    await delivery.start()
    await until(lambda: len(delivery.spools) == 2)
    assert sum(each.size for each in delivery.spools) == status(tmp_path / "1").size > 0
    await delivery.stop()
    again = await left_by_a_worker(tmp_path / "1")
    assert [each.payload for each in (await again.read(1))[0]] == [b"one"]
    await again.close()


async def test_it_is_read_on_from_where_the_worker_had_come(tmp_path: Path) -> None:
    former = await left_by_a_worker(tmp_path / "1", "one", "two")
    _, took = await former.read(1)
    took()
    await former.close()
    exporter = FakeExporter()
    delivery = delivery_of(exporter, Spool(tmp_path / "0", SpoolSettings()), tmp_path / "1")
    await delivery.start()
    await until(lambda: not status(tmp_path / "1").segments)
    await delivery.stop()
    assert exporter.stored == ["two"]


async def test_a_directory_that_was_removed_and_belongs_to_another_now_is_not_written_to(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    spool = await left_by_a_worker(directory, "one")
    directory.rename(tmp_path / "elsewhere")
    other = await left_by_a_worker(directory, "of the other")
    with pytest.raises(UnavailableError, match="still uses it"):
        await spool.append(batch("two"))
    assert len(segments(directory)) == 1
    await spool.close()
    await other.close()
    assert len(segments(directory)) == 1
