"""What a client is told when its request was not accepted, in gRPC's terms and in HTTP's.

Source: OTLP specification, "Failures", "OTLP/gRPC Throttling", "OTLP/HTTP Response".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from gateway.component import (
    MalformedPayloadError,
    NoPipelineError,
    OverloadedError,
    RefusedError,
    Signal,
    TooLargeError,
    UnavailableError,
)
from gateway.net.access import PermissionDeniedError, UnauthenticatedError

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MAX_MESSAGE = 1024
"""Characters of a message that reach the client. gRPC sends it twice in the trailers, whose usual limit is 8 KiB."""

_MAX_TEXT = 4 * MAX_MESSAGE
"""Bytes of all text in a status: a message of the longest characters has as many, and leaves no room for details."""


@dataclass(slots=True, frozen=True)
class Refusal:
    """An answer that is not OK. ``retry_after`` is in seconds; None means that sending again cannot help.

    ``violations`` are the places of the request that are wrong, as far as known, each with what is wrong there.
    """

    http_status: HTTPStatus
    grpc_code: grpc.StatusCode
    message: str
    retry_after: float | None = None
    violations: Sequence[tuple[str, str]] = ()

    @property
    def retry_after_header(self) -> str | None:
        """The value of HTTP's ``Retry-After``: whole seconds, at least one."""
        return None if self.retry_after is None else str(max(1, math.ceil(self.retry_after)))

    def status(self) -> Status:
        """Make the ``google.rpc.Status``: with a ``RetryInfo`` when the client is to try again, with a ``BadRequest``
        when it is the request that is wrong.
        """
        code: int = self.grpc_code.value[0]
        status = Status(code=code, message=self.message)
        if self.retry_after is not None:
            delay = Duration()
            delay.FromNanoseconds(round(self.retry_after * 1e9))
            status.details.add().Pack(RetryInfo(retry_delay=delay))
        if self.http_status is HTTPStatus.BAD_REQUEST:
            status.details.add().Pack(self._bad_request())
        return status

    def _bad_request(self) -> BadRequest:
        found = BadRequest()
        room = _MAX_TEXT - len(self.message.encode())
        for place, description in self.violations or [("", self.message)]:
            text = description.encode()[: max(0, room - len(place.encode()))].decode(errors="ignore")
            room -= len(place.encode()) + len(text.encode())
            if room < 0:
                break
            found.field_violations.add(field=place, description=text)
        return found


def refusal_of(error: Exception, signal: Signal) -> Refusal:
    """Translate what `Consumer.accept` or an authenticator raised.

    An error nobody foresaw is a bug of the gateway. It is logged with its traceback and answered like an outage:
    clients retry that, and a bug must not make them drop telemetry. Its text stays here, for it may hold secrets.
    """
    match error:
        case MalformedPayloadError():
            return malformed(str(error), error.violations)
        case NoPipelineError():
            return Refusal(HTTPStatus.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED, _clip(str(error)))
        case RefusedError():
            return malformed(str(error))
        case TooLargeError():
            return too_large(str(error))
        case UnauthenticatedError():
            return Refusal(HTTPStatus.UNAUTHORIZED, grpc.StatusCode.UNAUTHENTICATED, _clip(str(error)))
        case PermissionDeniedError():
            return Refusal(HTTPStatus.FORBIDDEN, grpc.StatusCode.PERMISSION_DENIED, _clip(str(error)))
        case OverloadedError():
            return overloaded(str(error), error.retry_after)
        case UnavailableError():
            return unavailable(str(error), error.retry_after)
        case _:
            _log.error("unexpected error while receiving; the client is asked to retry", signal=signal, exc_info=error)
            return unavailable("the gateway could not process this request; please retry")


def malformed(message: str, violations: Sequence[tuple[str, str]] = ()) -> Refusal:
    """Refuse for good: ``INVALID_ARGUMENT``, 400. ``violations`` where the wrong places are known one by one."""
    return Refusal(HTTPStatus.BAD_REQUEST, grpc.StatusCode.INVALID_ARGUMENT, _clip(message), violations=violations)


def too_large(message: str) -> Refusal:
    """Refuse for good what is more than may be sent at once: ``RESOURCE_EXHAUSTED``, 413."""
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, grpc.StatusCode.RESOURCE_EXHAUSTED, _clip(message))


def unavailable(message: str, retry_after: float = 1.0) -> Refusal:
    """Ask the client to try again: ``UNAVAILABLE``, 503."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, _clip(message), retry_after)


def overloaded(message: str, retry_after: float = 1.0) -> Refusal:
    """Ask the client to try again, and to send less: ``RESOURCE_EXHAUSTED``, 429."""
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, grpc.StatusCode.RESOURCE_EXHAUSTED, _clip(message), retry_after)


def _clip(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
