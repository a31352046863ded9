"""Making a store from a backup: in an empty database, or in a new one that then takes the place of the old.

Nothing that is there is ever dropped or overwritten.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from gateway.store import layout, restore_mark
from gateway.store.backup import BackupError, archive, tools
from gateway.store.connections import Connections
from gateway.store.postgres import connect
from gateway.store.reader import let_read

_SWAP_PATIENCE = 30.0
_LEAVING = 3.0
"""Seconds in which PostgreSQL's side of a connection that was just closed, such as a stopped gateway's, may end."""

_OWN_TABLES = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  AND (%(schema)s::text IS NULL OR n.nspname = %(schema)s)
  AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1
"""


_OWN_RELATIONS = """
SELECT n.nspname, c.relname, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND NOT c.relispartition AND c.relname <> %(mark)s
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  AND (%(schema)s::text IS NULL OR n.nspname = %(schema)s)
  AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relkind DESC
"""
_KINDS = {"r": "TABLE", "p": "TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW", "S": "SEQUENCE"}
_ANOTHER = "another restore into this database is under way"


def restore(dsn: str, path: Path, *, bin_dirs: Sequence[Path], say: Callable[[str], None]) -> layout.Layout:
    """Restore into a database that holds nothing yet, and return the layout of the store.

    Until it is whole the store is marked, and no gateway uses it; what an earlier restore left that was broken off is
    removed first. For a superuser of a server that has the users of the backup, all belongs to them again; else all
    belongs to who restores. Grants are made anew: `obs_hub_reader` may read. Raises `BackupError` when the database is
    not empty or the backup does not fit it, and `psycopg.Error`.
    """
    connections = Connections(dsn)
    with connections.open() as connection:
        tools.check_direct(connection)
        programs = tools.find(tools.server_major(connection), bin_dirs)
        found = archive.read(path, programs)
        marked = restore_mark.is_unfinished(connection, found.schema)
    if marked:
        say("an earlier restore was broken off: beginning anew")
        _clear(connections, found)
    with connections.open() as connection:
        _check_empty(connection, found)
        owner = found.owner if _can_be_owners(connection, found) else None
        _make_ready(connection, found, owner)
        restore_mark.mark(connection, found.schema)
    whose = "" if owner is None else f"; it belongs to {owner} again"
    say(f"restoring {path.name} with pg_restore {programs.major}{whose}")
    with connections.open() as guard, guard.transaction():
        if not restore_mark.hold(guard, found.schema):
            raise BackupError(_ANOTHER)
        with _without_timescale(connections, found):
            _fill(programs, dsn, found, keep_owners=owner is not None)
            _let_read(connections, found, owner)
        restore_mark.remove(guard, found.schema)
    with connections.open() as connection:
        say("analyzing")
        connection.execute("ANALYZE")
        present = layout.current(connection)
    if present is None:
        raise BackupError(
            f"the store was restored into the schema {found.schema}, where this connection string does not look; "
            f"add options=-csearch_path={found.schema} to it"
        )
    return present


def replace(dsn: str, path: Path, *, bin_dirs: Sequence[Path], say: Callable[[str], None]) -> tuple[layout.Layout, str]:
    """Restore into a new database, which then takes the name of the one there is.

    Returns the layout, and the name that the former database has now. The user needs to be allowed to make databases.
    Raises as `restore` does; the database that was there is then as it was.
    """
    with connect(dsn, autocommit=True) as connection:
        tools.check_direct(connection)
        name = connection.info.dbname
        row = connection.execute(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
        ).fetchone()
        assert row is not None
        owner = sql.Identifier(row[0])
        _check_unused(connection)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ").lower()
    # A name has 63 bytes; what is cut off is of the old one.
    fresh, former = f"{name[:38]}_restore_{now}", f"{name[:38]}_before_{now}"
    with _beside(dsn, name) as server:
        _remove_left(server, dsn, name)
        say(f"making the database {fresh}")
        server.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 {}").format(
                sql.Identifier(fresh), owner, _in_utf8(server)
            )
        )
        try:
            present = restore(make_conninfo(dsn, dbname=fresh), path, bin_dirs=bin_dirs, say=say)
        except BaseException:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(fresh)))
            raise
        _swap(server, dsn, name, former, fresh)
    return present, former


def _in_utf8(server: layout.Connection) -> sql.SQL:
    """Return what makes a database hold every text, as a store has to, whatever encoding the server was made with."""
    encoding = server.execute(
        "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'template0'"
    ).fetchone()
    return sql.SQL("" if encoding == ("UTF8",) else "ENCODING 'UTF8' LOCALE 'C'")


def _clear(connections: Connections, found: archive.Archive) -> None:
    """Remove what a restore left that was broken off. It began where nothing was, so all of it is its own."""
    where = None if found.timescale is not None else found.schema
    with connections.open() as connection:
        with connection.transaction():
            if not restore_mark.hold(connection, found.schema):
                raise BackupError(_ANOTHER)
        _end_left(connection)
        if found.timescale is not None:
            connection.execute("DROP EXTENSION IF EXISTS timescaledb CASCADE")
    with connections.open() as connection:  # another session: an extension is made in one that has seen none
        tables = connection.execute(_OWN_RELATIONS, {"schema": where, "mark": restore_mark.TABLE}).fetchall()
        for schema, table, kind in tables:
            connection.execute(
                sql.SQL("DROP {} IF EXISTS {} CASCADE").format(sql.SQL(_KINDS[kind]), sql.Identifier(schema, table))  # pyright: ignore[reportArgumentType]
            )
        for function in found.functions():
            quoted = sql.SQL(function)  # pyright: ignore[reportArgumentType] - by pg_dump
            connection.execute(sql.SQL("DROP FUNCTION IF EXISTS {} CASCADE").format(quoted))


def _end_left(connection: layout.Connection) -> None:
    """End what a killed ``pg_restore`` had begun on the server, an index perhaps, which goes on by itself."""
    deadline = time.monotonic() + _SWAP_PATIENCE
    while connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = %s",
        (tools.application_name("pg_restore"),),
    ).fetchall():
        if time.monotonic() > deadline:
            raise BackupError("what an earlier restore began still runs on the server; try again later")
        time.sleep(0.1)


def _remove_left(server: layout.Connection, dsn: str, name: str) -> None:
    """Remove databases of earlier replacements that were broken off: those that are marked, or hold nothing yet."""
    left = server.execute(
        "SELECT datname FROM pg_database WHERE left(datname, length(%(p)s)) = %(p)s AND datallowconn",
        {"p": f"{name[:38]}_restore_"},
    ).fetchall()
    for (each,) in left:
        with Connections(make_conninfo(dsn, dbname=each)).open() as connection, connection.transaction():
            marks = connection.execute(
                "SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = %s", (restore_mark.TABLE,)
            ).fetchall()
            whole = not marks and connection.execute(_OWN_TABLES, {"schema": None}).fetchall()
            busy = marks and not restore_mark.hold(connection, marks[0][0])
        if not whole and not busy:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(each)))


def _check_empty(connection: layout.Connection, found: archive.Archive) -> None:
    """Raise unless nothing is where the store will be: one schema, or (for hypertables) the whole database."""
    where = None if found.timescale is not None else found.schema
    mark = f"{found.schema}.{restore_mark.TABLE}"
    tables = [row[0] for row in connection.execute(_OWN_TABLES, {"schema": where}) if row[0] != mark]
    if tables:
        more = f" and {len(tables) - 3} more" if len(tables) > 3 else ""
        raise BackupError(
            f"the database {connection.info.dbname} is not empty: it has {', '.join(tables[:3])}{more}. Restore into "
            "an empty database (createdb), or use --replace: that restores beside it, and keeps it under another name"
        )


def _can_be_owners(connection: layout.Connection, found: archive.Archive) -> bool:
    """Tell whether everything can belong to whom it did: they are there, and this user may give it to them."""
    row = connection.execute(
        "SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
        " AND (SELECT count(*) FROM pg_roles WHERE rolname = ANY(%s)) = %s",
        (list(found.owners), len(found.owners)),
    ).fetchone()
    return row == (True,)


def _make_ready(connection: layout.Connection, found: archive.Archive, owner: str | None) -> None:
    """Make what ``pg_restore`` is not told to: the schema, and the extension in its version."""
    whose = sql.SQL("CURRENT_USER") if owner is None else sql.Identifier(owner)
    connection.execute(
        sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(sql.Identifier(found.schema), whose)
    )
    if found.timescale is None:
        return
    if connection.execute("SHOW session_replication_role").fetchone() != ("origin",):
        raise BackupError(
            "session_replication_role is not origin for this user or database, so triggers do not run, which restoring "
            "TimescaleDB's catalogs needs; add options='-c session_replication_role=origin' to the connection string"
        )
    version = sql.SQL("VERSION {}").format(sql.Literal(found.timescale)) if found.timescale else sql.SQL("")
    try:
        connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS timescaledb {}").format(version))
    except psycopg.Error as error:
        raise BackupError(
            f"the backup needs TimescaleDB {found.timescale}, and this server does not have it "
            f"({error.diag.message_primary}). Install that version, restore, and update then (ALTER EXTENSION)"
        ) from error
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    if found.timescale and row != (found.timescale,):
        raise BackupError(
            f"the backup needs TimescaleDB {found.timescale}, and the database has {row and row[0]} already; "
            "restore into a database made from template0"
        )


@contextlib.contextmanager
def _without_timescale(connections: Connections, found: archive.Archive) -> Iterator[None]:
    """Keep TimescaleDB out of the way for the length of a block, where the store is laid out by it."""
    if found.timescale is None:
        yield
        return
    with connections.open() as connection:
        try:
            connection.execute("SELECT timescaledb_pre_restore()")
        except psycopg.errors.InsufficientPrivilege as error:
            raise BackupError(
                f"{connection.info.user} may not restore TimescaleDB's catalogs ({error.diag.message_primary}); give "
                f"the --dsn of a superuser: the store belongs to {found.owner} again then, if that user is there"
            ) from error
    try:
        yield
    finally:
        with connections.open() as connection:
            connection.execute("SELECT timescaledb_post_restore()")


def _fill(programs: tools.Tools, dsn: str, found: archive.Archive, *, keep_owners: bool) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".list", encoding="utf-8") as wanted:
        wanted.write(found.to_restore())
        wanted.flush()
        programs.run(
            "pg_restore",
            "--exit-on-error",
            "--no-password",
            "--no-privileges",
            *([] if keep_owners else ["--no-owner"]),
            f"--use-list={wanted.name}",
            tools.database_option(dsn),
            str(found.path),
            dsn=dsn,
        )


def _let_read(connections: Connections, found: archive.Archive, owner: str | None) -> None:
    """Give readers their rights, while TimescaleDB's jobs stand still.

    It gives those on a hypertable for each chunk, and the server breaks down when a job drops one at that moment.
    """
    chunks_too = {"timescaledb.restoring": "off"} if found.timescale is not None else None
    with connections.open(chunks_too) as connection:
        let_read(connection, found.schema, owner)


def _check_unused(connection: layout.Connection) -> None:
    deadline = time.monotonic() + _LEAVING
    while True:
        row = connection.execute(
            "SELECT count(*), string_agg(DISTINCT application_name, ', ') FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ).fetchone()
        if row is None or not row[0]:
            return
        if time.monotonic() > deadline:
            raise BackupError(f"{row[0]} connections use the database ({row[1]}): stop the gateways and Grafana first")
        time.sleep(0.1)


@contextlib.contextmanager
def _beside(dsn: str, name: str) -> Iterator[layout.Connection]:
    """Connect to another database of the server: one that is renamed must have no connections."""
    for other in ("postgres", "template1"):
        if other == name:
            continue
        with contextlib.suppress(psycopg.OperationalError):
            connection = connect(make_conninfo(dsn, dbname=other), autocommit=True)
            with connection:
                yield connection
            return
    raise BackupError("--replace needs a database named postgres to connect to meanwhile, and there is none")


def _swap(server: layout.Connection, dsn: str, name: str, former: str, fresh: str) -> None:
    """Give the new database the name of the old one, in one transaction."""
    renaming = [
        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
        for old, new in ((name, former), (fresh, name))
    ]
    deadline = time.monotonic() + _SWAP_PATIENCE
    while True:
        _stop_workers(dsn, name, fresh)
        try:
            with server.transaction():
                for statement in renaming:
                    server.execute(statement)
        except psycopg.Error as error:
            if isinstance(error, psycopg.errors.ObjectInUse) and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            by_hand = "; ".join(statement.as_string(server) for statement in renaming)
            raise BackupError(
                f"the backup is restored in the database {fresh}, but that cannot take the place of {name}: "
                f"{error.diag.message_primary}. When nobody uses them: {by_hand}"
            ) from error
        break
    with Connections(make_conninfo(dsn, dbname=name)).open() as connection:
        if _has_workers(connection):
            connection.execute("SELECT _timescaledb_functions.start_background_workers()")


def _stop_workers(dsn: str, *names: str) -> None:
    """Have TimescaleDB's own processes leave the databases; they would keep them from being renamed."""
    for name in names:
        with Connections(make_conninfo(dsn, dbname=name)).open() as connection:
            if _has_workers(connection):
                connection.execute("SELECT _timescaledb_functions.stop_background_workers()")


def _has_workers(connection: layout.Connection) -> bool:
    row = connection.execute(
        "SELECT to_regproc('_timescaledb_functions.stop_background_workers') IS NOT NULL"
    ).fetchone()
    return row == (True,)
