"""``obs-hub db reader`` makes a database user for Grafana, which can read the store and do nothing else."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from gateway.store.reader import PLANNING, READER_ROLE, VIEWS
from tests.integration.cli.processes import obs_hub
from tests.support.databases import Database
from tests.support.stores import migrate


def reader(database: Database, name: str, *options: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return obs_hub("db", "reader", name, "--dsn", database.dsn, *options, stdin=stdin)


@pytest.fixture
def store(database: Database) -> Database:
    migrate(database)
    return database


@pytest.fixture
def name(database: Database) -> Iterator[str]:
    """A name that no role of the server has, and none has afterwards."""
    name = f"reader_{secrets.token_hex(6)}"
    yield name
    with database.connect() as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def as_reader(database: Database, name: str, password: str = "") -> psycopg.Connection[Any]:
    return psycopg.connect(make_conninfo(database.dsn, user=name, password=password), autocommit=True)


def printed(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert result.returncode == 0, result.stderr
    return dict(line.split("=", 1) for line in result.stdout.splitlines() if line.startswith("OBSHUB_PG_"))


def test_a_reader_reads_every_view_and_writes_nothing(store: Database, name: str) -> None:
    password = printed(reader(store, name))["OBSHUB_PG_PASSWORD"]

    with as_reader(store, name, password) as connection:
        for view in ("metrics", "metrics_1m", "metrics_1h", "histograms", "logs", "events", "spans", "exemplars"):
            connection.execute(f"SELECT * FROM {view}".encode())
        assert [connection.execute(f"SHOW {name}".encode()).fetchone() for name in PLANNING] == [
            (value,) for value in PLANNING.values()
        ]
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TABLE mine ()")
        # Whoever may read may end the read-only transaction; then it is what the role may that counts.
        connection.execute("SET default_transaction_read_only = off")
        for statement in ("DELETE FROM public.log", "TRUNCATE public.dimension_epoch", "CREATE ROLE more"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


_OFFERED = """
SELECT table_schema, table_name FROM information_schema.tables
WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog')
  AND quote_ident(table_schema) IN (
    SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
    FROM generate_series(1, array_upper(string_to_array(current_setting('search_path'), ','), 1)) AS i,
      string_to_array(current_setting('search_path'), ',') AS s)
"""
"""How Grafana's query builder lists tables: those of every schema in the search path that the user may read."""


def test_who_builds_a_query_is_offered_the_views_and_nothing_else(store: Database, name: str) -> None:
    password = printed(reader(store, name))["OBSHUB_PG_PASSWORD"]

    with as_reader(store, name, password) as connection:
        offered = connection.execute(_OFFERED).fetchall()
        described = connection.execute(
            "SELECT col_description('metrics'::regclass, attnum) FROM pg_attribute"
            " WHERE attrelid = 'metrics'::regclass AND attname = 'value'"
        ).fetchone()
        connection.execute("SELECT * FROM public.series")  # what views are made of is there for who names it
    assert sorted(offered) == [("obs_hub_views", view) for view in sorted(VIEWS)]
    assert described == ("The value; NULL when none was recorded (see flags).",)


@pytest.mark.empty_database
def test_a_schema_of_somebody_elses_is_left_alone(database: Database, name: str) -> None:
    other = f"{name}_other"
    database.run(f"CREATE ROLE {other}")
    try:
        database.run(f"CREATE SCHEMA obs_hub_views AUTHORIZATION {other}")
        database.run("CREATE VIEW obs_hub_views.metrics AS SELECT 'of theirs' AS said")
        migrate(database)
        database.run(f"GRANT USAGE ON SCHEMA obs_hub_views TO {READER_ROLE}")
        password = printed(reader(database, name))["OBSHUB_PG_PASSWORD"]
        with as_reader(database, name, password) as connection:
            connection.execute("SELECT value FROM metrics")
    finally:
        database.run(f"DROP OWNED BY {other} CASCADE")
        database.run(f"DROP ROLE {other}")


def test_a_reader_finds_what_grafanas_macros_make_with_timescaledb(timescale_database: Database, name: str) -> None:
    password = printed(reader(timescale_database, name))["OBSHUB_PG_PASSWORD"]

    with as_reader(timescale_database, name, password) as connection:
        bucket = connection.execute("SELECT time_bucket('60.000s', timestamptz '2026-01-02 03:04:05+00')").fetchone()
    assert bucket == (datetime(2026, 1, 2, 3, 4, tzinfo=UTC),)


def test_the_views_follow_those_of_the_store(store: Database, name: str) -> None:
    """A later version adds columns; and what somebody dropped is there again."""
    password = printed(reader(store, name))["OBSHUB_PG_PASSWORD"]
    store.run("CREATE OR REPLACE VIEW runs AS SELECT *, 1 AS added FROM (SELECT id, kind, name, state, requested_at,"
              " started_at, finished_at, attempt, holder, counts, superseded_by, trace_id FROM run) r")  # fmt: skip
    store.run("DROP VIEW obs_hub_views.spans")
    store.run(f"REVOKE SELECT ON obs_hub_views.logs FROM {READER_ROLE}")
    migrate(store)

    with as_reader(store, name, password) as connection:
        connection.execute("SELECT added FROM runs")
        connection.execute("SELECT * FROM spans")
        connection.execute("SELECT * FROM logs")


def test_what_it_prints_is_what_grafana_is_told(store: Database, name: str) -> None:
    told = printed(reader(store, name))

    assert set(told) == {f"OBSHUB_PG_{what}" for what in ("URL", "SSLMODE", "DATABASE", "USER", "PASSWORD")}
    assert (told["OBSHUB_PG_DATABASE"], told["OBSHUB_PG_USER"]) == (store.name, name)
    with store.connect() as connection:
        assert told["OBSHUB_PG_URL"].startswith(connection.info.host)
        assert told["OBSHUB_PG_SSLMODE"] == ("require" if connection.pgconn.ssl_in_use else "disable")


def test_queries_have_an_end(store: Database, name: str) -> None:
    password = printed(reader(store, name, "--statement-timeout", "250ms"))["OBSHUB_PG_PASSWORD"]

    with as_reader(store, name, password) as connection, pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(60)")


def stored_password(store: Database, name: str) -> str:
    return str(store.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (name,)))


def test_a_second_time_sets_a_new_password(store: Database, name: str) -> None:
    first = printed(reader(store, name))["OBSHUB_PG_PASSWORD"]
    kept = stored_password(store, name)
    again = reader(store, name)

    assert again.stdout.startswith(f"Changed the user {name}")
    assert printed(again)["OBSHUB_PG_PASSWORD"] != first
    assert stored_password(store, name) != kept


def test_a_given_password_is_not_printed_and_not_sent_in_the_clear(store: Database, name: str) -> None:
    given = secrets.token_hex()
    result = reader(store, name, "--password-stdin", stdin=f"{given}\n")

    assert result.returncode == 0, result.stderr
    assert given not in result.stdout + result.stderr
    assert stored_password(store, name).startswith("SCRAM-SHA-256$")
    as_reader(store, name, given).close()


def test_a_reader_can_be_removed(store: Database, name: str) -> None:
    printed(reader(store, name))

    assert reader(store, name, "--remove").returncode == 0
    assert store.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", (name,)) == 0
    again = reader(store, name, "--remove")
    assert (again.returncode, again.stderr.strip()) == (1, f"Error: there is no reader {name}")


def test_other_database_users_are_left_alone(store: Database, name: str) -> None:
    with store.connect() as connection:
        owner = connection.info.user
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))

    for whose in (owner, name):
        for options in ((), ("--remove",)):
            result = reader(store, whose, *options)
            assert result.returncode == 1
            assert "was not made here" in result.stderr
    assert not store.value("SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = %s", (name,))


@pytest.mark.parametrize("name", ["Grafana", "pg_grafana", "1st", "a-b", READER_ROLE, "a" * 64])
def test_names_that_would_need_quotes_or_are_taken_are_refused(native_database: Database, name: str) -> None:
    result = reader(native_database, name)

    assert result.returncode == 2
    assert "is no name for a reader" in " ".join(result.stderr.split())


def test_the_reader_of_a_store_in_another_schema_finds_it(database: Database, name: str) -> None:
    database.run("CREATE SCHEMA hub")
    own = make_conninfo(database.dsn, options="-c search_path=hub,public")

    class InSchema(Database):
        @property
        def dsn(self) -> str:
            return own

    store = InSchema(database.server, database.name)
    migrate(store)
    password = printed(reader(store, name))["OBSHUB_PG_PASSWORD"]
    with as_reader(database, name, password) as connection:
        connection.execute("SELECT * FROM metrics")


def test_a_second_time_takes_back_what_the_user_has_set_and_what_an_earlier_version_gave(
    store: Database, name: str
) -> None:
    password = printed(reader(store, name))["OBSHUB_PG_PASSWORD"]
    with as_reader(store, name, password) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER ROLE {name} SET statement_timeout = 0".encode())
        connection.execute(f"ALTER ROLE {name} IN DATABASE {store.name} SET search_path = nowhere".encode())
    store.run(f"GRANT SELECT ON run TO {READER_ROLE}")
    password = printed(reader(store, name))["OBSHUB_PG_PASSWORD"]
    with as_reader(store, name, password) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("30s",)
        assert connection.execute("SHOW temp_file_limit").fetchone() == ("2GB",)
        connection.execute("SELECT * FROM metrics")
        for statement in ("SELECT * FROM public.run", "SELECT pg_advisory_lock(1)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
