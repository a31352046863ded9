"""``obs-hub db reader``: a database user that reads the store and does nothing else, for Grafana."""

from __future__ import annotations

import re
import secrets
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import psycopg
from psycopg import sql

from gateway.base.settings import parse_duration
from gateway.cli.database_errors import error_text
from gateway.cli.options import config_option, data_dir_option, dsn_option, store_dsn
from gateway.net.listeners import join_endpoint
from gateway.store import CONNECTION_LIMIT, PLANNING, READER_ROLE, connect, let_read, views_schema

_PASSWORD_BYTES = 24
_TEMPORARY_FILES = "2GB"
"""What one query of a reader may sort on disk, which only a superuser can bound."""
_STORE = """
SELECT n.nspname, pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass('store_setting')
"""
"""Finds the schema that the store is in, and its owner."""
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def _name(_: click.Context, __: click.Parameter, value: str) -> str:
    if not _PLAIN_NAME.fullmatch(value) or value.startswith("pg_") or value == READER_ROLE:
        raise click.BadParameter(
            f"'{value}' is no name for a reader; use up to 63 of a-z, 0-9 and _, not beginning with a digit or pg_, "
            f"and not {READER_ROLE}, which all readers belong to"
        )
    return value


def _duration(_: click.Context, __: click.Parameter, value: str) -> timedelta:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("name", callback=_name)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of making one up.")
@click.option(
    "--statement-timeout",
    default="30s",
    show_default=True,
    metavar="DURATION",
    callback=_duration,
    help="After how long one of its queries is broken off; 0s for never.",
)
@click.option("--remove", is_flag=True, help="Remove the user instead.")
@config_option
@data_dir_option
@dsn_option
def reader(
    name: str,
    password_stdin: bool,
    statement_timeout: timedelta,
    remove: bool,
    config_path: Path | None,
    data_dir: Path | None,
    dsn: str | None,
) -> None:
    """Make a database user for Grafana and the like, which may only read.

    Prints what to enter in Grafana, with a password that is shown this once. On a user that is there already, it sets
    a new password and the settings anew.

    \b
    obs-hub db reader grafana
    obs-hub db reader grafana --password-stdin < grafana.password
    """
    try:
        with connect(store_dsn(dsn, config_path, data_dir)) as connection:
            if remove:
                _remove(connection, name)
                click.echo(f"Removed {name}.")
                return
            password = _given_password() if password_stdin else secrets.token_urlsafe(_PASSWORD_BYTES)
            _mend_rights(connection)
            made = _make(connection, name, password, statement_timeout)
            connection.commit()
            click.echo(_what_to_enter(connection, name, None if password_stdin else password, made=made))
    except psycopg.errors.InsufficientPrivilege as error:
        raise click.ClickException(
            f"the gateway's database user may not make users ({error.diag.message_primary}); "
            "run this with --dsn as one that may, such as postgres"
        ) from error
    except psycopg.Error as error:
        raise click.ClickException(f"PostgreSQL refuses or is not available: {error_text(error)}") from error


def _given_password() -> str:
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise click.ClickException("--password-stdin: standard input is empty")
    return password


def _mend_rights(connection: psycopg.Connection[Any]) -> None:
    """Give all readers what they should have and no more, as far as this user may, perhaps not the hub's own."""
    store = connection.execute(_STORE).fetchone()
    if store is not None:
        let_read(connection, *store)


def _make(connection: psycopg.Connection[Any], name: str, password: str, statement_timeout: timedelta) -> bool:
    """Make the user, or set it anew. Returns whether it was made."""
    there = _is_reader(connection, name)
    verb = sql.SQL("ALTER ROLE" if there else "CREATE ROLE")
    # Encrypted here, because a server may log the statements it gets.
    encrypted = connection.pgconn.encrypt_password(password.encode(), name.encode()).decode()
    role = sql.Identifier(name)
    connection.execute(
        sql.SQL("{} {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE INHERIT CONNECTION LIMIT {} PASSWORD {}").format(
            verb, role, sql.Literal(CONNECTION_LIMIT), sql.Literal(encrypted)
        )
    )
    connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(READER_ROLE), role))
    # What the user has set for itself, as any user may, goes.
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("ALTER ROLE {} RESET ALL").format(role))
    connection.execute(sql.SQL("ALTER ROLE {} IN DATABASE {} RESET ALL").format(role, database))
    if connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (True,):
        connection.execute(
            sql.SQL("ALTER ROLE {} SET temp_file_limit = {}").format(role, sql.Literal(_TEMPORARY_FILES))
        )
    milliseconds = round(statement_timeout / timedelta(milliseconds=1))
    for setting, value in (
        ("default_transaction_read_only", "on"),
        ("statement_timeout", f"{milliseconds}ms"),
        ("idle_in_transaction_session_timeout", "60s"),
        *PLANNING.items(),
    ):
        connection.execute(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(role, sql.Identifier(setting), sql.Literal(value))
        )
    # The views and nothing else: Grafana's query builder offers every table of every schema that is looked in. Where
    # there is no schema of them, what the gateway's connection string says: the store may be in a schema of its own.
    path = _schema_of_views(connection)
    to = sql.SQL("FROM CURRENT") if path is None else sql.SQL("= {}").format(sql.Identifier(path))
    connection.execute(sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path ").format(role, database) + to)
    return not there


def _schema_of_views(connection: psycopg.Connection[Any]) -> str | None:
    row = connection.execute(_STORE).fetchone()
    if row is None:
        return None
    name = views_schema(row[0])
    usable = connection.execute(
        "SELECT has_schema_privilege(%s, oid, 'USAGE') AND pg_get_userbyid(nspowner) = %s"
        " FROM pg_namespace WHERE nspname = %s",
        (READER_ROLE, row[1], name),
    ).fetchone()
    return name if usable == (True,) else None


def _remove(connection: psycopg.Connection[Any], name: str) -> None:
    if not _is_reader(connection, name):
        raise click.ClickException(f"there is no reader {name}")
    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def _is_reader(connection: psycopg.Connection[Any], name: str) -> bool:
    """Tell whether there is a reader of that name. Ends when it is someone else's, or when there can be none."""
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (READER_ROLE,)).fetchone():
        raise click.ClickException(
            f"there is no role {READER_ROLE}: run `obs-hub db migrate` as a database user that may make roles"
        )
    row = connection.execute(
        "SELECT NOT rolsuper AND EXISTS ("
        "  SELECT FROM pg_auth_members m WHERE m.member = r.oid AND m.roleid = %s::regrole)"
        " AND rolname <> current_user FROM pg_roles r WHERE rolname = %s",
        (READER_ROLE, name),
    ).fetchone()
    if row == (False,):
        raise click.ClickException(f"{name} is a database user that was not made here; choose another name")
    return row is not None


def _what_to_enter(connection: psycopg.Connection[Any], name: str, password: str | None, *, made: bool) -> str:
    info = connection.info
    address = _address(connection)
    lines = [
        f"{'Made' if made else 'Changed'} the user {name}. In Grafana's environment (see docs/grafana.md):",
        "",
        f"OBSHUB_PG_URL={address or info.host}",
        f"OBSHUB_PG_SSLMODE={'require' if connection.pgconn.ssl_in_use else 'disable'}",
        f"OBSHUB_PG_DATABASE={info.dbname}",
        f"OBSHUB_PG_USER={name}",
    ]
    if password is not None:
        lines += [f"OBSHUB_PG_PASSWORD={password}", "", "The password is not shown again."]
    if address is None:
        lines += [
            "",
            "This is a Unix socket: Grafana must run on this machine, as one who may enter its folder. For a port of",
            "loopback and this password instead, start the hub with --postgres-port 5433, or set",
            "exporters.timescale.embedded_port, and run this again.",
        ]
    return "\n".join(lines)


def _address(connection: psycopg.Connection[Any]) -> str | None:
    """Return ``host:port`` of the server; None for one that is reached by a socket alone."""
    info = connection.info
    if not info.host.startswith("/"):
        return join_endpoint(info.host, info.port)
    listens = "SELECT '127.0.0.1' = ANY (regexp_split_to_array(current_setting('listen_addresses'), '\\s*,\\s*'))"
    return join_endpoint("127.0.0.1", info.port) if connection.execute(listens).fetchone() == (True,) else None
