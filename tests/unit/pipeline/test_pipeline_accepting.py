"""Connections beyond what a listener lets in, and beyond what the process can have."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.net.binding import BACKLOG, bind
from gateway.net.connection_limit import ConnectionLimit

SETTING = "receivers.otlp.protocols.grpc"


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.write(data)


@asynccontextmanager
async def listening(most: int = 100) -> AsyncIterator[tuple[int, list[str]]]:
    """A server that lets in so many; its port, and the refusals."""
    refused: list[str] = []

    def note(listener: str, reason: str) -> None:
        assert listener == SETTING
        refused.append(reason)

    (taken,) = await bind("127.0.0.1:0", ConnectionLimit(SETTING, most, note), reuse_port=False)
    port = taken.getsockname()[1]
    async with await asyncio.get_running_loop().create_server(Echo, sock=taken, backlog=BACKLOG):
        yield port, refused


class Client:
    """A client whose connection is let in, or closed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def of(cls, port: int) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def served(self) -> bool:
        try:
            self._writer.write(b"x")
            return await self._reader.read(1) == b"x"
        except ConnectionError:
            return False

    async def leave(self) -> None:
        """Close, and return when the server has heard of it."""
        self._writer.write_eof()
        await self._reader.read()
        self._writer.close()


async def test_a_connection_too_many_is_closed_and_one_that_ends_makes_room() -> None:
    with capture_logs() as logs:
        async with listening(most=2) as (port, refused):
            first, second = await Client.of(port), await Client.of(port)
            assert (await first.served(), await second.served()) == (True, True)
            for _ in range(5):
                assert not await (await Client.of(port)).served()
            assert refused == ["too_many_connections"] * 5
            assert await second.served()
            await first.leave()
            assert await (await Client.of(port)).served()
            assert not await (await Client.of(port)).served()
    (line,) = logs
    assert line["listener"] == SETTING
    assert f"{SETTING}.max_connections" in line["reason"]


async def test_the_last_file_descriptors_are_not_for_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening() as (port, refused):
        monkeypatch.setattr(resource, "getrlimit", lambda _: (4, 4))
        with capture_logs() as logs:
            assert not await (await Client.of(port)).served()
            assert not await (await Client.of(port)).served()
        assert refused == ["no_file_descriptors"] * 2
        assert [line["refused"] for line in logs] == [1]
        assert "LimitNOFILE" in logs[0]["reason"]
        monkeypatch.undo()
        assert await (await Client.of(port)).served()


@pytest.mark.parametrize("missing", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS])
async def test_without_a_file_descriptor_it_neither_spins_nor_gives_up(
    monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    monkeypatch.setattr(asyncio.constants, "ACCEPT_RETRY_DELAY", 0.01)
    tried, pauses, enough = [0], [0], asyncio.Event()

    def accept(_: socket.socket) -> Any:
        tried[0] += 1
        if tried[0] == 5:
            enough.set()
        raise OSError(missing, "no descriptor")

    def note(_: asyncio.AbstractEventLoop, __: dict[str, Any]) -> None:
        pauses[0] += 1

    asyncio.get_running_loop().set_exception_handler(note)
    async with listening() as (port, refused):
        with capture_logs() as logs, monkeypatch.context() as patch:
            patch.setattr(socket.socket, "accept", accept)
            waiting = await Client.of(port)  # by the kernel, which has room
            await enough.wait()
        assert tried[0] == pauses[0] == len(refused)
        assert tried[0] < BACKLOG / 10, "it was tried again without a pause, as often as the backlog is long"
        assert len(logs) == 1
        assert await waiting.served()
