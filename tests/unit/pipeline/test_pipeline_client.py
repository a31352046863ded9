"""The client of OTLP: what it sends, and what it makes of each answer."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from gateway.component import (
    ACCEPTED,
    DeliveryError,
    Outcome,
    OverloadedError,
    RefusedError,
    Signal,
    TimedOutError,
    TooLargeForDestinationError,
    UnavailableError,
)
from gateway.net.client import connect
from gateway.net.destination import Destination, EmitterSettings, destination
from tests.support.certificates import Authority
from tests.support.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    frame,
    frames_in,
    header_block,
)
from tests.support.waiting import PATIENCE

PARTIAL = ExportLogsServiceResponse(partial_success={"rejected_log_records": 3, "error_message": "too old"})


def retry_in(seconds: float) -> bytes:
    status, delay = Status(code=8, message="full"), Duration()
    delay.FromNanoseconds(round(seconds * 1e9))
    status.details.add().Pack(RetryInfo(retry_delay=delay))
    return bytes(status.SerializeToString())


def damaged_retry_info() -> bytes:
    status = Status(code=8, message="full")
    status.details.add(type_url=f"type.googleapis.com/{RetryInfo.DESCRIPTOR.full_name}", value=b"\xff")
    return bytes(status.SerializeToString())


@contextmanager
def grpc_server(answer: Callable[[bytes, Any], bytes], credentials: Any = None) -> Iterator[str]:
    class Handler(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            assert details.method == "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Handler(),))
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def http_server(answer: Callable[[BaseHTTPRequestHandler, bytes], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer(self, self.rfile.read(int(self.headers["content-length"])))

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


async def send(to: Destination, payload: bytes = b"payload") -> Outcome:
    client = connect(to)
    try:
        return await client.send(Signal.LOGS, payload)
    finally:
        await client.close()


def over_http(endpoint: str, **settings: Any) -> Destination:
    return destination(EmitterSettings(endpoint=endpoint, protocol="http/protobuf", **settings), Signal.LOGS, {})


async def test_grpc_carries_the_bytes_as_they_are_with_the_headers() -> None:
    seen: list[tuple[bytes, dict[str, Any]]] = []

    def answer(payload: bytes, context: Any) -> bytes:
        seen.append((payload, dict(context.invocation_metadata())))
        return bytes(PARTIAL.SerializeToString())

    with grpc_server(answer) as address:
        to = Destination("grpc", f"http://{address}", {"x-tenant": "cellar"}, compression="gzip")
        assert await send(to, b"any bytes \0\xff") == Outcome(3, "too old")
    ((payload, metadata),) = seen
    assert payload == b"any bytes \0\xff"
    assert metadata["x-tenant"] == "cellar"


@pytest.mark.parametrize(("compression", "least", "most"), [("gzip", 0, 10_000), ("none", 100_000, 200_000)])
async def test_grpc_compresses_what_it_is_told_to(compression: Any, least: int, most: int) -> None:
    sent = 0

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, count: bool) -> None:
        nonlocal sent
        while piece := await reader.read(65_536):
            sent += len(piece) if count else 0
            writer.write(piece)
        writer.close()

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(relay(reader, back, count=True), relay(there, writer, count=False))

    with grpc_server(lambda *_: b"") as address:
        port = int(address.rpartition(":")[2])
        async with await asyncio.start_server(between, "127.0.0.1", 0) as server:
            endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await send(Destination("grpc", endpoint, compression=compression), b"x" * 100_000)
    assert least <= sent < most


@pytest.mark.parametrize(
    ("code", "details", "error", "pause"),
    [
        (grpc.StatusCode.UNAVAILABLE, None, UnavailableError, 1),
        (grpc.StatusCode.UNAVAILABLE, retry_in(7.5), UnavailableError, 7.5),
        (grpc.StatusCode.UNAVAILABLE, damaged_retry_info(), UnavailableError, 1),
        (grpc.StatusCode.ABORTED, None, UnavailableError, 1),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, retry_in(2), OverloadedError, 2),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, None, RefusedError, None),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, b"\xff\xff", RefusedError, None),
        (grpc.StatusCode.DEADLINE_EXCEEDED, None, TimedOutError, 1),
        (grpc.StatusCode.INVALID_ARGUMENT, None, RefusedError, None),
        (grpc.StatusCode.INTERNAL, None, RefusedError, None),
        (grpc.StatusCode.UNAUTHENTICATED, None, UnavailableError, 30),
        (grpc.StatusCode.PERMISSION_DENIED, None, UnavailableError, 30),
        (grpc.StatusCode.UNIMPLEMENTED, None, UnavailableError, 30),
    ],
)
async def test_what_grpc_codes_mean(
    code: grpc.StatusCode, details: bytes | None, error: type[DeliveryError], pause: float | None
) -> None:
    def answer(_: bytes, context: Any) -> bytes:
        if details is not None:
            of_another = ("other-bin", b"\xff")
            context.set_trailing_metadata((of_another, ("grpc-status-details-bin", details)))
        context.abort(code, "because")

    with grpc_server(answer) as address, pytest.raises(DeliveryError, match=f"{code.name}: because") as raised:
        await send(Destination("grpc", f"http://{address}"))
    assert type(raised.value) is error
    assert getattr(raised.value, "retry_after", None) == pause


@pytest.mark.parametrize(
    ("text", "pause", "error"),
    [
        ("grpc: received message larger than max (5242880 vs. 4194304)", None, TooLargeForDestinationError),  # Go
        ("Received message larger than max (5242880 vs. 4194304)", None, TooLargeForDestinationError),  # C++, Python
        ("gRPC message exceeds maximum size 4194304: 5242880", None, TooLargeForDestinationError),  # Java
        ("the message is larger than 1000 bytes; set max_recv_msg_size", None, TooLargeForDestinationError),
        ("grpc: received message larger than max, at the moment", retry_in(2), OverloadedError),
        ("ingestion rate limit exceeded", None, RefusedError),
    ],
)
async def test_a_refusal_that_speaks_of_size_is_told_from_an_overload(
    text: str, pause: bytes | None, error: type[DeliveryError]
) -> None:
    def answer(_: bytes, context: Any) -> bytes:
        if pause is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", pause),))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)

    with grpc_server(answer) as address, pytest.raises(DeliveryError) as raised:
        await send(Destination("grpc", f"http://{address}"))
    assert type(raised.value) is error


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="a setting of Linux")
async def test_a_connection_whose_other_end_vanished_is_given_up_by_the_kernel() -> None:
    with grpc_server(lambda *_: b"") as address:
        client = connect(Destination("grpc", f"http://{address}"))
        await client.send(Signal.LOGS, b"")
        timeouts = []
        for connection in psutil.Process().net_connections("tcp"):
            if connection.raddr and connection.raddr.port == int(address.rpartition(":")[2]):
                with socket.socket(fileno=os.dup(connection.fd)) as ours:
                    timeouts.append(ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
        await client.close()
    assert timeouts == [20_000]


async def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(UnavailableError):
        await send(Destination("grpc", "http://127.0.0.1:9", timeout=5))
    with pytest.raises(UnavailableError):
        await send(over_http("http://127.0.0.1:9"))


async def test_http_compresses_and_reads_the_partial_success() -> None:
    seen: list[Any] = []

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        seen.append((handler.path, handler.headers, body))
        reply(handler, 200, PARTIAL.SerializeToString(), content_type="application/x-protobuf")

    with http_server(answer) as url:
        environment = {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=cellar"}
        settings = EmitterSettings(endpoint=url, protocol="http/protobuf")
        to = destination(settings, Signal.LOGS, environment)
        assert await send(to, b"x" * 200_000) == Outcome(3, "too old")
    ((path, headers, body),) = seen
    assert path == "/v1/logs"
    assert (headers["x-tenant"], headers["content-encoding"]) == ("cellar", "gzip")
    assert headers["content-type"] == "application/x-protobuf"
    assert gzip.decompress(body) == b"x" * 200_000


@pytest.mark.parametrize(
    ("status", "headers", "error", "pause"),
    [
        (429, {"retry_after": "4"}, OverloadedError, 4),
        (503, {}, UnavailableError, 1),
        (503, {"retry_after": "Fri, 01 Jan 2010 00:00:00 GMT"}, UnavailableError, 0),
        (503, {"retry_after": "soon"}, UnavailableError, 1),
        (503, {"retry_after": "Mon, 01 Jan 99999 00:00:00 GMT"}, UnavailableError, 1),
        (503, {"retry_after": "Mon, 01 Jan 99999999999 00:00:00 GMT"}, UnavailableError, 1),
        (502, {}, UnavailableError, 1),
        (504, {}, UnavailableError, 1),
        (500, {}, RefusedError, None),
        (400, {}, RefusedError, None),
        (413, {}, TooLargeForDestinationError, None),
        (401, {}, UnavailableError, 30),
        (403, {}, UnavailableError, 30),
        (404, {}, UnavailableError, 30),
        (301, {"location": "http://127.0.0.1:9/"}, UnavailableError, 30),
    ],
)
async def test_what_http_statuses_mean(
    status: int, headers: dict[str, str], error: type[DeliveryError], pause: float | None
) -> None:
    body = Status(message="because").SerializeToString()

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        reply(handler, status, body, content_type="application/x-protobuf", **headers)

    with http_server(answer) as url, pytest.raises(DeliveryError, match=f"{status} .*: because") as raised:
        await send(over_http(url))
    assert type(raised.value) is error
    assert getattr(raised.value, "retry_after", None) == pause


async def test_of_a_long_answer_the_beginning_is_told() -> None:
    page = b"<html>\n  <p>" + b"because " * 10_000
    with (
        http_server(lambda handler, _: reply(handler, 400, page)) as url,
        pytest.raises(RefusedError, match=r"400 .*: <html> <p>because because .*…$") as raised,
    ):
        await send(over_http(url))
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "application/x-protobuf", b""),  # the empty response, as protobuf writes it: the Collector, Tempo
        (200, "application/x-protobuf; charset=utf-8", b""),
        (200, "", b""),  # Prometheus, VictoriaMetrics
        (202, "", b""),
        (204, "", b""),  # Loki
        (200, "text/plain; charset=utf-8", b""),
        (200, "application/json", b"{}"),
        (200, "text/plain; charset=utf-8", b"{}\n"),
        (200, "application/json", b'{"partialSuccess":{},"more":1}'),
    ],
)
async def test_what_acknowledges_a_request_over_http(status: int, kind: str, body: bytes) -> None:
    headers = {"content_type": kind} if kind else {}
    with http_server(lambda handler, _: reply(handler, status, body, **headers)) as url:
        assert await send(over_http(url)) == ACCEPTED


async def test_a_partial_success_is_read_from_json_too() -> None:
    body = b'{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"too old"}}'
    with http_server(lambda handler, _: reply(handler, 200, body, content_type="application/json")) as url:
        assert await send(over_http(url)) == Outcome(3, "too old")


@pytest.mark.parametrize("status", [200, 202, 203])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html; charset=utf-8", b"<html>please log in</html>"),
        ("text/html", b""),
        ("", b"<html>please log in</html>"),
        ("application/x-protobuf", b"<html>please log in</html>"),
        ("text/plain", b"OK"),
        ("application/json", b'{"status":"ok"}'),
        ("application/json", b"[]"),
        ("application/json", b"{"),
        ("image/gif", b"GIF89a"),
    ],
)
async def test_what_is_not_otlp_acknowledges_nothing_whatever_its_status(status: int, kind: str, body: bytes) -> None:
    """A captive portal, a proxy's page, a wrong URL: what they "took" would be gone."""
    headers = {"content_type": kind} if kind else {}
    with (
        http_server(lambda handler, _: reply(handler, status, body, **headers)) as url,
        pytest.raises(UnavailableError, match=r"does not count as delivered.*the endpoint is the right one") as error,
    ):
        await send(over_http(url))
    assert error.value.retry_after == 30


@pytest.mark.parametrize(
    ("headers", "body", "trailers"),
    [
        ([(":status", "200"), ("content-type", "text/html")], b"<html>please log in</html>", None),
        ([(":status", "302"), ("location", "/")], b"", None),
        ([(":status", "200"), ("content-type", "application/grpc")], b"", [("grpc-status", "0")]),
        ([(":status", "200"), ("content-type", "application/grpc")], b"\0\0\0\0\5hello", [("grpc-status", "0")]),
    ],
    ids=["page", "redirect", "no-message", "another-message"],
)
async def test_what_is_no_grpc_acknowledges_nothing(
    headers: list[tuple[str, str]], body: bytes, trailers: list[tuple[str, str]] | None
) -> None:
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(frame(SETTINGS, 0, 0))
            said, seen = b"", 0
            while data := connection.recv(65_536):
                said += data
                frames = list(frames_in(said.removeprefix(PREFACE)))
                for kind, flags, stream, _ in frames[seen:]:
                    if kind == SETTINGS and not flags & ACK:
                        connection.sendall(frame(SETTINGS, ACK, 0))
                    elif kind in (HEADERS, DATA) and flags & END_STREAM:
                        connection.sendall(answer_on(stream))
                seen = len(frames)

    def answer_on(stream: int) -> bytes:
        answer = frame(HEADERS, END_HEADERS, stream, header_block(dict(headers)))
        answer += frame(DATA, END_STREAM if trailers is None else 0, stream, body)
        if trailers is None:
            return answer
        return answer + frame(HEADERS, END_HEADERS | END_STREAM, stream, header_block(dict(trailers)))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        with pytest.raises(UnavailableError, match="does not count as delivered"):
            await send(Destination("grpc", f"http://127.0.0.1:{listener.getsockname()[1]}"))
        server.join()


async def test_an_answer_that_does_not_come_is_unavailable() -> None:
    asked, go = threading.Event(), threading.Event()

    def answer(_: bytes, context: Any) -> bytes:
        asked.set()
        go.wait(PATIENCE)
        return b""

    with grpc_server(answer) as address:
        try:
            with pytest.raises(UnavailableError, match="DEADLINE_EXCEEDED"):
                await send(Destination("grpc", f"http://{address}", timeout=0.3))
        finally:
            go.set()


async def test_mutual_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    server, client = authority.issue("localhost"), authority.issue("client")
    credentials = grpc.ssl_server_credentials(
        [(server.key.read_bytes(), server.cert.read_bytes())], authority.pem, True
    )
    with grpc_server(lambda *_: b"", credentials) as address:
        endpoint = f"https://localhost:{address.rpartition(':')[2]}"
        to = Destination("grpc", endpoint, ca_file=authority.file, cert_file=client.cert, key_file=client.key)
        assert await send(to) == ACCEPTED
        with pytest.raises(UnavailableError):
            await send(Destination("grpc", endpoint, timeout=5))


def test_certificates_that_are_none_are_said_so_at_once(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(OSError, match=r"ca\.pem.*cannot be used"):
        connect(Destination("http/protobuf", "https://localhost:4318/v1/logs", ca_file=tmp_path / "ca.pem"))
    with pytest.raises(OSError, match=r"gone\.pem.*cannot be used: .*No such file"):
        connect(Destination("grpc", "https://localhost:4317", ca_file=tmp_path / "gone.pem"))
