"""What is answered over gRPC: OTLP's three exports, and the standard health service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gateway.pipeline import Batch, Consumer
from gateway.pipeline.access import Authenticator, Grant, Scope, UnauthenticatedError, reason_of
from gateway.pipeline.services import SERVICES, Service
from receivers.otlp.config import OWN_TELEMETRY_HEADER
from receivers.otlp.grpc_call import Call, Method
from receivers.otlp.grpc_messages import StatusError
from receivers.otlp.refusal import malformed, refusal_of

HEALTH_SERVICE = "grpc.health.v1.Health"
"""The standard health service (gRPC Health Checking Protocol), which Kubernetes probes and load balancers ask."""


class Export:
    """OTLP's ``Export`` of one signal. The request goes on as it is; it is never parsed here."""

    def __init__(self, service: Service, consumer: Consumer, authenticator: Authenticator | None) -> None:
        self._service = service
        self._consumer = consumer
        self._authenticator = authenticator

    def admit(self, call: Call) -> Callable[[bytes], Awaitable[None]]:
        """Ask who the client is."""
        if self._authenticator is None:
            return partial(self._answer, call)
        with self._refusing():
            grant = self._authenticator.authenticate(_authorization(call), call.peer, Scope.INGEST)
        return partial(self._hold_and_answer, call, grant)

    def refused(self, reason: str) -> None:
        """Count it."""
        self._consumer.refuse(self._service.signal, reason)

    async def _hold_and_answer(self, call: Call, grant: Grant, message: bytes) -> None:
        with contextlib.ExitStack() as held:
            with self._refusing():
                held.enter_context(grant.hold(len(message)))
            await self._answer(call, message)

    async def _answer(self, call: Call, message: bytes) -> None:
        signal = self._service.signal
        own_telemetry = bool(call.metadata(OWN_TELEMETRY_HEADER))
        try:
            outcome = await self._consumer.accept(
                Batch.of(signal, message, own_telemetry=own_telemetry, peer=call.peer)
            )
        except Exception as error:  # whatever it is, the client must get an answer it can act on
            raise StatusError.of(refusal_of(error, signal)) from error
        call.send(self._service.answer(outcome).SerializeToString())

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # an authenticator that fails lets nobody in
            self.refused(reason_of(error))
            raise StatusError.of(refusal_of(error, self._service.signal)) from error


def _authorization(call: Call) -> str | None:
    values = call.metadata("authorization")
    if len(values) > 1:
        raise UnauthenticatedError("the request has several authorization headers; send one", presented=True)
    return values[0] if values else None


class Health:
    """What the health service tells: ``SERVING`` until `stop`, ``NOT_SERVING`` from then on."""

    def __init__(self) -> None:
        self._services = {"", HEALTH_SERVICE, *(service.grpc_name for service in SERVICES.values())}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Tell the watchers, and end their watches: one of them would make every shutdown last."""
        self._stopping.set()

    def methods(self) -> dict[str, Method]:
        """Return what is answered, by path."""
        return {
            f"/{HEALTH_SERVICE}/Check": _HealthMethod(self._check),
            f"/{HEALTH_SERVICE}/Watch": _HealthMethod(self._watch),
        }

    async def _check(self, call: Call, message: bytes) -> None:
        service = _service_in(message)
        if service not in self._services:
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"no service named {service[:200]!r}")
        call.send(self._status())

    async def _watch(self, call: Call, message: bytes) -> None:
        known = _service_in(message) in self._services
        # The protocol keeps the watch of an unknown service open, for it may come; here it never does.
        call.send(self._status() if known else _response(HealthCheckResponse.SERVICE_UNKNOWN))
        if not self._stopping.is_set():
            await self._stopping.wait()
            if known:
                call.send(self._status())

    def _status(self) -> bytes:
        serving = not self._stopping.is_set()
        return _response(HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)


class _HealthMethod:
    """A method of the health service, which everybody may use, and which is no telemetry to be counted."""

    def __init__(self, answer: Callable[[Call, bytes], Awaitable[None]]) -> None:
        self._answer = answer

    def admit(self, call: Call) -> Callable[[bytes], Awaitable[None]]:
        return partial(self._answer, call)

    def refused(self, reason: str) -> None:
        pass


def exports(consumer: Consumer, authenticator: Authenticator | None) -> dict[str, Method]:
    """Return what is answered for OTLP, by path."""
    return {f"/{service.grpc_name}/Export": Export(service, consumer, authenticator) for service in SERVICES.values()}


def _service_in(message: bytes) -> str:
    try:
        return str(HealthCheckRequest.FromString(message).service)
    except DecodeError:
        raise StatusError.of(malformed("the message is no HealthCheckRequest")) from None


def _response(status: HealthCheckResponse.ServingStatus) -> bytes:
    return bytes(HealthCheckResponse(status=status).SerializeToString())
