"""What runs on an event loop, for tests that do not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

from tests.support.waiting import PATIENCE

_T = TypeVar("_T")


@contextmanager
def in_thread(context: AbstractAsyncContextManager[_T], name: str) -> Iterator[_T]:
    """Enter an asynchronous context in a thread with an event loop of its own, for the length of a block."""
    started: Future[tuple[_T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        stop = asyncio.Event()
        async with context as entered:
            started.set_result((entered, asyncio.get_running_loop(), stop))
            await stop.wait()

    def run_thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run_thread, name=name, daemon=True)
    thread.start()
    entered, loop, stop = started.result(PATIENCE)
    try:
        yield entered
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{name} did not stop"
