"""One bearer token: what its owner holds, and what is kept of it.

A token is ``obshub_<id>_<secret>``. The secret is 256 random bits, so a fast hash keeps it: nobody can try that many,
however fast each try is. A slow hash is for passwords, which people choose; here it would let strangers keep the
gateway busy.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime, Field, field_validator

from gateway.base.settings import ByteSize, Settings
from gateway.net.access import Scope

_PREFIX = "obshub"
_ID_BYTES = 6
_SECRET_BYTES = 32
_FORMAT = re.compile(rf"{_PREFIX}_([0-9a-f]{{{2 * _ID_BYTES}}})_([0-9a-f]{{{2 * _SECRET_BYTES}}})", re.ASCII)


_RETIRED_SCOPES = frozenset({"webhook"})
"""Scopes that could be given once and that nothing ever asked for: webhooks are signed."""


class Token(Settings):
    """What is kept of a token: everything but its secret."""

    id: str = Field(pattern=rf"^[0-9a-f]{{{2 * _ID_BYTES}}}$")
    """Names the token in lists and logs. No secret."""
    name: str = Field(min_length=1, max_length=200)
    """What it is for, in its maker's words."""
    scopes: frozenset[Scope]
    """What it allows."""
    created_at: AwareDatetime
    """When it was made."""
    expires_at: AwareDatetime | None = None
    """When it stops working; None: when it is revoked."""
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    """SHA-256 of the secret, in hexadecimal."""
    rate: float | None = Field(default=None, gt=0)
    """Requests a second it may make; None: any number."""
    in_flight: ByteSize | None = Field(default=None, gt=0)
    """Bytes of requests, decompressed, that it may have unanswered, so that none may be larger; None: any number."""

    @field_validator("scopes", mode="before")
    @classmethod
    def _without_retired(cls, scopes: object) -> object:
        """Leave out what earlier versions offered: a file of theirs goes on being read, and a token goes on allowing
        what it did."""
        return [each for each in scopes if each not in _RETIRED_SCOPES] if isinstance(scopes, list) else scopes

    @field_validator("name")
    @classmethod
    def _one_line(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("expected a name of printable characters")
        return name

    def matches(self, secret: str) -> bool:
        """Tell whether this is the token's secret, in a time that says nothing about it."""
        return hmac.compare_digest(_digest(secret), self.digest)

    def expired(self, now: datetime) -> bool:
        """Tell whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


def create(
    name: str,
    scopes: Iterable[Scope],
    *,
    lifetime: timedelta | None = None,
    rate: float | None = None,
    in_flight: int | None = None,
) -> tuple[Token, str]:
    """Make a token. Returns what is kept and the text that its owner gets, which exists nowhere else."""
    now = datetime.now(UTC).replace(microsecond=0)
    identity, secret = secrets.token_hex(_ID_BYTES), secrets.token_hex(_SECRET_BYTES)
    token = Token(
        id=identity,
        name=name,
        scopes=frozenset(scopes),
        created_at=now,
        expires_at=None if lifetime is None else now + lifetime,
        digest=_digest(secret),
        rate=rate,
        in_flight=in_flight,
    )
    return token, f"{_PREFIX}_{identity}_{secret}"


def split(text: str) -> tuple[str, str] | None:
    """Split a token into id and secret; None when it is not written like one."""
    match = _FORMAT.fullmatch(text)
    return (match[1], match[2]) if match else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


NOBODY = Token(
    id="0" * 2 * _ID_BYTES,
    name="nobody",
    scopes=frozenset(Scope),
    created_at=datetime.min.replace(tzinfo=UTC),
    digest=_digest(secrets.token_hex(_SECRET_BYTES)),
)
"""Takes the place of a token that is not known, so that looking at it costs the same. Its secret is lost."""
