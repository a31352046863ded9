"""A worker does what is asked for, keeps it alive, and leaves it to be resumed when its gateway ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from gateway.runs import Outcome, Progress, Request, Run, Runs, RunState, Trace, Worker, repository, worker
from tests.support.databases import Database
from tests.support.operations import Told, hexadecimal
from tests.support.waiting import PATIENCE, until

HOME = Request("gitops", "home", {})
Execute = Callable[[Run, Progress], Awaitable[Outcome]]


@pytest.fixture
async def runs(native_database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runs]:
    monkeypatch.setattr(worker, "_POLL", 0.05)
    monkeypatch.setattr(worker, "_HEARTBEAT", 0.02)
    runs = Runs(native_database.dsn, "first")
    yield runs
    await runs.close()


@asynccontextmanager
async def working(runs: Runs, execute: Execute, told: Told | None = None, grace: float = 0) -> AsyncIterator[Worker]:
    its = Worker(runs, "gitops", ["home", "work"], execute, (told or Told()).operations)
    await its.start()
    try:
        yield its
    finally:
        await its.stop(grace)


async def ended(runs: Runs, identity: UUID) -> Run:
    """Wait for the end of a run."""
    async with asyncio.timeout(PATIENCE):
        while True:
            run = await runs.get(identity)
            assert run is not None
            if run.finished:
                return run
            await asyncio.sleep(0.02)


async def succeed(_: Run, progress: Progress) -> Outcome:
    progress.counts["steps"] = 1
    progress.output.add("done\n")
    return Outcome(result={"revision": "abc"})


async def hang(*_: object, **__: object) -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError


def noting(broken_off: asyncio.Event) -> Callable[..., Awaitable[Outcome]]:
    """Make work without an end that notes when it is broken off."""

    async def note(*_: object) -> Outcome:
        try:
            return await hang()
        finally:
            broken_off.set()

    return note


async def test_a_run_is_done_and_written_down(runs: Runs) -> None:
    async with working(runs, succeed):
        run = await ended(runs, await runs.enqueue(HOME))
    assert (run.state, run.counts, run.output, run.result) == (
        *(RunState.SUCCEEDED, {"steps": 1}, "done\n", {"revision": "abc"}),
    )


async def test_what_a_run_raises_is_why_it_failed(runs: Runs) -> None:
    async def fail(*_: object) -> Outcome:
        raise ValueError("no such thing")

    async with working(runs, fail):
        run = await ended(runs, await runs.enqueue(HOME))
    assert (run.state, run.error) == (RunState.FAILED, "ValueError: no such thing")


async def test_a_run_is_one_trace_from_whoever_asked_for_it(runs: Runs) -> None:
    told = Told()
    trace = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    async with working(runs, succeed, told):
        identity = await runs.enqueue(Request("gitops", "home", {}, trace))
        await ended(runs, identity)
    span = told.span("gitops.run")
    assert hexadecimal(span.parent) == (trace.trace_id, trace.span_id)
    assert span.attributes is not None
    assert span.attributes["obs_hub.run.id"] == str(identity)
    event = told.event("gitops.run.finished")
    assert event.body == "gitops home: succeeded"
    assert (event.trace_id, event.span_id) == (span.context.trace_id, span.context.span_id)
    assert told.metric("obs_hub.run.finished") == {("gitops", "home", "succeeded"): 1}


async def test_a_trace_goes_on_after_a_restart(native_database: Database, runs: Runs) -> None:
    before, after = Told(), Told()
    identity = await runs.enqueue(HOME)
    async with working(runs, hang, before):
        await native_database.until("SELECT trace_id IS NOT NULL FROM run")
    run = await runs.get(identity)
    assert run is not None
    assert run.state is RunState.RUNNING
    other = Runs(native_database.dsn, "second")
    async with working(other, succeed, after):
        assert (await ended(runs, identity)).attempt == 2
    await other.close()
    assert before.span("gitops.run").context.trace_id == after.span("gitops.run").context.trace_id


async def test_a_run_that_outlasts_the_grace_is_resumed_as_often_as_it_takes(runs: Runs) -> None:
    identity = await runs.enqueue(HOME)
    started = asyncio.Event()

    async def note(*_: object) -> Outcome:
        started.set()
        return await hang()

    for _ in range(repository.MAX_ATTEMPTS + 1):
        async with working(runs, note):
            await asyncio.wait_for(started.wait(), PATIENCE)
            started.clear()
    async with working(runs, succeed):
        assert (await ended(runs, identity)).state is RunState.SUCCEEDED


async def test_the_grace_lets_a_run_end(runs: Runs) -> None:
    started = asyncio.Event()

    async def slow(*_: object) -> Outcome:
        started.set()
        await asyncio.sleep(0.2)
        return Outcome()

    identity = await runs.enqueue(HOME)
    async with working(runs, slow, grace=30):
        await asyncio.wait_for(started.wait(), PATIENCE)
    run = await runs.get(identity)
    assert run is not None
    assert run.state is RunState.SUCCEEDED


async def test_a_long_run_is_kept_alive_and_shows_how_far_it_is(native_database: Database, runs: Runs) -> None:
    async def halfway(_: Run, progress: Progress) -> Outcome:
        progress.counts["documents"] = 7
        progress.output.add("half")
        return await hang()

    identity = await runs.enqueue(HOME)
    async with working(runs, halfway):
        await native_database.until("SELECT output = 'half' AND heartbeat_at > started_at FROM run")
        run = await runs.get(identity)
    assert run is not None
    assert run.counts == {"documents": 7}


async def test_a_run_that_another_took_over_is_broken_off(native_database: Database, runs: Runs) -> None:
    broken_off = asyncio.Event()
    await runs.enqueue(HOME)
    async with working(runs, noting(broken_off)):
        await native_database.until("SELECT heartbeat_at > started_at FROM run")
        # Not on this loop: the heartbeat that holds the row may be under way on it.
        await asyncio.to_thread(native_database.run, "UPDATE run SET holder = 'second', heartbeat_at = now()")
        await asyncio.wait_for(broken_off.wait(), PATIENCE)
    assert native_database.value("SELECT state || holder FROM run") == "runningsecond"


async def test_a_run_is_broken_off_before_others_may_take_it_over(
    native_database: Database, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STALE_AFTER", timedelta(seconds=worker._MARGIN))
    broken_off = asyncio.Event()

    async def note(*_: object) -> Outcome:
        native_database.allow_connections(False)
        return await noting(broken_off)()

    await runs.enqueue(HOME)
    try:
        async with working(runs, note):
            await asyncio.wait_for(broken_off.wait(), PATIENCE)
    finally:
        native_database.allow_connections(True)


async def test_a_run_is_broken_off_also_when_the_store_leaves_it_without_an_answer(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STALE_AFTER", timedelta(seconds=worker._MARGIN + 0.1))
    monkeypatch.setattr(runs, "heartbeat", hang)
    broken_off = asyncio.Event()
    await runs.enqueue(HOME)
    async with working(runs, noting(broken_off)):
        await asyncio.wait_for(broken_off.wait(), PATIENCE)


async def test_with_nothing_to_do_the_store_is_left_alone_until_the_worker_is_woken(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_POLL", 3600)
    claim, looked = runs.claim, asyncio.Event()
    looks = 0

    async def counted(*about: Any) -> Run | None:
        nonlocal looks
        looks += 1
        found = await claim(*about)
        looked.set()
        return found

    monkeypatch.setattr(runs, "claim", counted)
    async with working(runs, succeed) as its:
        await asyncio.wait_for(looked.wait(), PATIENCE)
        identity = await runs.enqueue(HOME)
        for _ in range(3):
            run = await runs.get(identity)
            assert run is not None
            assert run.state is RunState.QUEUED
        assert looks == 1
        its.wake()
        await ended(runs, identity)


async def test_a_failure_that_nobody_thought_of_does_not_end_the_looking(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, failures = runs.claim, [TypeError("nobody thought of this")]

    async def fail_once(*about: Any) -> Run | None:
        if failures:
            raise failures.pop()
        return await claim(*about)

    monkeypatch.setattr(runs, "claim", fail_once)
    async with working(runs, succeed):
        assert (await ended(runs, await runs.enqueue(HOME))).state is RunState.SUCCEEDED
    assert not failures


async def test_the_end_of_a_run_waits_for_the_store(native_database: Database, runs: Runs) -> None:
    async def without_store(*_: object) -> Outcome:
        await asyncio.to_thread(native_database.allow_connections, False)
        return Outcome(result={"revision": "abc"})

    identity = await runs.enqueue(HOME)
    try:
        with capture_logs() as logs:
            async with working(runs, without_store):
                await until(lambda: any("waits for the store" in line["event"] for line in logs))
                native_database.allow_connections(True)
                assert (await ended(runs, identity)).result == {"revision": "abc"}
    finally:
        native_database.allow_connections(True)


async def test_output_is_kept_in_bounded_memory_with_its_beginning_and_its_end(runs: Runs) -> None:
    async def talk(_: Run, progress: Progress) -> Outcome:
        progress.output.add("begin\n")
        for _number in range(2000):
            progress.output.add("x" * 1000)
        progress.output.add("\nend")
        return Outcome()

    async with working(runs, talk):
        run = await ended(runs, await runs.enqueue(HOME))
    assert run.output.startswith("begin")
    assert run.output.endswith("end")
    assert "more characters left out" in run.output
    assert len(run.output) <= 64 * 1024
