"""What a client is told when its request was not accepted, in gRPC's terms and in HTTP's.

Source: OTLP specification, "Failures", "OTLP/gRPC Throttling", "OTLP/HTTP Response".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from http import HTTPStatus

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from gateway.pipeline import MalformedPayloadError, OverloadedError, RefusedError, Signal, UnavailableError
from gateway.pipeline.access import PermissionDeniedError, TooLargeError, UnauthenticatedError

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MAX_MESSAGE = 1024
"""Characters of a message that reach the client. gRPC sends it twice in the trailers, whose usual limit is 8 KiB."""


@dataclass(slots=True, frozen=True)
class Refusal:
    """An answer that is not OK. ``retry_after`` is in seconds; None means that sending again cannot help."""

    http_status: HTTPStatus
    grpc_code: grpc.StatusCode
    message: str
    retry_after: float | None = None

    @property
    def retry_after_header(self) -> str | None:
        """The value of HTTP's ``Retry-After``: whole seconds, at least one."""
        return None if self.retry_after is None else str(max(1, math.ceil(self.retry_after)))

    def status(self) -> Status:
        """Make the ``google.rpc.Status``, with a ``RetryInfo`` when the client is to try again."""
        code: int = self.grpc_code.value[0]
        status = Status(code=code, message=self.message)
        if self.retry_after is not None:
            delay = Duration()
            delay.FromNanoseconds(round(self.retry_after * 1e9))
            status.details.add().Pack(RetryInfo(retry_delay=delay))
        return status


def refusal_of(error: Exception, signal: Signal) -> Refusal:
    """Translate what `Consumer.accept` or an authenticator raised.

    An error nobody foresaw is a bug of the gateway. It is logged with its traceback and answered like an outage:
    clients retry that, and a bug must not make them drop telemetry. Its text stays here, for it may hold secrets.
    """
    match error:
        case MalformedPayloadError() | RefusedError():
            return malformed(str(error))
        case UnauthenticatedError():
            return Refusal(HTTPStatus.UNAUTHORIZED, grpc.StatusCode.UNAUTHENTICATED, _clip(str(error)))
        case PermissionDeniedError():
            return Refusal(HTTPStatus.FORBIDDEN, grpc.StatusCode.PERMISSION_DENIED, _clip(str(error)))
        case TooLargeError():
            message = _clip(str(error))
            return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        case OverloadedError():
            return overloaded(str(error), error.retry_after)
        case UnavailableError():
            return unavailable(str(error), error.retry_after)
        case _:
            _log.error("unexpected error while receiving; the client is asked to retry", signal=signal, exc_info=error)
            return unavailable("the gateway could not process this request; please retry")


def malformed(message: str) -> Refusal:
    """Refuse for good: ``INVALID_ARGUMENT``, 400."""
    return Refusal(HTTPStatus.BAD_REQUEST, grpc.StatusCode.INVALID_ARGUMENT, _clip(message))


def unavailable(message: str, retry_after: float = 1.0) -> Refusal:
    """Ask the client to try again: ``UNAVAILABLE``, 503."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, _clip(message), retry_after)


def overloaded(message: str, retry_after: float = 1.0) -> Refusal:
    """Ask the client to try again, and to send less: ``RESOURCE_EXHAUSTED``, 429."""
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, grpc.StatusCode.RESOURCE_EXHAUSTED, _clip(message), retry_after)


def _clip(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
