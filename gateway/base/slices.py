"""Work for which the event loop is never held for long: it pauses now and then, and hands what is large to a thread.

Such work is a generator. It yields None where it may be interrupted, and a function where that would hold the loop for
long: the function runs in a thread, and what it returns or raises comes back from the ``yield``. So it may touch
nothing that others use meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from gateway.otlp.bounds import SLICE

_T = TypeVar("_T")

Steps = Generator[Callable[[], Any] | None, Any, _T]
"""Work in steps, which returns a ``_T``."""

LARGE = 32 * 2**10
"""Bytes of a record from which on a thread works on it, and bytes of records between two pauses. It takes some 10 ms,
and 30 where each byte is meant badly."""


SHORT = 0.002
"""Seconds after which work counts as long."""


class StaleError(Exception):
    """Work was given up, for what it builds on has changed."""


def _always() -> bool:
    return True


async def in_slices(
    steps: Steps[_T], is_current: Callable[[], bool] = _always, long: asyncio.Semaphore | None = None
) -> _T:
    """Do the work; give way to others whenever that has taken a while.

    ``long`` is for what takes longer than some milliseconds: it goes on once it is acquired. Raises what the work
    raises, and `StaleError` when, after others had their turn, it is not current any more.
    """
    is_long = False
    until = time.perf_counter() + (SLICE if long is None else SHORT)
    advance: Callable[[], Any] = steps.__next__
    try:
        while True:
            try:
                work = advance()
            except StopIteration as ended:
                result: _T = ended.value
                return result
            advance = steps.__next__
            if work is None and time.perf_counter() < until:
                continue
            if long is not None and not is_long:
                await long.acquire()
                is_long = True
            if work is None:
                await asyncio.sleep(0)
            else:
                advance = await asyncio.to_thread(_done, steps, work)
            if not is_current():
                steps.close()
                raise StaleError
            until = time.perf_counter() + SLICE
    finally:
        if long is not None and is_long:
            long.release()


def at_once(steps: Steps[_T]) -> _T:
    """Do the work without giving way to anybody."""
    advance: Callable[[], Any] = steps.__next__
    while True:
        try:
            work = advance()
        except StopIteration as ended:
            result: _T = ended.value
            return result
        advance = steps.__next__ if work is None else _done(steps, work)


def _done(steps: Steps[Any], work: Callable[[], Any]) -> Callable[[], Any]:
    """Do a part of the work; return how to go on with what came of it."""
    try:
        result = work()
    except Exception as error:
        return functools.partial(steps.throw, error)
    return functools.partial(steps.send, result)
