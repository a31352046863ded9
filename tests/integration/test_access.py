"""Access to the OTLP receiver as its clients meet it: tokens, limits, TLS and client certificates."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from structlog.testing import capture_logs

from gateway.component import ACCEPTED, Batch, Outcome, Receiver, Signal, UnavailableError
from gateway.component.declaration import Context
from gateway.extensions.tokens.authenticator import TokenAuthenticator
from gateway.extensions.tokens.limits import Failures
from gateway.extensions.tokens.token import create as create_token
from gateway.extensions.tokens.token_file import TokenFile
from gateway.extensions.tokens.watched_tokens import WatchedTokens
from gateway.net.access import Scope
from gateway.net.client import connect
from gateway.net.destination import Destination, Protocol
from receivers.otlp.config import OtlpReceiverConfig
from receivers.otlp.factory import create
from tests.support.certificates import Authority, Certificate
from tests.support.waiting import PATIENCE

LOGS = ExportLogsServiceRequest()
LOGS.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1).body.string_value = "hello"
PAYLOAD = LOGS.SerializeToString()
EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
PROTOBUF = {"content-type": "application/x-protobuf"}


class FakePipeline:
    """A consumer that keeps what it gets and answers when it may."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.refused: list[str] = []
        self.entered = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def accept(self, batch: Batch) -> Outcome:
        self.batches.append(batch)
        self.entered.set()
        await self.may_answer.wait()
        return ACCEPTED

    def refuse(self, signal: Signal, reason: str) -> None:
        self.refused.append(reason)

    def refuse_connection(self, listener: str, reason: str) -> None:
        self.refused.append(reason)


class Tokens:
    """The authenticator over a file, whose clock can be put forward."""

    def __init__(self, path: Path) -> None:
        self.file = TokenFile(path)
        self.later = 0.0
        clock = lambda: time.monotonic() + self.later  # noqa: E731
        self.authenticator = TokenAuthenticator(WatchedTokens(self.file, clock), Failures(3, 60), clock)

    def make(self, *scopes: Scope, **limits: Any) -> dict[str, str]:
        """Make a token; return the header that presents it."""
        token, text = create_token("a client", scopes or (Scope.INGEST,), **limits)
        self.file.add(token)
        self.notice()
        return {"authorization": f"Bearer {text}"}

    def revoke(self, header: dict[str, str]) -> None:
        self.file.revoke(header["authorization"].split("_")[1])
        self.notice()

    def notice(self) -> None:
        """Let the gateway see what has changed in the file."""
        self.later += 1


@pytest.fixture
def pipeline() -> FakePipeline:
    return FakePipeline()


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens.json")


@asynccontextmanager
async def running(pipeline: FakePipeline, authenticator: Any = None, **settings: Any) -> AsyncIterator[Receiver]:
    listener = {"endpoint": "127.0.0.1:0"} | settings
    authenticators = None
    if authenticator is not None:
        listener |= {"auth": {"authenticator": "tokens"}}
        authenticators = {"tokens": authenticator}
    http = {"cors": {"allowed_origins": ["https://app.example.com"], "allowed_headers": ["authorization"]}}
    config = OtlpReceiverConfig.model_validate({"protocols": {"grpc": listener, "http": listener | http}})
    receiver = create("otlp", config, pipeline, Context(authenticators=authenticators))
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop(0)


@pytest.fixture
async def receiver(pipeline: FakePipeline, tokens: Tokens) -> AsyncIterator[Receiver]:
    async with running(pipeline, tokens.authenticator) as receiver:
        yield receiver


@pytest.fixture
async def http(receiver: Receiver) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{receiver.endpoints['http']}", timeout=PATIENCE) as client:
        yield client


@pytest.fixture
async def channel(receiver: Receiver) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(receiver.endpoints["grpc"]) as channel:
        yield channel


async def failure(call: Awaitable[bytes]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call, PATIENCE)
    return caught.value


def status_of(error: grpc.aio.AioRpcError) -> Status:
    return Status.FromString(dict(error.trailing_metadata() or ())["grpc-status-details-bin"])


def has_retry_info(status: Status) -> bool:
    return any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details)


def pairs(header: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(header.items())


def send_a_line(exporter: Any) -> None:
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("test").emit(LogRecord(body="a line"))
    provider.shutdown()


# Tokens


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_the_sdk_gets_in_with_a_token_and_only_with_one(
    receiver: Receiver, pipeline: FakePipeline, tokens: Tokens, protocol: str
) -> None:
    def exporter(headers: dict[str, str]) -> Any:
        if protocol == "grpc":
            return GrpcLogExporter(f"http://{receiver.endpoints['grpc']}", headers=headers)
        return HttpLogExporter(f"http://{receiver.endpoints['http']}/v1/logs", headers=headers)

    header = tokens.make()
    for refused in ({}, {"authorization": "Bearer nonsense"}):
        await asyncio.to_thread(send_a_line, exporter(refused))
    assert pipeline.batches == []
    assert pipeline.refused == ["unauthenticated"] * 2  # and not tried again
    await asyncio.to_thread(send_a_line, exporter(header))
    assert len(pipeline.batches) == 1
    tokens.revoke(header)
    await asyncio.to_thread(send_a_line, exporter(header))
    assert len(pipeline.batches) == 1


async def test_grpc_says_who_may_not_and_that_trying_again_is_no_use(
    channel: grpc.aio.Channel, pipeline: FakePipeline, tokens: Tokens
) -> None:
    export = channel.unary_unary(EXPORT)
    unknown = await failure(export(PAYLOAD))
    assert unknown.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "obs-hub token create" in str(unknown.details())
    denied = await failure(export(PAYLOAD, metadata=pairs(tokens.make(Scope.READ))))
    assert denied.code() is grpc.StatusCode.PERMISSION_DENIED
    assert not has_retry_info(status_of(unknown))
    assert not has_retry_info(status_of(denied))
    assert pipeline.refused == ["unauthenticated", "permission_denied"]
    assert pipeline.batches == []


async def test_http_says_who_may_not_as_browsers_and_tools_expect(
    http: httpx.AsyncClient, pipeline: FakePipeline, tokens: Tokens
) -> None:
    unknown = await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF)
    assert unknown.status_code == 401
    assert unknown.headers["www-authenticate"] == 'Bearer realm="obs-hub"'
    assert Status.FromString(unknown.content).code == grpc.StatusCode.UNAUTHENTICATED.value[0]
    invalid = await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF | {"authorization": "Bearer x"})
    assert invalid.status_code == 401
    assert 'error="invalid_token"' in invalid.headers["www-authenticate"]
    denied = await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF | tokens.make(Scope.ADMIN))
    assert denied.status_code == 403
    assert 'error="insufficient_scope"' in denied.headers["www-authenticate"]
    assert pipeline.refused == ["unauthenticated", "unauthenticated", "permission_denied"]
    assert pipeline.batches == []


async def test_grpc_asks_before_it_takes_the_request(channel: grpc.aio.Channel, tokens: Tokens) -> None:
    async def never() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    error = await failure(channel.stream_unary(EXPORT)(never()))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_http_asks_before_it_takes_the_body(receiver: Receiver) -> None:
    host, _, port = receiver.endpoints["http"].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: 1000\r\n\r\n")
    answer = await asyncio.wait_for(reader.readline(), PATIENCE)
    writer.close()
    assert b" 401 " in answer


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_two_tokens_are_none(receiver: Receiver, tokens: Tokens, protocol: str) -> None:
    header = tokens.make()
    twice = (*pairs(header), ("authorization", "Bearer x"))
    if protocol == "grpc":
        async with grpc.aio.insecure_channel(receiver.endpoints["grpc"]) as channel:
            error = await failure(channel.unary_unary(EXPORT)(PAYLOAD, metadata=twice))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    else:
        async with httpx.AsyncClient(base_url=f"http://{receiver.endpoints['http']}", timeout=PATIENCE) as http:
            headers = [*PROTOBUF.items(), *twice]
            assert (await http.post("/v1/logs", content=PAYLOAD, headers=headers)).status_code == 401


async def test_a_missing_file_of_tokens_lets_nobody_in(http: httpx.AsyncClient, tokens: Tokens) -> None:
    header = tokens.make()
    assert (await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF | header)).status_code == 200
    tokens.file.path.unlink()
    tokens.notice()
    assert (await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF | header)).status_code == 401


async def test_an_authenticator_that_fails_lets_nobody_in_and_tells_nobody_why(pipeline: FakePipeline) -> None:
    class Broken:
        def authenticate(self, *_: object) -> Any:
            raise OSError("a secret detail")

    async with (
        running(pipeline, Broken()) as receiver,
        httpx.AsyncClient(base_url=f"http://{receiver.endpoints['http']}", timeout=PATIENCE) as http,
        grpc.aio.insecure_channel(receiver.endpoints["grpc"]) as channel,
    ):
        answer = await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF)
        error = await failure(channel.unary_unary(EXPORT)(PAYLOAD))
    assert answer.status_code == 503
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "secret" not in answer.text + str(error)
    assert pipeline.batches == []


def test_a_listener_whose_authenticator_is_missing_is_not_made(pipeline: FakePipeline) -> None:
    config = OtlpReceiverConfig.model_validate({"protocols": {"grpc": {"auth": {"authenticator": "tokens"}}}})
    with pytest.raises(KeyError):
        create("otlp", config, pipeline, Context())


async def test_health_is_for_everybody(channel: grpc.aio.Channel) -> None:
    answer = await HealthStub(channel).Check(HealthCheckRequest())
    assert answer.status == HealthCheckResponse.SERVING


async def test_a_browser_may_ask_whether_it_may_send_and_then_needs_a_token(
    http: httpx.AsyncClient, pipeline: FakePipeline, tokens: Tokens
) -> None:
    origin = {"origin": "https://app.example.com"}
    preflight = origin | {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    answer = await http.options("/v1/logs", headers=preflight)
    assert answer.is_success
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    refused = await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF | origin)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://app.example.com"
    sent = await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF | origin | tokens.make())
    assert sent.status_code == 200


# Limits


async def test_too_many_requests_are_to_be_tried_again(
    receiver: Receiver, http: httpx.AsyncClient, channel: grpc.aio.Channel, pipeline: FakePipeline, tokens: Tokens
) -> None:
    header = tokens.make(rate=0.001)
    assert (await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF | header)).status_code == 200
    answer = await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF | header)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 1
    assert has_retry_info(Status.FromString(answer.content))
    error = await failure(channel.unary_unary(EXPORT)(PAYLOAD, metadata=pairs(header)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert has_retry_info(status_of(error))
    assert pipeline.refused == ["rate_limited"] * 2


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_a_token_is_held_to_what_its_requests_decompress_to(
    receiver: Receiver, pipeline: FakePipeline, tokens: Tokens, protocol: str
) -> None:
    """A small request that is a large one decompressed is more than it may; that cannot help being sent again."""
    header = tokens.make(in_flight=len(PAYLOAD))
    bomb = gzip.compress(bytes(len(PAYLOAD) + 1))
    assert len(bomb) < len(PAYLOAD)
    if protocol == "grpc":
        async with grpc.aio.insecure_channel(receiver.endpoints["grpc"]) as channel:
            call = channel.unary_unary(EXPORT)(
                bytes(len(PAYLOAD) + 1), metadata=pairs(header), compression=grpc.Compression.Gzip
            )
            with pytest.raises(grpc.aio.AioRpcError, match="this token may have in flight") as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "grpc-status-details-bin" in dict(caught.value.trailing_metadata() or ())
            await channel.unary_unary(EXPORT)(PAYLOAD, metadata=pairs(header))
    else:
        async with httpx.AsyncClient(base_url=f"http://{receiver.endpoints['http']}", timeout=PATIENCE) as http:
            gzipped = PROTOBUF | header | {"content-encoding": "gzip"}
            answers = [
                await http.post("/v1/logs", content=bomb, headers=gzipped),
                await http.post("/v1/logs", content=bytes(len(PAYLOAD) + 1), headers=PROTOBUF | header),
            ]
            assert [answer.status_code for answer in answers] == [413, 413]
            assert all("this token may have in flight" in Status.FromString(each.content).message for each in answers)
            assert (await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF | header)).status_code == 200
    assert len(pipeline.batches) == 1
    assert set(pipeline.refused) == {"too_large"}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_a_token_has_only_so_much_in_flight(
    receiver: Receiver, pipeline: FakePipeline, tokens: Tokens, protocol: str
) -> None:
    header = tokens.make(in_flight=len(PAYLOAD) + 1)
    pipeline.may_answer.clear()

    @asynccontextmanager
    async def client() -> AsyncIterator[Callable[[], Awaitable[object]]]:
        if protocol == "grpc":
            async with grpc.aio.insecure_channel(receiver.endpoints["grpc"]) as channel:

                async def send() -> object:
                    try:
                        await channel.unary_unary(EXPORT)(PAYLOAD, metadata=pairs(header))
                    except grpc.aio.AioRpcError as error:
                        return error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED
                    return True

                yield send
        else:
            async with httpx.AsyncClient(base_url=f"http://{receiver.endpoints['http']}", timeout=PATIENCE) as http:

                async def send() -> object:
                    return (await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF | header)).status_code != 429

                yield send

    async with client() as send:
        first = asyncio.ensure_future(send())
        await asyncio.wait_for(pipeline.entered.wait(), PATIENCE)
        assert not await send()
        assert pipeline.refused == ["rate_limited"]
        pipeline.may_answer.set()
        assert await first
        assert await send()  # given back
    assert len(pipeline.batches) == 2


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_failed_attempts_are_limited_by_address(
    receiver: Receiver, pipeline: FakePipeline, tokens: Tokens, protocol: str
) -> None:
    header = tokens.make()
    if protocol == "grpc":
        async with grpc.aio.insecure_channel(receiver.endpoints["grpc"]) as channel:
            export = channel.unary_unary(EXPORT)
            errors = [await failure(export(PAYLOAD)) for _ in range(4)]
            await export(PAYLOAD, metadata=pairs(header))
        codes = [error.code() for error in errors]
        assert codes == [grpc.StatusCode.UNAUTHENTICATED] * 3 + [grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert has_retry_info(status_of(errors[-1]))
    else:
        async with httpx.AsyncClient(base_url=f"http://{receiver.endpoints['http']}", timeout=PATIENCE) as http:
            answers = [await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF) for _ in range(4)]
            sent = await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF | header)
        assert [answer.status_code for answer in answers] == [401] * 3 + [429]
        assert int(answers[-1].headers["retry-after"]) > 1
        assert sent.status_code == 200
    assert pipeline.refused == ["unauthenticated"] * 3 + ["rate_limited"]
    assert len(pipeline.batches) == 1  # the valid token


async def test_a_request_that_is_too_large_is_refused_as_without_tokens(pipeline: FakePipeline, tokens: Tokens) -> None:
    header = tokens.make()
    config = OtlpReceiverConfig.model_validate(
        {
            "protocols": {
                "grpc": {"endpoint": "127.0.0.1:0", "max_recv_msg_size": 1000, "auth": {"authenticator": "tokens"}}
            }
        }
    )
    receiver = create("otlp", config, pipeline, Context(authenticators={"tokens": tokens.authenticator}))
    await receiver.start()
    try:
        async with grpc.aio.insecure_channel(receiver.endpoints["grpc"]) as channel:
            error = await failure(channel.unary_unary(EXPORT)(b"x" * 1001, metadata=pairs(header)))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await channel.unary_unary(EXPORT)(PAYLOAD, metadata=pairs(header))
    finally:
        await receiver.stop(0)
    assert len(pipeline.batches) == 1


async def test_a_call_without_a_request_is_malformed(
    channel: grpc.aio.Channel, pipeline: FakePipeline, tokens: Tokens
) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        return
        yield b""

    error = await failure(channel.stream_unary(EXPORT)(nothing(), metadata=pairs(tokens.make())))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert pipeline.refused == ["malformed"]


# TLS


class Pki:
    """A CA, the server's certificate, and what a client needs to trust and to be trusted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = Authority(folder, "ca")
        self.server = self.ca.issue("server")

    def settings(self, **more: Any) -> dict[str, Any]:
        files = {"cert_file": str(self.server.cert), "key_file": str(self.server.key)}
        return files | {"reload_interval": "0s"} | more


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


def client_context(ca: Authority, client: Certificate | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca.file))
    if client is not None:
        context.load_cert_chain(client.cert, client.key)
    return context


async def try_http(receiver: Receiver, ca: Authority, client: Certificate | None = None) -> bool:
    """Tell whether a new connection comes to an answer."""
    address = receiver.endpoints["http"]
    async with httpx.AsyncClient(
        base_url=f"https://{address}", verify=client_context(ca, client), timeout=PATIENCE
    ) as http:
        try:
            return (await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF)).status_code == 200
        except (httpx.TransportError, ssl.SSLError):
            return False


async def try_grpc(receiver: Receiver, ca: Authority, client: Certificate | None = None) -> bool:
    pair = (None, None) if client is None else (client.key.read_bytes(), client.cert.read_bytes())
    credentials = grpc.ssl_channel_credentials(ca.pem, *pair)
    # Channels to one address would share a connection.
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.secure_channel(receiver.endpoints["grpc"], credentials, options) as channel:
        try:
            await channel.unary_unary(EXPORT)(PAYLOAD, timeout=PATIENCE)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True


BOTH = pytest.mark.parametrize("attempt", [try_grpc, try_http], ids=["grpc", "http"])
Attempt = Callable[..., Awaitable[bool]]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_the_sdk_sends_by_tls(
    pki: Pki, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # they would count for more than the exporter's own CA
        monkeypatch.delenv(variable, raising=False)
    async with running(pipeline, tls=pki.settings()) as receiver:
        address = receiver.endpoints[protocol]
        if protocol == "grpc":
            exporter: Any = GrpcLogExporter(f"https://{address}", credentials=grpc.ssl_channel_credentials(pki.ca.pem))
        else:
            exporter = HttpLogExporter(f"https://{address}/v1/logs", certificate_file=str(pki.ca.file))
        await asyncio.to_thread(send_a_line, exporter)
    assert len(pipeline.batches) == 1


async def test_where_there_is_tls_nothing_goes_in_the_clear(pki: Pki, pipeline: FakePipeline) -> None:
    async with running(pipeline, tls=pki.settings()) as receiver:
        async with httpx.AsyncClient(base_url=f"http://{receiver.endpoints['http']}", timeout=PATIENCE) as http:
            answer = await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF)
            assert (answer.status_code, answer.text) == (503, "this port speaks TLS: use https://, not http://\n")
        async with grpc.aio.insecure_channel(receiver.endpoints["grpc"]) as channel:
            assert (await failure(channel.unary_unary(EXPORT)(PAYLOAD))).code() is grpc.StatusCode.UNAVAILABLE
    assert pipeline.batches == []


@BOTH
async def test_certificates_that_change_are_used_without_a_restart(
    pki: Pki, pipeline: FakePipeline, attempt: Attempt
) -> None:
    other = Authority(pki.folder, "other-ca")
    async with running(pipeline, tls=pki.settings()) as receiver:
        assert await attempt(receiver, pki.ca)
        assert not await attempt(receiver, other)
        other.issue("other-server").copy_to(pki.server)
        assert await attempt(receiver, other)
        assert not await attempt(receiver, pki.ca)


@BOTH
async def test_certificates_that_change_for_the_worse_are_not_used(
    pki: Pki, pipeline: FakePipeline, attempt: Attempt
) -> None:
    async with running(pipeline, tls=pki.settings()) as receiver:
        assert await attempt(receiver, pki.ca)
        pki.server.cert.write_bytes(b"no PEM")
        with capture_logs() as logs:
            assert await attempt(receiver, pki.ca)
        assert [entry["log_level"] for entry in logs] == ["error"]
        assert str(pki.server.cert) in logs[0]["reason"]


@BOTH
async def test_only_clients_with_a_certificate_of_the_client_ca_get_in(
    pki: Pki, pipeline: FakePipeline, attempt: Attempt
) -> None:
    client_ca, stranger_ca = Authority(pki.folder, "client-ca"), Authority(pki.folder, "stranger-ca")
    async with running(pipeline, tls=pki.settings(client_ca_file=str(client_ca.file))) as receiver:
        assert not await attempt(receiver, pki.ca)
        assert not await attempt(receiver, pki.ca, stranger_ca.issue("stranger"))
        assert not await attempt(receiver, pki.ca, pki.ca.issue("of-the-servers-ca"))
        assert pipeline.batches == []
        assert await attempt(receiver, pki.ca, client_ca.issue("client"))
    assert len(pipeline.batches) == 1


@BOTH
async def test_a_client_ca_that_is_taken_away_is_trusted_no_more(
    pki: Pki, pipeline: FakePipeline, attempt: Attempt
) -> None:
    old, new = Authority(pki.folder, "old-ca"), Authority(pki.folder, "new-ca")
    trusted = pki.folder / "trusted.pem"
    trusted.write_bytes(old.pem)
    before, after = old.issue("before"), new.issue("after")
    async with running(pipeline, tls=pki.settings(client_ca_file=str(trusted))) as receiver:
        assert await attempt(receiver, pki.ca, before)
        trusted.write_bytes(new.pem + b"\n")
        assert await attempt(receiver, pki.ca, after)
        assert not await attempt(receiver, pki.ca, before)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_an_exporter_takes_up_a_client_certificate_that_was_replaced(
    pki: Pki, pipeline: FakePipeline, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.net.reloading_client.POLL_INTERVAL", 0.0)
    clients, strangers = Authority(pki.folder, "clients"), Authority(pki.folder, "strangers")
    own = strangers.issue("expired")
    async with running(pipeline, tls=pki.settings(client_ca_file=str(clients.file))) as receiver:
        address = receiver.endpoints["grpc" if protocol == "grpc" else "http"]
        endpoint = f"https://{address}" if protocol == "grpc" else f"https://{address}/v1/logs"
        client = connect(
            Destination(protocol, endpoint, timeout=PATIENCE, ca_file=pki.ca.file, cert_file=own.cert, key_file=own.key)
        )
        with pytest.raises(UnavailableError):
            await client.send(Signal.LOGS, PAYLOAD)
        clients.issue("renewed").copy_to(own)
        with capture_logs() as logs:
            assert await client.send(Signal.LOGS, PAYLOAD) == ACCEPTED
            assert [(log["log_level"], log["event"]) for log in logs] == [("info", "changed certificates are in use")]
            own.key.write_text("half of a ke")
            assert await client.send(Signal.LOGS, PAYLOAD) == ACCEPTED
        assert logs[-1]["event"] == "changed certificates are not used; those before stay in use"
        assert str(own.key) in logs[-1]["reason"]
        await client.close()


async def test_a_session_of_a_client_ca_that_was_taken_away_is_not_resumed(pki: Pki, pipeline: FakePipeline) -> None:
    old, new = Authority(pki.folder, "old-ca"), Authority(pki.folder, "new-ca")
    trusted = pki.folder / "trusted.pem"
    trusted.write_bytes(old.pem)
    context = client_context(pki.ca, old.issue("before"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # its handshake ends with the server's verdict

    async with running(pipeline, tls=pki.settings(client_ca_file=str(trusted))) as receiver:
        host, _, port = receiver.endpoints["http"].rpartition(":")

        def connect(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
            import socket

            with (
                socket.create_connection((host, int(port)), PATIENCE) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as connection,
            ):
                return connection.session, connection.session_reused

        session, _ = await asyncio.to_thread(connect, None)
        assert (await asyncio.to_thread(connect, session))[1]  # so there is something to forbid
        trusted.write_bytes(new.pem + b"\n")
        with pytest.raises(OSError):  # noqa: PT011 - an alert, or a connection that is cut
            await asyncio.to_thread(connect, session)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_certificates_that_cannot_be_used_stop_the_start(pki: Pki, pipeline: FakePipeline, protocol: str) -> None:
    pki.server.key.write_text("no PEM")
    listener = {"endpoint": "127.0.0.1:0", "tls": pki.settings()}
    receiver = create(
        "otlp", OtlpReceiverConfig.model_validate({"protocols": {protocol: listener}}), pipeline, Context()
    )
    with pytest.raises(OSError, match=f"{pki.server.key}.*receivers.otlp.protocols.{protocol}.tls"):
        await receiver.start()


@pytest.mark.parametrize(("version", "gets_in"), [(ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)])
async def test_listeners_can_be_told_to_take_nothing_older_than_tls_1_3(
    pki: Pki, pipeline: FakePipeline, version: ssl.TLSVersion, gets_in: bool
) -> None:
    context = client_context(pki.ca)
    context.maximum_version = version
    async with running(pipeline, tls=pki.settings(min_version="1.3")) as receiver:
        for endpoint, alpn in ((receiver.endpoints["http"], "http/1.1"), (receiver.endpoints["grpc"], "h2")):
            host, _, port = endpoint.rpartition(":")
            context.set_alpn_protocols(["h2", "http/1.1"])
            connecting = asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
            if gets_in:
                _, writer = await connecting
                assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == alpn
                writer.close()
            else:
                with pytest.raises(OSError):  # noqa: PT011 - an alert, or a connection that is cut
                    await connecting


async def test_a_token_is_asked_for_by_tls_as_well(pki: Pki, pipeline: FakePipeline, tokens: Tokens) -> None:
    header = tokens.make()
    async with running(pipeline, tokens.authenticator, tls=pki.settings()) as receiver:
        assert not await try_http(receiver, pki.ca)
        address = receiver.endpoints["http"]
        async with httpx.AsyncClient(
            base_url=f"https://{address}", verify=client_context(pki.ca), timeout=PATIENCE
        ) as http:
            assert (await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF | header)).is_success
