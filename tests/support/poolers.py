"""PgBouncer in front of a database, for tests that connect through it."""

from __future__ import annotations

import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.integration.cli.processes import free_port
from tests.support.databases import Server
from tests.support.waiting import PATIENCE

PROGRAM = "pgbouncer"


def need_program() -> None:
    """Skip a test where there is no PgBouncer."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not on PATH")


@contextmanager
def bouncing(server: Server, pool_mode: str, **settings: object) -> Iterator[Server]:
    """Run a PgBouncer for all databases of a server; yields the server as it is reached through it.

    A pool has few connections, so that whoever relies on a session of its own meets the sessions of others.
    """
    its = {"dbname": "postgres", **conninfo_to_dict(server.dsn)}
    with tempfile.TemporaryDirectory(prefix="obs-hub-pool-") as name:
        folder, port = Path(name), free_port()
        folder.chmod(0o755)
        users, log, ini = folder / "users", folder / "log", folder / "pgbouncer.ini"
        users.write_text("".join(f'"{user}" ""\n' for user in (its["user"], f"{its['user']}_query")))
        log.touch()
        log.chmod(0o666)
        general = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": users,
            "logfile": log,
            "pool_mode": pool_mode,
            "default_pool_size": 4,
            "server_round_robin": 1,
            **settings,
        }
        lines = "".join(f"{name} = {value}\n" for name, value in general.items())
        ini.write_text(f"[databases]\n* = host={its['host']} port={its['port']}\n[pgbouncer]\n{lines}")
        # It refuses to run as root; the embedded server's socket is for its own user only.
        socket = Path(str(its["host"]))
        owner = pwd.getpwuid(socket.stat().st_uid).pw_name if socket.is_absolute() else "nobody"
        process = subprocess.Popen([PROGRAM, "-q", "-u", owner, str(ini)], stderr=subprocess.DEVNULL)
        try:
            dsn = make_conninfo("", host="127.0.0.1", port=port, user=its["user"], dbname=its["dbname"])
            _wait(process, dsn, log)
            yield Server(server.layout, dsn)
        finally:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], dsn: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(psycopg.OperationalError):
            psycopg.connect(dsn).close()
            return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
