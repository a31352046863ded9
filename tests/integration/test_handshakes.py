"""TLS handshakes that fail: what the client is told, and what the log says. Real clients against real listeners."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from structlog.testing import capture_logs

from gateway.component import ACCEPTED, Batch, Outcome, Signal
from gateway.component.declaration import Context
from gateway.net import handshakes as module
from gateway.net.http_serving import AppServer
from gateway.net.listeners import ListenerSettings
from receivers.otlp.config import OtlpReceiverConfig
from receivers.otlp.factory import create
from tests.support.certificates import Authority, Certificate
from tests.support.waiting import PATIENCE, until

LISTENERS = ("grpc", "http", "front")
EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


class Sink:
    """Takes everything, and notes which connections were refused."""

    def __init__(self) -> None:
        self.refused: list[tuple[str, str]] = []

    async def accept(self, batch: Batch) -> Outcome:
        return ACCEPTED

    def refuse(self, signal: Signal, reason: str) -> None: ...

    def refuse_connection(self, listener: str, reason: str) -> None:
        self.refused.append((listener, reason))


@dataclass
class Pki:
    """A CA of servers with a server's certificate, and a CA of clients."""

    folder: Path
    ca: Authority
    clients: Authority
    server: Certificate

    def settings(self, **more: Any) -> dict[str, Any]:
        return {"cert_file": str(self.server.cert), "key_file": str(self.server.key), "reload_interval": "0s"} | more


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder = tmp_path_factory.mktemp("pki")
    ca = Authority(folder, "ca")
    return Pki(folder, ca, Authority(folder, "clients"), ca.issue("server"))


@asynccontextmanager
async def listening(kind: str, tls: dict[str, Any] | None) -> AsyncIterator[tuple[str, int, Sink]]:
    """One listener of a hub, of the kind named; yields where it is."""
    sink = Sink()
    settings: dict[str, Any] = {"endpoint": "127.0.0.1:0", "tls": tls}
    if kind == "front":

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        front = AppServer("extensions.api", ListenerSettings.model_validate(settings), app, sink.refuse_connection)
        await front.bind()
        await front.serve()
        endpoint, stop = front.endpoint, front.stop
    else:
        config = OtlpReceiverConfig.model_validate({"protocols": {kind: settings}})
        receiver = create("otlp", config, sink, Context())
        await receiver.start()
        endpoint, stop = receiver.endpoints[kind], receiver.stop
    host, _, port = endpoint.rpartition(":")
    try:
        yield host, int(port), sink
    finally:
        await stop(0)


def talk(host: str, port: int, context: ssl.SSLContext) -> bytes:
    """Shake hands, send a few bytes and read an answer. Raises what the client learns."""
    with (
        socket.create_connection((host, port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return connection.recv(1024)


def trusting(ca: Authority, own: Certificate | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca.file))
    if own is not None:
        context.load_cert_chain(own.cert, own.key)
    return context


def told(logs: list[Any]) -> list[Any]:
    return [entry for entry in logs if entry["event"] == "TLS handshakes fail"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", LISTENERS)
async def test_a_forgotten_client_certificate_is_told_to_both_ends(
    pki: Pki, kind: str, version: ssl.TLSVersion
) -> None:
    context = trusting(pki.ca)
    context.maximum_version = version
    alert = "CERTIFICATE_REQUIRED" if version is ssl.TLSVersion.TLSv1_3 else "HANDSHAKE_FAILURE"
    tls = pki.settings(client_ca_file=str(pki.clients.file))
    async with listening(kind, tls) as (host, port, sink):
        with capture_logs() as logs:
            for _ in range(3):
                with pytest.raises(ssl.SSLError, match=alert):
                    await asyncio.to_thread(talk, host, port, context)
    (line,) = told(logs)
    assert line["log_level"] == "warning"
    assert line["peer"] == "127.0.0.1"
    assert line["listener"] in ("receivers.otlp.protocols.grpc", "receivers.otlp.protocols.http", "extensions.api")
    assert line["reason"] == "the client shows no certificate"
    assert str(pki.clients.file) in line["what_to_do"]
    assert "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE" in line["what_to_do"]
    assert sink.refused == [(line["listener"], "tls")] * 3


@pytest.mark.parametrize("kind", LISTENERS)
async def test_a_client_certificate_of_another_ca_is_told_to_both_ends(pki: Pki, kind: str) -> None:
    stranger = pki.ca.issue(f"stranger-{kind}")
    async with listening(kind, pki.settings(client_ca_file=str(pki.clients.file))) as (host, port, _):
        with capture_logs() as logs, pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
            await asyncio.to_thread(talk, host, port, trusting(pki.ca, stranger))
    (line,) = told(logs)
    assert line["reason"].startswith("the client's certificate is refused: ")
    assert str(pki.clients.file) in line["what_to_do"]


@pytest.mark.parametrize("kind", LISTENERS)
async def test_a_client_that_does_not_trust_the_hub_is_logged(pki: Pki, kind: str) -> None:
    async with listening(kind, pki.settings()) as (host, port, _):
        with capture_logs() as logs:
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.to_thread(talk, host, port, trusting(pki.clients))
            await until(lambda: told(logs))
    (line,) = told(logs)
    assert line["reason"] == "the client refuses the certificate of this port: unknown CA"
    assert str(pki.server.cert) in line["what_to_do"]


@pytest.mark.parametrize("kind", LISTENERS)
async def test_a_client_without_a_common_version_is_told_to_both_ends(pki: Pki, kind: str) -> None:
    context = trusting(pki.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with listening(kind, pki.settings(min_version="1.3")) as (host, port, _):
        with capture_logs() as logs, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            await asyncio.to_thread(talk, host, port, context)
    (line,) = told(logs)
    assert line["reason"] == "the client speaks no version of TLS that this port takes, which are 1.3 and newer"


@pytest.mark.parametrize("kind", LISTENERS)
async def test_plain_http_on_a_port_with_tls_is_told_to_both_ends(pki: Pki, kind: str) -> None:
    async with listening(kind, pki.settings()) as (host, port, _):
        with capture_logs() as logs:
            async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=PATIENCE) as http:
                answer = await http.post("/v1/logs", content=b"x" * 100_000)
    assert (answer.status_code, answer.text) == (503, "this port speaks TLS: use https://, not http://\n")
    (line,) = told(logs)
    assert (line["reason"], line["what_to_do"]) == (
        "the client does not speak TLS",
        "use https:// in its endpoint",
    )


async def test_grpc_without_tls_on_a_port_with_tls_is_logged(pki: Pki) -> None:
    async with listening("grpc", pki.settings()) as (host, port, _):
        with capture_logs() as logs:
            async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary(EXPORT)(b"", timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, "which OTLP clients try again"
    assert told(logs)[0]["reason"] == "the client does not speak TLS"


@pytest.mark.parametrize("kind", LISTENERS)
async def test_what_is_neither_tls_nor_http_is_ended_and_logged(pki: Pki, kind: str) -> None:
    async with listening(kind, pki.settings()) as (host, port, _):
        with capture_logs() as logs:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            await reader.read()
            writer.close()
    assert told(logs)[0]["reason"] == "the client does not speak TLS"


@pytest.mark.parametrize("kind", LISTENERS)
async def test_tls_on_a_port_without_it_is_told_to_both_ends(pki: Pki, kind: str) -> None:
    async with listening(kind, None) as (host, port, sink):
        with capture_logs() as logs:
            with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
                await asyncio.to_thread(talk, host, port, trusting(pki.ca))
            await until(lambda: told(logs))
    (line,) = told(logs)
    assert line["reason"] == "the client speaks TLS and this port does not"
    assert line["what_to_do"] == f"use http:// in its endpoint, or set {line['listener']}.tls"
    assert line["peer"] == "127.0.0.1"
    assert sink.refused == [(line["listener"], "tls")]


@pytest.mark.parametrize("kind", LISTENERS)
async def test_looking_whether_a_port_is_open_is_no_failure(pki: Pki, kind: str) -> None:
    async with listening(kind, pki.settings()) as (host, port, sink):
        with capture_logs() as logs:
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await writer.wait_closed()
            await asyncio.to_thread(talk, host, port, trusting(pki.ca))  # so the other one has been seen
    assert told(logs) == []
    assert sink.refused == []


async def test_a_client_that_goes_away_in_the_middle_is_logged(pki: Pki) -> None:
    async with listening("grpc", pki.settings()) as (host, port, _):
        with capture_logs() as logs:
            _, writer = await asyncio.open_connection(host, port)
            writer.write(b"\x16\x03\x01\x02\x00\x01")
            await writer.drain()
            writer.close()
            await until(lambda: told(logs))
    assert told(logs)[0]["reason"] == "the client went away in the middle"


async def test_a_handshake_that_lasts_is_ended_and_logged(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.05)
    async with listening("grpc", pki.settings()) as (host, port, _):
        with capture_logs() as logs:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"\x16\x03\x01\x02\x00\x01")
            assert await reader.read() == b""
            writer.close()
    assert told(logs)[0]["reason"] == "the client did not finish within 0.05 s"


async def test_a_client_that_does_not_take_its_alert_is_closed_all_the_same(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LAST_WORDS_SECONDS", 0.05)
    async with listening("http", pki.settings()) as (host, port, _):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"nothing that is TLS")
        assert await reader.read() == b""

        async def go_on() -> None:
            while True:
                writer.write(b"more of it")
                await writer.drain()
                await asyncio.sleep(0.01)

        with pytest.raises(ConnectionError):
            await go_on()


async def test_strangers_do_not_hide_the_client_that_somebody_misses(pki: Pki) -> None:
    """Each reason has a line of its own."""
    async with listening("grpc", pki.settings(client_ca_file=str(pki.clients.file))) as (host, port, _):
        with capture_logs() as logs:
            for _ in range(3):
                _, writer = await asyncio.open_connection(host, port)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                writer.close()
            await until(lambda: told(logs))
            with pytest.raises(ssl.SSLError):
                await asyncio.to_thread(talk, host, port, trusting(pki.ca))
    assert [line["reason"] for line in told(logs)] == [
        "the client does not speak TLS",
        "the client shows no certificate",
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on PATH")
async def test_curl_says_what_is_missing(pki: Pki) -> None:
    async with listening("http", pki.settings(client_ca_file=str(pki.clients.file))) as (_, port, _):
        command = ["curl", "-sS", "--cacert", str(pki.ca.file), f"https://localhost:{port}/v1/logs"]
        ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert "certificate required" in ran.stderr
