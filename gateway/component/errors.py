"""Why a batch was not accepted, in the terms a client has to act on.

Receivers translate these, and only these, into OTLP status codes; exporters raise them.
"""

from __future__ import annotations

from collections.abc import Sequence


class DeliveryError(Exception):
    """Base of everything a client is told about a batch that was not accepted."""


class MalformedPayloadError(DeliveryError):
    """The payload is not a valid OTLP request. Sending it again cannot help.

    gRPC ``INVALID_ARGUMENT``, HTTP 400. ``violations`` are the places that are wrong, each with what is wrong there, as
    far as they are known.
    """

    def __init__(self, message: str, violations: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.violations = tuple(violations)


class TooLargeError(DeliveryError):
    """The request is more than one request may be. A client must not send it again as it is.

    gRPC ``RESOURCE_EXHAUSTED`` without ``RetryInfo``, HTTP 413.
    """


class RefusedError(DeliveryError):
    """The destination refuses this batch for good, for instance because a constraint forbids it.

    gRPC ``INVALID_ARGUMENT``, HTTP 400: a client must not send it again.
    """


class NoPipelineError(RefusedError):
    """The configuration has no pipeline for this signal. Sending it again cannot help.

    gRPC ``UNIMPLEMENTED``, HTTP 404, as a server answers that does not have the signal's service at all.
    """

    def __init__(self, signal: str) -> None:
        super().__init__(f"no pipeline takes {signal} (setting service.pipelines.{signal})")


class TooLargeForDestinationError(RefusedError):
    """The destination refuses this batch for its size. It takes smaller ones, so that is no outage and nothing is lost.

    Only for one that is refused before any of it is stored.
    """


class PartlyRefusedError(RefusedError):
    """The destination refuses some records of a batch for good, and has the others.

    ``payload`` is a request of the refused records alone, ``records`` how many they are.
    """

    def __init__(self, message: str, payload: bytes, records: int) -> None:
        super().__init__(message)
        self.payload = payload
        self.records = records


class UnavailableError(DeliveryError):
    """The batch could not be delivered now; the client keeps it and tries again.

    gRPC ``UNAVAILABLE`` with ``RetryInfo``, HTTP 503 with ``Retry-After``.

    ``retry_after`` is in seconds.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TimedOutError(UnavailableError):
    """The destination did not answer in time. It may be down, or the batch takes longer than it is given."""


class OverloadedError(UnavailableError):
    """The gateway holds as much unacknowledged data as it may; the client keeps the batch and tries again.

    gRPC ``RESOURCE_EXHAUSTED`` with ``RetryInfo`` (retryable only with it), HTTP 429 with ``Retry-After``.
    """
