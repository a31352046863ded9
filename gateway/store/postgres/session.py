"""What every session of the hub is pinned to.

PostgreSQL takes the settings of a session from its own files, the database, the role, the client's environment and the
connection string, in that order, and any of them may be set for somebody else's needs. What the hub's code relies on
is therefore set by each connection itself, whatever it finds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, cast, get_args

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gateway.store.postgres import options

Pooler = Literal["auto", "transaction", "none"]

POOLER_OPTION = "obs_hub.pooler"
"""A setting in a connection string's options that is never sent: whether a pooler is in between (see `with_pooler`)."""

PINNED: Mapping[str, str] = {
    # How values are written and read as text. psycopg understands some of PostgreSQL's styles only.
    "timezone": "UTC",  # date_bin, date_trunc and bounds of partitions are by the session's day and hour
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",  # doubles as text, exactly
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
    # How transactions behave. Who takes a lock and then looks needs a snapshot from after the lock.
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "default_transaction_read_only": "off",
    "exit_on_error": "off",
    # An OK is an OK after a loss of power too.
    "synchronous_commit": "on",
    # Queries return all they should.
    "gin_fuzzy_search_limit": "0",
    "restrict_nonsystem_relation_kind": "",
}
"""What nothing but a caller in the code overrides. Settings that a server does not know are left out."""

_OF_WRITERS: Mapping[str, str] = {
    # Nobody waits for ever for a lock that somebody else holds. Whoever waits for one to change a table keeps all that
    # come after waiting too.
    "lock_timeout": "10s",
    # An index on much data takes its time, and a store without records for a while is no idle client.
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    # A server whose client is no more and could not say so (power, a cable, a firewall) ends the session, and with it
    # what that holds, in a minute instead of two hours.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "default_table_access_method": "heap",
}
"""What a connection string's own options override. Whoever only reads is bounded as the administrator has it."""

_NOT_OF_EVERY_SERVER = frozenset({"transaction_timeout", "restrict_nonsystem_relation_kind"})
_CONNECT_TIMEOUT = 5
_KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
"""So that who waits for an answer hears of a dead network in a minute, too. Seconds, seconds, probes, milliseconds."""
_WITHOUT_TRANSACTIONS = "statement pooling mode"

# What is as it should be already is not set: some settings are not for everybody. The strongest value of
# synchronous_commit, that of a server which waits for its standbys, is left as it is.
_SET = """
    count(set_config(w.name, w.value, {local}))
FROM unnest(%(names)s::text[], %(values)s::text[], %(required)s::bool[]) AS w (name, value, required)
WHERE current_setting(w.name, true) IS DISTINCT FROM w.value
    AND (w.required OR current_setting(w.name, true) IS NOT NULL)
    AND NOT (w.name = 'synchronous_commit' AND w.value = 'on' AND current_setting(w.name) = 'remote_apply')
"""
BEGIN_SESSION = (
    "SELECT pg_backend_pid(), current_setting('server_encoding'), current_database(),"
    + _SET.format(local="%(local)s::bool OR pg_backend_pid() <> %(key)s")
).encode()
"""Tells what the session is on, and sets it up. Lasts for a transaction only where a pooler is in between."""
BEGIN_TRANSACTION = (
    "SELECT pg_backend_pid(), set_config('search_path', %(search_path)s::text, true), set_config('role', NULL, true),"
    + _SET.format(local="true")
).encode()
"""Sets up one transaction, on a session of which nobody knows what others left behind, and tells what it is on."""


class UnusableServerError(psycopg.NotSupportedError):
    """This server, database or pooler cannot be used as it is. The message says what to do."""


@dataclass(slots=True, frozen=True)
class Session:
    """How to connect, and what the session is to be.

    ``settings`` has for each name its value, and whether the server must know it. ``search_path`` is None where
    database and role decide. A ``reading`` session changes nothing.
    """

    conninfo: str
    settings: Mapping[str, tuple[str, bool]]
    search_path: str | None
    pooler: Pooler
    reading: bool
    set_up_timeout: int
    """Seconds after which a session that is not set up is given up; 0 for never."""

    def parameters(self, key: int = 0) -> dict[str, Any]:
        """Return the parameters of the two statements. ``key`` is the process that cancelling is to be asked of."""
        return {
            "names": list(self.settings),
            "values": [value for value, _ in self.settings.values()],
            "required": [required for _, required in self.settings.values()],
            "search_path": self.search_path,
            "local": self.pooler == "transaction",
            "key": key,
        }

    def is_pooled(self, key: int, answer: Sequence[Any] | None) -> bool:
        """Tell whether a pooler is in between: it gives a client a key of its own, not the one of a server process.

        ``answer`` is that of `BEGIN_SESSION`. Raises `UnusableServerError` for a database that cannot hold every text.
        """
        server, encoding, database, _ = answer or (key, "", "", 0)
        _check(encoding, database)
        return self.pooler == "transaction" or (self.pooler == "auto" and key != server)


class SessionOptions(TypedDict, total=False):
    """What whoever connects may say of the session; see `plan`."""

    application_name: str
    connect_timeout: int
    settings: Mapping[str, str] | None
    reading: bool


def plan(
    dsn: str,
    *,
    application_name: str = "obs-hub",
    connect_timeout: int = _CONNECT_TIMEOUT,
    settings: Mapping[str, str] | None = None,
    reading: bool = False,
) -> Session:
    """Decide how to connect by a connection string.

    ``settings`` are the caller's, and win over everything; the pinned ones win over those of the string's options, and
    these over how writers are set up. ``application_name`` and ``connect_timeout`` (seconds) are for a string that has
    none. Of the environment, variables that say where and as whom to connect count, and those that set up a session
    (``PGOPTIONS``, ``PGCLIENTENCODING``, ``PGTZ``, ``PGDATESTYLE``, ``PGAPPNAME``) do not.
    """
    given = conninfo_to_dict(dsn)
    said, remaining = options.split(str(given.get("options") or ""))
    pooler = said.pop(POOLER_OPTION, "auto")
    if pooler not in get_args(Pooler):
        raise psycopg.ProgrammingError(f"{POOLER_OPTION}={pooler}: expected {', '.join(get_args(Pooler))}")
    pinned = dict(PINNED)
    if said.get("synchronous_commit") == "remote_apply":
        pinned["synchronous_commit"] = "remote_apply"
    wanted = {name: (value, False) for name, value in ({} if reading else _OF_WRITERS).items()}
    wanted |= {name: (value, True) for name, value in said.items()}
    wanted |= {name: (value, False) for name, value in pinned.items()}
    wanted |= {name: (value, True) for name, value in (settings or {}).items()}
    wanted.pop("client_encoding", None)
    # An empty value keeps libpq from asking the environment. A service of pg_service.conf may have options too.
    by_service = "options" not in given and ("service" in given or "PGSERVICE" in os.environ)
    seconds = int(given.get("connect_timeout") or connect_timeout)
    conninfo = make_conninfo(
        dsn,
        client_encoding="UTF8",
        application_name=str(given.get("application_name") or application_name),
        connect_timeout=seconds,
        **{name: value for name, value in _KEEPALIVES.items() if name not in given},
        **({} if by_service else {"options": remaining}),
    )
    # Longer than for the login: a pooler may have to wait for a connection of its own.
    return Session(conninfo, wanted, said.get("search_path"), cast("Pooler", pooler), reading, 2 * max(seconds, 0))


def with_pooler(dsn: str, pooler: Pooler) -> str:
    """Return a connection string that says whether a pooler is in between; ``auto``: it is found out."""
    if pooler == "auto":
        return dsn
    said, remaining = options.split(str(conninfo_to_dict(dsn).get("options") or ""))
    return make_conninfo(dsn, options=options.join({POOLER_OPTION: pooler} | said, remaining))


def program_options(dsn: str) -> str:
    """Return the options that PostgreSQL's own programs, such as ``pg_dump``, are to connect with.

    They are what `plan` sets up, as far as every server knows it.
    """
    said, remaining = options.split(str(conninfo_to_dict(dsn).get("options") or ""))
    said.pop(POOLER_OPTION, None)
    settings = {**_OF_WRITERS, **said, **PINNED}
    return options.join({name: settings[name] for name in settings.keys() - _NOT_OF_EVERY_SERVER}, remaining)


def _check(encoding: str, database: str) -> None:
    """Raise `UnusableServerError` for a database that cannot hold every text."""
    if encoding != "UTF8":
        raise UnusableServerError(
            f"the database {database} has the encoding {encoding}, and telemetry needs UTF8: make another one by "
            "CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' and name it in the connection string"
        )


def explain(error: psycopg.Error) -> psycopg.Error:
    """Return what to raise for an error while a session was set up."""
    message = error.diag.message_primary or str(error).strip()
    if _WITHOUT_TRANSACTIONS in message:
        return UnusableServerError(
            "the connection string leads to PgBouncer in statement mode, which allows no transactions; set "
            "pool_mode = transaction (or session) for this database there, or name the server itself"
        )
    if isinstance(error, psycopg.OperationalError | UnusableServerError):
        return error
    return psycopg.OperationalError(f"the session cannot be set up: {message}")
