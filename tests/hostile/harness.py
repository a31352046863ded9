"""A gateway under attack: the real receiver, pipeline and exporter in a thread of their own, and its clients."""

from __future__ import annotations

import contextlib
import re
import socket
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from google.rpc.status_pb2 import Status

from gateway.component import Signal
from gateway.component.declaration import Context
from gateway.otlp.services import SERVICES
from receivers.otlp.config import OtlpReceiverConfig
from receivers.otlp.factory import create
from tests.support.databases import Database
from tests.support.stores import running_pipeline
from tests.support.telemetry import gauge, logs, spans
from tests.support.threads import in_thread
from tests.support.waiting import PATIENCE

_LEAK = re.compile(
    r"Traceback|File \"|\.py\b|<class |object at 0x|\b[A-Z]\w*(?:Error|Exception)\b|psycopg|site-packages"
)
_GRPC_ANSWERS = {"OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
_HTTP_ANSWERS = {200, 400, 413, 415}
VIEWS = ("metrics", "logs", "events", "spans", "histograms", "summaries", "exemplars")


@dataclass(frozen=True)
class Answer:
    """What a client got: ``OK``, a gRPC code, or an HTTP status, and every text that came with it."""

    status: str | int
    text: str
    rejected: int = 0

    @property
    def accepted(self) -> bool:
        return self.status in ("OK", 200)


LIMIT = 16 * 2**20
"""Bytes of the largest request: less than by default, so that larger ones are made quickly."""


class Gateway:
    """Clients of one running gateway, and what its database holds."""

    def __init__(self, database: Database, endpoints: dict[str, str]) -> None:
        self.database = database
        self.grpc_address = endpoints["grpc"]
        self.http_address = endpoints["http"]
        # A client that takes long error texts as well; what the gateway sends is the test's to judge.
        self.channel = grpc.insecure_channel(self.grpc_address, [("grpc.max_receive_message_length", -1)])
        self.http = httpx.Client(base_url=f"http://{self.http_address}", timeout=PATIENCE)

    def close(self) -> None:
        self.channel.close()
        self.http.close()

    def grpc_send(
        self,
        signal: Signal,
        payload: bytes,
        *,
        metadata: Sequence[tuple[str, str | bytes]] = (),
        compression: grpc.Compression | None = None,
    ) -> Answer:
        service = SERVICES[signal]
        call = self.channel.unary_unary(f"/{service.grpc_name}/Export")
        try:
            answer = call(payload, timeout=PATIENCE, metadata=metadata, compression=compression)
        except grpc.RpcError as error:
            trailers = " ".join(f"{key}={value!r}" for key, value in error.trailing_metadata() or ())
            return Answer(error.code().name, f"{error.details()} {trailers}")
        return _success("OK", service.response.FromString(answer), service.rejected_field)

    def http_send(self, signal: Signal, body: bytes, **headers: str) -> Answer:
        service = SERVICES[signal]
        all_headers = {"content-type": "application/x-protobuf"} | {k.replace("_", "-"): v for k, v in headers.items()}
        answer = self.http.post(service.http_path, content=body, headers=all_headers)
        if answer.status_code == 200 and answer.headers["content-type"] == "application/x-protobuf":
            return _success(200, service.response.FromString(answer.content), service.rejected_field)
        if answer.headers["content-type"] == "application/x-protobuf":
            return Answer(answer.status_code, Status.FromString(answer.content).message)
        return Answer(answer.status_code, answer.text)

    @contextmanager
    def connection(self, address: str, seconds: float = 60) -> Iterator[socket.socket]:
        """A connection to one of the gateway's addresses, for what no client library says."""
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), seconds) as connection:
            yield connection

    def raw_http(self, request: bytes, *, half_close: bool = True, seconds: float = 60) -> bytes:
        """Send bytes as they are; return all that comes until the gateway closes, or nothing more comes."""
        answer = b""
        with self.connection(self.http_address, seconds) as connection, contextlib.suppress(OSError):
            connection.sendall(request)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                answer += chunk
        return answer

    def raw_grpc(self, request: bytes, *enough: bytes, seconds: float = 60) -> bytes:
        """Send bytes as they are to the gRPC port; return what comes until it holds one of those that are enough."""
        answer = b""
        with self.connection(self.grpc_address, seconds) as connection, contextlib.suppress(OSError):
            connection.sendall(request)
            while not any(each in answer for each in enough) and (chunk := connection.recv(65536)):
                answer += chunk
        return answer

    def attack(self, signal: Signal, payload: bytes) -> Answer:
        """Send a payload both ways; both answers must be OTLP's, and the same. Return one."""
        by_grpc = self.grpc_send(signal, payload)
        by_http = self.http_send(signal, payload)
        for answer in (by_grpc, by_http):
            assert_conform(answer)
        assert by_grpc.accepted == by_http.accepted, (by_grpc, by_http)
        assert by_grpc.rejected == by_http.rejected
        return by_grpc

    def assert_serves(self) -> None:
        """A good record of every signal is stored and can be read."""
        marker = f"good-{uuid.uuid4().hex}"
        for batch in (gauge([1.0], name=marker), logs(marker), spans(marker)):
            answer = self.grpc_send(batch.signal, batch.payload)
            assert answer == Answer("OK", ""), f"the gateway does not take a good record any more: {answer}"
        found = self.database.run(
            "SELECT (SELECT count(*) FROM metrics WHERE name = %s), (SELECT count(*) FROM logs WHERE body = %s),"
            " (SELECT count(*) FROM spans WHERE name = %s)",
            (marker,) * 3,
        )
        assert found == [(1, 1, 1)]


def assert_conform(answer: Answer) -> None:
    """OTLP's statuses only, and nothing of the gateway's inside in what it says."""
    assert answer.status in (_GRPC_ANSWERS if isinstance(answer.status, str) else _HTTP_ANSWERS), answer
    assert_no_leak(answer.text)


def assert_no_leak(text: str) -> None:
    leak = _LEAK.search(text)
    assert leak is None, f"the answer leaks {leak[0]!r}: {text[:500]}"


def _success(status: str | int, response: Any, rejected_field: str) -> Answer:
    partial = response.partial_success
    return Answer(status, partial.error_message, getattr(partial, rejected_field))


@asynccontextmanager
async def _receiving(database: Database, **settings: Any) -> AsyncIterator[dict[str, str]]:
    """Run receiver, pipeline and exporter; yield the receiver's endpoints."""
    free = {"endpoint": "127.0.0.1:0"}
    protocols = {"grpc": free | {"max_recv_msg_size": LIMIT}, "http": free | {"max_request_body_size": LIMIT}}
    config = OtlpReceiverConfig.model_validate({"protocols": protocols})
    async with running_pipeline(database, **settings) as pipeline:
        receiver = create("otlp", config, pipeline, Context())
        await receiver.start()
        yield receiver.endpoints
        await receiver.stop(0)


@contextmanager
def running_gateway(database: Database, **settings: Any) -> Iterator[Gateway]:
    """Run a gateway in a thread of its own for the length of a block."""
    with in_thread(_receiving(database, **settings), "the gateway under attack") as endpoints:
        gateway = Gateway(database, endpoints)
        try:
            yield gateway
        finally:
            gateway.close()
