"""Threads that nobody waits for."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar, cast

_T = TypeVar("_T")


async def in_daemon_thread(work: Callable[[], _T]) -> _T:
    """Do something that blocks in a thread of its own; return what it returns, raise what it raises.

    Unlike `asyncio.to_thread`, neither the end of the event loop nor that of the process waits for it: a server that
    hangs would hold up the stop of a gateway for as long as its timeouts last. So ``work`` may be cut off anywhere.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(value: _T | None, error: BaseException | None) -> None:
        if done.done():  # cancelled meanwhile
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast(_T, value))

    def run() -> None:
        value, problem = None, None
        try:
            value = work()
        except BaseException as error:
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, value, problem)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), name="mongodb", daemon=True).start()
    return await done
