"""The embedded PostgreSQL, for real: each test has a server of its own."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from gateway.embedded import EmbeddedPostgres, EmbeddedPostgresError, _account, _binaries, _logs, _postmaster
from tests.integration.cli.processes import free_port
from tests.support import clusters
from tests.support.waiting import PATIENCE

START = """
import sys
from pathlib import Path
from gateway.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory outside of pytest's own, which each run of pytest closes to the user that the server may run as."""
    directory = Path(tempfile.mkdtemp(prefix="obs-hub-test-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that is not started, and is stopped in the end. Unless a test is about that, its database is made."""
    embedded = EmbeddedPostgres(tmp_path / "postgres", start_timeout=PATIENCE)
    if not request.node.get_closest_marker("empty_database"):
        clusters.place(embedded.directory, waits_for_disk=True)
    yield embedded
    embedded.stop()


def orphan(directory: Path) -> int:
    """Start a server in a process that is killed then, and return the server's pid."""
    with subprocess.Popen(
        [sys.executable, "-c", START, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as hub:
        assert hub.stdout is not None
        pid = int(hub.stdout.readline())
        os.kill(hub.pid, signal.SIGKILL)
    return pid


def wait_gone(pid: int) -> None:
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    while not _postmaster.gone(process):
        time.sleep(0.01)


def one(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


@pytest.mark.empty_database
def test_it_serves_a_utf8_database_over_its_socket_and_keeps_the_data(server: EmbeddedPostgres) -> None:
    dsn = server.start()
    assert dsn == server.dsn
    assert one(dsn, "SELECT current_database()") == "obs_hub"
    assert one(dsn, "SHOW server_encoding") == "UTF8"
    assert one(dsn, "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = 'obs_hub'") == "bC.UTF-8"
    assert one(dsn, "SHOW data_checksums") == "on"
    assert one(dsn, "SHOW max_wal_size") == "2GB"
    assert one(dsn, "SHOW synchronous_commit") == "on"
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'Zürich' AS place")
    server.stop()
    assert server.pid is None
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)
    assert one(server.start(), "SELECT place FROM kept") == "Zürich"


def test_starting_twice_and_stopping_twice_do_nothing(server: EmbeddedPostgres) -> None:
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    server.stop()


def test_the_socket_is_the_only_way_in(server: EmbeddedPostgres) -> None:
    server.start()
    assert server.pid is not None
    process = psutil.Process(server.pid)
    assert [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN] == []
    folder = server.directory / "socket"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == process.uids().real == server.data.stat().st_uid
    rules = [line.split() for line in (server.data / "pg_hba.conf").read_text().splitlines()]
    assert {rule[-1] for rule in rules if rule[:1] == ["host"]} == {"reject"}


def listens_on(server: EmbeddedPostgres) -> set[tuple[str, int]]:
    """What the server listens on, of TCP."""
    assert server.pid is not None
    found = psutil.Process(server.pid).net_connections("inet")
    return {tuple(one.laddr) for one in found if one.status == psutil.CONN_LISTEN}


def refusal(**how: object) -> str:
    """Try to log in over TCP, and return why that was refused."""
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(host="127.0.0.1", dbname="obs_hub", **how)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_port_lets_readers_in_by_their_password_and_nobody_else(tmp_path: Path) -> None:
    port = free_port()
    server = EmbeddedPostgres(tmp_path / "postgres", port=port, start_timeout=PATIENCE)
    with server, psycopg.connect(server.dsn, autocommit=True) as writer:
        assert listens_on(server) == {("127.0.0.1", port)}
        writer.execute("CREATE ROLE obs_hub_reader NOLOGIN")
        writer.execute("CREATE ROLE grafana LOGIN PASSWORD 'right' IN ROLE obs_hub_reader")
        writer.execute("CREATE ROLE other LOGIN PASSWORD 'right'")
        writer.execute("ALTER ROLE obs_hub PASSWORD 'right'")

        reader = f"postgresql://grafana:right@127.0.0.1:{port}/obs_hub"
        with psycopg.connect(reader) as connection:
            assert connection.pgconn.used_password
            assert connection.execute("SELECT current_user").fetchone() == ("grafana",)
        assert one(server.dsn, "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'grafana'")
        assert "password authentication failed" in refusal(port=port, user="grafana", password="wrong")
        assert "no password supplied" in refusal(port=port, user="grafana")
        for user in ("obs_hub", "other"):
            assert "pg_hba.conf rejects" in refusal(port=port, user=user, password="right")
        rules = one(server.dsn, "SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules WHERE type = 'host'")
        assert rules == ["reject", "scram-sha-256"]


def test_a_port_that_is_taken_is_said_before_the_database_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = EmbeddedPostgres(tmp_path / "postgres", port=taken.getsockname()[1])
        with pytest.raises(EmbeddedPostgresError, match=r"Address already in use.*choose another by --postgres-port"):
            server.start()
    assert not server.data.exists()


def test_a_server_that_a_killed_hub_left_gets_the_port_that_it_is_to_have_now(tmp_path: Path) -> None:
    orphan(tmp_path / "postgres")
    for port in (free_port(), None):
        server = EmbeddedPostgres(tmp_path / "postgres", port=port, start_timeout=PATIENCE)
        server.start()
        assert one(server.dsn, "SELECT 1") == 1
        assert listens_on(server) == (set() if port is None else {("127.0.0.1", port)})
    server.stop()


def test_the_terminals_signals_do_not_reach_it(server: EmbeddedPostgres) -> None:
    server.start()
    assert server.pid is not None
    assert os.getpgid(server.pid) == server.pid
    assert os.getsid(server.pid) == server.pid


def test_a_server_that_a_killed_hub_left_is_taken_over_and_can_be_stopped(server: EmbeddedPostgres) -> None:
    pid = orphan(server.directory)
    assert one(server.start(), "SELECT 1") == 1
    assert server.pid == pid
    server.stop()
    wait_gone(pid)
    assert not (server.data / "postmaster.pid").exists()


def test_a_server_that_had_just_been_started_when_its_hub_was_killed_is_taken_over(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = orphan(server.directory)
    looks = iter([False])  # it has not said yet that it is there
    real = server._take_over
    monkeypatch.setattr(server, "_take_over", lambda deadline: next(looks, None) is None and real(deadline))
    assert one(server.start(), "SELECT 1") == 1
    assert server.pid == pid


def test_a_server_that_is_stopping_is_waited_for_and_replaced(server: EmbeddedPostgres) -> None:
    pid = orphan(server.directory)
    os.kill(pid, signal.SIGINT)
    assert one(server.start(), "SELECT 1") == 1
    assert server.pid != pid


def test_a_server_that_was_killed_is_recovered(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.start()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
    assert server.pid is not None
    pid = server.pid
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)
    assert one(server.start(), "SELECT number FROM kept") == 1


def test_a_pid_file_that_names_a_process_of_something_else_is_in_nobodys_way(server: EmbeddedPostgres) -> None:
    server.start()
    content = (server.data / "postmaster.pid").read_text().splitlines()
    assert server._socket is not None
    lock = server._socket / ".s.PGSQL.5432.lock"
    beside_socket = lock.read_text().splitlines()
    server.stop()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        (server.data / "postmaster.pid").write_text("\n".join([str(bystander.pid), *content[1:]]) + "\n")
        lock.parent.mkdir(exist_ok=True)
        lock.write_text("\n".join([str(bystander.pid), *beside_socket[1:]]) + "\n")
        assert one(server.start(), "SELECT 1") == 1
        assert server.pid != bystander.pid
        server.stop()
        assert bystander.poll() is None
        bystander.communicate(b"\n")


def test_an_empty_pid_file_is_in_nobodys_way(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    (server.data / "postmaster.pid").touch()
    assert one(server.start(), "SELECT 1") == 1


@pytest.mark.empty_database
def test_a_database_that_was_being_made_when_the_hub_was_killed_is_made_anew(server: EmbeddedPostgres) -> None:
    half = server.directory / "initdb-half"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    assert one(server.start(), "SELECT 1") == 1
    assert list(server.directory.glob("initdb-*")) == []


@pytest.mark.empty_database
def test_a_hub_that_is_killed_while_it_makes_the_database_leaves_none(server: EmbeddedPostgres) -> None:
    with subprocess.Popen([sys.executable, "-c", START, str(server.directory)], stdin=subprocess.PIPE) as hub:
        while not any(server.directory.glob("initdb-*/base")):
            assert hub.poll() is None
        os.kill(hub.pid, signal.SIGKILL)
    assert not server.data.exists()
    assert one(server.start(), "SELECT 1") == 1


@pytest.mark.empty_database
def test_an_initdb_that_fails_says_what_it_said_and_leaves_nothing(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fakes = tmp_path / "bin"
    fakes.mkdir()
    (fakes / "postgres").touch()
    (fakes / "initdb").write_text("#!/bin/sh\necho 'could not write: No space left on device' >&2\nexit 1\n")
    (fakes / "initdb").chmod(0o755)
    tmp_path.chmod(0o755)  # the fakes are run as another user where root runs the tests
    monkeypatch.setattr("gateway.embedded._binaries.binaries", lambda: fakes)
    with pytest.raises(EmbeddedPostgresError, match=r"could not write: No space left(?s:.*)is full: free some space"):
        server.start()
    assert not server.data.exists()
    assert list(server.directory.glob("initdb-*")) == []


def test_a_server_that_does_not_start_says_why(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    with (server.data / "postgresql.conf").open("a") as file:
        file.write("shared_buffers = 'much'\n")
    with pytest.raises(EmbeddedPostgresError, match=r'invalid value for parameter "shared_buffers": "much"'):
        server.start()
    assert server.pid is None


def test_settings_below_the_include_win_and_the_way_in_stays_closed(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    with (server.data / "postgresql.conf").open("a") as file:
        file.write("work_mem = '9MB'\nlisten_addresses = '127.0.0.1'\n")
    assert one(server.start(), "SHOW work_mem") == "9MB"
    assert one(server.dsn, "SHOW listen_addresses") == ""


@pytest.mark.empty_database
def test_a_database_of_another_major_version_is_refused(server: EmbeddedPostgres) -> None:
    server.data.mkdir(parents=True)
    (server.data / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedPostgresError, match=r"made by PostgreSQL 16, and this is PostgreSQL 18.*pg_upgrade"):
        server.start()


@pytest.mark.empty_database
def test_a_folder_with_something_else_in_it_is_left_alone(server: EmbeddedPostgres) -> None:
    server.data.mkdir(parents=True)
    (server.data / "thesis.txt").touch()
    with pytest.raises(EmbeddedPostgresError, match="holds no database, but is not empty"):
        server.start()
    assert (server.data / "thesis.txt").exists()


def test_a_path_too_long_for_a_socket_is_served_from_a_short_private_one(tmp_path: Path) -> None:
    deep = EmbeddedPostgres(tmp_path.joinpath(*["a-long-name"] * 9) / "postgres", start_timeout=PATIENCE)
    try:
        assert one(deep.start(), "SELECT 1") == 1
        folder = Path(str(one(deep.dsn, "SHOW unix_socket_directories")).strip('"'))
        assert tmp_path not in folder.parents
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        deep.stop()
        assert not folder.exists()
        assert one(deep.start(), "SELECT 1") == 1
    finally:
        deep.stop()


@pytest.mark.parametrize("name", ['a "quoted", name', "späte % post"])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    with EmbeddedPostgres(tmp_path / name / "pg", start_timeout=PATIENCE) as server:
        assert one(server.dsn, "SELECT current_database()") == "obs_hub"


@pytest.mark.empty_database
def test_the_environment_of_a_postgresql_user_does_not_matter(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATABASE", "other")
    monkeypatch.setenv("PGDATA", "/nonexistent")
    assert one(server.start(), "SELECT current_database()") == "obs_hub"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as someone else")
def test_root_opens_no_directory_above_the_servers_own(tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir(mode=0o700)
    closed = outer / "closed"
    closed.mkdir(mode=0o750)
    above = [closed, *closed.parents]
    before = [(each.stat().st_mode, each.stat().st_uid, each.stat().st_gid) for each in above]
    server = EmbeddedPostgres(closed / "postgres", start_timeout=PATIENCE)
    try:
        server.start()
        server.stop()
        server.start()  # one that is made already
        assert server.pid is not None
        assert psutil.Process(server.pid).uids().real != 0
        # What it needs later, too: new files, a log, its settings read again, workers that do part of a query.
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
            connection.execute("SET debug_parallel_query = on")
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (1000,)
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("CHECKPOINT")
        assert list(server.logs.glob("postgresql-*.log"))
    finally:
        server.stop()
    assert [(each.stat().st_mode, each.stat().st_uid, each.stat().st_gid) for each in above] == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as someone else")
def test_a_killed_hub_of_root_is_followed_in_a_private_directory(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    pid = orphan(closed / "postgres")
    with EmbeddedPostgres(closed / "postgres", start_timeout=PATIENCE) as server:
        assert server.pid == pid
        assert one(server.dsn, "SELECT 1") == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as someone else")
def test_programs_that_root_alone_may_read_are_copied_and_their_place_stays_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = _binaries.binaries().parents[1]
    before = package.stat().st_mode
    with tempfile.TemporaryDirectory(prefix="obs-hub-test-") as cache:
        Path(cache).chmod(0o755)
        monkeypatch.setattr(_binaries, "_COPIES", Path(cache) / "obs-hub")
        monkeypatch.setattr(_account.Account, "passes", lambda self, path: not path.is_relative_to(package))
        with EmbeddedPostgres(tmp_path / "postgres", start_timeout=PATIENCE) as server:
            assert server.pid is not None
            assert psutil.Process(server.pid).exe().startswith(cache)
            assert one(server.dsn, "SELECT 1") == 1
        (copy,) = (Path(cache) / "obs-hub").iterdir()
        copy.chmod(0o777)
        with pytest.raises(EmbeddedPostgresError, match="does not belong to root alone"):
            server.start()
    assert package.stat().st_mode == before


@pytest.mark.empty_database
def test_the_server_gets_none_of_the_secrets_in_the_environment(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAO_SECRET_ID", "made-up-secret")
    monkeypatch.setenv("LC_MESSAGES", "C")
    server.start()
    assert server.pid is not None
    found = psutil.Process(server.pid).environ()
    assert "BAO_SECRET_ID" not in found
    assert found["LC_MESSAGES"] == "C"
    assert "PATH" in found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a system user")
@pytest.mark.empty_database
def test_root_without_a_system_user_is_told_what_to_do(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_account, "_look_up", lambda name: None)
    monkeypatch.setattr(_account, "_make_system_user", lambda: "there is no useradd")
    with pytest.raises(EmbeddedPostgresError, match=r"could not be made \(there is no useradd\).*as another user"):
        server.start()


@pytest.mark.parametrize(
    ("machine", "advice"), [("armv7l", "no embedded PostgreSQL for this machine"), ("x86_64", "reinstall")]
)
@pytest.mark.empty_database
def test_without_the_package_it_says_whether_there_is_one_for_this_machine(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, machine: str, advice: str
) -> None:
    monkeypatch.setattr(_binaries, "find_spec", lambda _: None)
    monkeypatch.setattr("platform.machine", lambda: machine)
    with pytest.raises(EmbeddedPostgresError, match=rf"{advice}.*dsn for the timescale exporter"):
        server.start()


def test_only_the_newest_log_files_are_kept(tmp_path: Path) -> None:
    names = [f"postgresql-2026010{day}-000000.log" for day in range(1, 9)]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "other.log").touch()
    _logs.prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.log", *names[-_logs.KEPT_FILES :]]
