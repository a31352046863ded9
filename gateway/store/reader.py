"""The role that may read the store and do nothing else, and the doors that are closed to everybody who only reads.

Both are compared with what they should be at every start, so that a store of an earlier version is mended.
"""

from __future__ import annotations

import contextlib

import psycopg
from psycopg import sql

from gateway.store import layout

READER_ROLE = "obs_hub_reader"
PLANNING = {
    # From so much on, frames of many series are joined by their sets, and groups by minute and series stay in memory.
    "work_mem": "16MB",
    "jit": "off",  # compiling a query over many partitions takes longer than it saves
}
"""What readers plan by, whatever the server has. A role's settings are not its members', so each has them."""

VIEWS = (
    *("metrics", "metrics_1m", "metrics_1h", "histograms", "summaries", "exemplars", "logs", "events", "spans"),
    *("runs", "resources", "metric_series", "metric_catalogue", "metrics_latest"),
)
READABLE = (
    *VIEWS,
    *layout.FACTS,
    *layout.ROLLUPS,
    *("rollup_1m", "rollup_1h", "number_point", "histogram_point", "exp_histogram_point", "summary_point"),
    *("resource", "scope", "metric", "series", "series_set", "member", "bounds", "metric_seen"),
    *("store_setting", "schema_version"),
)
"""What a reader may read: the views, what they are made of, and what tells the state of the store."""

PRIVATE = (
    *("run", "webhook_delivery", "receipt", "event_identity", "rollup_pending", "rollup_pending_1h"),
    "dimension_epoch",
    *("lock_migration", "lock_upkeep", "lock_dimensions", "lock_partitions", "store_restoring"),
)
"""What no reader has any right on: what gateways work by, what steps of theirs wrote, and what they lock."""

_ATTEMPTS = 5
_LONGEST = 63 - len("_views")
"""Bytes that a name may have of which one for the views is made."""

_IS_OWNED = "SELECT pg_get_userbyid(nspowner) = coalesce(%s, current_user) FROM pg_namespace WHERE nspname = %s"
_COLUMNS = """
SELECT c.relname, has_table_privilege(%s, c.oid, 'SELECT'),
    array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = quote_ident(%s)::regnamespace AND c.relname = ANY(%s) AND c.relkind = 'v'
GROUP BY c.oid, 1
"""
"""Finds views, whether readers may read them, and what columns they have."""
_COMMENTS = """
SELECT a.attname, d.description
FROM pg_class c
JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0
WHERE c.relnamespace = quote_ident(%s)::regnamespace AND c.relname = %s
"""
"""Finds what is said of a view's columns, and, where the column is NULL, of the view."""
_WITHOUT_PLANNING = """
SELECT r.rolname
FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
WHERE pg_get_userbyid(m.roleid) = %s AND 'default_transaction_read_only=on' = ANY (r.rolconfig)
    AND NOT EXISTS (SELECT FROM unnest(r.rolconfig) c WHERE split_part(c, '=', 1) = 'work_mem')
"""
"""Finds readers that an earlier version made."""

_RIGHTS = """
SELECT c.relname, coalesce(array_agg(a.privilege_type) FILTER (WHERE a.grantee = r.oid), '{}')
FROM pg_class c JOIN pg_roles r ON r.rolname = %s LEFT JOIN aclexplode(c.relacl) a ON true
WHERE c.relnamespace = quote_ident(%s)::regnamespace AND c.relname = ANY(%s)
GROUP BY 1
"""
_DEFAULTS = """
SELECT pg_get_userbyid(d.defaclrole)
FROM pg_default_acl d JOIN pg_roles r ON r.rolname = %s JOIN aclexplode(d.defaclacl) a ON a.grantee = r.oid
WHERE d.defaclnamespace = quote_ident(%s)::regnamespace AND d.defaclobjtype = 'r'
"""

_FUNCTIONS = """
SELECT format('pg_catalog.%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid))
FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND a.grantee = 0 AND a.privilege_type = 'EXECUTE'
  AND (p.proname ~ '^pg_(try_)?advisory_(xact_)?lock' OR p.proname = 'pg_logical_emit_message'
    OR p.proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_put', 'lo_truncate', 'lo_truncate64', 'lo_unlink',
                     'lowrite', 'lo_import', 'lo_export'))
"""
"""Functions that anybody may call by default, and by which who only reads takes locks or writes."""
_OF_EVERYBODY = """
SELECT DISTINCT a.privilege_type FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
WHERE d.datname = current_database() AND a.grantee = 0 AND a.privilege_type IN ('TEMPORARY', 'CREATE')
"""
_OTHERS = """
SELECT DISTINCT pg_get_userbyid(s.refobjid)
FROM pg_shdepend s
JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
JOIN pg_roles r ON r.oid = s.refobjid
WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o' AND NOT r.rolsuper
"""


def views_schema(schema: str) -> str:
    """Return the name of the schema that holds the views of a store, and nothing else."""
    return "obs_hub_views" if schema == "public" else schema.encode()[:_LONGEST].decode(errors="ignore") + "_views"


def let_read(connection: layout.Connection, schema: str | None = None, owner: str | None = None) -> None:
    """Make the role where this user may, and let it read a schema: this connection's own unless one is named.

    ``owner`` is the user that writes to the store, this one unless another is named. A role is one for all databases of
    a server.
    """
    role = sql.Identifier(READER_ROLE)
    writer = sql.SQL("CURRENT_USER") if owner is None else sql.Identifier(owner)
    try:
        with connection.transaction():
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (READER_ROLE,)).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(role))
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        pass  # another database of this server is being migrated at this moment
    except psycopg.errors.InsufficientPrivilege:
        return
    row = connection.execute("SELECT coalesce(%s, current_schema())", (schema,)).fetchone()
    assert row is not None
    try:
        with connection.transaction():
            member = "SELECT pg_has_role(%s, %s, 'MEMBER')"
            if not _is(connection, member, owner or connection.info.user, READER_ROLE):
                connection.execute(sql.SQL("GRANT {} TO {}").format(role, writer))
    except psycopg.errors.InsufficientPrivilege:
        pass  # the role belongs to someone else
    for attempt in range(_ATTEMPTS):
        try:
            with connection.transaction():
                _set_rights(connection, row[0], role)
                # Somebody makes it at this moment, or has something of their own in it: then the next start mends it.
                with contextlib.suppress(psycopg.ProgrammingError, psycopg.IntegrityError), connection.transaction():
                    _offer_views(connection, row[0], role, owner)
            break
        except psycopg.errors.InsufficientPrivilege:
            break  # the schema is not this user's to give rights on
        except psycopg.errors.InternalError_:  # "tuple concurrently updated", "cache lookup failed for relation"
            if attempt == _ATTEMPTS - 1:  # somebody else changed it, and has ended by now
                raise
    for (name,) in connection.execute(_WITHOUT_PLANNING, (READER_ROLE,)).fetchall():
        # It may not be this user's to alter, or another start alters it at this moment.
        with contextlib.suppress(psycopg.ProgrammingError, psycopg.errors.InternalError_), connection.transaction():
            for setting, value in PLANNING.items():
                connection.execute(
                    sql.SQL("ALTER ROLE {} SET {} = {}").format(
                        sql.Identifier(name), sql.Identifier(setting), sql.Literal(value)
                    )
                )
    close_doors(connection)


def _set_rights(connection: layout.Connection, schema: str, role: sql.Identifier) -> None:
    """Grant and revoke what is not as it should be. A change of what is right already could meet somebody else's."""
    name = sql.Identifier(schema)
    if not _is(connection, "SELECT has_schema_privilege(%s, %s, 'USAGE')", READER_ROLE, schema):
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(name, role))
    rights = dict(connection.execute(_RIGHTS, (READER_ROLE, schema, [*READABLE, *PRIVATE])).fetchall())
    for table, has in rights.items():
        wanted = ["SELECT"] if table in READABLE else []
        if sorted(has) == wanted:
            continue
        target = sql.Identifier(schema, table)
        if table in (*layout.FACTS, *layout.ROLLUPS):
            # TimescaleDB changes the rights on all chunks, and up to 2.29 the whole server crashes if one of them is
            # dropped or compressed meanwhile. This lock keeps that out, and neither readers nor writers.
            connection.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(target))
        if has:
            connection.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(target, role))
        if wanted:
            connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(target, role))
    for (whose,) in connection.execute(_DEFAULTS, (READER_ROLE, schema)).fetchall():
        connection.execute(
            sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} REVOKE ALL ON TABLES FROM {}").format(
                sql.Identifier(whose), name, role
            )
        )


def _offer_views(connection: layout.Connection, schema: str, role: sql.Identifier, owner: str | None) -> None:
    """Keep a schema of nothing but the views, so that what lists a reader's tables lists what there is to read.

    Where this user may make no schema, or somebody else has one of that name, there is none.
    """
    target = views_schema(schema)
    name, writer = sql.Identifier(target), sql.SQL("CURRENT_USER") if owner is None else sql.Identifier(owner)
    owned = connection.execute(_IS_OWNED, (owner, target)).fetchone()
    if owned is None:
        if not _is(connection, "SELECT has_database_privilege(current_database(), 'CREATE')"):
            return
        connection.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(name, writer))
        connection.execute(
            sql.SQL("COMMENT ON SCHEMA {} IS {}").format(name, sql.Literal("The views of the store, for who reads it."))
        )
    elif not owned[0]:
        return
    if not _is(connection, "SELECT has_schema_privilege(%s, %s, 'USAGE')", READER_ROLE, target):
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(name, role))
    wanted, there = (
        {view: found for view, *found in connection.execute(_COLUMNS, (READER_ROLE, where, list(VIEWS)))}
        for where in (schema, target)
    )
    for view, found in wanted.items():
        if there.get(view) == found:
            continue
        theirs = sql.Identifier(target, view)
        connection.execute(
            sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT * FROM {}").format(theirs, sql.Identifier(schema, view))
        )
        connection.execute(sql.SQL("ALTER VIEW {} OWNER TO {}").format(theirs, writer))
        connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(theirs, role))
        for column, said in connection.execute(_COMMENTS, (schema, view)).fetchall():
            what = sql.SQL("COLUMN {}").format(sql.Identifier(target, view, column)) if column else None
            connection.execute(
                sql.SQL("COMMENT ON {} IS {}").format(what or sql.SQL("VIEW {}").format(theirs), sql.Literal(said))
            )
    _offer_time_bucket(connection, target, writer)
    if there.get("metrics") != wanted["metrics"] or not _has_newest_points(connection, target):
        _offer_newest_points(connection, schema, target, writer)


def _has_newest_points(connection: layout.Connection, schema: str) -> bool:
    return _is(
        connection,
        "SELECT to_regprocedure(format('%%I.newest_points(text,text,integer)', %s::text)) IS NOT NULL",
        schema,
    )


def _offer_newest_points(connection: layout.Connection, schema: str, target: str, writer: sql.Composable) -> None:
    """Let the function of the store be found where readers look. It returns rows of their own view."""
    name = sql.Identifier(target, "newest_points")
    connection.execute(
        sql.SQL(
            "CREATE OR REPLACE FUNCTION {}(metric text, host text DEFAULT NULL, most integer DEFAULT 100)"
            " RETURNS SETOF {} LANGUAGE sql STABLE PARALLEL SAFE BEGIN ATOMIC SELECT * FROM {}(metric, host, most); END"
        ).format(name, sql.Identifier(target, "metrics"), sql.Identifier(schema, "newest_points"))
    )
    connection.execute(sql.SQL("ALTER FUNCTION {}(text, text, integer) OWNER TO {}").format(name, writer))


def _offer_time_bucket(connection: layout.Connection, target: str, writer: sql.Composable) -> None:
    """Let TimescaleDB's best known function be found where readers look: Grafana's macros can be set to use it.

    The body is text, which no update of the extension trips over.
    """
    row = connection.execute(
        "SELECT n.nspname, to_regprocedure(format('%%I.time_bucket(interval,timestamptz)', %s::text)) IS NOT NULL"
        " FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb'",
        (target,),
    ).fetchone()
    if row is None or row[1]:
        return
    name = sql.SQL("{}(interval, timestamptz)").format(sql.Identifier(target, "time_bucket"))
    connection.execute(
        sql.SQL("CREATE FUNCTION {} RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS {}").format(
            name, sql.Literal(sql.SQL("SELECT {}($1, $2)").format(sql.Identifier(row[0], "time_bucket")).as_string())
        )
    )
    connection.execute(sql.SQL("ALTER FUNCTION {} OWNER TO {}").format(name, writer))


def close_doors(connection: layout.Connection) -> None:
    """Take from everybody, in this database, by what who only reads could hinder writers or fill the disk.

    That is making temporary tables and schemas, and, where this user is a superuser, functions that take advisory
    locks, write large objects, or write to the log of changes. Users that something in this database belongs to keep
    all of it. Does what this user may.
    """
    others = [row[0] for row in connection.execute(_OTHERS)]
    database = sql.Identifier(connection.info.dbname)
    owns = "SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()"
    if _is(connection, owns):
        _withdraw(
            connection,
            [row[0] for row in connection.execute(_OF_EVERYBODY)],
            sql.SQL("ON DATABASE {}").format(database),
            others,
        )
    if _is(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        functions = [row[0] for row in connection.execute(_FUNCTIONS)]
        if functions:
            names = sql.SQL(", ").join(map(sql.SQL, functions))  # quoted by the server
            _withdraw(connection, ["EXECUTE"], sql.SQL("ON FUNCTION {}").format(names), others)


def _withdraw(connection: layout.Connection, rights: list[str], on_what: sql.Composed, others: list[str]) -> None:
    """Take rights from everybody, and give them to some. Raises nothing when this user may not."""
    if not rights:
        return
    listed = sql.SQL(", ").join(map(sql.SQL, rights))  # pyright: ignore[reportArgumentType] - by the server
    try:
        with connection.transaction():
            for other in others:
                connection.execute(sql.SQL("GRANT {} {} TO {}").format(listed, on_what, sql.Identifier(other)))
            connection.execute(sql.SQL("REVOKE {} {} FROM PUBLIC").format(listed, on_what))
    except psycopg.errors.InsufficientPrivilege:
        pass


def _is(connection: layout.Connection, question: str, *parameters: str) -> bool:
    row = connection.execute(question.encode(), parameters).fetchone()
    return row is not None and bool(row[0])
