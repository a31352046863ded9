"""Durable runs: asked for once, done by one gateway, and never forgotten when it ends."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from gateway.runs import Request, Run, RunLostError, Runs, RunState, RunsUnavailableError, Trace
from gateway.runs.repository import MAX_ATTEMPTS
from gateway.runs.text import MAX_OUTPUT
from tests.support.databases import Database
from tests.support.stores import migrate

HOME = Request("gitops", "home", {"source": "test"})
NAMES = ["home"]


@pytest.fixture
async def runs(native_database: Database) -> AsyncIterator[Runs]:
    migrate(native_database)
    runs = Runs(native_database.dsn, "first")
    yield runs
    await runs.close()


@pytest.fixture
async def other(native_database: Database, runs: Runs) -> AsyncIterator[Runs]:
    """Another gateway on the same database."""
    other = Runs(native_database.dsn, "second")
    yield other
    await other.close()


async def claimed(runs: Runs) -> Run:
    run = await runs.claim("gitops", NAMES)
    assert run is not None
    return run


async def state_of(runs: Runs, identity: uuid.UUID) -> RunState:
    run = await runs.get(identity)
    assert run is not None
    return run.state


def age(database: Database, column: str, interval: str) -> None:
    database.run(f"UPDATE run SET {column} = {column} - interval '{interval}'")


# -- asking ------------------------------------------------------------------------------------------------------------


async def test_a_run_waits_runs_and_succeeds(runs: Runs) -> None:
    identity = await runs.enqueue(Request("gitops", "home", {"source": "webhook"}, Trace("0af7", "b7ad")))
    run = await claimed(runs)
    assert (run.id, run.state, run.attempt, run.resumed) == (identity, RunState.RUNNING, 1, False)
    assert run.trace == Trace("0af7", "b7ad")
    await runs.heartbeat(run, counts={"steps": 1}, output="half")
    under_way = await runs.get(identity)
    assert under_way is not None
    assert (under_way.counts, under_way.output, under_way.finished) == ({"steps": 1}, "half", False)
    await runs.finish(run, RunState.SUCCEEDED, counts={"steps": 2}, result={"revision": "abc"}, output="done")
    done = await runs.get(identity)
    assert done is not None
    assert (done.state, done.counts, done.result, done.output, done.error) == (
        *(RunState.SUCCEEDED, {"steps": 2}, {"revision": "abc"}, "done", None),
    )
    assert done.finished_at is not None
    assert await runs.claim("gitops", NAMES) is None


async def test_a_later_request_takes_the_place_of_the_one_that_waits(runs: Runs) -> None:
    first, second = await runs.enqueue(HOME), await runs.enqueue(HOME)
    superseded = await runs.get(first)
    assert superseded is not None
    assert (superseded.state, superseded.superseded_by) == (RunState.SUPERSEDED, second)
    assert (await claimed(runs)).id == second


async def test_a_request_may_leave_the_one_that_waits_in_its_place(runs: Runs) -> None:
    first = await runs.enqueue(HOME)
    assert await runs.enqueue(HOME, supersede=False) == first


async def test_many_requests_at_once_leave_one_waiting(runs: Runs, other: Runs) -> None:
    ids = await asyncio.gather(*((runs, other)[number % 2].enqueue(HOME) for number in range(20)))
    states = [await state_of(runs, identity) for identity in ids]
    assert sorted(states) == [RunState.QUEUED] + [RunState.SUPERSEDED] * 19


async def test_runs_of_different_names_do_not_wait_for_each_other(runs: Runs) -> None:
    await runs.enqueue(HOME)
    await runs.enqueue(Request("gitops", "work", {}))
    names = ["home", "work"]
    assert {run.name for run in [await runs.claim("gitops", names), await runs.claim("gitops", names)] if run} == {
        *names
    }


async def test_a_gateway_takes_only_runs_of_the_kind_and_names_it_knows(runs: Runs) -> None:
    await runs.enqueue(HOME)
    assert await runs.claim("gitops", ["work"]) is None
    assert await runs.claim("pipeline", NAMES) is None


async def test_a_delivery_asks_once_however_often_it_comes(runs: Runs, other: Runs) -> None:
    requests = [HOME, Request("gitops", "work", {})]
    answers = await asyncio.gather(*(each.enqueue_delivery(["72d3162e"], requests) for each in (runs, other, runs)))
    assert sorted(answer.replayed for answer in answers) == [False, True, True]
    assert len({answer.run_ids for answer in answers}) == 1
    assert len(await runs.history("gitops")) == 2


async def test_whatever_somebody_sends_can_be_stored(runs: Runs) -> None:
    hostile = {"ref": "a\0b", "message": "\ud800", "deep": [{"k\0": "'; DROP TABLE run; --"}]}
    identity = await runs.enqueue(Request("gitops", "home", hostile))
    run = await claimed(runs)
    await runs.finish(run, RunState.FAILED, output="\0" + "x" * 10 * MAX_OUTPUT + "end", error="\udfff" * 10_000)
    found = await runs.get(identity)
    assert found is not None
    assert found.trigger["deep"] == [{"k\N{REPLACEMENT CHARACTER}": "'; DROP TABLE run; --"}]
    assert len(found.output) <= MAX_OUTPUT
    assert found.output.endswith("end")
    assert "characters left out" in found.output
    assert found.error is not None
    assert len(found.error) < 10_000


# -- doing, with several gateways --------------------------------------------------------------------------------------


async def test_one_run_of_a_name_runs_at_a_time_whoever_claims(runs: Runs, other: Runs) -> None:
    await runs.enqueue(HOME)
    claims = await asyncio.gather(*(each.claim("gitops", NAMES) for each in (runs, other, runs, other)))
    (run,) = [claim for claim in claims if claim is not None]
    await runs.enqueue(HOME)
    assert await runs.claim("gitops", NAMES) is None
    assert await other.claim("gitops", NAMES) is None
    await (runs if run.holder == "first" else other).finish(run, RunState.SUCCEEDED)
    assert await other.claim("gitops", NAMES) is not None


async def test_a_restarted_gateway_resumes_what_it_left_behind_at_once(native_database: Database, runs: Runs) -> None:
    identity = await runs.enqueue(HOME)
    await claimed(runs)
    restarted = Runs(native_database.dsn, "first")
    run = await claimed(restarted)
    assert (run.id, run.attempt, run.resumed) == (identity, 2, True)
    await restarted.close()


async def test_another_gateway_waits_until_a_run_has_no_heartbeat(
    native_database: Database, runs: Runs, other: Runs
) -> None:
    await runs.enqueue(HOME)
    run = await claimed(runs)
    age(native_database, "heartbeat_at", "50 seconds")
    assert await other.claim("gitops", NAMES) is None
    await runs.heartbeat(run)
    age(native_database, "heartbeat_at", "61 seconds")
    assert (await claimed(other)).resumed


async def test_who_lost_a_run_can_no_longer_change_it(native_database: Database, runs: Runs, other: Runs) -> None:
    await runs.enqueue(HOME)
    lost = await claimed(runs)
    age(native_database, "heartbeat_at", "2 minutes")
    taken = await claimed(other)
    with pytest.raises(RunLostError):
        await runs.heartbeat(lost)
    with pytest.raises(RunLostError):
        await runs.finish(lost, RunState.SUCCEEDED)
    await other.finish(taken, RunState.FAILED, error="it did")
    assert await state_of(runs, lost.id) is RunState.FAILED


async def test_a_run_that_ends_its_gateway_every_time_is_given_up(native_database: Database) -> None:
    migrate(native_database)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        runs = Runs(native_database.dsn, "first")
        if attempt == 1:
            identity = await runs.enqueue(HOME)
        assert (await claimed(runs)).attempt == attempt
        await runs.close()
    runs = Runs(native_database.dsn, "first")
    assert await runs.claim("gitops", NAMES) is None
    run = await runs.get(identity)
    assert run is not None
    assert run.state is RunState.INTERRUPTED
    assert run.error == "the gateway ended while the run was under way, 3 times; not tried again"
    await runs.close()


async def test_finishing_twice_is_finishing_once(runs: Runs) -> None:
    """The answer to the first may be lost with the connection."""
    await runs.enqueue(HOME)
    run = await claimed(runs)
    await runs.finish(run, RunState.SUCCEEDED)
    await runs.finish(run, RunState.SUCCEEDED)
    with pytest.raises(RunLostError):
        await runs.finish(run, RunState.FAILED)


# -- keeping -----------------------------------------------------------------------------------------------------------


async def test_old_runs_are_removed_but_the_latest_of_each_name(native_database: Database, runs: Runs) -> None:
    ids = []
    for name in ("home", "home", "work"):
        ids.append(await runs.enqueue(Request("gitops", name, {})))
        run = await runs.claim("gitops", [name])
        assert run is not None
        await runs.finish(run, RunState.SUCCEEDED)
    waiting = await runs.enqueue(HOME)
    await runs.enqueue_delivery(["old"], [])
    age(native_database, "finished_at", "31 days")
    native_database.run("UPDATE webhook_delivery SET received_at = received_at - interval '8 days'")
    assert await runs.prune(timedelta(days=30)) == 1
    assert {run.id for run in await runs.history("gitops")} == {ids[1], ids[2], waiting}
    assert native_database.count("webhook_delivery") == 0


async def test_history_is_newest_first_and_of_one_name_where_asked(runs: Runs) -> None:
    first = await runs.enqueue(Request("gitops", "work", {}))
    second = await runs.enqueue(HOME)
    assert [run.id for run in await runs.history("gitops")] == [second, first]
    assert [run.id for run in await runs.history("gitops", "work")] == [first]
    assert [run.id for run in await runs.history("gitops", limit=1)] == [second]
    assert await runs.history("pipeline") == []


async def test_history_leaves_out_what_runs_wrote(runs: Runs) -> None:
    await runs.enqueue(Request("gitops", "home", {}))
    run = await runs.claim("gitops", ["home"])
    assert run is not None
    await runs.finish(run, RunState.SUCCEEDED, output="long")
    (listed,) = await runs.history("gitops")
    assert (listed.id, listed.output) == (run.id, "")


# -- without a database ------------------------------------------------------------------------------------------------


@pytest.mark.empty_database
async def test_a_store_without_the_tables_says_what_to_do(native_database: Database) -> None:
    runs = Runs(native_database.dsn)
    with pytest.raises(RunsUnavailableError, match="obs-hub db migrate"):
        await runs.enqueue(HOME)
    migrate(native_database)
    await runs.enqueue(HOME)
    await runs.close()


async def test_a_database_that_is_away_is_said_to_be_and_found_again(native_database: Database, runs: Runs) -> None:
    await runs.enqueue(HOME)
    native_database.allow_connections(False)
    try:
        with pytest.raises(RunsUnavailableError, match="PostgreSQL is not available"):
            await runs.enqueue(HOME)
    finally:
        native_database.allow_connections(True)
    await runs.enqueue(HOME)


async def test_a_connection_that_broke_meanwhile_is_made_again(native_database: Database, runs: Runs) -> None:
    first = await runs.enqueue(HOME)
    native_database.allow_connections(False)
    native_database.allow_connections(True)
    assert (await claimed(runs)).id == first
