"""A batch that is refused, for good or for its size, is given in halves until the bad records stand alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.base.settings import ExporterSettings, SpoolSettings
from gateway.component import (
    Batch,
    Prepared,
    RefusedError,
    TooLargeError,
    TooLargeForDestinationError,
    UnavailableError,
)
from gateway.otlp.counting import count_records
from gateway.pipeline import Delivery
from gateway.pipeline.dead_letters import DeadLetters
from gateway.pipeline.spool import Spool
from tests.support.telemetry import logs
from tests.unit.pipeline.fakes import FakeExporter, Telemetry, until
from tests.unit.pipeline.test_pipeline_one_batch_a_commit import AT_ONCE


class Picky(FakeExporter):
    """Takes log records, refuses what holds the text ``bad`` or more than ``most`` bytes, all or nothing."""

    def __init__(self, most: int = 2**20, batches_per_commit: int | None = None) -> None:
        super().__init__(batches_per_commit=batches_per_commit)
        self.most = most
        self.away_at = -1

    async def prepare(self, batch: Batch) -> Prepared:
        return Prepared(batch, count_records(batch))

    async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
        payloads = [each.batch.payload for each in prepared]
        self.commits.append([str(each.records) for each in prepared])
        if len(self.commits) == self.away_at:
            raise UnavailableError("away", retry_after=0)
        if sum(map(len, payloads)) > self.most:
            raise TooLargeForDestinationError("larger than max")
        if any(b"bad" in payload for payload in payloads):
            raise RefusedError("a constraint forbids it")
        self.stored += [each.batch.digest.hex() for each in prepared]
        return [True] * len(prepared)


def delivery(exporter: FakeExporter, telemetry: Telemetry, folder: Path, settings: ExporterSettings) -> Delivery:
    return Delivery(
        exporter,
        telemetry.instruments,
        telemetry.tracer,
        settings=settings,
        spool=Spool(folder / "spool", settings.spool),
        dead_letters=DeadLetters(folder / "letters"),
    )


@pytest.mark.parametrize("bad", [{3}, {0, 9}, {4, 5}])
async def test_one_bad_record_costs_no_other_record_of_its_batch(tmp_path: Path, bad: set[int]) -> None:
    exporter, telemetry = Picky(), Telemetry()
    under_test = delivery(exporter, telemetry, tmp_path, AT_ONCE)
    await under_test.start()
    whole = logs(*(f"bad {number}" if number in bad else f"good {number}" for number in range(10)), at=1)
    outcome = (await under_test.deliver(whole)).outcome
    await under_test.stop()
    assert outcome.rejected == 0
    assert f"fake refused {len(bad)} records of this batch: {len(bad)} of 10 records: a constraint" in outcome.message
    assert telemetry.values("obs_hub.records.stored") == {("fake", "logs"): 10 - len(bad)}
    letters = DeadLetters(tmp_path / "letters")
    (letter,) = letters
    assert letters.batch(letter).payload.count(b"bad") == len(bad)
    assert b"good" not in letters.batch(letter).payload


async def test_a_refusal_by_size_is_no_outage(tmp_path: Path) -> None:
    exporter, telemetry = Picky(most=600), Telemetry()
    under_test = delivery(exporter, telemetry, tmp_path, AT_ONCE)
    await under_test.start()
    prepared = await under_test.deliver(logs(*(f"{number:0100}" for number in range(40)), at=1))
    assert not under_test.circuit_open
    await under_test.stop()
    assert prepared.outcome.message == ""
    assert telemetry.values("obs_hub.records.stored") == {("fake", "logs"): 40}
    assert len(set(exporter.stored)) == len(exporter.stored)
    assert not list(DeadLetters(tmp_path / "letters"))


async def test_one_record_that_is_too_large_becomes_a_dead_letter(tmp_path: Path) -> None:
    exporter, telemetry = Picky(most=600), Telemetry()
    under_test = delivery(exporter, telemetry, tmp_path, AT_ONCE)
    await under_test.start()
    await under_test.deliver(logs("a", "x" * 1000, "b", at=1))
    await under_test.stop()
    assert telemetry.values("obs_hub.records.stored") == {("fake", "logs"): 2}
    (letter,) = DeadLetters(tmp_path / "letters")
    assert letter.reason == "1 of 3 records: larger than max"


async def test_after_an_outage_no_part_is_given_again_that_was_taken(tmp_path: Path) -> None:
    exporter, telemetry = Picky(batches_per_commit=1), Telemetry()
    exporter.away_at = 6
    under_test = delivery(exporter, telemetry, tmp_path, AT_ONCE)
    await under_test.start()
    await under_test.deliver(logs(*(f"bad {n}" if n in (2, 13) else f"good {n}" for n in range(16)), at=1))
    assert under_test.spool is not None
    await until(lambda: under_test.spool is not None and under_test.spool.empty)
    await under_test.stop()
    assert len(set(exporter.stored)) == len(exporter.stored)
    assert telemetry.values("obs_hub.records.stored") == {("fake", "logs"): 14}
    assert telemetry.values("obs_hub.records.dead_lettered") == {("fake", "logs"): 2}


async def test_the_search_for_bad_records_ends(tmp_path: Path) -> None:
    exporter, telemetry = Picky(), Telemetry()
    under_test = delivery(exporter, telemetry, tmp_path, AT_ONCE)
    await under_test.start()
    await under_test.deliver(logs(*(f"{'bad' if number % 2 else 'good'} {number}" for number in range(1_000)), at=1))
    await under_test.stop()
    assert len(exporter.commits) < 250
    assert len(list(DeadLetters(tmp_path / "letters"))) == 1


class Weighing(Picky):
    """Finds itself that a batch is too much when it is nothing but small records, as the gateway's bounds may."""

    async def prepare(self, batch: Batch) -> Prepared:
        records = count_records(batch)
        if len(batch.payload) < 25 * records:
            raise TooLargeError("it holds too much to decode")
        return await super().prepare(batch)


@pytest.mark.parametrize("spooled", [False, True], ids=["directly", "out of the spool"])
async def test_a_half_that_is_too_much_for_the_gateway_itself_holds_up_nothing(tmp_path: Path, spooled: bool) -> None:
    """A request may be sound as a whole, and one half of it have all the small records."""
    exporter, telemetry = Weighing(most=600), Telemetry()
    under_test = delivery(exporter, telemetry, tmp_path, AT_ONCE)
    await under_test.start()
    if spooled:
        exporter.away_at = 1
    await under_test.deliver(logs("", "", "", "x" * 300, "y" * 300, "z" * 300, at=1))
    await under_test.deliver(logs("behind", at=1))
    assert under_test.spool is not None
    await until(lambda: under_test.spool is not None and under_test.spool.empty)
    await under_test.stop()
    assert telemetry.values("obs_hub.records.stored") == {("fake", "logs"): 4}
    (letter,) = DeadLetters(tmp_path / "letters")
    assert letter.reason == "3 of 6 records: it holds too much to decode"


@pytest.mark.parametrize("spooled", [False, True], ids=["directly", "out of the spool"])
async def test_a_destination_that_may_lose_batches_does_not_stop_for_want_of_room_for_dead_letters(
    tmp_path: Path, spooled: bool
) -> None:
    """Or else one that refuses everything would in the end stop the store beside it."""
    exporter, telemetry = Picky(), Telemetry()
    settings = AT_ONCE.model_copy(update={"spool": SpoolSettings(when_full="drop_oldest")})
    under_test = Delivery(
        exporter,
        telemetry.instruments,
        telemetry.tracer,
        settings=settings,
        spool=Spool(tmp_path / "spool", settings.spool),
        dead_letters=DeadLetters(tmp_path / "letters", max_size=1),
    )
    await under_test.start()
    if spooled:
        exporter.away_at = 1
    outcome = (await under_test.deliver(logs("bad", "good", at=1))).outcome
    await under_test.deliver(logs("behind", at=1))
    assert under_test.spool is not None
    await until(lambda: under_test.spool is not None and under_test.spool.empty)
    await under_test.stop()
    assert outcome.rejected == 0
    assert spooled or outcome.message.endswith("dropped, for there is no room for dead letters")
    assert telemetry.values("obs_hub.records.stored") == {("fake", "logs"): 2}
    assert under_test.spool.dropped.records == 1
