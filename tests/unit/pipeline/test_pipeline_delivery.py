"""Delivery: natural batching, and who suffers when a commit fails (nobody but the bad)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.base.settings import ExporterSettings, RetrySettings, SpoolSettings
from gateway.component import DeliveryError, MalformedPayloadError, Outcome, Prepared, RefusedError, UnavailableError
from gateway.pipeline import Delivery
from gateway.pipeline.dead_letters import DeadLetters
from gateway.pipeline.spool import Spool
from tests.support.waiting import PATIENCE
from tests.unit.pipeline.fakes import FakeExporter, Telemetry, batch, settle, until

Start = Callable[[FakeExporter], Awaitable[Delivery]]


def send(delivery: Delivery, *texts: str) -> list[asyncio.Task[Prepared]]:
    """Deliver batches side by side."""
    return [asyncio.create_task(delivery.deliver(batch(text))) for text in texts]


async def answers(tasks: Sequence[asyncio.Task[Prepared]]) -> list[str]:
    """What each sender was told: ``ok``, or the name of the error."""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(one).__name__ if isinstance(one, BaseException) else "ok" for one in results]


async def test_a_batch_is_acknowledged_after_its_commit_and_not_before(start: Start) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    (sent,) = send(await start(exporter), "a")
    await until(lambda: exporter.running == 1)
    await settle()
    assert not sent.done()
    exporter.gate.set()
    assert (await sent).batch.payload == b"a"
    assert exporter.stored == ["a"]


async def test_batches_that_arrive_during_a_commit_go_together_in_the_next(start: Start) -> None:
    exporter = FakeExporter()
    delivery = await start(exporter)
    exporter.gate.clear()
    sent = send(delivery, "first")
    await until(lambda: exporter.running == 1)
    sent += send(delivery, "a", "b", "c")
    await settle()
    assert exporter.commits == [["first"]]
    exporter.gate.set()
    assert await answers(sent) == ["ok"] * 4
    assert exporter.commits == [["first"], ["a", "b", "c"]]


async def test_one_batch_alone_waits_for_no_others(start: Start) -> None:
    exporter = FakeExporter()
    delivery = await start(exporter)
    for text in ("a", "b", "c"):
        await delivery.deliver(batch(text))
    assert exporter.commits == [["a"], ["b"], ["c"]]


async def test_as_many_commits_run_at_once_as_the_exporter_allows(start: Start) -> None:
    exporter = FakeExporter(concurrency=2)
    delivery = await start(exporter)
    exporter.gate.clear()
    sent = []
    for count, text in enumerate(("a", "b"), start=1):
        sent += send(delivery, text)
        await until(lambda count=count: exporter.running == count)  # type: ignore[misc]
    sent += send(delivery, "c", "d")
    await settle()
    assert exporter.commits == [["a"], ["b"]]
    exporter.gate.set()
    assert await answers(sent) == ["ok"] * 4
    assert exporter.commits == [["a"], ["b"], ["c", "d"]]


async def test_every_one_of_many_batches_is_stored_once_whatever_the_number_of_lanes(start: Start) -> None:
    exporter = FakeExporter(concurrency=3)
    texts = [f"batch-{number}" for number in range(200)]
    assert await answers(send(await start(exporter), *texts)) == ["ok"] * 200
    assert sorted(exporter.stored) == sorted(texts)


@pytest.mark.parametrize("position", range(7))
async def test_a_bad_batch_in_a_combined_commit_is_refused_alone(start: Start, position: int) -> None:
    exporter = FakeExporter()
    texts = ["a", "b", "c", "d", "e", "f"]
    texts.insert(position, "bad")
    answered = await answers(send(await start(exporter), *texts))
    assert exporter.commits[0] == texts
    assert answered == ["RefusedError" if text == "bad" else "ok" for text in texts]
    assert sorted(exporter.stored) == ["a", "b", "c", "d", "e", "f"]


async def test_the_bad_one_is_found_by_halves(start: Start) -> None:
    exporter = FakeExporter()
    await answers(send(await start(exporter), "a", "b", "c", "bad"))
    assert exporter.commits == [["a", "b", "c", "bad"], ["a", "b"], ["c", "bad"], ["c"], ["bad"]]


async def test_several_bad_batches_are_refused_each_with_its_own_error(start: Start) -> None:
    exporter = FakeExporter()
    results = await asyncio.gather(*send(await start(exporter), "bad 1", "a", "b", "bad 2"), return_exceptions=True)
    assert [isinstance(one, RefusedError) for one in results] == [True, False, False, True]
    assert {str(one) for one in results if isinstance(one, RefusedError)} == {"1 batches with a bad record among them"}
    assert exporter.stored == ["a", "b"]


async def test_without_a_spool_those_who_wait_behind_a_failure_are_told_at_once(start: Start) -> None:
    """Each would wait for an attempt of its own, as long as the one that failed, and long be gone by then."""
    exporter = FakeExporter(batches_per_commit=1)
    exporter.gate.clear()
    delivery = await start(exporter)
    sent = send(delivery, "a", "b", "c")
    await until(lambda: exporter.running == 1)
    await settle()
    exporter.error = UnavailableError("away", retry_after=0)
    exporter.gate.set()
    assert await answers(sent) == ["UnavailableError"] * 3
    assert exporter.commits == [["a"]]
    exporter.error = None
    assert await answers(send(delivery, "a", "b", "c")) == ["ok"] * 3


async def test_when_the_destination_fails_in_the_middle_of_splitting_what_is_stored_stays_acknowledged(
    start: Start,
) -> None:
    class DownLater(FakeExporter):
        async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
            if len(self.commits) == 2:  # after the whole, and the first half
                self.error = UnavailableError("gone")
            return await super().commit(prepared)

    exporter = DownLater()
    answered = await answers(send(await start(exporter), "a", "b", "c", "bad"))
    assert answered == ["ok", "ok", "UnavailableError", "UnavailableError"]
    assert exporter.stored == ["a", "b"]


async def test_with_a_spool_what_is_neither_stored_nor_refused_by_then_is_spooled_and_nothing_else(
    telemetry: Telemetry, tmp_path: Path
) -> None:
    class DownLater(FakeExporter):
        async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
            if len(self.commits) == 4:  # after the whole, the first half, and each of its batches
                self.error = UnavailableError("gone", retry_after=3600)
            return await super().commit(prepared)

    exporter = DownLater()
    spool = Spool(tmp_path, SpoolSettings())
    delivery = Delivery(exporter, telemetry.instruments, telemetry.tracer, spool=spool)
    await delivery.start()
    assert await answers(send(delivery, "bad", "a", "b", "c")) == ["RefusedError", "ok", "ok", "ok"]
    await delivery.stop()
    assert exporter.stored == ["a"]
    left = Spool(tmp_path, SpoolSettings())
    await left.open()
    batches, _ = await left.read(2**20)
    await left.close()
    assert [each.payload for each in batches] == [b"b", b"c"]


async def test_while_a_commit_is_slow_it_and_what_waits_behind_it_are_answered_from_the_spool(
    telemetry: Telemetry, tmp_path: Path
) -> None:
    """As a table that is locked makes it: the client must not wait until the attempt is broken off."""
    exporter, spool = FakeExporter(), Spool(tmp_path, SpoolSettings())
    settings = ExporterSettings(slow_after=timedelta(milliseconds=50))
    delivery = Delivery(exporter, telemetry.instruments, telemetry.tracer, settings=settings, spool=spool)
    await delivery.start()
    exporter.gate.clear()
    slow = send(delivery, "slow")
    await until(lambda: exporter.running == 1)
    assert await answers(slow + send(delivery, "behind")) == ["ok", "ok"]
    assert exporter.running == 1
    exporter.gate.set()
    await until(lambda: spool.empty)
    await delivery.stop()
    # The attempt came through after all: what was spooled of it is not sent again.
    assert exporter.commits == [["slow"], ["behind"]]


async def test_what_was_spooled_of_an_attempt_that_fails_in_the_end_is_replayed(
    telemetry: Telemetry, tmp_path: Path
) -> None:
    exporter, spool = FakeExporter(), Spool(tmp_path, SpoolSettings())
    at_once = RetrySettings(initial_interval=timedelta(), max_interval=timedelta())
    settings = ExporterSettings(slow_after=timedelta(milliseconds=10), retry_on_failure=at_once)
    delivery = Delivery(exporter, telemetry.instruments, telemetry.tracer, settings=settings, spool=spool)
    await delivery.start()
    exporter.gate.clear()
    assert await answers(send(delivery, "slow")) == ["ok"]
    await settle()
    assert exporter.commits == [["slow"]], "nobody sends it a second time while it is not known how the first ends"
    exporter.error = UnavailableError("away after all", retry_after=0)
    exporter.gate.set()
    await until(lambda: exporter.running == 0)
    exporter.error = None
    await until(lambda: spool.empty)
    await delivery.stop()
    assert exporter.stored == ["slow"]


async def test_what_is_refused_when_its_client_has_its_ok_already_becomes_a_dead_letter_once(
    telemetry: Telemetry, tmp_path: Path
) -> None:
    exporter, spool, letters = FakeExporter(), Spool(tmp_path, SpoolSettings()), DeadLetters(tmp_path / "letters")
    settings = ExporterSettings(slow_after=timedelta(milliseconds=10))
    delivery = Delivery(
        exporter, telemetry.instruments, telemetry.tracer, settings=settings, spool=spool, dead_letters=letters
    )
    await delivery.start()
    exporter.gate.clear()
    assert await answers(send(delivery, "bad")) == ["ok"]
    exporter.gate.set()
    await until(lambda: spool.empty)
    await delivery.stop()
    assert exporter.commits == [["bad"]]
    assert telemetry.values("obs_hub.records.dead_lettered") == {("fake", "logs"): 1}


async def test_a_batch_that_is_slow_and_finds_no_room_in_the_spool_waits_for_its_commit(
    telemetry: Telemetry, tmp_path: Path
) -> None:
    exporter, spool = FakeExporter(), Spool(tmp_path, SpoolSettings(max_size=2**20))
    settings = ExporterSettings(slow_after=timedelta(milliseconds=10))
    delivery = Delivery(exporter, telemetry.instruments, telemetry.tracer, settings=settings, spool=spool)
    await delivery.start()
    exporter.gate.clear()
    slow = send(delivery, "x" * 2**20)
    await until(lambda: delivery.circuit_open)
    await settle()
    assert not slow[0].done()
    exporter.gate.set()
    assert await answers(slow) == ["ok"]
    await delivery.stop()
    assert len(exporter.stored) == 1


async def test_a_bug_that_one_batch_meets_does_not_cost_its_neighbours(telemetry: Telemetry, start: Start) -> None:
    class Stumbling(FakeExporter):
        async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
            if any(each.batch.payload == b"b" for each in prepared):
                raise KeyError("b")
            return await super().commit(prepared)

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    exporter = Stumbling()
    assert await answers(send(await start(exporter), "a", "b", "c")) == ["ok", "FailedError", "ok"]
    assert exporter.stored == ["a", "c"]


async def test_commits_do_not_grow_beyond_what_a_destination_takes_in_time(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.pipeline.commit_queue._COMMIT_BYTES", 8)
    exporter = FakeExporter()
    texts = ["larger than that", "four", "more", "last", "also larger"]
    assert await answers(send(await start(exporter), *texts)) == ["ok"] * 5
    assert exporter.commits == [["larger than that"], ["four", "more"], ["last"], ["also larger"]]


async def test_while_the_destination_is_unavailable_all_keep_their_batches_and_nothing_is_split(start: Start) -> None:
    exporter = FakeExporter()
    exporter.error = UnavailableError("PostgreSQL is restarting", retry_after=0)
    delivery = await start(exporter)
    results = await asyncio.gather(*send(delivery, "a", "b"), return_exceptions=True)
    assert [str(one) for one in results] == ["PostgreSQL is restarting"] * 2
    assert all(isinstance(one, UnavailableError) for one in results)
    assert exporter.commits == [["a", "b"]]
    exporter.error = None
    assert await answers(send(delivery, "a", "b")) == ["ok", "ok"]


async def test_until_the_destination_is_due_again_it_is_left_alone_and_senders_hear_how_long(start: Start) -> None:
    exporter = FakeExporter()
    exporter.error = UnavailableError("PostgreSQL is restarting", retry_after=3600)
    delivery = await start(exporter)
    with pytest.raises(UnavailableError, match="restarting") as caught:
        await delivery.deliver(batch("a"))
    assert caught.value.retry_after == 3600
    with pytest.raises(UnavailableError, match="fake does not take batches at the moment") as caught:
        await delivery.deliver(batch("a"))
    assert caught.value.retry_after > 60
    assert exporter.commits == [["a"]]
    assert delivery.circuit_open


class _WrongCount(FakeExporter):
    async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
        new = await super().commit(prepared)
        return new[:-1] if self.error is None and prepared[0].batch.payload == b"a" else new


@pytest.mark.parametrize(
    "exporter",
    [
        pytest.param(lambda: _failing(FakeExporter(), KeyError("password=hunter2")), id="raises"),
        pytest.param(_WrongCount, id="answers-for-too-few"),
    ],
)
async def test_a_bug_in_an_exporter_is_reported_and_asks_the_sender_to_try_again_and_the_lane_lives_on(
    start: Start, exporter: Callable[[], FakeExporter]
) -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    broken = exporter()
    delivery = await start(broken)
    with pytest.raises(UnavailableError) as caught:
        await delivery.deliver(batch("a"))
    assert "hunter2" not in str(caught.value)
    assert [type(report["exception"]) for report in reports] in ([KeyError], [ValueError])
    broken.error = None
    assert (await delivery.deliver(batch("b"))).records == 1


def _failing(exporter: FakeExporter, error: Exception) -> FakeExporter:
    exporter.error = error
    return exporter


async def test_a_batch_without_records_is_acknowledged_and_not_committed(start: Start) -> None:
    exporter = FakeExporter()
    assert (await (await start(exporter)).deliver(batch(""))).records == 0
    assert exporter.commits == []


async def test_a_malformed_payload_is_refused_before_it_meets_the_others(start: Start) -> None:
    exporter = FakeExporter()
    delivery = await start(exporter)
    assert await answers(send(delivery, "a", "malformed", "b")) == ["ok", "MalformedPayloadError", "ok"]
    assert exporter.commits == [["a", "b"]]
    with pytest.raises(MalformedPayloadError, match="not a request"):
        await delivery.deliver(batch("malformed"))


async def test_what_was_prepared_is_handed_back_with_its_partial_success(start: Start) -> None:
    exporter = FakeExporter()
    exporter.outcomes["a b"] = Outcome(1, "1 log records rejected")
    prepared = await (await start(exporter)).deliver(batch("a b"))
    assert (prepared.records, prepared.outcome) == (2, Outcome(1, "1 log records rejected"))


async def test_stop_refuses_what_hangs_in_a_commit_and_what_waits_behind_it_and_then_stops_the_exporter(
    telemetry: Telemetry,
) -> None:
    exporter = FakeExporter()
    exporter.gate.clear()
    delivery = telemetry.delivery(exporter)
    await delivery.start()
    sent = send(delivery, "hangs")
    await until(lambda: exporter.running == 1)
    sent += send(delivery, "waits")
    await settle()
    async with asyncio.timeout(PATIENCE):
        await delivery.stop()
        results = await asyncio.gather(*sent, return_exceptions=True)
    assert [str(one) for one in results] == ["the gateway is shutting down; send this batch again"] * 2
    assert all(isinstance(one, UnavailableError) for one in results)
    assert exporter.events == ["started", "stopped"]
    assert exporter.stored == []


async def test_what_comes_after_the_stop_is_refused_rather_than_kept_waiting(telemetry: Telemetry) -> None:
    delivery = telemetry.delivery(FakeExporter())
    await delivery.start()
    await delivery.stop()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(DeliveryError, match="shutting down"):
            await delivery.deliver(batch("late"))


async def test_stopping_what_was_never_started_stops_the_exporter(telemetry: Telemetry) -> None:
    exporter = FakeExporter()
    await telemetry.delivery(exporter).stop()
    assert exporter.events == ["stopped"]
