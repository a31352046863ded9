"""Replay: what the spool holds gets to the destination, whatever size of commit that takes, or stays where it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.base.settings import ExporterSettings, RetrySettings, SpoolSettings
from gateway.component import (
    Batch,
    MalformedPayloadError,
    Prepared,
    RefusedError,
    Signal,
    TimedOutError,
    TooLargeError,
    UnavailableError,
)
from gateway.pipeline import Delivery
from gateway.pipeline.dead_letters import DeadLetters
from gateway.pipeline.spool import Record, Spool, removals, scan, segments
from tests.support.logged import Logged
from tests.support.telemetry import logs
from tests.support.waiting import PATIENCE
from tests.unit.pipeline.fakes import FakeExporter, Telemetry, batch, settle, until

AT_ONCE = ExporterSettings(retry_on_failure=RetrySettings(initial_interval=timedelta(), max_interval=timedelta()))


class SlowExporter(FakeExporter):
    """Cannot store more than 200,000 bytes within the time it is given."""

    async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
        if sum(len(each.batch.payload) for each in prepared) > 200_000:
            raise UnavailableError("timeout", retry_after=0)
        return await super().commit(prepared)


async def spooled(directory: Path, *texts: str) -> Spool:
    """A spool that an earlier run left with these batches in it."""
    spool = Spool(directory, SpoolSettings())
    await spool.open()
    for text in texts:
        await spool.append(batch(text))
    await spool.close()
    return Spool(directory, SpoolSettings())


def held(directory: Path) -> list[Batch]:
    """The batches in a spool's segments, oldest first."""
    return [item.batch for path in segments(directory) for item in scan(path.read_bytes()) if isinstance(item, Record)]


async def replaying(
    directory: Path, exporter: FakeExporter, telemetry: Telemetry, slow_after: timedelta
) -> tuple[Delivery, Spool]:
    """A delivery that is sending an old batch of its spool, which gets through when the exporter's gate is opened."""
    exporter.gate.clear()
    spool = await spooled(directory, "old")
    settings = ExporterSettings(slow_after=slow_after)
    delivery = Delivery(exporter, telemetry.instruments, telemetry.tracer, settings=settings, spool=spool)
    await delivery.start()
    await until(lambda: exporter.running == 1)
    return delivery, spool


async def test_commits_that_are_too_large_for_the_timeout_are_tried_smaller(tmp_path: Path) -> None:
    texts = [f"{number} {'x' * 50_000}" for number in range(40)]
    exporter, telemetry = SlowExporter(), Telemetry()
    spool = await spooled(tmp_path, *texts)
    delivery = Delivery(exporter, telemetry.instruments, telemetry.tracer, settings=AT_ONCE, spool=spool)
    await delivery.start()
    await until(lambda: spool.empty)
    await delivery.stop()
    assert exporter.stored == texts
    assert max(map(len, exporter.commits)) > 1


async def test_new_batches_go_behind_what_the_spool_still_holds(tmp_path: Path) -> None:
    exporter = FakeExporter(concurrency=2)
    delivery, spool = await replaying(tmp_path, exporter, Telemetry(), timedelta(milliseconds=50))
    async with asyncio.timeout(PATIENCE):
        await delivery.deliver(batch("new"))
    assert exporter.commits == [["old"]]
    exporter.gate.set()
    await until(lambda: spool.empty)
    await delivery.stop()
    assert exporter.stored == ["old", "new"]


async def test_new_batches_wait_for_a_replay_that_catches_up_and_are_not_spooled_then(tmp_path: Path) -> None:
    """The disk takes batches quicker than the destination: a busy gateway would spool for ever."""
    exporter, telemetry = FakeExporter(), Telemetry()
    delivery, _ = await replaying(tmp_path, exporter, telemetry, timedelta(hours=1))
    sent = asyncio.create_task(delivery.deliver(batch("new")))
    await settle()
    assert not sent.done()
    exporter.gate.set()
    await sent
    await delivery.stop()
    assert exporter.stored == ["old", "new"]
    assert telemetry.values("obs_hub.records.spooled") == {}


async def test_a_destination_that_is_away_is_not_asked_again_before_it_is_due(tmp_path: Path) -> None:
    exporter, telemetry = FakeExporter(), Telemetry()
    exporter.error = UnavailableError("away", retry_after=3600)
    spool = await spooled(tmp_path, "old")
    delivery = Delivery(exporter, telemetry.instruments, telemetry.tracer, spool=spool)
    await delivery.start()
    await until(lambda: delivery.circuit_open)
    await settle()
    await delivery.stop()
    assert exporter.commits == [["old"]]


async def test_a_spool_that_is_empty_is_not_looked_at_again_and_again(tmp_path: Path) -> None:
    telemetry, looks = Telemetry(), 0

    class Watched(Spool):
        async def read(self, most_bytes: int) -> tuple[list[Batch], Callable[[], None]]:
            nonlocal looks
            looks += 1
            return await super().read(most_bytes)

    await spooled(tmp_path, "old")
    spool = Watched(tmp_path, SpoolSettings())
    delivery = Delivery(FakeExporter(), telemetry.instruments, telemetry.tracer, spool=spool)
    await delivery.start()
    await until(lambda: looks == 2)  # for what there was, and whether there is more
    await settle()
    await delivery.stop()
    assert looks == 2


async def test_a_bad_batch_waits_in_the_spool_until_there_is_room_for_its_letter(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path / "letters", max_size=8192)
    earlier = letters.keep(batch("earlier"), "no")
    exporter, telemetry = FakeExporter(), Telemetry()
    spool = await spooled(tmp_path / "spool", "good", "bad", "fine")
    delivery = Delivery(
        exporter, telemetry.instruments, telemetry.tracer, settings=AT_ONCE, spool=spool, dead_letters=letters
    )
    await delivery.start()
    await until(lambda: len(exporter.commits) > 4)
    assert not spool.empty
    assert exporter.stored == ["good", "fine"], "what was committed with it is stored, once"
    letters.drop(earlier)
    await until(lambda: spool.empty)
    await delivery.stop()
    assert [letters.batch(letter).payload for letter in letters] == [b"bad"]


async def test_what_waited_for_longer_than_max_age_becomes_a_dead_letter_and_is_not_sent(tmp_path: Path) -> None:
    exporter, telemetry, letters = FakeExporter(), Telemetry(), DeadLetters(tmp_path / "letters")
    now = time.time_ns()
    spool = Spool(tmp_path / "spool", SpoolSettings())
    await spool.open()
    for text, hours in (("stale", 3), ("late", 1), ("new", 0)):
        await spool.append(replace(batch(text), received_at=now - hours * 3_600 * 10**9))
    await spool.close()
    settings = ExporterSettings(spool=SpoolSettings(max_age=timedelta(hours=2)))
    spool = Spool(tmp_path / "spool", SpoolSettings())
    delivery = Delivery(
        exporter, telemetry.instruments, telemetry.tracer, settings=settings, spool=spool, dead_letters=letters
    )
    await delivery.start()
    await until(lambda: spool.empty)
    await delivery.stop()
    assert exporter.stored == ["late", "new"]
    (letter,) = letters
    assert letters.batch(letter).payload == b"stale"
    assert "spool.max_age" in letter.reason


async def test_what_an_operator_wants_dropped_is_passed_over(tmp_path: Path) -> None:
    exporter, telemetry = FakeExporter(), Telemetry()
    spool = await spooled(tmp_path, "a", "malformed b", "c", "d")
    waiting = held(tmp_path)
    removals.ask(tmp_path, waiting[1:2])
    removals.ask(tmp_path, waiting[2:3])
    delivery = Delivery(exporter, telemetry.instruments, telemetry.tracer, settings=AT_ONCE, spool=spool)
    await delivery.start()
    await until(lambda: spool.empty and not removals.wanted(tmp_path))
    await delivery.stop()
    assert exporter.stored == ["a", "d"]


async def test_a_batch_that_is_tried_again_and_again_can_be_dropped_meanwhile(tmp_path: Path) -> None:
    exporter, telemetry = SlowExporter(), Telemetry()
    spool = await spooled(tmp_path, "x" * 300_000, "good")
    delivery = Delivery(exporter, telemetry.instruments, telemetry.tracer, settings=AT_ONCE, spool=spool)
    await delivery.start()
    await until(lambda: delivery.circuit_open)
    assert exporter.stored == []
    removals.ask(tmp_path, held(tmp_path)[:1])
    await until(lambda: spool.empty)
    await delivery.stop()
    assert exporter.stored == ["good"]


class BoundedExporter(FakeExporter):
    """Cannot prepare what is too large, and finds broken text as an encoder does."""

    async def prepare(self, batch: Batch) -> Prepared:
        if len(batch.payload) > 1_000:
            raise TooLargeError("too much to decode")
        if b"br\xffken" in batch.payload:  # a time may hold such a byte as well
            raise MalformedPayloadError("not UTF-8")
        return Prepared(batch, 1)

    async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
        self.stored += [each.batch.payload.decode("latin-1") for each in prepared]
        return [True] * len(prepared)


async def test_batches_of_an_earlier_version_are_mended_or_become_dead_letters(tmp_path: Path) -> None:
    """Before batches were checked, such were spooled; the one must not come back for ever, nor the other be lost."""
    exporter, telemetry = BoundedExporter(), Telemetry()
    directory = tmp_path / "spool"
    spool = Spool(directory, SpoolSettings())
    await spool.open()
    await spool.append(logs("x" * 2_000))
    await spool.append(Batch.of(Signal.LOGS, logs("broken").payload.replace(b"broken", b"br\xffken")))
    await spool.close()
    letters = DeadLetters(tmp_path / "dead-letter")
    spool = Spool(directory, SpoolSettings())
    delivery = Delivery(
        exporter, telemetry.instruments, telemetry.tracer, settings=AT_ONCE, spool=spool, dead_letters=letters
    )
    await delivery.start()
    await until(lambda: spool.empty)
    await delivery.stop()
    assert [letter.reason for letter in letters] == ["too much to decode"]
    assert len(exporter.stored) == 1
    assert "br\ufffdken".encode().decode("latin-1") in exporter.stored[0]


class Heavy(FakeExporter):
    """Needs more time than there is for what holds the word ``heavy``, unless it is given ``needs`` seconds."""

    def __init__(self, needs: float) -> None:
        super().__init__()
        self.needs = needs
        self.given: list[float] = []

    async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
        if any("heavy" in each.batch.payload.decode() for each in prepared):
            if len(prepared) > 1:
                raise TimedOutError("timeout", retry_after=0)
            self.given.append(prepared[0].seconds or 1.0)
            if self.given[-1] < self.needs:
                raise TimedOutError("timeout", retry_after=0)
        return await super().commit(prepared)


async def replayed(tmp_path: Path, exporter: FakeExporter, *texts: str) -> DeadLetters:
    telemetry, letters = Telemetry(), DeadLetters(tmp_path / "letters")
    settings = AT_ONCE.model_copy(update={"timeout": timedelta(seconds=1)})
    spool = await spooled(tmp_path / "spool", *texts)
    delivery = Delivery(
        exporter, telemetry.instruments, telemetry.tracer, settings=settings, spool=spool, dead_letters=letters
    )
    await delivery.start()
    await until(lambda: spool.empty)
    await delivery.stop()
    return letters


async def test_a_batch_that_is_too_much_for_the_timeout_gets_more_time_and_the_others_do_not_wait_for_it(
    tmp_path: Path,
) -> None:
    exporter = Heavy(needs=30)
    letters = await replayed(tmp_path, exporter, "before", "heavy", "behind", "and more")
    assert exporter.stored == ["before", "behind", "and more", "heavy"]
    assert exporter.given == [1, 2, 4, 8, 16, 32]
    assert not list(letters)


async def test_a_batch_that_no_time_is_enough_for_becomes_a_dead_letter_once_others_got_through(
    tmp_path: Path, logged: Logged
) -> None:
    exporter = Heavy(needs=3600)
    letters = await replayed(tmp_path, exporter, "heavy", "behind")
    assert exporter.stored == ["behind"]
    (letter,) = letters
    assert letters.batch(letter).payload == b"heavy"
    assert letter.reason == "it was not stored within 60 s, while others were"
    assert logged.of("it gets more time")[-1]["seconds_next"] == 60


async def test_while_nothing_gets_through_nothing_becomes_a_dead_letter(tmp_path: Path) -> None:
    """It is the destination that is slow then, or a lock that somebody holds."""
    exporter, telemetry, letters = Heavy(needs=3600), Telemetry(), DeadLetters(tmp_path / "letters")
    spool = await spooled(tmp_path / "spool", "heavy 1", "heavy 2")
    delivery = Delivery(
        exporter, telemetry.instruments, telemetry.tracer, settings=AT_ONCE, spool=spool, dead_letters=letters
    )
    await delivery.start()
    await until(lambda: exporter.given.count(60) > 20)
    exporter.needs = 0
    await until(lambda: spool.empty)
    await delivery.stop()
    assert sorted(exporter.stored) == ["heavy 1", "heavy 2"]
    assert not list(letters)


class Stumbling(FakeExporter):
    """Meets a bug in one of its steps whenever a batch is a stone."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step

    async def prepare(self, batch: Batch) -> Prepared:
        if self.step == "prepare" and batch.payload == b"stone":
            raise KeyError("a bug")
        return await super().prepare(batch)

    async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
        if self.step == "commit" and any(each.batch.payload == b"stone" for each in prepared):
            raise KeyError("a bug")
        return await super().commit(prepared)


@pytest.mark.parametrize("step", ["prepare", "commit"])
@pytest.mark.parametrize("texts", [("a", "stone", "b"), ("stone", "a", "b")], ids=["amid others", "in front"])
async def test_a_batch_on_which_the_gateway_fails_becomes_a_dead_letter_and_the_others_are_delivered(
    tmp_path: Path, texts: tuple[str, ...], step: str
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    exporter = Stumbling(step)
    letters = await replayed(tmp_path, exporter, *texts)
    assert exporter.stored == ["a", "b"]
    (letter,) = letters
    assert letters.batch(letter).payload == b"stone"
    assert letter.reason == "the gateway failed on it again and again; see its log"


@pytest.mark.parametrize("step", ["prepare", "commit"])
async def test_a_batch_on_which_the_gateway_fails_stays_until_others_got_through(tmp_path: Path, step: str) -> None:
    """Were it all batches on which it fails, all would become dead letters. What comes later tells."""
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    telemetry, letters, exporter = Telemetry(), DeadLetters(tmp_path / "letters"), Stumbling(step)
    spool = await spooled(tmp_path / "spool", "stone")
    delivery = Delivery(
        exporter, telemetry.instruments, telemetry.tracer, settings=AT_ONCE, spool=spool, dead_letters=letters
    )
    await delivery.start()
    await until(lambda: len(failures) > 20)
    assert not list(letters)
    async with asyncio.timeout(PATIENCE):
        await delivery.deliver(batch("new"))
    await until(lambda: spool.empty)
    await delivery.stop()
    assert exporter.stored == ["new"]
    assert [letters.batch(letter).payload for letter in letters] == [b"stone"]


async def test_a_bug_that_a_half_of_a_batch_meets_is_not_met_for_ever(tmp_path: Path) -> None:
    """What the destination refuses is taken apart, and its parts are prepared anew."""

    class Refusing(FakeExporter):
        async def prepare(self, batch: Batch) -> Prepared:
            if not (begin := batch.payload.count(b"bad")) or b"good" not in batch.payload:
                if begin:
                    raise KeyError("a bug")
                return await super().prepare(batch)
            return Prepared(batch, 2)

        async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
            if any(b"bad" in each.batch.payload for each in prepared):
                raise RefusedError("one of them is bad")
            return await super().commit(prepared)

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    telemetry, letters = Telemetry(), DeadLetters(tmp_path / "letters")
    whole = logs("good", "bad")
    spool = Spool(tmp_path / "spool", SpoolSettings())
    await spool.open()
    await spool.append(whole)
    await spool.append(batch("behind"))
    delivery = Delivery(
        Refusing(), telemetry.instruments, telemetry.tracer, settings=AT_ONCE, spool=spool, dead_letters=letters
    )
    await delivery.start()
    await until(lambda: spool.empty)
    await delivery.stop()
    assert [letters.batch(letter).payload for letter in letters] == [whole.payload]


async def test_what_an_operator_dropped_is_stored_when_it_is_sent_again(tmp_path: Path) -> None:
    """The exporter does not have it any more: an OK to its sender would be a lie."""
    exporter, telemetry = FakeExporter(), Telemetry()
    spool = await spooled(tmp_path, "unwanted", "wanted")
    removals.ask(tmp_path, [held(tmp_path)[0]])
    delivery = Delivery(exporter, telemetry.instruments, telemetry.tracer, settings=AT_ONCE, spool=spool)
    await delivery.start()
    await until(lambda: spool.empty)
    assert exporter.stored == ["wanted"]
    for _ in range(2):
        await delivery.deliver(batch("unwanted"))
        await delivery.deliver(batch("wanted"))
    await delivery.stop()
    assert exporter.stored == ["wanted", "unwanted"]
    assert exporter.commits.count(["unwanted"]) == 1
