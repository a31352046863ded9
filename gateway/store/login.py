"""The login by which commands read a store.

A session of the user that writes, which only takes on the role that reads, is a disguise: ``RESET ROLE`` takes it off,
within a ``DO`` block too, and what is below may be a superuser, who runs programs. So whoever runs SQL that somebody
wrote logs in as a user who may read and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gateway.store.layout import Connection
from gateway.store.postgres import connect, options
from gateway.store.reader import PLANNING, READER_ROLE

CONNECTION_LIMIT = 15
"""Connections of one reader: of the embedded server's 50, others must leave the gateway enough."""
SETTINGS = {
    **PLANNING,
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": "5min",
    "client_connection_check_interval": "10s",  # a query ends with the command that asked
}

_SUFFIX = "_query"
_LONGEST_NAME = 63  # bytes
_ATTEMPTS = 3

_POWERS = """
SELECT
    rolsuper OR EXISTS (
        SELECT FROM pg_roles p WHERE p.rolname IN
            ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
        AND pg_has_role(current_user, p.oid, 'MEMBER')),
    to_regclass('receipt') IS NOT NULL AND has_table_privilege(to_regclass('receipt')::oid, 'INSERT')
        OR rolsuper OR rolcreaterole
FROM pg_roles WHERE rolname = current_user
"""
_HARMLESS = """
SELECT rolcanlogin AND NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
    AND NOT EXISTS (
        SELECT FROM pg_auth_members m WHERE m.member = r.oid AND pg_get_userbyid(m.roleid) <> %s)
    AND NOT EXISTS (SELECT FROM pg_shdepend s WHERE s.refobjid = r.oid AND s.deptype = 'o'),
    (SELECT count(*) > 0 FROM pg_auth_members m WHERE m.member = r.oid AND pg_get_userbyid(m.roleid) = %s)
FROM pg_roles r WHERE rolname = %s
"""


class LoginError(Exception):
    """There is no login that may only read, and the one there is may run programs. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Login:
    """How to connect to read. ``note`` says what is not as it should be, where it is not."""

    dsn: str
    note: str = ""


def reading(dsn: str) -> Login:
    """Return how to read the store that a user who may write connects to by this connection string.

    A user of its own is made on first use, where this user may make users. Its password follows from this user's, so
    that it is written down nowhere; one that does not fit any more is set anew. Raises `LoginError` where there can be
    no such user and this one is a superuser or the like, and `psycopg.Error` when the server does not answer.
    """
    with connect(dsn, autocommit=True) as connection:
        row = connection.execute(_POWERS).fetchone()
        dangerous, writes = row or (True, True)
        if not dangerous and not writes:
            return Login(dsn)
        name = _name(connection.info.user)
        password = _password(connection.info.password)
        own = _with_login(dsn, connection, name, password)
        why = ""
        for attempt in range(_ATTEMPTS):
            try:
                if not _is_there(connection, name) or attempt:
                    _make(connection, name, password)
                connect(own, reading=True).close()
                return Login(own)
            except psycopg.Error as error:  # also: another command makes it at this moment
                why = (str(error).strip() or type(error).__name__).splitlines()[-1]
            except ValueError as error:
                why = str(error)
                break
        user = connection.info.user
    advice = "make a user by `obs-hub db reader NAME`, and name it in exporters.timescale.reader_dsn or by --dsn"
    if dangerous:
        raise LoginError(
            f"{user} may run programs and read files on the database's server, so no SQL is run as that user, and "
            f"there is no other: {why}; {advice}"
        )
    return Login(dsn, f"reading as {user}, who may write, in a read-only transaction ({why}); {advice}")


def _name(user: str) -> str:
    kept = user.encode()[: _LONGEST_NAME - len(_SUFFIX)].decode(errors="ignore")
    return kept + _SUFFIX


def _password(of_writer: str) -> str:
    """Return a password that whoever knows the writer's can tell, and nobody else; any where the writer has none."""
    if not of_writer:
        return secrets.token_urlsafe(24)
    return hmac.new(of_writer.encode(), b"obs-hub: login that reads", hashlib.sha256).hexdigest()


def _with_login(dsn: str, connection: Connection, name: str, password: str) -> str:
    """Return the connection string of the user, on the search path of the one who writes."""
    said, remaining = options.split(str(conninfo_to_dict(dsn).get("options") or ""))
    row = connection.execute(
        "SELECT coalesce(string_agg(quote_ident(name), ', '), '') FROM unnest(current_schemas(false)) AS schema (name)"
    ).fetchone()
    assert row is not None
    said = {**said, "search_path": row[0]}
    return make_conninfo(dsn, user=name, password=password, options=options.join(said, remaining))


def _is_there(connection: Connection, name: str) -> bool:
    """Tell whether the user is there. Raises `ValueError` for one of that name that may do more than read."""
    row = connection.execute(_HARMLESS, (READER_ROLE, READER_ROLE, name)).fetchone()
    if row is not None and not row[0]:
        raise ValueError(f"the user {name} may do more than read")
    return row is not None and bool(row[1])


def _make(connection: Connection, name: str, password: str) -> None:
    """Make the user, or set it anew."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s), EXISTS (SELECT FROM pg_roles WHERE rolname = %s)",
        (name, READER_ROLE),
    ).fetchone()
    there, has_role = row or (False, False)
    role = sql.Identifier(name)
    # Encrypted here, because a server may log the statements it gets.
    encrypted = connection.pgconn.encrypt_password(password.encode(), name.encode()).decode()
    with connection.transaction():
        connection.execute(
            sql.SQL("{} {} LOGIN CONNECTION LIMIT {} PASSWORD {}").format(
                sql.SQL("ALTER ROLE" if there else "CREATE ROLE"),
                role,
                sql.Literal(CONNECTION_LIMIT),
                sql.Literal(encrypted),
            )
        )
        if has_role:
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(READER_ROLE), role))
        for setting, value in SETTINGS.items():
            connection.execute(
                sql.SQL("ALTER ROLE {} SET {} = {}").format(role, sql.Identifier(setting), sql.Literal(value))
            )
