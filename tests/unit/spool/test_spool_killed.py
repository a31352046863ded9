"""A gateway is killed between any two steps of its spool on the disk: nothing is lost, and no loss is made up."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.base.settings import SpoolSettings
from gateway.pipeline.spool import Spool, status
from tests.support.logged import Logged
from tests.unit.spool.conftest import batch, everything

_STEPS: list[tuple[Any, str]] = [
    (os, "open"),
    (os, "write"),
    (os, "close"),
    (Path, "mkdir"),
    (Path, "replace"),
    (Path, "unlink"),
]


class KilledError(Exception):
    """The process is no more."""


class Killer:
    """Lets the spool's thread take so many steps on the disk, and no more."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        for owner, name in _STEPS:
            patch.setattr(owner, name, self._counted(getattr(owner, name)))
        for name in ("fdatasync", "fsync"):  # which a kill of a process cannot tell apart
            patch.setattr(os, name, self._counted(lambda _: None))

    def _counted(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            if self.left is not None and threading.current_thread().name.startswith("spool"):
                if self.left == 0:
                    raise KilledError
                self.left -= 1
            return step(*arguments, **named)

        return counted


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Killer]:
    with monkeypatch.context() as patch:
        yield Killer(patch)


async def life(spool: Spool, acknowledged: list[int], taken: list[int], numbers: range) -> None:
    """What a gateway does with a spool: some of what it appends is taken, segment by segment."""
    await spool.open()
    for number in numbers:
        await spool.append(batch(number))
        acknowledged.append(number)
        if number % 4 == 3:
            for _ in range(3):
                batches, took = await spool.read(1)
                taken += [int(each.payload[:8]) for each in batches]
                took()
                await spool.trim()
    await spool.close()


async def test_after_a_kill_at_any_step_all_is_there_once_and_nothing_is_missed(
    tmp_path: Path, killer: Killer, logged: Logged
) -> None:
    settings = SpoolSettings().model_copy(update={"segment_size": 1})  # a segment for each batch
    for steps in range(1_000):
        directory = tmp_path / str(steps)
        acknowledged: list[int] = []
        taken: list[int] = []
        before = Spool(directory, settings)
        await life(before, acknowledged, taken, range(4))
        killed = Spool(directory, settings)
        killer.left = steps
        try:
            await life(killed, acknowledged, taken, range(4, 8))
        except Exception:
            survived = False
        else:
            survived = True
        killer.left = None
        killed._lock.release()  # as the kernel does
        logged.entries.clear()
        after = Spool(directory, settings)
        await after.open()
        found = [int(each.payload[:8]) for each in await everything(after)]
        await after.close()
        assert found == sorted(set(found)), f"killed after {steps} steps"
        assert set(acknowledged) <= {*found, *taken}, f"killed after {steps} steps"
        assert len({*found} & {*taken}) <= 1, f"killed after {steps} steps: at most the last is read again"
        assert (after.damaged, status(directory).losses) == (0, ()), f"killed after {steps} steps: {logged.text}"
        if survived:
            assert not {*found} & {*taken}
            return
        await asyncio.sleep(0)
    pytest.fail("it never came to an end")
