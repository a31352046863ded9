"""Every way in which an HTTP request can lose its body, or fill the memory, between the socket and whoever answers."""

from __future__ import annotations

import asyncio
import gzip
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from litestar import Litestar, Request, post
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from gateway.component import ACCEPTED, Batch, Outcome, Receiver, Signal
from gateway.component.declaration import Context
from gateway.net.http_bodies import Bodies
from gateway.net.http_serving import AppServer
from gateway.net.listeners import ListenerSettings
from receivers.otlp.config import OtlpReceiverConfig
from receivers.otlp.factory import create
from receivers.otlp.http2.frames import ErrorCodes
from tests.support.http2 import GOAWAY, PREFACE, frames_in
from tests.support.waiting import PATIENCE, until

LOGS = ExportLogsServiceRequest()
LOGS.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1).body.string_value = "hello"
PAYLOAD = LOGS.SerializeToString()
POST = b"POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n"
LAST = POST + b"Connection: close\r\n" + LENGTH % 0
WHOLE = LENGTH % len(PAYLOAD) + PAYLOAD
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"1\r\n%c\r\n" % byte for byte in PAYLOAD) + b"0\r\n"
PROTOBUF = ("-H", "content-type: application/x-protobuf")


class Pipeline:
    """A consumer that keeps what it gets, and answers when it may."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.refused: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    @property
    def payloads(self) -> list[bytes]:
        return [batch.payload for batch in self.batches]

    async def accept(self, batch: Batch) -> Outcome:
        self.batches.append(batch)
        await self.may_answer.wait()
        return ACCEPTED

    def refuse(self, signal: Signal, reason: str) -> None:
        self.refused.append(reason)

    def refuse_connection(self, listener: str, reason: str) -> None:
        self.refused.append(reason)


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline()


@asynccontextmanager
async def listening(pipeline: Pipeline, *, bodies: Bodies | None = None, **http: Any) -> AsyncIterator[Receiver]:
    config = OtlpReceiverConfig.model_validate({"protocols": {"http": {"endpoint": "127.0.0.1:0"} | http}})
    receiver = create("otlp", config, pipeline, Context(bodies=bodies or Bodies()))
    await receiver.start()
    try:
        yield receiver
    finally:
        pipeline.may_answer.set()
        await receiver.stop(5)


@pytest.fixture
async def receiver(pipeline: Pipeline) -> AsyncIterator[Receiver]:
    async with listening(pipeline) as receiver:
        yield receiver


async def connect(receiver: Receiver) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = receiver.endpoints["http"].split(":")
    return await asyncio.open_connection(host, int(port))


async def said_to(receiver: Receiver, said: bytes) -> bytes:
    """Return all that is answered until the connection is closed."""
    reader, writer = await connect(receiver)
    writer.write(said)
    answer = await reader.read()
    writer.close()
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 ([0-9]{3})", answer)]


# Offers of another protocol


@pytest.mark.parametrize(
    "body", [WHOLE, CHUNKED + b"\r\n", CHUNKED + b"Trailer: x\r\n\r\n"], ids=["length", "chunks", "trailers"]
)
@pytest.mark.parametrize(
    "offer",
    [
        pytest.param(b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAA\r\n", id="h2c"),
        pytest.param(b"Connection: HTTP2-Settings, Upgrade\r\nUpgrade: h2c, foo/2\r\n", id="several"),
        pytest.param(b"Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: eA==\r\n", id="websocket"),
        pytest.param(b"Upgrade: h2c\r\n", id="not connection"),
        pytest.param(b"Connection: Upgrade\r\n", id="nothing"),
    ],
)
async def test_an_offer_of_another_protocol_costs_no_body(
    receiver: Receiver, pipeline: Pipeline, offer: bytes, body: bytes
) -> None:
    """RFC 9110, 7.8: a server may ignore it. The requests before and after, on the same connection, are untouched."""
    offered = POST + offer + body
    assert statuses(await said_to(receiver, POST + WHOLE + offered + offered + POST + WHOLE + LAST)) == [200] * 5
    assert pipeline.payloads == [PAYLOAD] * 4 + [b""]


async def test_an_offer_that_comes_byte_by_byte(receiver: Receiver, pipeline: Pipeline) -> None:
    reader, writer = await connect(receiver)
    for byte in POST + b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + WHOLE + LAST:
        writer.write(bytes((byte,)))
        await writer.drain()
    assert statuses(await reader.read()) == [200, 200]
    assert pipeline.payloads == [PAYLOAD, b""]


@pytest.mark.skipif(which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("option", ["--http2", "--http1.1", "--http1.0"])
async def test_curl(receiver: Receiver, pipeline: Pipeline, tmp_path: Path, option: str) -> None:
    request = tmp_path / "request.bin"
    request.write_bytes(PAYLOAD)
    url = f"http://{receiver.endpoints['http']}/v1/logs"
    command = ["curl", "-sS", option, *PROTOBUF, "--data-binary", f"@{request}", "-w", "%{http_code}", url]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False, timeout=PATIENCE)
    assert (done.stdout, done.stderr) == (b"200", b"")
    assert pipeline.payloads == [PAYLOAD]


async def test_http_2_by_prior_knowledge_is_told_to_speak_1_1(receiver: Receiver, pipeline: Pipeline) -> None:
    for pieces in ([PREFACE + bytes(9)], [PREFACE[:3], PREFACE[3:20], PREFACE[20:]]):
        reader, writer = await connect(receiver)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        goodbyes = [content for kind, _, _, content in frames_in(await reader.read()) if kind == GOAWAY]
        assert [int.from_bytes(each[4:8], "big") for each in goodbyes] == [ErrorCodes.HTTP_1_1_REQUIRED]
        writer.close()
    assert not pipeline.batches


async def test_nothing_is_connected_to(receiver: Receiver, pipeline: Pipeline) -> None:
    for target in (b"elsewhere:443", b"/v1/logs"):
        answer = await said_to(receiver, b"CONNECT %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % target + POST + WHOLE)
        assert statuses(answer) == [400]
    assert not pipeline.batches


# Where a body ends


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(POST + b"\r\n", 411, id="no length"),
        pytest.param(POST.replace(b"1.1", b"1.0") + b"\r\n" + PAYLOAD, 411, id="until the end"),
        pytest.param(POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n", 400, id="chunks in 1.0"),
        pytest.param(POST + LENGTH % (len(PAYLOAD) - 1) + PAYLOAD, 400, id="too short"),
        pytest.param(POST + b"Content-Length: 0\r\n" + WHOLE, 400, id="two lengths"),
        pytest.param(POST + b"Content-Length: %d\r\n" % len(PAYLOAD) + CHUNKED + b"\r\n", 400, id="length and chunks"),
        pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, id="coded chunks"),
        pytest.param(POST + CHUNKED.replace(b"1\r\n", b"1\n", 1) + b"\r\n", 400, id="bare line feed"),
    ],
)
async def test_a_body_whose_end_is_in_doubt_is_not_stored(
    receiver: Receiver, pipeline: Pipeline, request_: bytes, status: int
) -> None:
    answer = await said_to(receiver, request_ + b"" if b"1.0" in request_ else request_ + LAST)
    assert statuses(answer)[0] == status
    assert PAYLOAD not in pipeline.payloads


async def test_trailers_are_no_headers(receiver: Receiver, pipeline: Pipeline) -> None:
    """RFC 9110, 6.5.1. Here one would say that the body is compressed, and another what it is."""
    trailers = b"Content-Encoding: gzip\r\nContent-Type: text/plain\r\n\r\n"
    assert statuses(await said_to(receiver, POST + CHUNKED + trailers + LAST)) == [200, 200]
    assert pipeline.payloads == [PAYLOAD, b""]


@pytest.mark.parametrize("cut", [1, len(PAYLOAD) // 2, len(PAYLOAD) - 1])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_breaks_off_is_not_stored(
    receiver: Receiver, pipeline: Pipeline, cut: int, *, chunked: bool
) -> None:
    whole = POST + (CHUNKED + b"\r\n" if chunked else WHOLE)
    reader, writer = await connect(receiver)
    writer.write(whole[: len(whole) - len(PAYLOAD) + cut])
    writer.write_eof()
    assert 200 not in statuses(await reader.read())
    writer.close()
    await until(lambda: pipeline.refused == ["disconnected"])
    assert not pipeline.batches


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zlib", "zstd", "snappy", "lz4"])
async def test_nothing_compressed_is_not_nothing(receiver: Receiver, pipeline: Pipeline, encoding: str) -> None:
    head = POST + b"Content-Encoding: %s\r\nConnection: close\r\n" % encoding.encode()
    assert statuses(await said_to(receiver, head + LENGTH % 0)) == [400]
    assert not pipeline.batches


async def test_gzip_members_are_joined_and_a_cut_one_is_refused(receiver: Receiver, pipeline: Pipeline) -> None:
    head = POST + b"Content-Encoding: gzip\r\n"
    members = gzip.compress(PAYLOAD[:7]) + gzip.compress(PAYLOAD[7:])
    cut = members[:-1]
    answer = await said_to(receiver, head + LENGTH % len(members) + members + head + LENGTH % len(cut) + cut + LAST)
    assert statuses(answer) == [200, 400, 200]
    assert pipeline.payloads == [PAYLOAD, b""]


# Early answers


EARLY = POST.replace(b"x-protobuf", b"pdf")  # is refused by its headers


async def test_the_rest_of_a_request_that_was_answered_early_is_no_request(
    receiver: Receiver, pipeline: Pipeline
) -> None:
    """Its body holds a request, which must not be read as one."""
    hidden = POST + WHOLE
    reader, writer = await connect(receiver)
    writer.write(EARLY + LENGTH % len(hidden))
    assert b" 415 " in await reader.readuntil(b"\r\n\r\n")
    writer.write(hidden + LAST)
    assert statuses(await reader.read()) == [200]
    assert pipeline.payloads == [b""]
    writer.close()


async def test_an_early_answer_to_who_waits_to_go_on_ends_the_connection(
    receiver: Receiver, pipeline: Pipeline
) -> None:
    """RFC 9110, 10.1.1: whether the body comes now is up to the client, so what comes next could be either."""
    answer = await said_to(receiver, EARLY + b"Expect: 100-continue\r\n" + LENGTH % 1000)
    assert statuses(answer) == [415]
    assert b"connection: close" in answer
    answer = await said_to(receiver, POST + b"Expect: 100-continue\r\n" + WHOLE + LAST)
    assert statuses(answer) == [100, 200, 200]
    assert pipeline.payloads == [PAYLOAD, b""]


@asynccontextmanager
async def serving(bodies: Bodies | None = None) -> AsyncIterator[AppServer]:
    """An application that does not care for what it is sent, or reads it all, and is always content."""

    @post("/careless", sync_to_thread=False)
    def careless() -> str:
        return "done"

    @post("/careful")
    async def careful(request: Request[Any, Any, Any]) -> int:
        return len(await request.body())

    app = Litestar([careless, careful], openapi_config=None, logging_config=None)
    server = AppServer("test", ListenerSettings(endpoint="127.0.0.1:0"), app, lambda *_: None, bodies=bodies)
    await server.bind()
    await server.serve()
    try:
        yield server
    finally:
        await server.stop(0)


async def test_success_is_told_only_once_the_body_is_there() -> None:
    async with serving() as server:
        reader, writer = await asyncio.open_connection(*server.endpoint.split(":"))
        writer.write(b"POST /careless HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + LENGTH % 10 + b"12345")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        writer.write(b"67890")
        assert statuses(await reader.read()) == [201]
        writer.close()


# All bodies together


async def test_bodies_of_all_clients_are_bounded_together(pipeline: Pipeline) -> None:
    """At two listeners at once. Who comes too much is told to come back, and nobody is kept out afterwards."""
    bodies = Bodies(0)
    unfinished = POST + LENGTH % 9_000 + bytes(8_999)
    async with (
        listening(pipeline, bodies=bodies, max_request_body_size=10_000) as one,
        listening(pipeline, bodies=bodies, max_request_body_size=10_000) as other,
    ):
        assert bodies.most == 20_000
        first, second = await connect(one), await connect(other)
        for _, writer in (first, second):
            writer.write(unfinished)
        await until(lambda: bodies.held == 2 * 8_999)
        reader, writer = await connect(other)
        writer.write(unfinished)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 429 " in answer
        assert b"retry-after: 1" in answer
        assert pipeline.refused == ["overloaded"]
        first[1].write(bytes(1) + LAST)
        assert statuses(await first[0].read()) == [200, 200]
        assert bodies.held == 8_999
        second[1].transport.abort()
        writer.transport.abort()
        await until(lambda: bodies.held == 0)


async def test_a_body_is_counted_until_the_pipeline_counts_it(pipeline: Pipeline) -> None:
    bodies = Bodies()
    pipeline.may_answer.clear()
    async with listening(pipeline, bodies=bodies) as receiver:
        reader, writer = await connect(receiver)
        writer.write(POST + WHOLE)
        await until(lambda: pipeline.payloads == [PAYLOAD])
        assert bodies.held == 0
        pipeline.may_answer.set()
        assert b" 200 " in await reader.readline()
        writer.close()


@pytest.mark.parametrize("end", [lambda writer: writer.transport.abort(), lambda writer: writer.write(b"\0")])
async def test_bodies_that_wait_behind_another_request_are_counted_too(
    pipeline: Pipeline, end: Callable[[asyncio.StreamWriter], None]
) -> None:
    bodies = Bodies()
    pipeline.may_answer.clear()
    async with listening(pipeline, bodies=bodies) as receiver:
        _, writer = await connect(receiver)
        writer.write((POST + WHOLE) * 6)
        await until(lambda: bodies.held == 5 * len(PAYLOAD))
        end(writer)
        await asyncio.sleep(0)
        pipeline.may_answer.set()
        await until(lambda: bodies.held == 0)
        writer.close()


async def test_what_waits_beyond_the_bound_is_refused_in_its_turn() -> None:
    bodies = Bodies(100)
    async with serving(bodies) as server:
        one = b"POST /careful HTTP/1.1\r\nHost: localhost\r\n" + LENGTH % 60 + bytes(60)
        last = b"POST /careful HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + LENGTH % 3 + b"abc"
        reader, writer = await asyncio.open_connection(*server.endpoint.split(":"))
        writer.write(one + one + last)
        found = statuses(await reader.read())
        assert (found[0], found[2]) == (201, 201)
        assert found[1] >= 400
        assert bodies.held == 0
        writer.close()


# Names


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost", 200),
        (b"LocalHost.:4318", 200),
        (b"app.localhost:4318", 200),
        (b"127.0.0.1:4318", 200),
        (b"[::1]:4318", 200),
        (b"hub.example.com", 200),
        (b"192.0.2.7", 200),
        (b"evil.example", 421),
        (b"evil.example:4318", 421),
        (b"localhost.evil.example", 421),
        (b"127.0.0.1.evil.example", 421),
        (b"", 421),
        (b"evil.example@localhost", 400),
        (b"localhost\r\nHost: evil.example", 400),
    ],
)
async def test_a_name_that_leads_here_by_a_trick_is_refused(pipeline: Pipeline, host: bytes, status: int) -> None:
    """DNS rebinding: for a browser, a page of evil.example may read and send what it likes there."""
    async with listening(pipeline, allowed_hosts=["Hub.example.com"]) as receiver:
        request = POST.replace(b"localhost", host) + b"Connection: close\r\n" + WHOLE
        answer = await said_to(receiver, request)
        assert statuses(answer) == [status]
        assert pipeline.payloads == [PAYLOAD] * (status == 200)
        assert pipeline.refused == ["wrong_host"] * (status != 200)
        assert (b"receivers.otlp.protocols.http.allowed_hosts" in answer) == (status == 421)


async def test_a_name_that_was_right_makes_no_other_right(pipeline: Pipeline) -> None:
    async with listening(pipeline) as receiver:
        told = []
        for host in (b"localhost", b"evil.example", b"localhost", b"localhost\r\nHost: evil.example", b""):
            request = POST.replace(b"localhost", host) + b"Connection: close\r\n" + WHOLE
            told += statuses(await said_to(receiver, request))
    assert told == [200, 421, 200, 400, 421]


@pytest.mark.parametrize(("allowed", "status"), [([], 200), (["hub.example.com"], 421)])
async def test_beyond_loopback_any_name_will_do_unless_some_are_given(
    pipeline: Pipeline, allowed: list[str], status: int
) -> None:
    async with listening(pipeline, endpoint="0.0.0.0:0", insecure=True, allowed_hosts=allowed) as receiver:
        said = POST.replace(b"localhost", b"any.example") + b"Connection: close\r\n" + WHOLE
        port = receiver.endpoints["http"].rpartition(":")[2]
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(said)
        assert statuses(await reader.read()) == [status]
        writer.close()
