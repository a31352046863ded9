"""How long a connection waits for its client, and that nothing a client says breaks it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.component import MalformedPayloadError, Signal
from receivers.otlp.grpc_call import Services
from receivers.otlp.grpc_messages import Bounds, Request, StatusError
from receivers.otlp.grpc_services import exports
from receivers.otlp.http2.connection import Connections, Http2Connection, Patience
from tests.support.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    EXPORT,
    HEADERS,
    PING,
    Transport,
    connected,
    frame,
    greeting,
    header_block,
    message,
)
from tests.support.telemetry import logs
from tests.support.waiting import PATIENCE

NEVER = 1e9
SOON = 0.05
PAYLOAD = message(logs("x").payload, compressed=False)


class Refusing:
    """A consumer that takes nothing."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    async def accept(self, batch: object) -> Any:
        raise MalformedPayloadError("no")

    def refuse(self, signal: Signal, reason: str) -> None:
        self.refused.append(reason)

    def refuse_connection(self, listener: str, reason: str) -> None:
        self.refused.append(reason)


@pytest.fixture
def consumer() -> Refusing:
    return Refusing()


@asynccontextmanager
async def serving(consumer: Refusing, **patience: float) -> AsyncIterator[str]:
    """A server whose patience is endless but for what is said."""
    endless = dict.fromkeys(("begin", "request", "answer", "idle", "ping"), NEVER)
    services = Services(exports(consumer, None), Bounds(2**20, 2**21, "setting"))
    connections = Connections()

    def connection() -> Http2Connection:
        return Http2Connection(services.open, connections, 100, Patience(**(endless | patience), look=0.01))

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    yield f"{host}:{port}"
    server.close()
    for each in tuple(connections.open):
        each.abort()
    assert await connections.gone(60)


async def test_a_client_that_does_not_begin(consumer: Refusing) -> None:
    async with serving(consumer, begin=SOON) as endpoint:
        host, _, port = endpoint.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for byte in greeting()[:-1]:
            writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(PATIENCE):
                await reader.read()
        writer.close()


async def test_a_request_that_does_not_end_is_refused_alone(consumer: Refusing) -> None:
    async with serving(consumer, request=SOON) as endpoint, connected(endpoint) as client:
        client.call(1, PAYLOAD[:7], end=False)
        status, text, _ = await client.answer(1)
        assert (status, "did not arrive in time" in text) == ("14", True)
        client.call(3, PAYLOAD)
        assert (await client.answer(3))[0] == "3"
    assert consumer.refused == ["too_slow"]


async def test_a_request_that_comes_slowly_and_steadily_is_waited_for(consumer: Refusing) -> None:
    large = message(b"\x0a" * 40 * 1024, compressed=False)
    async with serving(consumer, request=1.0, pace=1024) as endpoint, connected(endpoint) as client:
        client.call(1, large[:1024], end=False)
        for at in range(1024, len(large), 1024):  # twice as long as nothing would be waited for
            await asyncio.sleep(SOON)
            client.send(frame(DATA, 0, 1, large[at : at + 1024]))
        client.send(frame(DATA, END_STREAM, 1))
        assert (await client.answer(1))[0] == "3"
    assert consumer.refused == []


async def test_a_client_that_vanished_is_found_by_asking(consumer: Refusing) -> None:
    async with serving(consumer, idle=SOON, ping=SOON) as endpoint, connected(endpoint) as client:
        await client.until(PING)
        await client.end()


async def test_a_client_that_answers_may_stay(consumer: Refusing) -> None:
    async with serving(consumer, idle=SOON, ping=10) as endpoint, connected(endpoint) as client:
        for _ in range(3):
            content = await client.until(PING)
            client.frames.clear()
            client.send(frame(PING, ACK, 0, content))
        client.call(1, PAYLOAD)
        assert (await client.answer(1))[0] == "3"


async def test_a_client_that_does_not_read_is_not_waited_for(consumer: Refusing) -> None:
    async with serving(consumer, answer=SOON) as endpoint:
        host, _, port = endpoint.rpartition(":")
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, (host, int(port)))
            await loop.sock_sendall(connection, greeting())
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(_requests_without_end(loop, connection), PATIENCE)


async def _requests_without_end(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    for stream in range(1, 2**31, 2):
        headers = header_block(EXPORT | {":path": f"/{stream}" + "%" * 200})  # which the answer repeats
        await loop.sock_sendall(connection, frame(HEADERS, END_HEADERS | END_STREAM, stream, headers))


def test_what_is_incomplete_is_bounded_in_all() -> None:
    bounds = Bounds(1000, 1500, "setting")
    first, second = Request(bounds), Request(bounds)
    for request in (first, second):
        request.add(message(b"", length=1000))
    first.add(bytes(900))
    with pytest.raises(StatusError) as caught:
        second.add(bytes(900))
    assert (caught.value.reason, caught.value.details is not None) == ("overloaded", True)
    second.release()
    first.add(bytes(100))
    first.release()
    assert bounds.held == 0


BLOCK = header_block(EXPORT)
FRAMES = st.builds(
    frame,
    st.integers(0, 11),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 3, 3, 5, 2]),
    st.one_of(st.binary(max_size=40), st.sampled_from([BLOCK, PAYLOAD, bytes(4), bytes(8), b"\0\0\0\1", BLOCK[:50]])),
)
GOOD = st.sampled_from(
    [
        frame(HEADERS, END_HEADERS, stream, BLOCK) + frame(DATA, flags, stream, PAYLOAD)
        for stream in (1, 3, 5, 7)
        for flags in (0, END_STREAM)
    ]
    + [frame(HEADERS, 0, 9, BLOCK[:50]) + frame(CONTINUATION, END_HEADERS, 9, BLOCK[50:])]
)


@given(st.lists(st.one_of(FRAMES, GOOD), max_size=12), st.booleans())
def test_nothing_that_a_client_says_breaks_the_connection(said: list[bytes], at_once: bool) -> None:
    """Not even by an exception that asyncio would log: a client must not fill the log."""

    async def converse() -> None:
        services = Services(exports(Refusing(), None), Bounds(2**20, 2**21, "setting"))
        connections, transport = Connections(), Transport()
        connection = Http2Connection(services.open, connections, 2)
        connection.connection_made(transport)  # type: ignore[arg-type]
        connection.data_received(greeting())
        for part in [b"".join(said)] if at_once else said:
            if transport.closing:
                break
            connection.data_received(part)
            await asyncio.sleep(0)
            for _ in range(100):  # each turn takes one frame at least
                if transport.reads or transport.closing:
                    break
                await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        connection.connection_lost(None)
        assert not connections.open
        assert services.bounds.held == 0

    asyncio.run(converse())
