"""Who may read the store can do nothing by it that hinders those who write, or that lasts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from gateway.store.layout import FACTS, ROLLUPS
from gateway.store.reader import PLANNING, PRIVATE, READABLE, READER_ROLE, VIEWS
from tests.support.databases import Database
from tests.support.stores import maintain, migrate, running_exporter, store
from tests.support.telemetry import DAY, gauge, now
from tests.support.waiting import PATIENCE

Session = psycopg.Connection[Any]


@pytest.fixture
def own_role(database: Database) -> Iterator[str]:
    """A role of the test's own, that may log in and owns nothing; named as the database."""
    name = database.name
    database.run(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
    yield name
    database.run(f"DROP OWNED BY {name}")
    database.run(f"DROP ROLE {name}")


def log_in(database: Database, role: str) -> Session:
    return psycopg.connect(make_conninfo(database.dsn, user=role, password=role), autocommit=True)


@pytest.fixture
def reader(database: Database, own_role: str) -> Iterator[Session]:
    migrate(database)
    database.run(f"GRANT {READER_ROLE} TO {own_role}")
    with log_in(database, own_role) as session:
        yield session


def test_a_reader_reads_views_and_what_they_are_made_of(reader: Session) -> None:
    for relation in (*VIEWS, *FACTS, *ROLLUPS, "resource", "store_setting"):
        reader.execute(f"SELECT * FROM {relation} LIMIT 1".encode())


def test_every_table_of_a_store_is_either_to_be_read_or_not(database: Database) -> None:
    migrate(database)
    relations = database.run(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')"
        " AND NOT relispartition AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')"
    )
    assert {name for (name,) in relations} == {*READABLE, *PRIVATE} - {"store_restoring"}


def test_operational_tables_are_not_for_readers(reader: Session, database: Database) -> None:
    for table in PRIVATE:
        if table == "store_restoring":
            continue
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(f"SELECT * FROM {table}".encode())
        for mode in ("ACCESS SHARE", "ROW SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), reader.transaction():
                reader.execute(f"LOCK TABLE {table} IN {mode} MODE".encode())
    database.run("INSERT INTO run (id, kind, name, state, trigger, output) VALUES"
                 " (gen_random_uuid(), 'gitops', 'home', 'failed', '{}', 'a token')")  # fmt: skip
    (row,) = reader.execute("SELECT to_jsonb(runs)::text FROM runs").fetchall()
    assert "home" in row[0]
    assert "a token" not in row[0]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_advisory_lock(11)",
        "SELECT pg_advisory_xact_lock_shared(11, 12)",
        "SELECT pg_try_advisory_lock(11)",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT pg_logical_emit_message(false, 'a', 'b')",
        "CREATE TEMP TABLE mine (n int)",
        "CREATE TABLE mine (n int)",
        "CREATE SCHEMA mine",
        "LOCK TABLE sample IN SHARE MODE",
        "SELECT * FROM resource FOR UPDATE",
        "ALTER ROLE obs_hub_reader SET work_mem = '1GB'",
    ],
)
def test_nothing_is_left_to_a_reader_but_reading(reader: Session, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), reader.transaction():
        reader.execute(statement.encode())


async def test_nobodys_advisory_locks_stop_the_store(database: Database) -> None:
    """Nor those that gateways took once: whoever may take them, as where the hub is no superuser, hinders nobody."""
    async with running_exporter(database) as exporter:
        with database.connect() as other:
            other.execute("SELECT pg_advisory_lock(n) FROM generate_series(11862017, 11862020) n")
            assert await store(exporter, gauge()) == [True]
            migrate(database)


def test_what_an_earlier_version_granted_is_taken_back_at_the_next_start(reader: Session, database: Database) -> None:
    database.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER_ROLE}")
    database.run(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {READER_ROLE}")
    database.run(f"GRANT TEMPORARY ON DATABASE {database.name} TO PUBLIC")
    database.run("GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO PUBLIC")
    database.run("CREATE VIEW of_theirs AS SELECT 1 AS n")
    reader.execute("SELECT * FROM run")
    migrate(database)
    for statement in ("SELECT * FROM run", "SELECT pg_advisory_lock(1)", "CREATE TEMP TABLE mine ()"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(statement.encode())
    assert reader.execute("SELECT * FROM of_theirs").fetchall() == [(1,)], "what others made is theirs to give"
    database.run("CREATE TABLE made_later ()")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute("SELECT * FROM made_later")


@pytest.mark.empty_database
@pytest.mark.parametrize("table", ["sample", "sample_1m"])
async def test_rights_wait_while_timescale_drops_a_chunk(table: str, timescale_database: Database) -> None:
    """Else the whole server would crash, or the change of rights would fail."""
    async with running_exporter(timescale_database) as exporter:
        await store(exporter, gauge(at=now() - 20 * DAY), gauge())
    maintain(timescale_database)
    timescale_database.run(f"REVOKE ALL ON {table} FROM {READER_ROLE}")
    with timescale_database.connect() as job, ThreadPoolExecutor(1) as threads:
        with job.transaction():
            assert job.execute("SELECT drop_chunks(%s, now() - interval '2 days')", (table,)).fetchall()
            migrating = threads.submit(migrate, timescale_database)
            await timescale_database.until("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted")
        migrating.result(PATIENCE)
    assert timescale_database.value(f"SELECT has_table_privilege('{READER_ROLE}', '{table}', 'SELECT')")


@pytest.mark.empty_database
def test_whoever_has_something_in_the_database_keeps_what_was_everybodys(database: Database, own_role: str) -> None:
    database.run(f"CREATE SCHEMA of_theirs AUTHORIZATION {own_role}")
    migrate(database)
    with log_in(database, own_role) as other:
        other.execute("CREATE TEMP TABLE mine ()")
        other.execute("SELECT pg_advisory_lock(1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute("SELECT * FROM logs")


@pytest.mark.empty_database
def test_a_user_that_may_make_no_roles_migrates_all_the_same(native_database: Database) -> None:
    name = native_database.name
    native_database.run(f"CREATE ROLE {name} LOGIN")
    try:
        native_database.run(f"ALTER DATABASE {name} OWNER TO {name}")
        writer = Database(native_database.server, name)
        connection_string = make_conninfo(native_database.dsn, user=name)

        class AsWriter(Database):
            @property
            def dsn(self) -> str:
                return connection_string

        assert migrate(AsWriter(writer.server, name)).native
        assert migrate(AsWriter(writer.server, name)).native
        temporary = "SELECT has_database_privilege(%s, current_database(), 'TEMPORARY')"
        assert not native_database.value(temporary, [READER_ROLE])
    finally:
        native_database.run(f"DROP OWNED BY {name} CASCADE")
        native_database.run(f"ALTER DATABASE {name} OWNER TO CURRENT_USER")
        native_database.run(f"DROP ROLE {name}")


def test_readers_of_an_earlier_version_plan_as_those_made_now(
    reader: Session, database: Database, own_role: str
) -> None:
    """But what somebody chose for one stays, and who may write is left alone."""

    def planning() -> list[tuple[str]]:
        with log_in(database, own_role) as session:
            return [row for name in PLANNING for row in session.execute(f"SHOW {name}".encode())]

    database.run(f"ALTER ROLE {own_role} SET work_mem = '9MB'")
    database.run(f"ALTER ROLE {own_role} SET jit = on")
    migrate(database)
    assert planning() == [("9MB",), ("on",)]
    database.run(f"ALTER ROLE {own_role} SET default_transaction_read_only = on")
    migrate(database)
    assert planning() == [("9MB",), ("on",)]
    database.run(f"ALTER ROLE {own_role} RESET work_mem")
    migrate(database)
    assert planning() == [(value,) for value in PLANNING.values()]
