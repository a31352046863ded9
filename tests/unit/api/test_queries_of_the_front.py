"""Queries of the front whose client goes away, or whose handler is cancelled: they end, and leave nothing unheard."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from gateway.extensions.api.queries import Queries
from gateway.query.config import QuerySettings
from gateway.query.errors import QueryCanceledError
from gateway.query.limits import Usage
from gateway.query.service import QueryService


class Work:
    """Works until the query is to end, as one does that waits for the store."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def __call__(self, usage: Usage) -> None:
        self.thread = threading.current_thread()
        self.begun.set()
        while True:
            usage.check()

    async def has_begun(self) -> None:
        await asyncio.to_thread(self.begun.wait)

    async def has_ended(self) -> None:
        await asyncio.to_thread(self.thread.join)  # its result is handed over by then, and arrives with the next turns
        for _ in range(3):
            await asyncio.sleep(0)


async def error_of(awaitable: Awaitable[Any]) -> type[BaseException] | None:
    """Return the kind of error alone: the error itself refers to the frames, and these to what nobody may wait for."""
    try:
        await awaitable
    except BaseException as error:
        return type(error)
    return None


@asynccontextmanager
async def queries_and_complaints() -> AsyncIterator[tuple[Queries, list[Any]]]:
    """Yields with it what the loop has to complain of, once nobody refers to what was cancelled any more."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    queries = Queries(QueryService(QuerySettings(), lambda: None))
    try:
        yield queries, complaints
    finally:
        queries.close()


async def test_a_query_whose_client_has_gone_ends_without_a_complaint() -> None:
    async with queries_and_complaints() as (queries, complaints):
        work = Work()

        async def receive() -> Any:
            await work.has_begun()
            return {"type": "http.disconnect"}

        assert await error_of(queries.run(work, 60, receive)) is QueryCanceledError
        gc.collect()
        assert complaints == []


async def test_one_whose_reader_is_cancelled_ends_without_a_complaint() -> None:
    async with queries_and_complaints() as (queries, complaints):
        work = Work()
        reading = asyncio.create_task(queries.run(work, 60))
        await work.has_begun()
        reading.cancel()
        assert await error_of(reading) is asyncio.CancelledError
        del reading
        queries.close()
        await work.has_ended()
        gc.collect()
        assert complaints == []


async def test_a_fault_is_told_although_the_client_has_gone() -> None:
    async with queries_and_complaints() as (queries, _):
        begun = threading.Event()

        def faulty(usage: Usage) -> None:
            begun.set()
            while not usage.canceled:
                pass
            raise ZeroDivisionError

        async def receive() -> Any:
            await asyncio.to_thread(begun.wait)
            return {"type": "http.disconnect"}

        assert await error_of(queries.run(faulty, 60, receive)) is ZeroDivisionError
