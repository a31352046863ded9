"""Queries of the front: they wait for each other; those whose client goes away end, and leave nothing unheard."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.extensions.api.queries import Answer, Queries
from gateway.query.config import QuerySettings
from gateway.query.errors import QueryCanceledError, QueryTimeoutError
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
async def queries_and_complaints(**settings: Any) -> AsyncIterator[tuple[Queries, list[Any]]]:
    """Yields with it what the loop has to complain of, once nobody refers to what was cancelled any more."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    queries = Queries(QueryService(QuerySettings.model_validate(settings), lambda: None))
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


async def test_one_too_many_waits_for_its_turn() -> None:
    async with queries_and_complaints(max_concurrent=1) as (queries, _):
        ends = threading.Event()
        first = asyncio.create_task(queries.run(lambda _: ends.wait(30), 60))
        second = asyncio.create_task(queries.run(lambda _: "done", 60))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not second.done()
        ends.set()
        assert await first
        assert await second == "done"


async def test_one_whose_client_goes_while_it_waits_leaves_its_place_to_others() -> None:
    async with queries_and_complaints(max_concurrent=1) as (queries, _):
        ends = threading.Event()
        first = asyncio.create_task(queries.run(lambda _: ends.wait(30), 60))
        await asyncio.sleep(0)

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        assert await error_of(queries.run(lambda _: None, 60, receive)) is QueryCanceledError
        third = asyncio.create_task(queries.run(lambda _: "done", 60))
        ends.set()
        assert await first
        assert await third == "done"


async def test_an_answer_that_fails_half_way_is_broken_off() -> None:
    """Its status is out already: to end it as if it were whole would be a lie."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asked = iter([{"type": "http.request", "body": b""}])

    async def receive() -> Any:
        return next(asked, None) or await asyncio.Event().wait()

    def pieces() -> Iterator[bytes]:
        yield b"x" * 2**16
        raise QueryTimeoutError("too late")

    scope: Any = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    async with queries_and_complaints() as (queries, _):
        with pytest.raises(ConnectionAbortedError):
            await queries.serve(
                scope, receive, send, lambda *_: Answer(pieces()), lambda error: Answer([b"error"], 503)
            )
    assert [message.get("status") for message in sent] == [200, None]
    assert sent[-1]["more_body"]
