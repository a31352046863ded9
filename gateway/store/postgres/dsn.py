"""Connection strings: whether one can be read, and how it may be shown."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gateway.base.redaction import MASK

_SECRETS = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"})
"""What libpq takes in a connection string and nobody else may know, also where this libpq does not know it."""
_INSTEAD_OF_A_VALUE = b"*"
"""libpq's own mark of an option whose value is not to be shown."""


def secrets_of(dsn: str) -> frozenset[str]:
    """Return the keywords of a PostgreSQL connection string whose values are secrets. Raises `psycopg.Error`."""
    marked = {
        option.keyword.decode()
        for option in psycopg.pq.Conninfo.get_defaults()
        if option.dispchar == _INSTEAD_OF_A_VALUE
    }
    return frozenset(conninfo_to_dict(dsn)) & (marked | _SECRETS)


def shown(dsn: str) -> str:
    """Return a PostgreSQL connection string as it may be shown; as it is, where it holds no secret."""
    try:
        secret = secrets_of(dsn)
        return make_conninfo(dsn, **dict.fromkeys(secret, MASK)) if secret else dsn
    except psycopg.Error:  # libpq cannot tell which part of it is one
        return MASK


def check_dsn(dsn: str) -> None:
    """Raise `ValueError` for a PostgreSQL connection string that cannot be read, or is read in part only.

    libpq's own errors tell the part that they do not understand, such as a password.
    """
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.Error:
        parts = None
    cut_off = "://" in dsn and parts and any("@" in str(parts.get(each, ""))[1:] for each in ("host", "port", "dbname"))
    if parts is None or cut_off:
        raise ValueError(
            "expected a connection string of PostgreSQL, such as postgresql://user:password@host:5432/database or "
            "host=… password='…'; in the first form % @ : / ? # and spaces of a password are written %25 %40 %3A %2F "
            "%3F %23 %20"
        )
