"""Work that gives way: pauses, and parts in threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.base import slices
from gateway.base.slices import StaleError, Steps, at_once, in_slices


def fail() -> None:
    raise ValueError("no")


def work(seen: list[object]) -> Steps[str]:
    yield None
    seen.append((yield threading.get_ident))
    try:
        yield fail
    except ValueError as error:
        seen.append(str(error))
    yield None
    return "done"


async def test_parts_are_done_in_a_thread_and_what_comes_of_them_comes_back() -> None:
    seen: list[object] = []
    assert await in_slices(work(seen)) == "done"
    assert seen[1:] == ["no"]
    assert seen[0] != threading.get_ident()


def test_all_can_be_done_at_once() -> None:
    seen: list[object] = []
    assert at_once(work(seen)) == "done"
    assert seen == [threading.get_ident(), "no"]


async def test_others_have_their_turn_at_each_pause_that_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(count: int) -> Steps[int]:
        for _ in range(count):
            yield None
        return count

    async def turns(count: int) -> int:
        running, turns = asyncio.create_task(in_slices(steps(count))), 0
        while not running.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert await turns(10) < 10
    monkeypatch.setattr(slices, "SLICE", -1)
    assert await turns(10) > 10


@pytest.mark.parametrize("pause", [None, int], ids=["a pause", "a part"])
async def test_what_is_stale_is_given_up(monkeypatch: pytest.MonkeyPatch, pause: type[int] | None) -> None:
    monkeypatch.setattr(slices, "SLICE", -1)
    done = False

    def steps() -> Steps[None]:
        nonlocal done
        yield pause
        done = True

    with pytest.raises(StaleError):
        await in_slices(steps(), lambda: False)
    assert not done
