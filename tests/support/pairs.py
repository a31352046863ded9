"""A PostgreSQL pair: a primary and a standby that replicates it as a stream, of the embedded PostgreSQL's programs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from gateway.embedded._account import server_account
from gateway.embedded._binaries import binaries_for
from tests.integration.cli.processes import free_port
from tests.support import clusters
from tests.support.waiting import PATIENCE

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # nothing here loses power
    "shared_buffers": "32MB",
    "max_connections": "60",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "100ms",
    "hot_standby": "on",
    "max_wal_senders": "4",
    "wal_keep_size": "256MB",
}
_ACCESS = "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"


class Node:
    """A server of its own, started from a data directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._account = server_account(clusters.shared_data())
        self._programs = binaries_for(self._account)

    @property
    def dsn(self) -> str:
        """The connection string of the store on this node alone."""
        return make_conninfo(host="127.0.0.1", port=self.port, user="obs_hub", dbname="obs_hub")

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        access, configured = self.folder / "pg_hba.conf", self.folder / "postgresql.conf"
        options = _SETTINGS | {"port": str(self.port), "hba_file": str(access)}
        access.write_text(_ACCESS)
        configured.write_text("".join(f"{name} = '{value}'\n" for name, value in options.items()))
        for file in (access, configured):
            file.chmod(0o644)
        command = [self._programs / "postgres", "-D", self.data, "-c", f"config_file={configured}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._as()
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(psycopg.Error), self.connect():
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def copy(self, other: Node) -> None:
        """Become a standby of another node, by `pg_basebackup`, and start."""
        self.run(
            *("pg_basebackup", "--pgdata", self.data, "--write-recovery-conf", "--checkpoint", "fast", "--no-sync"),
            *("--dbname", make_conninfo(other.dsn, dbname="", application_name="standby")),
        )
        self.start()

    def run(self, program: str, *arguments: object) -> None:
        """Run one of PostgreSQL's programs as the user of the server."""
        subprocess.run([self._programs / program, *map(str, arguments)], check=True, capture_output=True, **self._as())

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=True)

    def value(self, query: str) -> Any:
        """Return the one value that a query has."""
        with self.connect() as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]

    def set(self, name: str, value: str) -> None:
        """Set something for the whole server."""
        with self.connect() as connection:
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            connection.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Make a standby a primary, and wait until it is."""
        self.run("pg_ctl", "promote", "--pgdata", self.data, "--wait")

    def suspend(self) -> None:
        """Let it stand still, as a machine that hangs does."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def kill(self) -> None:
        """End it and all of its processes at once, as a machine that loses power does."""
        if self._process is not None and self._process.poll() is None:
            for process in self._processes():
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            self._process.wait(PATIENCE)

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        return [server, *server.children(recursive=True)]

    def _as(self) -> dict[str, Any]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        options: dict[str, Any] = {"env": kept, "cwd": "/", "umask": 0o077}
        if self._account.switch:
            options |= {"user": self._account.uid, "group": self._account.gid, "extra_groups": []}
        return options


@contextmanager
def pair(*, synchronous: bool) -> Iterator[tuple[Node, Node]]:
    """A primary with an empty store, and its standby. Synchronous, the primary waits for it with every commit."""
    folder = Path(tempfile.mkdtemp(prefix="obs-hub-pair-"))
    folder.chmod(0o711)
    nodes = []
    try:
        for name in ("a", "b"):
            (folder / name).mkdir(mode=0o711)
            nodes.append(Node(folder / name))
            nodes[-1]._account.own(folder / name)
        primary, standby = nodes
        clusters.place_data(primary.data)
        primary.start()
        standby.copy(primary)
        if synchronous:
            primary.set("synchronous_standby_names", "FIRST 1 (standby)")
            deadline = time.monotonic() + PATIENCE
            while primary.value("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") != 1:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield primary, standby
    finally:
        for node in nodes:
            with suppress(psutil.NoSuchProcess):
                node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def either(primary: Node, standby: Node) -> str:
    """The connection string that leads to whichever of them can be written to."""
    return make_conninfo(
        host="127.0.0.1,127.0.0.1",
        port=f"{primary.port},{standby.port}",
        user="obs_hub",
        dbname="obs_hub",
        target_session_attrs="read-write",
    )
