"""Delivery to exporters that take one batch a commit, and may refuse part of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.base.settings import ExporterSettings, RetrySettings, SpoolSettings
from gateway.component import PartlyRefusedError, Prepared, UnavailableError
from gateway.pipeline import Delivery
from gateway.pipeline.dead_letters import DeadLetters
from gateway.pipeline.spool import Spool
from tests.unit.pipeline.fakes import FakeExporter, Telemetry, batch, until

AT_ONCE = ExporterSettings(retry_on_failure=RetrySettings(initial_interval=timedelta(), max_interval=timedelta()))


class Choosy(FakeExporter):
    """Refuses the words that begin with ``bad`` and stores the others; is away for what holds ``later``, once each."""

    def __init__(self, concurrency: int = 1) -> None:
        super().__init__(concurrency=concurrency, batches_per_commit=1)
        self.was_away: set[str] = set()

    async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
        (one,) = prepared
        text = one.batch.payload.decode()
        if "later" in text and text not in self.was_away:
            self.was_away.add(text)
            raise UnavailableError("away", retry_after=0)
        bad = [word for word in text.split() if word.startswith("bad")]
        if bad:
            self.stored.append(" ".join(word for word in text.split() if word not in bad))
            raise PartlyRefusedError("do not like it", " ".join(bad).encode(), len(bad))
        return await super().commit(prepared)


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def delivery(exporter: FakeExporter, telemetry: Telemetry, folder: Path) -> Delivery:
    return Delivery(
        exporter,
        telemetry.instruments,
        telemetry.tracer,
        settings=AT_ONCE,
        spool=Spool(folder / "spool", SpoolSettings()),
        dead_letters=DeadLetters(folder / "dead-letter"),
    )


async def test_batches_that_gather_go_one_by_one(telemetry: Telemetry) -> None:
    exporter = FakeExporter(batches_per_commit=1)
    under_test = telemetry.delivery(exporter)
    await under_test.start()
    await asyncio.gather(*(under_test.deliver(batch(text)) for text in "abc"))
    assert exporter.commits == [["a"], ["b"], ["c"]]
    await under_test.stop()


async def test_a_refused_part_becomes_a_dead_letter_and_the_rest_counts_as_stored(
    telemetry: Telemetry, tmp_path: Path
) -> None:
    exporter = Choosy()
    under_test = delivery(exporter, telemetry, tmp_path)
    await under_test.start()
    whole = batch("a bad-1 b bad-2 c")
    outcome = (await under_test.deliver(whole)).outcome
    assert outcome.rejected == 0
    assert outcome.message == "fake refused 2 records of this batch: do not like it; kept as a dead letter"
    letters = DeadLetters(tmp_path / "dead-letter")
    (letter,) = letters
    assert letters.batch(letter).payload == b"bad-1 bad-2"
    assert letters.batch(letter).received_at == whole.received_at
    assert exporter.stored == ["a b c"]
    assert telemetry.values("obs_hub.records.stored") == {("fake", "logs"): 3}
    assert telemetry.values("obs_hub.records.dead_lettered") == {("fake", "logs"): 2}
    await under_test.stop()


async def test_without_a_place_for_dead_letters_the_refused_part_is_rejected(telemetry: Telemetry) -> None:
    under_test = telemetry.delivery(Choosy())
    await under_test.start()
    outcome = (await under_test.deliver(batch("a bad b"))).outcome
    assert (outcome.rejected, outcome.message) == (1, "fake refused 1 records of this batch: do not like it")
    await under_test.stop()


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_replay_sends_nothing_again_that_was_settled_before_a_failure(
    telemetry: Telemetry, tmp_path: Path, concurrency: int
) -> None:
    spool = Spool(tmp_path / "spool", SpoolSettings())
    await spool.open()
    for text in ("a", "b bad", "c", "later 1", "d", "later 2", "e"):
        await spool.append(batch(text))
    await spool.close()
    exporter = Choosy(concurrency)
    under_test = delivery(exporter, telemetry, tmp_path)
    await under_test.start()
    assert under_test.spool is not None
    await until(lambda: under_test.spool is not None and under_test.spool.empty)
    await under_test.stop()
    assert sorted(exporter.stored) == ["a", "b", "c", "d", "e", "later 1", "later 2"]
    if concurrency == 1:
        assert exporter.stored == ["a", "b", "c", "later 1", "d", "later 2", "e"], "in order"
    assert exporter.was_away == {"later 1", "later 2"}
    assert len(list(DeadLetters(tmp_path / "dead-letter"))) == 1
