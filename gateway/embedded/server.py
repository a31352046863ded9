"""One embedded PostgreSQL server: made, started or found running, and stopped.

Its directory belongs to the hub and holds::

    data/          the database; owned, like the two below, by the user that the server runs as
    log/           the server's log
    socket/        a Unix socket in a directory that no other user may enter: the only way in, unless a port is open
    obs-hub.conf   the settings, written at each start
    obs-hub.hba.conf
                   who may log in, where a port is open; likewise
    start.log      what the server said before its log was open
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
import structlog
from psycopg import sql

from gateway.base.child_environment import environment
from gateway.base.exit_status import ended_with
from gateway.embedded import _logs, _postmaster, _settings
from gateway.embedded._account import Account, server_account
from gateway.embedded._binaries import MAJOR_VERSION, binaries, binaries_for
from gateway.embedded._socket import PORT, socket_folder
from gateway.embedded.errors import EmbeddedPostgresError
from gateway.files.durability import replace_file, sync
from gateway.store import READER_ROLE, connect

DATABASE = "obs_hub"
USER = "obs_hub"

Step = Callable[[str], AbstractContextManager[object]]
"""Is told what a start is busy with, for the length of a block."""

_POLL = 0.05
_QUIT_TIMEOUT = 10.0
_PRUNE_INTERVAL = 60.0
_HANDED = "/proc/self/fd/"

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class EmbeddedPostgres:
    """A PostgreSQL server in a directory of its own, reached over a Unix socket.

    With a ``port`` it also listens on that of 127.0.0.1, for readers (`READER_ROLE`) alone and by password.

    The caller holds the lock of the data directory around it: two of these on one directory are not foreseen. All
    methods block. ``start_timeout`` (seconds) bounds a start, and has room for the recovery after a crash;
    ``stop_timeout`` bounds the orderly stop.

    The server is in a session of its own: Ctrl-C reaches the gateway alone, which stops the server when it has
    drained. A gateway that is killed leaves its server running, and the next start takes it over.
    """

    def __init__(
        self, directory: Path, *, port: int | None = None, start_timeout: float = 300.0, stop_timeout: float = 60.0
    ) -> None:
        self.directory = directory.resolve()
        self.data = self.directory / "data"
        self.logs = self.directory / "log"
        self._start_output = self.directory / "start.log"
        self._settings_file = self.directory / _settings.FILE_NAME
        self._access_file = self.directory / _settings.ACCESS_FILE_NAME
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._process: psutil.Process | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: Path | None = None
        self._listens_on = port
        self._port = port or PORT
        self._stopping = threading.Event()
        self._opened: int | None = None

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def dsn(self) -> str:
        """The connection string of the database. Only valid once `start` has returned."""
        return self._dsn(DATABASE)

    @property
    def pid(self) -> int | None:
        """The server's process, while it runs."""
        return self._process.pid if self._process is not None and self._alive() else None

    def start(self, step: Step = contextlib.nullcontext) -> str:
        """Start the server, or take over the one that a killed hub left, and return the connection string.

        Makes the database when it is not there. Does nothing when the server runs. ``step`` is told what is being done.
        Raises `EmbeddedPostgresError`.
        """
        if self.pid is not None:
            return self.dsn
        deadline = time.monotonic() + self._start_timeout
        try:
            self._start(deadline, step)
        except BaseException as error:
            if self._child is not None:
                with contextlib.suppress(EmbeddedPostgresError):
                    self.stop()
            self._process = None
            if isinstance(error, OSError | subprocess.SubprocessError):
                raise EmbeddedPostgresError(
                    f"the embedded PostgreSQL in {self.directory} cannot be prepared: {error}"
                ) from error
            raise
        finally:
            self._close()
        self._stopping.clear()
        threading.Thread(target=self._keep_logs_bounded, name="postgres-logs", daemon=True).start()
        return self.dsn

    def stop(self) -> None:
        """Stop the server: connections are ended, everything is written down. Does nothing when it does not run.

        Raises `EmbeddedPostgresError` when it cannot be stopped.
        """
        self._stopping.set()
        if self._process is None:
            return
        if not self._end(signal.SIGINT, self._stop_timeout):
            _log.warning("the embedded PostgreSQL did not stop in time; ending it at once", seconds=self._stop_timeout)
            if not self._end(signal.SIGQUIT, _QUIT_TIMEOUT):
                raise EmbeddedPostgresError(f"the embedded PostgreSQL (pid {self._process.pid}) does not stop")
        self._process = self._child = None
        if self._socket is not None and self._socket.parent != self.directory:
            with contextlib.suppress(OSError):
                self._socket.rmdir()  # one under the temporary directory

    # -- Starting ------------------------------------------------------------------------------------------------------

    def _start(self, deadline: float, step: Step) -> None:
        account = server_account(self.data)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if account.switch:
            self._open_for(account)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        account.own(self.logs)
        self._check_version()
        settings = _settings.file_text(f"../{self.logs.name}").encode()
        access = _settings.access_text(DATABASE, USER, READER_ROLE).encode()
        replace_file(self._settings_file, settings, mode=0o644, lasting=False)  # the server's user reads it
        replace_file(self._access_file, access, mode=0o644, lasting=False)
        _logs.prune(self.logs)
        if not self._take_over(deadline):
            self._check_port()
            if not self._is_made():
                with step("making the database"):
                    self._make(account)
            with step("starting PostgreSQL"):
                self._launch(account)
                # It ends when a hub that was killed had started one that had not said so yet.
                if not self._ready(deadline) and not self._take_over(deadline):
                    raise self._failure("the embedded PostgreSQL ended while it was starting")
        self._make_database()

    def _check_port(self) -> None:
        if self._listens_on is None:
            return
        try:
            socket.create_server((_settings.HOST, self._listens_on)).close()
        except OSError as error:
            raise EmbeddedPostgresError(
                f"the embedded PostgreSQL cannot listen on {_settings.HOST}:{self._listens_on} ({error.strerror}); "
                "free that port, or choose another by --postgres-port or exporters.timescale.embedded_port"
            ) from error

    def _open_for(self, account: Account) -> None:
        """Let another user's server reach this directory, and nothing above it.

        The server is handed the directory open, so that no mode has to change on the way to it, be it private.
        """
        self.directory.chmod(0o711)  # pass through; what is in it has owners and modes of its own
        if not Path("/proc/self/fd").is_dir():
            raise EmbeddedPostgresError(
                f"PostgreSQL refuses to run as root, and the user {account.name}, who runs it, cannot be handed "
                f"{self.directory} without /proc; mount it, or run the hub as another user than root"
            )
        self._close()
        self._opened = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)

    def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            os.close(opened)

    def _seen(self, path: Path) -> str:
        """Return a path as the server names it: below the directory by the descriptor that it was handed."""
        if self._opened is None or not path.is_relative_to(self.directory):
            return str(path)
        return f"{_HANDED}{self._opened}/{path.relative_to(self.directory)}"

    def _socket_of(self, found: _postmaster.PidFile) -> Path | None:
        """Return the folder of a server's socket as it is reached from here."""
        if found.socket is not None and str(found.socket).startswith(_HANDED):
            return self.directory / found.socket.name
        return found.socket

    def _check_version(self) -> None:
        if not self.data.exists():
            return
        try:
            version = (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            if any(self.data.iterdir()):
                raise EmbeddedPostgresError(
                    f"{self.data} holds no database, but is not empty; move it away, or choose another --data-dir"
                ) from None
            return
        if version != str(MAJOR_VERSION):
            raise EmbeddedPostgresError(
                f"the database in {self.data} was made by PostgreSQL {version or '(unknown)'}, and this is PostgreSQL "
                f"{MAJOR_VERSION}, which cannot read it; move it to this version with pg_upgrade or with pg_dump and "
                "pg_restore, or choose another --data-dir"
            )

    def _is_made(self) -> bool:
        return (self.data / "PG_VERSION").exists()

    def _make(self, account: Account) -> None:
        """Make the database in a directory beside, and rename it: killed half-way, it leaves nothing half-made."""
        for leftover in self.directory.glob("initdb-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.directory))
        try:
            account.own(fresh)
            self._initdb(fresh, account)
            # The directory is the server's user's already, and this may be root.
            opened = os.open(fresh / "postgresql.conf", os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            with os.fdopen(opened, "a", encoding="utf-8") as file:
                file.write(f"\ninclude = '../{_settings.FILE_NAME}'\n# What follows wins over the include.\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(self.data)
            sync(self.directory)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _initdb(self, fresh: Path, account: Account) -> None:
        command = [str(binaries_for(account) / "initdb"), "--pgdata", self._seen(fresh), "--username", USER]
        command += ["--auth-local=trust", "--auth-host=reject"]  # the socket's directory is the guard
        command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += ["--data-checksums", "--no-instructions"]
        result = subprocess.run(  # noqa: S603 - the wheel's binary, fixed arguments
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            start_new_session=True,  # Ctrl-C is for the hub, which ends cleanly when this is done
            **self._as(account),
        )
        if result.returncode != 0:
            said = "\n".join(f"  {line}" for line in (result.stderr or result.stdout).strip().splitlines()[-15:])
            raise EmbeddedPostgresError(
                f"the database of the embedded PostgreSQL could not be made in {self.directory}; initdb ended with "
                f"{ended_with(result.returncode)} and said:\n{said}"
                f"{_hint(said, self.directory)}"
            )

    def _launch(self, account: Account) -> None:
        self._socket, self._port = socket_folder(self.directory, account), self._listens_on or PORT
        # On the command line stands what must hold whatever a settings file says: which ways in there are.
        quoted = '"' + self._seen(self._socket).replace('"', '""') + '"'
        command = [str(binaries_for(account) / "postgres"), "-D", self._seen(self.data)]
        command += ["-c", f"unix_socket_directories={quoted}", "-c", f"port={self._port}"]
        if self._listens_on is None:
            command += ["-c", "listen_addresses="]
        else:
            command += ["-c", f"listen_addresses={_settings.HOST}", "-c", f"hba_file={self._seen(self._access_file)}"]
        with self._start_output.open("wb") as output:
            child: subprocess.Popen[Any] = subprocess.Popen(  # noqa: S603 - the wheel's binary, fixed arguments
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._as(account),
            )
        self._child = child
        try:
            self._process = psutil.Process(child.pid)
        except psutil.NoSuchProcess:
            raise self._failure("the embedded PostgreSQL ended at once") from None

    def _as(self, account: Account) -> dict[str, Any]:
        """Return how to run a binary as the account, without what this process's environment holds of secrets."""
        options: dict[str, Any] = {"env": environment(), "cwd": "/", "umask": 0o077}
        if account.switch:
            options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
        if self._opened is not None:
            options["pass_fds"] = (self._opened,)
        return options

    def _ready(self, deadline: float) -> bool:
        """Wait until the server accepts connections. False when it ends instead."""
        while self._alive():
            if self._socket is None and (found := _postmaster.read(self.data)) is not None:
                self._socket, self._port = self._socket_of(found), found.port or PORT
            if self._answers() and self._is_ours():
                return True
            if time.monotonic() > deadline:
                raise self._failure(
                    f"the embedded PostgreSQL does not accept connections after {self._start_timeout:g} s"
                )
            time.sleep(_POLL)
        return False

    def _is_ours(self) -> bool:
        """Tell whether the server that answers is the one that was launched, and none that was there before it."""
        found = _postmaster.read(self.data)
        return self._child is None or (found is not None and found.pid == self._child.pid)

    def _answers(self) -> bool:
        if self._socket is None:
            return False
        try:
            connect(self._dsn("postgres"), reading=True).close()
        except psycopg.OperationalError:
            return False
        return True

    def _make_database(self) -> None:
        try:
            with connect(self._dsn("postgres"), autocommit=True) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except psycopg.Error as error:
            raise self._failure(f"the database {DATABASE} could not be made: {str(error).strip()}") from error

    # -- A server that is there already --------------------------------------------------------------------------------

    def _take_over(self, deadline: float) -> bool:
        """Take over a server that a killed hub left running, and clear away what a dead one left.

        False when there is none to take over, and nothing in the way of a new one.
        """
        pid_file = self.data / "postmaster.pid"
        if not pid_file.exists():
            return False
        found = _postmaster.read(self.data)
        server = _postmaster.server_of(self.data, found.pid) if found else None
        if server is not None:
            self._process, self._child, self._socket = server, None, None
            if self._ready(deadline) and self._listens_as_told():
                _log.info("took over the embedded PostgreSQL that an earlier hub left running", pid=server.pid)
                server.send_signal(signal.SIGHUP)  # read the settings written just now
                return True
            if self._alive():
                _log.info(
                    "ending the embedded PostgreSQL of an earlier hub, which listens elsewhere than this one's is to"
                )
                self.stop()
            self._process = None  # it was stopping, and has
        self._wait_for_workers(deadline)
        if found is not None and self._foreign(found):
            raise EmbeddedPostgresError(
                f"a PostgreSQL server that is no process of this machine, perhaps one in another container, runs on "
                f"{self.data}; stop it, or choose another --data-dir"
            )
        if pid_file.exists() and (found is None or psutil.pid_exists(found.pid)):
            # PostgreSQL takes a number that any process has for a running server, and would refuse to start.
            _log.info("removed the file of a server that does not run any more", file=str(pid_file))
            pid_file.unlink(missing_ok=True)
        # The same holds for the number beside its socket, in a folder that is this directory's alone.
        folder = self._socket_of(found) if found is not None else None
        if folder is not None and (folder.parent == self.directory or folder.name.startswith("obs-hub-")):
            for left in folder.glob(".s.PGSQL.*"):
                left.unlink(missing_ok=True)
        return False

    def _listens_as_told(self) -> bool:
        """Tell whether a server that runs already has the port that this one is to have, or none."""
        try:
            with connect(self._dsn("postgres"), reading=True) as connection:
                row = connection.execute("SELECT current_setting('listen_addresses') <> ''").fetchone()
        except psycopg.Error:  # it is stopping
            return False
        return (self._port if row == (True,) else None) == self._listens_on

    def _wait_for_workers(self, deadline: float) -> None:
        """Wait for the workers of a server that was killed: they end by themselves, and must before another starts."""
        while (worker := _postmaster.any_process_of(self.data)) is not None:
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"the process {worker.pid} of a PostgreSQL server that was killed still works on {self.data}"
                )
            time.sleep(_POLL)

    def _foreign(self, found: _postmaster.PidFile) -> bool:
        self._socket, self._port = self._socket_of(found), found.port or PORT
        return self._answers()

    # -- Running and ending --------------------------------------------------------------------------------------------

    def _alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return self._process is not None and not _postmaster.gone(self._process)

    def _end(self, number: signal.Signals, patience: float) -> bool:
        assert self._process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.send_signal(number)
        deadline = time.monotonic() + patience
        while self._alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True

    def _keep_logs_bounded(self) -> None:
        while not self._stopping.wait(_PRUNE_INTERVAL):
            _logs.prune(self.logs)

    def _dsn(self, database: str) -> str:
        if self._socket is None:
            raise EmbeddedPostgresError("the embedded PostgreSQL is not started")
        return f"postgresql://{USER}@/{database}?host={quote(str(self._socket))}&port={self._port}"

    def _failure(self, what: str) -> EmbeddedPostgresError:
        said = _logs.tail(self.logs, self._start_output)
        log = f"; the end of its log:\n{said}" if said else ""
        return EmbeddedPostgresError(f"{what}{log}{_hint(said, self.directory)}\nIts log is in {self.logs}.")


def _hint(said: str, directory: Path) -> str:
    if "No space left on device" in said:
        return f"\nThe disk of {directory} is full: free some space, or choose another --data-dir."
    if "Permission denied" in said:
        return f"\nThe user that the server runs as needs access to {directory} and to its binaries in {binaries()}."
    return ""
