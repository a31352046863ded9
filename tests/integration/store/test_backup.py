"""The store in a file, and a store made from it: the same rows, and a gateway that goes on with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from gateway.cli.doctor import examine
from gateway.config import load as load_config
from gateway.datadir import DataDir
from gateway.embedded import binaries
from gateway.extensions.api.status import Probe, State
from gateway.store import restore_mark
from gateway.store.backup import BackupError, archive, tools
from gateway.store.backup.dump import backup
from gateway.store.backup.restore import replace, restore
from gateway.store.layout import FACTS
from gateway.store.maintenance import Maintenance
from gateway.store.reader import let_read
from gateway.store.schema import READER_ROLE, SchemaError
from tests.integration.cli.processes import ROOT, environment, obs_hub, until
from tests.support.databases import Database, Server, fresh
from tests.support.restores import stuck_pg_restore
from tests.support.stores import maintain, migrate, running_exporter, settings, store
from tests.support.telemetry import DAY, gauge, logs, now, spans
from tests.support.waiting import PATIENCE

BATCHES = [
    gauge([0.1, 0.2, 0.3], attributes={"cpu": "0"}),
    gauge([7.0], at=now() - 2 * DAY, resource={"host.name": "other"}),
    logs("one", "two", "\N{SNOWMAN} \\N \t tab"),
    logs("ordered", event="order.placed"),
    spans("GET /", "SELECT"),
]


TIMESCALE_STATE = """
SELECT 'chunk', hypertable_name, is_compressed::text, count(*) FROM timescaledb_information.chunks
  WHERE hypertable_schema = 'public' GROUP BY 2, 3
UNION ALL
SELECT 'job', hypertable_name, proc_name, count(*) FROM timescaledb_information.jobs WHERE job_id >= 1000 GROUP BY 2, 3
ORDER BY 1, 2, 3
"""
"""Chunks in the columnstore and beside, and the jobs that look after them."""

STAND_STILL = """
SELECT count(*) > 0 FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
WHERE datname = current_database() AND 'timescaledb.restoring=on' = ANY (setconfig)
"""
"""Whether TimescaleDB's jobs are kept from running."""

CHUNKS_READ = f"""
SELECT relname::text FROM pg_class WHERE relnamespace = '_timescaledb_internal'::regnamespace AND relkind = 'r'
    AND has_table_privilege('{READER_ROLE}', oid, 'SELECT') ORDER BY 1
"""
"""The chunks that readers may read, in the columnstore or not."""


def dump(database: Database, folder: Path, keep: int | None = None, bin_dir: Path | None = None) -> Path:
    return backup(database.dsn, folder, keep=keep, bin_dirs=[bin_dir or binaries()], progress=lambda _: None).path


def load(database: Database, path: Path) -> None:
    restore(database.dsn, path, bin_dirs=[binaries()], say=lambda _: None)


def contents(database: Database) -> dict[str, tuple[int, str]]:
    """The number of rows of each table and view, and a digest of all of them."""
    names = database.run(
        "SELECT c.relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')"
        " AND NOT relispartition ORDER BY 1"
    )
    found = {}
    for (name,) in names:
        if not database.native and name.endswith(("_1m", "_1h")):
            continue  # TimescaleDB's own jobs bring these rollups on at any moment
        rows = f"SELECT count(*), coalesce(md5(string_agg(t::text, chr(10) ORDER BY t::text)), '') FROM {name} t"
        ((count, digest),) = database.run(rows)
        found[name] = (count, digest)
    return found


@dataclass
class Filled:
    database: Database
    backup: Path


@pytest.fixture(scope="module")
def filled(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A store with something of everything, and a backup of it."""

    async def fill() -> None:
        async with running_exporter(module_database) as exporter:
            await store(exporter, *BATCHES)

    asyncio.run(fill())
    maintain(module_database)
    if not module_database.native:
        for (chunk,) in module_database.run("SELECT show_chunks('sample')::text"):
            module_database.run(f"CALL convert_to_columnstore('{chunk}')")
    return Filled(module_database, dump(module_database, tmp_path_factory.mktemp("backup")))


@pytest.fixture
def target(filled: Filled) -> Iterator[Database]:
    with fresh(filled.database.server) as database:
        yield database


async def test_what_is_restored_is_what_was_there_and_a_gateway_goes_on_with_it(
    filled: Filled, target: Database
) -> None:
    load(target, filled.backup)
    before = contents(filled.database)
    assert contents(target) == before
    assert {table: count for table, (count, _) in before.items() if table in ("sample", "log", "span")} == {
        "sample": 4,
        "log": 4,
        "span": 2,
    }
    assert set(FACTS) < set(before)
    if not target.native:
        assert target.run(TIMESCALE_STATE) == filled.database.run(TIMESCALE_STATE) != []
    assert migrate(target).name == filled.database.server.layout

    async with running_exporter(target) as exporter:
        # What it had is recognized, also after the restore; what is new is added, by new partitions where needed.
        assert await store(exporter, *BATCHES) == [False] * len(BATCHES)
        assert await store(exporter, gauge([0.4], attributes={"cpu": "0"}), logs("three")) == [True, True]
    maintain(target)
    assert target.count("sample") == 5
    assert target.value("SELECT count(*) FROM logs WHERE body = 'three'") == 1


def test_the_reader_may_read_what_is_restored(filled: Filled, target: Database) -> None:
    load(target, filled.backup)
    with target.connect() as connection:
        connection.execute(f"SET ROLE {READER_ROLE}".encode())
        assert connection.execute("SELECT count(*) FROM logs").fetchone() == (4,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM log")


async def test_jobs_stand_still_while_readers_get_their_rights(
    timescale_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that drops a chunk at that moment would take the whole server down."""
    async with running_exporter(timescale_database) as exporter:
        await store(exporter, *BATCHES)
    for (chunk,) in timescale_database.run("SELECT show_chunks('sample')::text"):
        timescale_database.run(f"CALL convert_to_columnstore('{chunk}')")
    backed_up = dump(timescale_database, tmp_path)
    standing: list[Any] = []

    def observed(connection: psycopg.Connection[Any], *words: Any) -> None:
        standing.extend(connection.execute(STAND_STILL).fetchall())
        let_read(connection, *words)

    monkeypatch.setattr("gateway.store.backup.restore.let_read", observed)
    with fresh(timescale_database.server) as target:
        load(target, backed_up)
        assert target.run(STAND_STILL) == [(False,)]
        assert target.run(CHUNKS_READ) == timescale_database.run(CHUNKS_READ) != []
    assert standing == [(True,)]


def test_a_database_that_is_not_empty_is_left_alone(filled: Filled, target: Database) -> None:
    target.run("CREATE TABLE mine (value text)")
    with pytest.raises(BackupError, match=r"is not empty: it has public\.mine\..*--replace"):
        load(target, filled.backup)
    assert target.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 1


async def test_a_backup_takes_the_place_of_a_store_which_is_kept(filled: Filled, target: Database) -> None:
    async with running_exporter(target) as exporter:
        await store(exporter, logs("of the former store"))
    with target.connect(), pytest.raises(BackupError, match="1 connections use the database"):
        replace(target.dsn, filled.backup, bin_dirs=[binaries()], say=lambda _: None)

    leaving = target.connect()  # as that of a gateway that was just stopped
    threading.Timer(0.5, leaving.close).start()
    _, former = replace(target.dsn, filled.backup, bin_dirs=[binaries()], say=lambda _: None)
    try:
        assert contents(target) == contents(filled.database)
        kept = Database(target.server, former)
        assert kept.value("SELECT body FROM logs") == "of the former store"
        if not target.native:
            jobs = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = %s AND backend_type ILIKE '%%timescale%%'"
            await target.until(jobs, (target.name,))
    finally:
        with psycopg.connect(target.server.dsn, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{former}" WITH (FORCE)'.encode())


def test_a_replacement_that_fails_leaves_the_store_as_it_was(filled: Filled, target: Database, tmp_path: Path) -> None:
    migrate(target)
    broken = tmp_path / filled.backup.name
    broken.write_bytes(filled.backup.read_bytes()[:-2000])
    with pytest.raises(BackupError, match="pg_restore"):
        replace(target.dsn, broken, bin_dirs=[binaries()], say=lambda _: None)
    assert target.count("schema_version") == 1
    with psycopg.connect(target.server.dsn) as connection:
        names = connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{target.name[:38]}_%",)
        ).fetchall()
    assert [name for (name,) in names if "restore" in name] == []


def test_what_is_no_backup_of_a_store_is_refused(filled: Filled, target: Database, tmp_path: Path) -> None:
    (tmp_path / "text.dump").write_text("SELECT 1")
    with pytest.raises(BackupError, match="pg_restore"):
        load(target, tmp_path / "text.dump")
    with pytest.raises(BackupError, match="there is no store in this database"):
        dump(target, tmp_path)


# -- What concerns one layout, or none ---------------------------------------------------------------------------------


@pytest.fixture
def native(native_database: Database) -> Database:
    migrate(native_database, "native")
    return native_database


def chosen_for(database: Database) -> Path:
    """The folder of the programs that are chosen for the server of a database."""
    return tools.find(int(database.value("SHOW server_version_num")) // 10_000, [binaries()]).folder


def programs(folder: Path, pg_dump: str, real_folder: Path, version: str = "") -> Path:
    """A folder with a pg_dump that is a shell script, and the real pg_restore."""
    folder.mkdir()
    real = shlex.quote(str(real_folder))
    tell = f'echo "pg_dump (PostgreSQL) {version}"' if version else f"{real}/pg_dump --version"
    (folder / "pg_dump").write_text(f'#!/bin/sh\n[ "$1" = --version ] && {tell} && exit\nreal={real}\n{pg_dump}\n')
    (folder / "pg_restore").write_text(f'#!/bin/sh\nexec {real}/pg_restore "$@"\n')
    for name in ("pg_dump", "pg_restore"):
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.empty_database
def test_the_store_alone_is_in_the_backup_where_the_database_has_more(
    native_database: Database, embedded_server: Server, tmp_path: Path
) -> None:
    """A store in a schema of its own, which its connection string names."""
    native_database.run('CREATE SCHEMA "tele.metry"')
    native_database.run("CREATE TABLE public.mine (value text)")
    path = '-csearch_path="tele.metry"'
    there = Database(Server("native", make_conninfo(native_database.dsn, options=path)), native_database.name)
    migrate(there, "native")
    backed_up = dump(there, tmp_path)
    with fresh(embedded_server) as other:
        other.run("CREATE TABLE public.his (value text)")
        here = Database(Server("native", make_conninfo(other.dsn, options=path)), other.name)
        load(here, backed_up)
        assert here.value("SELECT 'store_setting'::regclass::text") == "store_setting"
        assert other.value("SELECT to_regclass('public.mine') IS NULL AND to_regclass('public.his') IS NOT NULL")


@pytest.mark.empty_database
def test_a_superuser_gives_the_store_back_to_whom_it_belonged(
    native_database: Database, embedded_server: Server, tmp_path: Path
) -> None:
    role = native_database.name
    native_database.run(f"CREATE ROLE {role} LOGIN")
    try:
        native_database.run(f"ALTER DATABASE {native_database.name} OWNER TO {role}")
        writer = make_conninfo(native_database.dsn, user=role)
        migrate(Database(Server("native", writer), native_database.name), "native")
        backed_up = dump(native_database, tmp_path)
        replace(native_database.dsn, backed_up, bin_dirs=[binaries()], say=lambda _: None)
        owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
        assert native_database.run(owners) == [(role,)]
        with psycopg.connect(writer) as connection:
            connection.execute("CREATE TABLE made_later ()")
        assert not native_database.value(f"SELECT has_table_privilege('{READER_ROLE}', 'made_later', 'SELECT')")
        assert native_database.value(f"SELECT has_table_privilege('{READER_ROLE}', 'logs', 'SELECT')")
    finally:
        with psycopg.connect(embedded_server.dsn, autocommit=True) as server:
            like = (f"{role[:38]}%",)
            for (name,) in server.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", like).fetchall():
                server.execute(f'DROP DATABASE "{name}"'.encode())
            server.execute(f"CREATE DATABASE {native_database.name}".encode())
            server.execute(f"DROP ROLE {role}".encode())


def test_only_so_many_are_kept_and_nothing_else_is_removed(native: Database, tmp_path: Path) -> None:
    base = archive.name(native.name, archive_time(1), None)
    old = [archive.name(native.name, archive_time(day), None) for day in (1, 2, 3)]
    others = [base + ".txt", "another-20200101T000000Z-native.dump", base.replace("-native", "-extra-native")]
    for name in old + others:
        (tmp_path / name).write_text("")
    made = backup(native.dsn, tmp_path, keep=2, bin_dirs=[binaries()], progress=lambda _: None)
    assert [path.name for path in made.removed] == old[:2]
    assert {path.name for path in tmp_path.glob("*.*")} == {*others, old[2], made.path.name, ".lock"}
    assert made.path.stat().st_mode & 0o777 == 0o600


def test_a_new_backup_stays_although_others_are_of_a_later_date(native: Database, tmp_path: Path) -> None:
    """They were made when the clock was wrong, and are the ones to go."""
    later = [archive.name(native.name, datetime(2999, 1, day, tzinfo=UTC), None) for day in (1, 2, 3)]
    for name in later:
        (tmp_path / name).write_text("")
    made = backup(native.dsn, tmp_path, keep=2, bin_dirs=[binaries()], progress=lambda _: None)
    assert [path.name for path in made.removed] == later[:2]
    assert {path.name for path in tmp_path.glob("*.dump")} == {later[2], made.path.name}


def archive_time(day: int) -> datetime:
    return datetime(2020, 1, day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pg_dump", "message"),
    [
        ("echo 'pg_dump: error: No space left on device' >&2; exit 1", "The disk is full: free some space"),
        (
            '$real/pg_dump "$@" && for o; do case $o in --file=*) truncate -s -500 "${o#--file=}";; esac; done',
            "pg_rest",
        ),
    ],
    ids=["fails", "is cut off"],
)
def test_a_backup_that_fails_leaves_nothing_and_removes_nothing(
    native: Database, tmp_path: Path, pg_dump: str, message: str
) -> None:
    good = dump(native, tmp_path / "out")
    with pytest.raises(BackupError, match=message):
        dump(native, tmp_path / "out", keep=1, bin_dir=programs(tmp_path / "bin", pg_dump, chosen_for(native)))
    assert list((tmp_path / "out").glob("*.dump*")) == [good]


def test_a_disk_that_is_full(native: Database, tmp_path: Path) -> None:
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=16k", "tmpfs", place], check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with pytest.raises(BackupError, match="The disk is full"):
            dump(native, place)
        assert list(place.glob("*.dump*")) == []
    finally:
        subprocess.run(["umount", "--lazy", place], check=False)


def test_a_password_is_on_no_command_line(native: Database, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded"
    folder = programs(
        tmp_path / "bin",
        f'echo "$@" > {recorded}; echo "$PGPASSWORD" >> {recorded}; exec $real/pg_dump "$@"',
        chosen_for(native),
    )
    secret = Database(Server("native", make_conninfo(native.dsn, password="s3cret !")), native.name)
    dump(secret, tmp_path / "out", bin_dir=folder)
    arguments, password = recorded.read_text().splitlines()
    assert password == "s3cret !"
    assert "s3cret" not in arguments


def test_programs_that_are_too_old_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = programs(tmp_path / "old", "", binaries(), version="15.20")
    monkeypatch.setattr(tools, "_on_path", lambda: [old])
    with pytest.raises(BackupError, match=r"PostgreSQL 18 are needed.*only 15 was found.*postgresql-client-18"):
        tools.find(18, [])
    assert tools.find(15, [binaries()]).major == 15
    assert tools.find(16, [binaries()]).major == 18
    with pytest.raises(BackupError, match="only 15, 18 was found"):
        tools.find(19, [binaries()])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_one_that_is_ended_leaves_no_backup(native: Database, tmp_path: Path, number: signal.Signals) -> None:
    """Not even SIGKILL leaves something that bears a backup's name, and the next one clears away what it did leave."""
    out, pid = tmp_path / "out", tmp_path / "pid"
    folder = programs(tmp_path / "bin", f"echo $$ > {pid}; exec sleep 600", chosen_for(native))
    command = [sys.executable, "-m", "gateway", "db", "backup", "--output", out, "--bin-dir", folder]
    process = subprocess.Popen([*command, "--dsn", native.dsn], cwd=ROOT, env=environment())
    try:
        until(lambda: pid.exists() and pid.read_text().endswith("\n"))
        process.send_signal(number)
        assert process.wait(PATIENCE) != 0
    finally:
        process.kill()
        process.wait()
        if number is signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):  # it may have ended already
                os.kill(int(pid.read_text()), signal.SIGKILL)
    left = list(out.glob("*.dump*"))
    assert [path.suffix for path in left] == ([".partial"] if number is signal.SIGKILL else [])
    assert list(out.glob("*.dump*")) == left
    dump(native, out)
    assert len(list(out.glob("*.dump*"))) == 1


def test_on_the_command_line(native: Database, embedded_server: Server, tmp_path: Path) -> None:
    made = obs_hub("db", "backup", "--dsn", native.dsn, "--output", tmp_path)
    assert made.returncode == 0, made.stderr
    path = made.stdout.rpartition(" (")[0]
    with fresh(embedded_server) as other:
        done = obs_hub("db", "restore", path, "--dsn", other.dsn)
        assert done.returncode == 0, done.stderr
        assert "The store is restored: layout native" in done.stdout
        again = obs_hub("db", "restore", path, "--dsn", other.dsn)
        assert again.returncode == 1
        assert "is not empty" in again.stderr


def test_a_restore_that_is_broken_off_leaves_a_store_that_nobody_takes_for_whole(
    filled: Filled, target: Database, tmp_path: Path
) -> None:
    programs_that_halt, pid = stuck_pg_restore(tmp_path, chosen_for(target))
    command = [sys.executable, "-m", "gateway", "db", "restore", str(filled.backup), "--dsn", target.dsn]
    with (tmp_path / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [*command, "--bin-dir", str(programs_that_halt)], cwd=ROOT, env=environment(), stderr=stderr
        )
    until(lambda: pid.exists() or process.poll() is not None)
    assert process.poll() is None, (tmp_path / "stderr").read_text()
    child = psutil.Process(int(pid.read_text()))
    with pytest.raises(BackupError, match="another restore into this database is under way"):
        load(target, filled.backup)
    process.kill()
    process.wait(PATIENCE)
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)

    for use in (lambda: migrate(target), lambda: dump(target, tmp_path / "backup")):
        with pytest.raises((SchemaError, BackupError), match="not whole"):
            use()
    with target.connect() as connection, pytest.raises(SchemaError, match="not whole"):
        Maintenance(settings(), migrate(filled.database)).run(connection)
    assert "not whole" in obs_hub("db", "status", "--dsn", target.dsn).stderr

    until(lambda: load_again(target, filled.backup))
    assert contents(target) == contents(filled.database)
    indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'"
    assert target.value(indexes) == filled.database.value(indexes)
    assert migrate(target).name == target.server.layout


def load_again(database: Database, path: Path) -> bool:
    """Restore, once the server has noticed that who did so before is gone."""
    try:
        load(database, path)
    except BackupError as error:
        if "under way" in str(error):
            return False
        raise
    return True


async def test_whoever_looks_says_that_a_store_is_not_whole(database: Database, tmp_path: Path) -> None:
    """A gateway does not start on it, the page is not ready, the doctor finds it."""
    migrate(database)
    view: Any = SimpleNamespace(dsn=database.dsn)
    assert (await Probe(view).check_store()).state is State.OK
    with database.connect() as connection:
        restore_mark.mark(connection, "public")
    with pytest.raises(SchemaError, match="run `obs-hub db restore FILE` again"):
        async with running_exporter(database):
            pass
    store = await Probe(view).check_store()
    assert (store.state, store.detail) == (
        State.DOWN,
        "it is not whole: a restore or a copy is under way, or was broken off",
    )
    config = tmp_path / "hub.yaml"
    config.write_text(
        f'receivers: {{otlp: }}\nexporters: {{timescale: {{dsn: "{database.dsn}"}}}}\n'
        "service: {pipelines: {logs: {receivers: [otlp], exporters: [timescale]}}}\n"
    )
    found = [each for each in examine(load_config(config), DataDir(tmp_path / "data")) if each.subject == "store"]
    assert [each.ok for each in found] == [False]
    assert "not whole" in found[0].detail


def test_databases_of_replacements_that_were_broken_off_are_removed(filled: Filled, target: Database) -> None:
    """Those that are whole stay: they may be waiting to be given their name by hand."""
    left, whole = (f"{target.name[:38]}_restore_{each}" for each in ("20260101t000000z", "20260102t000000z"))
    for name in (left, whole):
        target.run(f"CREATE DATABASE {name}")
    try:
        with Database(target.server, left).connect() as connection:
            restore_mark.mark(connection, "public")
        Database(target.server, whole).run("CREATE TABLE store_setting ()")
        replace(target.dsn, filled.backup, bin_dirs=[binaries()], say=lambda _: None)
        names = target.value("SELECT array_agg(datname::text) FROM pg_database")
        assert left not in names
        assert whole in names
    finally:
        with psycopg.connect(target.server.dsn, autocommit=True) as server:
            like = (f"{target.name[:38]}\\_%",)
            for (name,) in server.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", like).fetchall():
                server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
