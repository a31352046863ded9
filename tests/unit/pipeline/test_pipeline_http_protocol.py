"""What a client of HTTP may leave undone, and for how long."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from gateway.net.http_bodies import Whole
from gateway.net.http_protocol import BoundedHttpProtocol

HEAD = b"POST /v1/logs HTTP/1.1\r\nHost: hub\r\nContent-Length: 10\r\n\r\n"
MINUTE = 60


class Time:
    """An event loop's time, by which nothing happens but what a test lets happen."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._now = 0.0
        self._planned: list[_Planned] = []

    def time(self) -> float:
        return self._now

    def call_later(self, delay: float, function: Callable[[], None]) -> _Planned:
        planned = _Planned(self._now + delay, function)
        self._planned.append(planned)
        return planned

    def create_task(self, work: Any) -> asyncio.Task[Any]:
        return self._loop.create_task(work)

    def pass_by(self, seconds: float) -> None:
        end = self._now + seconds
        while due := [each for each in self._planned if each.at <= end and not each.cancelled]:
            first = min(due, key=lambda each: each.at)
            self._planned.remove(first)
            self._now = first.at
            first.function()
        self._now = end


class _Planned:
    def __init__(self, at: float, function: Callable[[], None]) -> None:
        self.at, self.function, self.cancelled = at, function, False

    def cancel(self) -> None:
        self.cancelled = True


class Transport(asyncio.Transport):
    """What is written, and how the connection ended."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = self.aborted = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Connection:
    """A connection to an application that reads the request, waits until it may answer, and answers."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.time = Time(asyncio.get_running_loop())
        self.transport = Transport()
        config = uvicorn.Config(self._answer, interface="asgi3", log_config=None, lifespan="off")
        self.protocol = BoundedHttpProtocol(config, ServerState(), {}, self.time)  # type: ignore[arg-type]
        self.protocol.connection_made(self.transport)

    async def _answer(self, _: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def send(self, data: bytes) -> None:
        self.protocol.data_received(data)
        for _ in range(10):  # the application has its turns
            await asyncio.sleep(0)


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    connection = Connection()
    yield connection
    connection.may_answer.set()
    connection.protocol.connection_lost(ConnectionResetError())


@pytest.mark.parametrize("said", [b"", b"POST /v1/lo", HEAD[:-2], HEAD + b"12345"])
async def test_a_client_that_does_not_go_on_is_cut_off(connection: Connection, said: bytes) -> None:
    if said:
        await connection.send(said)
    connection.time.pass_by(MINUTE)
    assert not connection.transport.aborted
    connection.time.pass_by(MINUTE)
    assert connection.transport.aborted


async def test_one_that_goes_on_slowly_is_not(connection: Connection) -> None:
    await connection.send(HEAD.replace(b"10", b"10000000"))
    for _ in range(100):
        await connection.send(bytes(100_000))
        connection.time.pass_by(12)
        assert not connection.transport.aborted


async def test_crumbs_do_not_buy_time(connection: Connection) -> None:
    await connection.send(HEAD.replace(b"10", b"10000"))
    for _ in range(20):
        await connection.send(b"x")
        connection.time.pass_by(5)
    assert connection.transport.aborted


async def test_a_client_does_not_pay_for_our_being_slow(connection: Connection) -> None:
    await connection.send(HEAD + bytes(10))
    connection.time.pass_by(10 * MINUTE)
    connection.may_answer.set()
    await connection.send(HEAD)  # the next request, before the answer to the first
    connection.time.pass_by(1)
    assert connection.transport.written.startswith(b"HTTP/1.1 200 ")
    assert not connection.transport.is_closing()


async def test_an_answer_that_nobody_takes_is_given_up(connection: Connection) -> None:
    connection.may_answer.set()
    connection.protocol.pause_writing()
    await connection.send(HEAD + bytes(10))
    connection.time.pass_by(2 * MINUTE)
    assert connection.transport.aborted


async def test_an_idle_connection_is_closed_in_its_own_time(connection: Connection) -> None:
    connection.may_answer.set()
    await connection.send(HEAD + bytes(10))
    connection.protocol.timeout_keep_alive_task.cancel()  # uvicorn's, which closes it
    connection.time.pass_by(10 * MINUTE)
    assert not connection.transport.is_closing()


_CHUNKED = b"POST / HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        pytest.param(b"POST /", b"a" * 1000, id="path"),
        pytest.param(b"POST / HTTP/1.1\r\nX: ", b"a" * 1000, id="header"),
        pytest.param(b"POST / HTTP/1.1\r\n", b"X: %s\r\n" % (b"a" * 1000), id="headers"),
        pytest.param(_CHUNKED + b"1;", b"a" * 1000, id="chunk extension"),
        pytest.param(_CHUNKED + b"0\r\n", b"X: %s\r\n" % (b"a" * 1000), id="trailers"),
        pytest.param(b"", b"\r\n" * 500, id="empty lines"),
    ],
)
async def test_what_leads_to_no_request_is_not_listened_to_for_ever(
    connection: Connection, begin: bytes, more: bytes
) -> None:
    if begin:
        await connection.send(begin)
    for _ in range(100):
        if connection.transport.is_closing():
            break
        await connection.send(more)
    assert connection.transport.written.startswith(b"HTTP/1.1 400 ")
    assert connection.transport.is_closing()


async def test_headers_within_the_bound_are_taken(connection: Connection) -> None:
    connection.may_answer.set()
    long = HEAD.replace(b"Host", b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(50)) + b"Host") + bytes(10)
    for at in range(0, len(long), 1000):
        await connection.send(long[at : at + 1000])
    assert connection.transport.written.startswith(b"HTTP/1.1 200 ")


async def test_a_crowd_of_requests_sent_at_once_is_not_kept(connection: Connection) -> None:
    await connection.send((HEAD + bytes(10)) * 1000)
    assert connection.transport.written.startswith(b"HTTP/1.1 400 ")
    assert connection.transport.is_closing()
    assert len(connection.protocol.pipeline) <= 256


# -- any client that keeps to the rules is understood ------------------------------------------------------------------


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A request as some client may write it, and its body."""
    body = draw(st.binary(max_size=300))
    lines = ["POST /v1/logs HTTP/1.1", "Host: hub"]
    lines += draw(
        st.sampled_from(
            [
                [],
                ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"],
                ["connection: keep-alive, upgrade", "upgrade: websocket"],
                ["Expect: 100-continue"],
                ["Upgrade: h2c", "Connection: Upgrade", "Expect: 100-continue"],
            ]
        )
    )
    if not draw(st.booleans()):
        lines.append(f"Content-Length: {len(body)}")
        content = body
    else:
        lines.append("transfer-encoding: Chunked")
        cuts = sorted({0, len(body), *draw(st.lists(st.integers(0, len(body)), max_size=5))})
        pieces = [body[start:end] for start, end in itertools.pairwise(cuts)]
        extension = draw(st.sampled_from([b"", b";name=value"]))
        content = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces)
        content += b"0\r\n" + draw(st.sampled_from([b"", b"Checksum: 7\r\nHost: elsewhere\r\n"])) + b"\r\n"
    headers = draw(st.permutations(lines[1:]))
    return "\r\n".join([lines[0], *headers, "", ""]).encode() + content, body


class Reader(Connection):
    """A connection to an application that keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        await Whole(self._read)(scope, receive, send)

    async def _read(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        message: Any = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})


async def read(said: bytes, cuts: list[int]) -> Reader:
    """Say it to a connection, in pieces."""
    reader = Reader()
    for start, end in itertools.pairwise(sorted({0, *cuts, len(said)})):
        if not reader.transport.is_closing():
            await reader.send(said[start:end])
    for _ in range(50):
        await asyncio.sleep(0)
    reader.protocol.connection_lost(ConnectionResetError())
    await asyncio.sleep(0)
    return reader


@settings(max_examples=30)
@given(st.lists(requests(), min_size=1, max_size=5), st.data())
def test_every_body_arrives_whole_however_it_is_sent(sent: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    said = b"".join(request for request, _ in sent)
    cuts = data.draw(st.lists(st.integers(0, len(said)), max_size=10))
    reader = asyncio.run(read(said, cuts))
    assert reader.bodies == [body for _, body in sent]
    assert reader.transport.written.count(b"HTTP/1.1 200 ") == len(sent)
    assert reader.protocol._bodies.held == 0


@settings(max_examples=30)
@given(requests(), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=3), st.data())
def test_a_damaged_request_is_understood_or_refused(
    sent: tuple[bytes, bytes], damage: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Nothing is raised, nothing stays counted, and what is answered was there to be read."""
    said = bytearray(sent[0])
    for at, byte in damage:
        said[at % len(said)] = byte
    cuts = data.draw(st.lists(st.integers(0, len(said)), max_size=5))
    reader = asyncio.run(read(bytes(said), cuts))
    assert reader.transport.written.count(b"HTTP/1.1 200 ") <= len(reader.bodies)
    assert all(len(body) <= len(said) for body in reader.bodies)
    assert reader.protocol._bodies.held == 0
