"""What of a server harms the store, or is other than the hub's sessions rely on: for people to look at."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.store.postgres.connection import Connection
from gateway.store.postgres.session import PINNED

OLDEST = 15
"""The major version that the store needs."""


@dataclass(slots=True, frozen=True)
class Concern:
    """One thing about a server. ``harmful``: something gets lost, or does not work. ``advice`` says what to do."""

    harmful: bool
    detail: str
    advice: str = ""


_HARMFUL = {
    ("fsync", "off"): "a crash of the machine can destroy the database: set fsync = on",
    ("full_page_writes", "off"): "a loss of power can destroy pages: set full_page_writes = on",
    ("zero_damaged_pages", "on"): "damaged pages are emptied without a word: set zero_damaged_pages = off",
    ("ignore_checksum_failure", "on"): "damaged pages are read as if whole: set ignore_checksum_failure = off",
    ("autovacuum", "off"): "tables grow and transactions run out: set autovacuum = on",
    ("track_counts", "off"): "autovacuum does not know what to do: set track_counts = on",
    ("session_replication_role", "replica"): "triggers do not run: set session_replication_role = origin for this role",
}
"""What nobody but an administrator can set right."""

_NAMES = [*dict.fromkeys(name for name, _ in _HARMFUL), *PINNED]

# Beside the session's own value, reset_val has what server, database and role say.
_SETTINGS = "SELECT lower(name), reset_val FROM pg_settings WHERE lower(name) = ANY(%s)"


def examine(connection: Connection) -> list[Concern]:
    """Look at the server of a connection. Raises `psycopg.Error`."""
    found = dict(connection.execute(_SETTINGS, (_NAMES,)).fetchall())
    concerns = [
        Concern(True, f"{name} = {value}", advice) for (name, value), advice in _HARMFUL.items() if found[name] == value
    ]
    if connection.info.server_version < OLDEST * 10_000:
        concerns.append(
            Concern(
                True,
                f"version {connection.info.server_version // 10_000}",
                f"the store needs PostgreSQL {OLDEST} or newer: upgrade the server",
            )
        )
    if connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
        concerns.append(
            Concern(True, "a standby, which cannot be written to", "name the primary in the connection string")
        )
    others = [
        f"{name} = {found[name]}"
        for name, value in PINNED.items()
        if name in found and found[name].lower() != value.lower() and (name, found[name]) not in _ALIKE
    ]
    if others:
        concerns.append(
            Concern(False, f"{', '.join(others)} by server, database or role; the hub's sessions set their own")
        )
    if connection.pooled is not None:
        concerns.append(
            Concern(
                False,
                "through a pooler such as PgBouncer, or another proxy",
                "the hub works with it in transaction and session mode; backups need the --dsn of the server itself",
            )
        )
    return concerns


_ALIKE = {
    ("timezone", "Etc/UTC"),
    ("timezone", "GMT"),
    ("synchronous_commit", "remote_apply"),
    ("datestyle", "ISO, YMD"),
    ("datestyle", "ISO, DMY"),
    ("extra_float_digits", "2"),
    ("extra_float_digits", "3"),
}
"""Values that differ from the pinned ones and mean the same here."""
