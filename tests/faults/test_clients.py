"""Clients that are slow, many, rude, or more than the gateway can hold."""

from __future__ import annotations

import asyncio
import http.client
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc
import grpc.aio
import psutil
import psycopg
import pytest

from gateway.component import Signal
from gateway.embedded import EmbeddedPostgres
from tests.faults.harness import METHOD, Gateway, load, prove, request, retry_info, stored, until
from tests.integration.cli.processes import Hubs
from tests.support.databases import Database
from tests.support.waiting import PATIENCE

HEAD = b"POST /v1/metrics HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\n"


@pytest.fixture
def gateway(hubs_to_start: Hubs, native_database: Database) -> Gateway:
    return Gateway(hubs_to_start, native_database.dsn).start()


@contextmanager
def rude(gateway: Gateway, count: int, say: bytes) -> Iterator[list[socket.socket]]:
    """Connections to both ports that say something, and then nothing more."""
    with ExitStack() as stack:
        connections = []
        for number in range(count):
            port = gateway.http_port if number % 2 else gateway.port
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            if say:
                connection.sendall(say)
            connections.append(connection)
        yield connections


@pytest.mark.parametrize(
    "say",
    [
        pytest.param(b"", id="say nothing"),
        pytest.param(b"POST /v1/met", id="half a request line"),
        pytest.param(HEAD + b"content-length: 100000\r\n\r\n" + b"x" * 500, id="half a body"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nab", id="half a chunk"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\4\1", id="half a frame"),
    ],
)
def test_a_hundred_stalled_connections_keep_nobody_out(gateway: Gateway, say: bytes) -> None:
    with rude(gateway, 100, say), load(gateway) as clients:
        clients.until_acknowledged(20)
        clients.finish()
    prove("100 stalled connections", clients, gateway)


def test_a_thousand_idle_connections(gateway: Gateway) -> None:
    limit = psutil.Process(gateway.hub.pid).rlimit(psutil.RLIMIT_NOFILE)[0]
    count = min(1000, limit - 200)
    with rude(gateway, count, b""), load(gateway) as clients:
        clients.until_acknowledged(20)
        clients.finish()
    prove(f"{count} idle connections", clients, gateway)


def test_no_file_descriptor_is_left(hubs_to_start: Hubs, postgres: EmbeddedPostgres) -> None:
    """Who is connected is served, the spool works, and everybody is let in again when there is room."""
    gateway = Gateway(hubs_to_start, postgres.dsn).start()
    hub = psutil.Process(gateway.hub.pid)
    before = hub.rlimit(psutil.RLIMIT_NOFILE)
    with load(gateway) as clients:
        clients.until_acknowledged(20)
        few = (hub.num_fds() + 20) * 4 // 3  # of which a quarter is not for connections
        hub.rlimit(psutil.RLIMIT_NOFILE, (few, before[1]))
        with rude(gateway, 100, b""):
            until(lambda: "connections are refused" in gateway.log(), "a refusal")
            postgres.stop()
            until(lambda: gateway.spooled, "the spool being used")
            clients.until_acknowledged(20)
            hub.rlimit(psutil.RLIMIT_NOFILE, (3, before[1]))  # and now not one more
            with rude(gateway, 10, b""):
                until(lambda: "socket.accept() out of system resource" in gateway.log(), "nothing being left")
                clients.until_acknowledged(20)
        postgres.start()
        hub.rlimit(psutil.RLIMIT_NOFILE, before)
        with load(gateway) as latecomers:
            latecomers.until_acknowledged(20)
            latecomers.finish()
        clients.finish()
    assert gateway.log().count("out of system resource") < 500, "it did not wait between its tries"
    prove("no file descriptor left", clients, gateway)
    prove("no file descriptor left, then connected", latecomers, gateway)


def test_connections_reset_in_the_middle_of_requests(gateway: Gateway) -> None:
    with load(gateway) as clients:
        for _ in range(5):
            with rude(gateway, 40, HEAD + b"content-length: 5000\r\n\r\nabc") as connections:
                for connection in connections:  # linger 0: a reset instead of an end
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            clients.until_acknowledged(5)
        clients.finish()
    prove("connections reset in the middle of requests", clients, gateway, rounds=200)


def test_more_than_fits_is_refused_with_a_time_to_come_back_and_what_is_accepted_is_stored(
    hubs_to_start: Hubs, native_database: Database
) -> None:
    gateway = Gateway(
        hubs_to_start,
        native_database.dsn,
        delivery={"max_in_flight": "1MiB"},
        spool={"enabled": False},
        timeout="30s",
    ).start()
    with psycopg.connect(native_database.dsn) as blocker:
        blocker.execute("LOCK TABLE sample IN ACCESS EXCLUSIVE MODE")
        with load(gateway, clients=24, timeout=PATIENCE, size=2**17, pause=0, signals=[Signal.METRICS]) as clients:
            until(lambda: clients.answers["RESOURCE_EXHAUSTED"] > 30, "refusals")
            assert not clients.requests
            connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port, timeout=PATIENCE)
            headers = {"content-type": "application/x-protobuf"}
            connection.request("POST", "/v1/metrics", request(range(20_000)), headers)
            answer = connection.getresponse()
            assert (answer.status, int(answer.headers["retry-after"]) >= 1) == (429, True)
            connection.close()
            with grpc.insecure_channel(gateway.endpoint) as channel, pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(METHOD)(request(range(20_000)), timeout=PATIENCE)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (info := retry_info(caught.value)) is not None
            assert info.retry_delay.ToNanoseconds() > 0
            blocker.rollback()
            clients.until_acknowledged(24)
            clients.finish()
    assert not clients.without_retry_info
    prove("more than fits in flight", clients, gateway)


def test_latency_stays_bounded_under_ten_times_what_fits(hubs_to_start: Hubs, native_database: Database) -> None:
    """Requests wait in a queue of bounded size only: who does not fit is told so, who does is answered in time."""
    most, size = 2**20, 2**17
    settings = {"timeout": "5s", "slow_after": "2s"}
    gateway = Gateway(hubs_to_start, native_database.dsn, delivery={"max_in_flight": most}, **settings).start()
    with load(
        gateway, clients=10 * most // size, timeout=PATIENCE, size=size, pause=0, signals=[Signal.METRICS]
    ) as clients:
        clients.until_acknowledged(5)
        with psycopg.connect(native_database.dsn) as blocker:  # and now nothing gets away, until the spool takes it
            blocker.execute("LOCK TABLE sample IN ACCESS EXCLUSIVE MODE")
            until(lambda: clients.answers["RESOURCE_EXHAUSTED"] > 30, "refusals")
            clients.until_acknowledged(50)
        clients.until_acknowledged(50)
        clients.finish()
    assert not clients.without_retry_info
    assert not clients.answers["DEADLINE_EXCEEDED"], "a request was kept waiting for a minute"
    prove("ten times more than fits in flight", clients, gateway)


async def test_many_requests_at_once_on_one_connection(gateway: Gateway) -> None:
    async with grpc.aio.insecure_channel(gateway.endpoint) as channel:
        call = channel.unary_unary(METHOD)
        payloads = [request([number]) for number in range(800)]
        await asyncio.gather(*(call(payload, timeout=PATIENCE) for payload in payloads))
    assert await asyncio.to_thread(until, lambda: not gateway.spooled, "the spool being empty")
    assert set(stored(gateway.dsn).items()) == {(number, 1) for number in range(800)}
