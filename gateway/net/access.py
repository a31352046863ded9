"""Who may use a listener: the small interface between the listeners and whatever knows the clients.

A listener asks before it reads a request's body, so that a stranger costs it a header and nothing more.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from gateway.component.errors import (
    DeliveryError,
    MalformedPayloadError,
    NoPipelineError,
    OverloadedError,
    TooLargeError,
)


class Scope(enum.StrEnum):
    """What a client may be allowed to do. The value is what ``obs-hub token create --scope`` takes."""

    INGEST = "ingest"
    ADMIN = "admin"
    READ = "read"


class UnauthenticatedError(DeliveryError):
    """The client did not say who it is, or not believably.

    gRPC ``UNAUTHENTICATED``, HTTP 401 with ``WWW-Authenticate``: sending the same again cannot help. ``presented``
    tells whether there was anything to check.
    """

    def __init__(self, message: str, *, presented: bool) -> None:
        super().__init__(message)
        self.presented = presented


class PermissionDeniedError(DeliveryError):
    """The client is known, and not allowed to do this.

    gRPC ``PERMISSION_DENIED``, HTTP 403: sending the same again cannot help.
    """


class RateLimitedError(OverloadedError):
    """The client does more than it may; it keeps the batch and tries again.

    Told like any other overload: gRPC ``RESOURCE_EXHAUSTED`` with ``RetryInfo``, HTTP 429 with ``Retry-After``.
    """


def reason_of(error: Exception) -> str:
    """Return what a request is counted under that was refused before anything was delivered."""
    match error:
        case UnauthenticatedError():
            return "unauthenticated"
        case PermissionDeniedError():
            return "permission_denied"
        case RateLimitedError():
            return "rate_limited"
        case TooLargeError():
            return "too_large"
        case OverloadedError():
            return "overloaded"
        case MalformedPayloadError():
            return "malformed"
        case NoPipelineError():
            return "no_pipeline"
        case _:
            return "internal_error"


class Held(Protocol):
    """What one request counts for."""

    @property
    def most(self) -> int | None:
        """How many bytes it may be, decompressed; None: the listener's limit is all."""
        ...

    def resize(self, size: int) -> None:
        """Count it as ``size`` bytes from now on: more has arrived, or it was decompressed. Raises as `Grant.hold`."""
        ...


class _NothingHeld:
    most = None

    def resize(self, size: int) -> None:
        pass


NOTHING_HELD: Held = _NothingHeld()
"""For requests that are counted for nobody."""


class Grant(Protocol):
    """The permission for one request."""

    def hold(self, size: int) -> AbstractContextManager[Held]:
        """Count ``size`` bytes as in flight for the length of a block, or whatever it is resized to.

        Raises `RateLimitedError` when the client has as much in flight as it may, and `TooLargeError` when it never may
        have so much.
        """
        ...


class Authenticator(Protocol):
    """Knows the clients. Answers from memory: it is asked on the event loop, once for each request."""

    def authenticate(self, authorization: str | None, peer: str, scope: Scope) -> Grant:
        """Allow one request, or raise `UnauthenticatedError`, `PermissionDeniedError` or `RateLimitedError`.

        ``authorization`` is the header of that name, ``peer`` the address that the connection comes from.
        """
        ...


Authenticators = Mapping[str, Authenticator]
"""The authenticators that run, by the name of their extension."""
