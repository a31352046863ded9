"""A store copied into another database: the same rows, whatever breaks it off, and a gateway that goes on with it."""

from __future__ import annotations

import asyncio
import itertools
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from gateway.component import UnavailableError
from gateway.store import restore_mark, schema
from gateway.store.copying import CopyError, tables
from gateway.store.copying import target as copying_target
from gateway.store.copying.work import Result, copy
from gateway.store.layout import LayoutError
from gateway.store.migrations import all_migrations
from gateway.store.schema import SchemaError
from tests.integration.cli.processes import ROOT, environment, obs_hub
from tests.support.databases import Database, Server, fresh, fresh_store
from tests.support.poolers import bouncing, need_program
from tests.support.stores import maintain, migrate, running_exporter, store
from tests.support.telemetry import DAY, SECOND, collection, gauge, logs, now, spans
from tests.support.waiting import PATIENCE

ODD = [float("nan"), float("inf"), -0.0, 2**62, 1.5, 3]
BATCHES = [
    *(collection(now() - seconds * SECOND, ODD) for seconds in (7_400, 7_390, 300, 290, 20)),
    gauge([0.1, 0.2, 0.3], attributes={"cpu": "0"}),
    gauge([7.0], at=now() - 2 * DAY, resource={"host.name": "other"}),
    logs("one", "two", "\N{SNOWMAN} \\N \t tab"),
    logs("ordered", event="order.placed"),
    spans("GET /", "SELECT", at=now() - 3 * DAY),
]


def copied(source: Database, target: Database, *, told: list[str] | None = None, **options: Any) -> Result:
    """Copy a store, without the hub's own patience with servers that are away."""
    said = [] if told is None else told
    its: dict[str, Any] = {"say": said.append, "show": lambda _: None, "pauses": (0.0,) * 3, **options}
    return copy(source.dsn, target.dsn, **its)


def rows(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of every table of a store but what each store has of its own, as text."""
    with database.connect() as connection:
        names = connection.execute(
            "SELECT c.relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
            " AND NOT relispartition AND relname <> ALL(%s) ORDER BY 1",
            [["store_setting", "schema_version"]],
        ).fetchall()
        return {
            name: sorted(connection.execute(f"SELECT t::text FROM {name} t".encode()).fetchall()) for (name,) in names
        }


@pytest.fixture(scope="module")
def source(module_database: Database) -> Database:
    """A store with something of everything."""

    async def fill() -> None:
        async with running_exporter(module_database) as exporter:
            for batch in BATCHES:  # each by itself: series that come together again are in frames
                await store(exporter, batch)

    asyncio.run(fill())
    maintain(module_database)
    module_database.run("INSERT INTO event_identity VALUES (gen_random_uuid(), now())")
    columns = "(id, kind, name, state, trigger)"
    module_database.run(f"INSERT INTO run {columns} VALUES (gen_random_uuid(), 'a', 'b', 'queued', '{{}}')")
    if not module_database.native:
        for (chunk,) in module_database.run("SELECT show_chunks('log')::text"):
            module_database.run(f"CALL convert_to_columnstore('{chunk}')")
    return module_database


@pytest.fixture
def target(source: Database) -> Iterator[Database]:
    """Where to: a store without records."""
    with fresh_store(source.server) as database:
        yield database


@pytest.fixture
def empty(source: Database) -> Iterator[Database]:
    """Where to: an empty database."""
    with fresh(source.server) as database:
        yield database


@pytest.fixture
def changing(source: Database) -> Iterator[Database]:
    """A source of a test's own, with the same records, to which something happens."""
    with fresh_store(source.server) as database:

        async def fill() -> None:
            async with running_exporter(database) as exporter:
                await store(exporter, *BATCHES)

        asyncio.run(fill())
        yield database


async def test_what_is_copied_is_what_was_there_and_a_gateway_goes_on_with_it(
    source: Database, empty: Database
) -> None:
    said: list[str] = []
    target, before = empty, rows(source)
    result = await asyncio.to_thread(copied, source, target, told=said)
    assert rows(source) == before
    assert rows(target) == before
    full = ("frame", "frame_1m", "sample", "log", "span", "event_identity", "receipt", "run")
    assert all(before[name] for name in full)
    assert result.finished
    assert {table.name: table.rows for table in result.tables} == {
        name: len(its) for name, its in before.items() if not name.startswith("lock_")
    }
    assert all(re.fullmatch("[0-9a-f]{16}", table.checksum) for table in result.tables)
    assert any(re.fullmatch(r"copied log: 4 rows, [\d,]+ a second", each) for each in said), said
    async with running_exporter(target) as exporter:
        # What it has is recognized by receipts and identities, and what is new is stored.
        assert await store(exporter, *BATCHES) == [False] * len(BATCHES)
        assert await store(exporter, logs("new")) == [True]
    maintain(target)
    assert target.count("log") == len(before["log"]) + 1


def test_from_one_layout_to_the_other_and_back(
    embedded_server: Server, timescale_server: Server, source: Database
) -> None:
    """Whichever the source has: partitions become chunks, and chunks partitions, of other lengths."""
    other = timescale_server if source.native else embedded_server
    with fresh(other) as there, fresh(source.server) as back:
        result = copied(source, there, chunk_interval=timedelta(hours=6))
        assert result.present.native is not source.native
        assert rows(there) == rows(source)
        spans_two = "SELECT count(DISTINCT tableoid) FROM log"
        assert there.value(spans_two) >= 1
        assert copied(there, back, chunk_interval=timedelta(days=7)).present.native is source.native
        assert rows(back) == rows(source)


def test_a_layout_that_is_not_to_be_had_is_refused(embedded_server: Server, source: Database) -> None:
    with fresh(embedded_server) as target, pytest.raises(LayoutError, match="timescale is not possible"):
        copied(source, target, wanted_layout="timescale")


class HaltedError(Exception):
    """Stands for the end of the process."""


def halting_after(steps: int) -> Callable[[str], None]:
    """What is told the steps, and ends the copy at one."""
    told = iter(range(steps))

    def say(what: str) -> None:
        if what.startswith("copied ") and next(told, None) is None:
            raise HaltedError(what)

    return say


def test_it_goes_on_where_it_was(source: Database, empty: Database) -> None:
    """However often it is broken off, between tables."""
    target, halts = empty, 0
    for steps in range(20):
        said: list[str] = []
        try:
            result = copied(source, target, say=halting_after(steps % 3))
        except HaltedError:
            halts += 1
            with pytest.raises(SchemaError, match="obs-hub store copy"):
                migrate(target)
            continue
        break
    assert halts > 2
    assert result.finished
    assert rows(target) == rows(source)
    assert result.rows < sum(table.rows for table in result.tables)
    assert said == []
    assert target.value("SELECT to_regclass('store_copied')") is None
    migrate(target)


def test_killed_within_a_table(source: Database, target: Database) -> None:
    """As by kill -9: the process is gone, in the middle of a slice, and its server's sessions are told later."""
    altering(target, "PERFORM pg_advisory_xact_lock_shared(1)")
    command = ["store", "copy", "--from", source.dsn, "--to", target.dsn]
    arguments = [sys.executable, "-m", "gateway", *command]
    with target.connect() as blocking:
        blocking.execute("SELECT pg_advisory_lock(1)")
        process = subprocess.Popen(arguments, cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL)
        try:
            waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
            asyncio.run(target.until(waits))
        finally:
            process.kill()
            process.wait(PATIENCE)
        assert process.returncode == -signal.SIGKILL
    target.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        " AND application_name LIKE 'obs-hub%%'",
        [target.name],
    )
    done = obs_hub(*command)
    assert done.returncode == 0, done.stderr
    assert "going on with a copy that was broken off" in done.stderr
    assert "copied frame_1m" not in done.stderr
    assert "The store is copied" in done.stdout
    assert rows(target) == rows(source)


def test_most_is_copied_while_gateways_write_and_the_rest_when_they_are_stopped(
    changing: Database, target: Database
) -> None:
    async def gateway(*batches: Any, during: Callable[[], Any]) -> None:
        async with running_exporter(changing) as exporter:
            await store(exporter, logs("connected"))
            await asyncio.to_thread(during)
            await store(exporter, *batches)

    def first() -> None:
        with pytest.raises(CopyError, match=r"the hub uses the store .* --while-running") as refused:
            copied(changing, target)
        assert "pid " in str(refused.value)
        assert not copied(changing, target, while_running=True).finished

    asyncio.run(gateway(logs("later"), gauge([1.0], name="new"), gauge([3.0], at=now() - 5 * DAY), during=first))
    maintain(changing)
    changing.run("DELETE FROM receipt WHERE digest = (SELECT min(digest::text)::uuid FROM receipt)")
    said: list[str] = []
    result = copied(changing, target, told=said)
    assert result.finished
    assert rows(target) == rows(changing)
    assert any(each.startswith("copied what has changed in log since: 1 of ") for each in said), said
    assert not any("changed in span" in each for each in said)


def test_what_retention_drops_meanwhile_is_not_in_the_copy(changing: Database, target: Database) -> None:
    copied(changing, target, while_running=True)
    if changing.native:
        maintain(changing, retention={"metrics": "1d", "traces": "1d", "rollup_1m": "2d"}, receipt_window="1m")
    else:
        changing.run("SELECT _timescaledb_functions.stop_background_workers()")  # whose jobs lock chunks, too
        for table in ("sample", "span"):
            changing.run(f"SELECT drop_chunks('{table}', older_than => interval '1 day')")
    assert changing.count("span") == 0
    copied(changing, target)
    assert rows(target) == rows(changing)
    if changing.native:
        taken = "SELECT value FROM store_setting WHERE key = 'taken_before_sample'"
        assert target.value(taken) == changing.value(taken) is not None


async def test_rollups_are_not_made_anew_of_what_timescale_left(
    timescale_server: Server, embedded_server: Server
) -> None:
    """TimescaleDB drops chunks by itself and notes it nowhere: the copy's gateway must be told."""
    with fresh(timescale_server) as source, fresh(embedded_server) as target:
        async with running_exporter(source, retention={"metrics": "10d"}):
            pass
        await asyncio.to_thread(copied, source, target)
        age = "SELECT now() - (value #>> '{}')::timestamptz FROM store_setting WHERE key = 'taken_before_sample'"
        assert timedelta(days=9.9) < target.value(age) < timedelta(days=10.1)


@pytest.mark.parametrize("what", ["the same", "records", "standing restore", "newer", "none", "older source", "half"])
def test_what_cannot_be_copied_or_copied_into_is_refused(
    source: Database, empty: Database, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = empty
    of_source, of_target, match = source, target, ""
    error: type[Exception] = CopyError
    if what == "the same":
        of_target, match = source, "the target is the store that is to be copied"
    elif what == "records":
        migrate(target)
        target.run("INSERT INTO event_identity VALUES (gen_random_uuid(), now())")
        match = r"holds records already \(in event_identity\)"
    elif what == "standing restore":
        with target.connect() as connection:
            restore_mark.mark(connection, "public")
        match = "a restore into the target"
    elif what == "newer":
        migrate(target)
        target.run("UPDATE schema_version SET version_num = '9999'")
        error, match = SchemaError, "made by a newer one"
    elif what == "none":
        of_source, match = target, "there is no store in the database that is to be copied"
    elif what == "half":
        with target.connect() as connection:
            restore_mark.mark(connection, "public")
        of_source, of_target, match = target, source, "is itself not whole"
    else:
        known = all_migrations()[:-1]
        with monkeypatch.context() as patched:
            patched.setattr(schema, "all_migrations", lambda: known)
            migrate(target)
        of_source, of_target, match = target, source, "of an earlier version: it lacks"
    before = rows(of_target)
    with pytest.raises(error, match=match):
        copied(of_source, of_target)
    assert rows(of_target) == before


def test_whoever_copies_once_more_is_told(source: Database, target: Database) -> None:
    copied(source, target)
    with pytest.raises(CopyError, match=r"a copy into it was finished at \d{4}-.*gateways may use it"):
        copied(source, target)
    assert rows(target) == rows(source)


def test_two_at_once_are_refused(source: Database, target: Database) -> None:
    found: list[str] = []

    def second(_: str) -> None:
        if not found:
            found.append("")
            with pytest.raises(CopyError, match="another copy into the target is under way") as refused:
                copied(source, target, while_running=True)
            found[0] = str(refused.value)

    assert copied(source, target, say=second, pauses=()).finished
    assert found


def test_two_that_begin_at_the_same_moment(source: Database, target: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not copied(source, target, while_running=True).finished
    with monkeypatch.context() as patched:
        patched.setattr(restore_mark, "is_unfinished", lambda *_: False)  # as it was when the second one looked
        patched.setattr("gateway.store.copying.target._check_empty", lambda _: None)
        with pytest.raises(CopyError, match="another copy into the target is under way"):
            copied(source, target)
    assert copied(source, target).finished


async def test_a_target_that_a_hub_uses_is_left_alone(
    source: Database, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has acknowledged would be deleted with what the copy puts in its place."""
    monkeypatch.setattr("gateway.store.copying.source._LEAVING", 0.0)
    async with running_exporter(target) as exporter:
        with target.connect() as connection:
            connection.execute("SET application_name = 'obs-hub'")
            with pytest.raises(CopyError, match=r"the hub uses the database that is to be copied into: pid \d+"):
                await asyncio.to_thread(copied, source, target)
        assert await store(exporter, logs("its own")) == [True]
    with pytest.raises(CopyError, match="holds records already"):
        copied(source, target)
    assert target.count("log") == 1


def test_nobody_writes_to_the_target_meanwhile(source: Database, target: Database) -> None:
    """Not even a gateway of an earlier version, which does not look for the mark with each commit."""

    def write(what: str) -> None:
        if what.startswith("copied log"):
            with (
                target.connect() as connection,
                pytest.raises(psycopg.errors.LockNotAvailable),
                connection.transaction(),
            ):
                connection.execute("LOCK TABLE lock_dimensions IN ROW SHARE MODE NOWAIT")
            found.append(what)

    found: list[str] = []
    assert copied(source, target, say=write).finished
    assert found


async def test_a_gateway_that_is_up_on_the_target_writes_nothing_before_the_copy_is_done(
    source: Database, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It need not be connected while nobody sends to it, and then the copy does not see it."""
    monkeypatch.setattr("gateway.store.copying.source.users", lambda _: [])
    async with running_exporter(target) as exporter:
        assert not (await asyncio.to_thread(copied, source, target, while_running=True)).finished
        with pytest.raises(UnavailableError, match="not whole: a restore or a copy into it is under way"):
            await store(exporter, logs("too early"))
        assert (await asyncio.to_thread(copied, source, target)).finished
        assert await store(exporter, logs("later")) == [True]
    assert target.count("log") == source.count("log") + 1


def test_what_was_written_between_the_mark_and_the_lock_is_not_deleted(
    source: Database, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = copying_target.make

    def late(*given: Any) -> Any:
        present = make(*given)
        target.run("INSERT INTO event_identity VALUES (gen_random_uuid(), now())")
        return present

    monkeypatch.setattr(copying_target, "make", late)
    with pytest.raises(CopyError, match=r"holds records already \(in event_identity\)"):
        copied(source, target)
    assert target.count("event_identity") == 1


def test_since_when_points_are_kept_as_now_is_known_of_a_copy(changing: Database, target: Database) -> None:
    """By it `obs-hub db status` tells how much is left of what an earlier version stored, which is copied as it is."""
    changing.run("INSERT INTO store_setting VALUES ('compact_since', to_jsonb(now()))")
    copied(changing, target)
    noted = "SELECT value FROM store_setting WHERE key = 'compact_since'"
    assert target.value(noted) == changing.value(noted) is not None


def altering(target: Database, statement: str, condition: str = "true") -> None:
    """Let a trigger do something to the log records that are copied into a target."""
    target.run(
        "CREATE FUNCTION altered() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF {condition} THEN {statement}; END IF; RETURN new; END $$"
    )
    target.run("CREATE TRIGGER altered BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION altered()")


@pytest.mark.parametrize("statement", ["new.severity_number := 24", "RETURN NULL"])
def test_a_difference_is_an_error_that_says_which(source: Database, target: Database, statement: str) -> None:
    altering(target, statement, "new.body = 'two'")
    with pytest.raises(CopyError, match=r"log \(.* UTC\) differs: the source has 4 rows .* the target [34] rows"):
        copied(source, target)
    with pytest.raises(SchemaError, match="not whole"):
        migrate(target)
    target.run("DROP TRIGGER altered ON log")
    target.run("DROP FUNCTION altered")
    copied(source, target)
    assert rows(target) == rows(source)


def test_a_full_disk_says_what_to_do(source: Database, target: Database) -> None:
    altering(target, "RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'")
    with pytest.raises(CopyError, match=r"a disk is full .* goes on where it was"):
        copied(source, target)


def test_a_deadlock_with_somebody_else_is_tried_again(source: Database, target: Database) -> None:
    """As with a job of TimescaleDB's that drops chunks: whoever is sent away by the server may come again."""
    altering(target, "RAISE EXCEPTION 'deadlock detected' USING ERRCODE = 'deadlock_detected'")
    said: list[str] = []

    def say(what: str) -> None:
        said.append(what)
        if what.startswith("somebody was in the way (deadlock detected)"):
            target.run("DROP TRIGGER IF EXISTS altered ON log")

    assert copied(source, target, say=say).finished
    assert rows(target) == rows(source)
    assert sum(each.startswith("somebody was in the way") for each in said) == 1


@pytest.mark.parametrize(
    ("job", "in_the_way"),
    [
        pytest.param("SELECT compress_chunk(c) FROM show_chunks('sample') c", False, id="compresses"),
        pytest.param("SELECT drop_chunks('sample', now() - interval '1 day')", True, id="drops"),
    ],
)
def test_what_timescale_does_by_itself_meanwhile_waits_or_is_let_pass(
    timescale_server: Server, job: str, in_the_way: bool
) -> None:
    """Reading goes on beside a job that waits to compress, but not beside one that waits to drop."""
    jobs: list[threading.Thread] = []
    said: list[str] = []
    with fresh_store(timescale_server) as source, fresh_store(timescale_server) as target:

        async def fill() -> None:
            async with running_exporter(source) as exporter:
                await store(exporter, *BATCHES)

        def show(what: str) -> None:
            if what.startswith("comparing sample") and not jobs:
                jobs.append(threading.Thread(target=source.run, args=(job,)))
                jobs[0].start()
                asyncio.run(source.until(_WAITS))

        asyncio.run(fill())
        for database in (source, target):
            database.run("SELECT _timescaledb_functions.stop_background_workers()")
        before = source.count("sample")
        assert copied(source, target, told=said, show=show).finished
        jobs[0].join(PATIENCE)
        assert target.count("sample") == source.count("sample") == (before - 1 if in_the_way else before) > 0
        assert any(each.startswith("somebody was in the way") for each in said) == in_the_way


_WAITS = """
SELECT EXISTS (
    SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE datname = current_database() AND NOT granted
)
"""


@pytest.mark.parametrize("whose", ["source", "target"])
def test_lost_connections_are_made_anew(source: Database, target: Database, whose: str) -> None:
    said: list[str] = []

    def say(what: str) -> None:
        said.append(what)
        if what.startswith(("copied receipt", "copied log")):
            database = source if whose == "source" else target
            database.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND application_name LIKE 'obs-hub%%'",
                [database.name],
            )

    result = copied(source, target, say=say)
    assert result.finished
    assert rows(target) == rows(source)
    assert any(each.startswith("a connection was lost") for each in said)


def test_a_gateway_that_comes_back_to_the_old_store_is_told_of(changing: Database, target: Database) -> None:
    """It waits, and writes nothing before the copy is over; and is not forgotten."""
    waits: list[threading.Thread] = []

    async def write() -> None:
        async with running_exporter(changing) as exporter:
            await store(exporter, logs("late"))

    def say(what: str) -> None:
        if what.startswith("copied log") and not waits:
            waits.append(threading.Thread(target=asyncio.run, args=(write(),)))
            waits[0].start()
            asyncio.run(changing.until("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))

    with pytest.raises(CopyError, match=r"about to write to the old one\. Stop it"):
        copied(changing, target, say=say)
    waits[0].join(PATIENCE)
    assert changing.value("SELECT count(*) FROM log WHERE body = 'late'") == 1
    assert copied(changing, target).finished
    assert rows(target) == rows(changing)


def test_through_a_pooler_and_on_databases_with_settings_of_their_own(source: Database, target: Database) -> None:
    need_program()
    odd = {"timezone": "Asia/Kathmandu", "datestyle": "SQL, DMY", "extra_float_digits": "0", "lc_numeric": "C"}
    for name, value in odd.items():
        target.run(f"ALTER DATABASE {target.name} SET {name} = '{value}'")
    with bouncing(source.server, "transaction", default_pool_size=8) as pooled:
        copied(Database(pooled, source.name), Database(pooled, target.name))
    for name in odd:
        target.run(f"ALTER DATABASE {target.name} RESET {name}")
    assert rows(target) == rows(source)


def test_tables_of_somebody_else_are_not_copied_and_told(changing: Database, target: Database) -> None:
    changing.run("CREATE TABLE mine (id int)")
    changing.run("INSERT INTO mine VALUES (1)")
    said: list[str] = []
    copied(changing, target, told=said)
    assert "not copied, for they are not the store's: mine" in said
    assert target.value("SELECT to_regclass('mine')") is None


def test_columns_that_are_not_alike_are_refused(changing: Database, target: Database) -> None:
    target.run("ALTER TABLE run ADD COLUMN mine int")
    with pytest.raises(CopyError, match="the table run is not laid out alike"):
        copied(changing, target)


@pytest.mark.empty_database
def test_rollups_that_timescale_made_become_rows(timescale_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of stores of an earlier version, up to when gateways began to roll up."""
    database = timescale_database
    known = [migration for migration in all_migrations() if migration.revision <= "0004"]
    with monkeypatch.context() as patched:
        patched.setattr(schema, "all_migrations", lambda: known)
        migrate(database)
    for age in ("40 days", "3 days", "3 hours"):
        columns = "(time, series_id, value, time_ns)"
        database.run(f"INSERT INTO sample {columns} VALUES (now() - %s::interval, 1, 5, 0)", [age])
    for table in ("sample_1m", "sample_1h"):
        database.run(f"CALL refresh_continuous_aggregate('{table}', NULL, NULL)")
    database.run("SELECT drop_chunks('sample', older_than => interval '30 days')")
    migrate(database)
    database.run("INSERT INTO sample_1m (time, series_id, count, last) VALUES (now(), 1, 1, 6)")
    with fresh(database.server) as target:
        result = copied(database, target)
        assert {table.name: table.rows for table in result.tables}["sample_1m"] == 4
        for view in ("rollup_1m", "rollup_1h"):
            read = f"SELECT time, series_id, count, sum, min, max, last FROM {view} ORDER BY 1"
            assert target.run(read) == database.run(read)
            assert target.count(view) in (3, 4)


def test_slices_do_not_overlap(source: Database) -> None:
    with psycopg.connect(make_conninfo(source.dsn, options="-c timezone=UTC")) as connection:
        present = migrate(source)
        for table in tables.find(connection, present):
            parts: Sequence[tables.Slice] = tables.slices(connection, present, table)
            assert (parts == [tables.Slice()]) is not table.by_time
            for earlier, later in itertools.pairwise(parts):
                assert earlier.upper is not None
                assert later.lower is not None
                assert earlier.upper <= later.lower


def test_the_command_shows_a_table_and_asks_where_to(source: Database, target: Database) -> None:
    asked = obs_hub("db", "copy", "--from", source.dsn)
    assert asked.returncode == 2
    assert "either --to" in asked.stderr
    done = obs_hub("db", "copy", "--from", source.dsn, OBSHUB_COPY_TO=target.dsn)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^log +4  [0-9a-f]{16}$", done.stdout, re.MULTILINE), done.stdout
