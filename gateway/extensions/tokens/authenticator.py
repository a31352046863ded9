"""Bearer tokens as listeners ask for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from gateway.extensions.tokens.limits import Failures, InFlight, Rate, network_of
from gateway.extensions.tokens.token import NOBODY, Token, split
from gateway.extensions.tokens.watched_tokens import WatchedTokens
from gateway.net.access import Grant, PermissionDeniedError, RateLimitedError, Scope, UnauthenticatedError

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_HOW = "send the header 'authorization: Bearer <token>' with a token of `obs-hub token create`"


class TokenAuthenticator:
    """Implements `gateway.net.access.Authenticator` with the tokens of a file.

    Failed attempts are limited for each address. A valid token is let in all the same: an address is often many
    clients (a NAT, a proxy, a node), and one of them with an old token must not shut out the others. Nothing is lost by
    that, for tokens cannot be guessed.
    """

    def __init__(
        self,
        tokens: WatchedTokens,
        failures: Failures,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._tokens = tokens
        self._failures = failures
        self._clock = clock
        self._today = today
        self._uses: dict[str, _Use] = {}
        self._log_rate = Rate(1, clock(), burst=20)

    def authenticate(self, authorization: str | None, peer: str, scope: Scope) -> Grant:
        """Allow one request, or raise, as the protocol says."""
        now = self._clock()
        try:
            token = self._identify(authorization)
        except UnauthenticatedError as error:
            # What was presented is never logged: it may be a token with one letter missing, or another system's.
            self._warn(now, "authentication failed", peer=network_of(peer), reason=str(error))
            if wait := self._failures.add(peer, now):
                raise RateLimitedError(
                    f"too many failed attempts from this address; the last one: {error}", wait
                ) from None
            raise
        if scope not in token.scopes:
            self._warn(now, "permission denied", peer=network_of(peer), token=token.id, name=token.name, scope=scope)
            raise PermissionDeniedError(
                f"the token {token.id} has no scope '{scope}', only {', '.join(sorted(token.scopes))}; "
                f"make one by `obs-hub token create NAME --scope {scope}`"
            )
        use = self._use_of(token, now)
        if use.rate is not None and (wait := use.rate.take(now)):
            raise RateLimitedError(f"the token {token.id} may make {token.rate:g} requests a second", wait)
        return use.in_flight

    def _identify(self, authorization: str | None) -> Token:
        if not authorization:
            raise UnauthenticatedError(f"authentication is required: {_HOW}", presented=False)
        scheme, _, text = authorization.partition(" ")
        parts = split(text.strip())
        if scheme.lower() != "bearer" or parts is None:
            raise UnauthenticatedError(
                f"what the authorization header holds is no token of this hub: {_HOW}", presented=True
            )
        identity, secret = parts
        token = self._tokens.get(identity) or NOBODY
        if not token.matches(secret) or token is NOBODY:
            raise UnauthenticatedError("the token is not valid: it is unknown, or has been revoked", presented=True)
        if token.expired(self._today()):
            raise UnauthenticatedError(f"the token {token.id} expired on {token.expires_at:%Y-%m-%d}", presented=True)
        return token

    def _use_of(self, token: Token, now: float) -> _Use:
        use = self._uses.get(token.id)
        if use is None or use.token != token:
            # Tokens whose secret nobody knows get no entry, so this is as large as the file.
            use = self._uses[token.id] = _Use(token, now)
        return use

    def _warn(self, now: float, event: str, **details: object) -> None:
        if not self._log_rate.take(now):
            _log.warning(event, **details)


class _Use:
    """What is going on with one token."""

    def __init__(self, token: Token, now: float) -> None:
        self.token = token
        self.rate = None if token.rate is None else Rate(token.rate, now)
        self.in_flight = InFlight(token.in_flight)
