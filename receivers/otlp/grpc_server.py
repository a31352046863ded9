"""OTLP over gRPC.

Handlers take and give raw bytes: without a deserializer gRPC hands over the message as it came (decompressed), and the
request is never parsed here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn, cast
from urllib.parse import unquote

import grpc
import grpc.aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gateway.pipeline import Batch, Consumer, MalformedPayloadError
from gateway.pipeline.access import Authenticator, Scope, UnauthenticatedError, reason_of
from gateway.pipeline.binding import bind, cannot_listen
from gateway.pipeline.certificates import Certificates, Loaded
from gateway.pipeline.listeners import join_endpoint, split_endpoint
from gateway.pipeline.services import SERVICES, Service
from receivers.otlp.config import OWN_TELEMETRY_HEADER, GrpcConfig
from receivers.otlp.refusal import Refusal, refusal_of

_Context = grpc.aio.ServicerContext[Any, Any]

HEALTH_SERVICE = "grpc.health.v1.Health"
"""The standard health service (gRPC Health Checking Protocol), which Kubernetes probes and load balancers ask."""

_STATUS_DETAILS = "grpc-status-details-bin"
"""The trailer in which gRPC carries a serialized ``google.rpc.Status``."""

_KEEPALIVE = (
    # Clients may ping without a request in flight. 10 seconds is the shortest interval grpc-go allows its users, hence
    # the Collector's; gRPC's default tolerates one ping in five minutes and then cuts the connection.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # The server notices clients that vanished without closing their connection.
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


class GrpcServer:
    """The gRPC server of one receiver. ``setting`` is where its settings stand, for error messages."""

    protocol = "grpc"

    def __init__(
        self,
        setting: str,
        config: GrpcConfig,
        consumer: Consumer,
        authenticator: Authenticator | None = None,
        *,
        reuse_port: bool,
    ) -> None:
        self._setting = setting
        self._config = config
        self._consumer = consumer
        self._authenticator = authenticator
        self._reuse_port = reuse_port
        self._health = _Health()
        self._server: grpc.aio.Server | None = None
        self._started = False
        self.endpoint: str = config.endpoint

    async def bind(self) -> None:
        """Take the address. Raises `OSError` when it cannot be had, or the certificates cannot be used."""
        host, port = split_endpoint(self._config.endpoint)
        tls = self._config.tls
        credentials = None if tls is None else _credentials(Certificates(f"{self._setting}.tls", tls))
        server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", int(self._reuse_port)),
                ("grpc.max_receive_message_length", self._config.max_recv_msg_size),
                ("grpc.max_concurrent_streams", self._config.max_concurrent_streams),
                *_KEEPALIVE,
            )
        )
        server.add_generic_rpc_handlers((*map(self._export_handler, SERVICES.values()), self._health.handler()))
        try:
            address = join_endpoint(host or "::", port)
            bound = (
                server.add_insecure_port(address)
                if credentials is None
                else server.add_secure_port(address, credentials)
            )
        except RuntimeError as error:
            raise cannot_listen(await self._why_not_bound(), self._config.endpoint, self._setting) from error
        self._server = server
        self.endpoint = join_endpoint(host, bound)

    async def serve(self) -> None:
        """Begin to answer requests, and to report ``SERVING``."""
        assert self._server is not None
        await self._server.start()
        self._started = True

    async def stop(self, grace: float) -> None:
        """Report ``NOT_SERVING``, refuse new requests, finish those in flight within ``grace`` seconds.

        A request that is still in flight then is cancelled, which OTLP clients retry.
        """
        self._health.stop()
        server, self._server = self._server, None
        if server is None:
            return
        if not self._started:  # gRPC gives back the address of a started server only
            await server.start()
        await server.stop(grace)

    def _export_handler(self, service: Service) -> grpc.GenericRpcHandler:
        authenticator = self._authenticator

        async def answer(payload: bytes, context: _Context) -> bytes:
            own_telemetry = any(key == OWN_TELEMETRY_HEADER for key, _ in context.invocation_metadata() or ())
            try:
                outcome = await self._consumer.accept(Batch.of(service.signal, payload, own_telemetry=own_telemetry))
            except Exception as error:  # whatever it is, the client must get an answer it can act on
                await _abort(context, refusal_of(error, service.signal))
            return service.answer(outcome).SerializeToString()

        async def authenticate_and_answer(_: object, context: _Context) -> bytes:
            assert authenticator is not None
            with contextlib.ExitStack() as held:
                try:
                    authorization = _authorization(context)
                    grant = authenticator.authenticate(authorization, _host(context.peer()), Scope.INGEST)
                    payload = await context.read()
                    if payload is grpc.aio.EOF:
                        raise MalformedPayloadError("the call carries no request")
                    held.enter_context(grant.hold(len(payload)))
                except Exception as error:  # an authenticator that fails lets nobody in
                    self._consumer.refuse(service.signal, reason_of(error))
                    await _abort(context, refusal_of(error, service.signal))
                return await answer(payload, context)

        # A unary handler is called once the request has been received whole; a stream handler reads it when it wants
        # to. On the wire both are one request and one response.
        handler: grpc.RpcMethodHandler[Any, Any] = (
            grpc.unary_unary_rpc_method_handler(answer)
            if authenticator is None
            else grpc.stream_unary_rpc_method_handler(authenticate_and_answer)
        )
        return grpc.method_handlers_generic_handler(service.grpc_name, {"Export": handler})

    async def _why_not_bound(self) -> OSError:
        # gRPC does not say why; taking the address ourselves does.
        try:
            sockets = await bind(self._config.endpoint, reuse_port=self._reuse_port)
        except OSError as error:
            return error
        for taken in sockets:
            taken.close()
        return OSError("gRPC gives no reason")


async def _abort(context: _Context, refusal: Refusal) -> NoReturn:
    # RESOURCE_EXHAUSTED is retryable only with the RetryInfo in these details.
    await context.abort(
        refusal.grpc_code,
        refusal.message,
        trailing_metadata=((_STATUS_DETAILS, refusal.status().SerializeToString()),),
    )


def _authorization(context: _Context) -> str | None:
    values = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    if len(values) > 1:
        raise UnauthenticatedError("the request has several authorization headers; send one", presented=True)
    return str(values[0]) if values else None


def _host(peer: str) -> str:
    """Return the address in gRPC's word for a peer, such as ``ipv4:127.0.0.1:50000`` or ``ipv6:%5B::1%5D:50000``."""
    return unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]")


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Make credentials that follow the certificates: gRPC asks for them at every handshake."""
    in_use = certificates.current()
    require_client = in_use.client_ca is not None

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal in_use
        current = certificates.current()
        if current is in_use:
            return None
        in_use = current
        return _configuration(current)

    # The types do not say that None stands for "as before".
    fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", changed)
    return grpc.dynamic_ssl_server_credentials(_configuration(in_use), fetch, require_client)


def _configuration(loaded: Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(loaded.key, loaded.certificate)], loaded.client_ca)


class _Health:
    """The health service: ``SERVING`` until `stop`, ``NOT_SERVING`` from then on.

    grpcio-health-checking's own servicer is not used because its watches never end: one watching client would make
    every shutdown last the whole grace period.
    """

    def __init__(self) -> None:
        self._services = {"", HEALTH_SERVICE, *(service.grpc_name for service in SERVICES.values())}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    def handler(self) -> grpc.GenericRpcHandler:
        codec = {
            "request_deserializer": HealthCheckRequest.FromString,
            "response_serializer": HealthCheckResponse.SerializeToString,
        }
        return grpc.method_handlers_generic_handler(
            HEALTH_SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check, **codec),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch, **codec),
            },
        )

    async def _check(self, request: HealthCheckRequest, context: _Context) -> HealthCheckResponse:
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service named {request.service!r}")
        return self._response()

    async def _watch(self, request: HealthCheckRequest, context: _Context) -> AsyncIterator[HealthCheckResponse]:
        if request.service not in self._services:
            # The protocol keeps such a watch open, for the service may come; here it never does.
            yield HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
            await self._stopping.wait()
            return
        yield self._response()
        if not self._stopping.is_set():
            await self._stopping.wait()
            yield self._response()

    def _response(self) -> HealthCheckResponse:
        serving = not self._stopping.is_set()
        return HealthCheckResponse(status=HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)
