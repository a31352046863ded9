"""What is answered over gRPC: OTLP's three exports, and the standard health service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterator

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListResponse

from gateway.component import Batch, Consumer, NoPipelineError, Signal
from gateway.net.access import NOTHING_HELD, Authenticator, Held, Scope, UnauthenticatedError, reason_of
from gateway.net.destination import OWN_TELEMETRY_HEADER
from gateway.otlp.services import SERVICES, Service
from receivers.otlp.grpc_call import Admitted, Call, Method
from receivers.otlp.grpc_messages import StatusError
from receivers.otlp.refusal import malformed, overloaded, refusal_of
from receivers.otlp.stream_limit import StreamLimit

HEALTH_SERVICE = "grpc.health.v1.Health"
"""The standard health service (gRPC Health Checking Protocol), which Kubernetes probes and load balancers ask."""

_MOST_OF_A_QUESTION = 4096
"""Bytes of a question for a service's health."""


class Export:
    """OTLP's ``Export`` of one signal. The request goes on as it is; it is never parsed here."""

    def __init__(
        self, service: Service, consumer: Consumer, authenticator: Authenticator | None, *, has_pipeline: bool
    ) -> None:
        self._service = service
        self._consumer = consumer
        self._authenticator = authenticator
        self._has_pipeline = has_pipeline

    def admit(self, call: Call) -> Admitted:
        """Ask who the client is, and whether anybody takes what it has."""
        held, resized = contextlib.ExitStack(), NOTHING_HELD
        if self._authenticator is not None:
            with self.refusing():
                grant = self._authenticator.authenticate(_authorization(call), call.peer, Scope.INGEST)
                resized = held.enter_context(grant.hold(0))
        if not self._has_pipeline:
            held.close()
            with self.refusing():
                raise NoPipelineError(self._service.signal.value)
        return _Admitted(self, call, resized, held.close)

    def refused(self, reason: str) -> None:
        """Count it."""
        self._consumer.refuse(self._service.signal, reason)

    async def answer(self, call: Call, message: bytes, *, own_telemetry: bool) -> None:
        """Have the message stored."""
        signal = self._service.signal
        try:
            batch = await Batch.received(signal, message, own_telemetry=own_telemetry, peer=call.peer)
            call.hand_on()
            outcome = await self._consumer.accept(batch)
        except Exception as error:  # whatever it is, the client must get an answer it can act on
            raise StatusError.of(refusal_of(error, signal)) from error
        call.send(self._service.answer(outcome).SerializeToString())

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Turn what an authenticator raises into what a client is told."""
        try:
            yield
        except Exception as error:  # an authenticator that fails lets nobody in
            self.refused(reason_of(error))
            raise StatusError.of(refusal_of(error, self._service.signal)) from error


class _Admitted:
    """An export that was let in."""

    reply = None

    def __init__(self, export: Export, call: Call, held: Held, release: Callable[[], None]) -> None:
        self._export = export
        self._call = call
        self._held = held
        self._own_telemetry = bool(call.metadata(OWN_TELEMETRY_HEADER))
        self.release = release

    @property
    def most(self) -> int | None:
        return self._held.most

    def resize(self, size: int) -> None:
        with self._export.refusing():
            self._held.resize(size)

    async def answer(self, message: bytes) -> None:
        await self._export.answer(self._call, message, own_telemetry=self._own_telemetry)


def _authorization(call: Call) -> str | None:
    values = call.metadata("authorization")
    if len(values) > 1:
        raise UnauthenticatedError("the request has several authorization headers; send one", presented=True)
    return values[0] if values else None


class Health:
    """What the health service tells: ``SERVING`` until `stop`, ``NOT_SERVING`` from then on."""

    def __init__(self, signals: Collection[Signal] = tuple(Signal), seats: StreamLimit | None = None) -> None:
        self._seats = seats or StreamLimit()
        self._services = {"", HEALTH_SERVICE, *(SERVICES[signal].grpc_name for signal in signals)}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Tell the watchers, and end their watches: one of them would make every shutdown last."""
        self._stopping.set()

    def methods(self) -> dict[str, Method]:
        """Return what is answered, by path."""
        return {
            f"/{HEALTH_SERVICE}/Check": _HealthMethod(self._check),
            f"/{HEALTH_SERVICE}/List": _HealthMethod(self._list),
            f"/{HEALTH_SERVICE}/Watch": _HealthMethod(self._watch),
        }

    async def _check(self, call: Call, message: bytes) -> None:
        service = _service_in(message)
        if service not in self._services:
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"no service named {service[:200]!r}")
        call.send(self._status())

    async def _list(self, call: Call, message: bytes) -> None:
        statuses = dict.fromkeys(sorted(self._services), HealthCheckResponse(status=self._serving()))
        call.send(HealthListResponse(statuses=statuses).SerializeToString())

    async def _watch(self, call: Call, message: bytes) -> None:
        known = _service_in(message) in self._services
        leave = self._seats.take(call.connection)
        if leave is None:
            raise StatusError.of(overloaded("there are too many watchers; ask by Check", 60))
        try:
            # The protocol keeps the watch of an unknown service open, for it may come; here it never does.
            call.send(self._status() if known else _response(HealthCheckResponse.SERVICE_UNKNOWN))
            if not self._stopping.is_set():
                await self._stopping.wait()
                if known:
                    call.send(self._status())
        finally:
            leave()

    def _status(self) -> bytes:
        return _response(self._serving())

    def _serving(self) -> HealthCheckResponse.ServingStatus:
        return HealthCheckResponse.NOT_SERVING if self._stopping.is_set() else HealthCheckResponse.SERVING


class _HealthMethod:
    """A method of the health service, which everybody may use, and which is no telemetry to be counted."""

    def __init__(self, answer: Callable[[Call, bytes], Awaitable[None]]) -> None:
        self._answer = answer

    def admit(self, call: Call) -> Admitted:
        return _Asked(call, self._answer)

    def refused(self, reason: str) -> None:
        pass


class _Asked:
    """A call of the health service, which counts for nobody."""

    most = _MOST_OF_A_QUESTION
    reply = None

    def __init__(self, call: Call, answer: Callable[[Call, bytes], Awaitable[None]]) -> None:
        self._call = call
        self._answer = answer

    def resize(self, size: int) -> None:
        if size > self.most:
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"no service has a name of {size} bytes")

    async def answer(self, message: bytes) -> None:
        await self._answer(self._call, message)

    def release(self) -> None:
        pass


def exports(
    consumer: Consumer, authenticator: Authenticator | None, signals: Collection[Signal] = tuple(Signal)
) -> dict[str, Method]:
    """Return what is answered for OTLP, by path. ``signals`` are those that there are pipelines for."""
    return {
        f"/{service.grpc_name}/Export": Export(service, consumer, authenticator, has_pipeline=signal in signals)
        for signal, service in SERVICES.items()
    }


def _service_in(message: bytes) -> str:
    try:
        return str(HealthCheckRequest.FromString(message).service)
    except DecodeError:
        raise StatusError.of(malformed("the message is no HealthCheckRequest")) from None


def _response(status: HealthCheckResponse.ServingStatus) -> bytes:
    return bytes(HealthCheckResponse(status=status).SerializeToString())
