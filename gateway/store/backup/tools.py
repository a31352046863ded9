"""``pg_dump`` and ``pg_restore``: which ones fit a server, and running them without a secret on the command line."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gateway.base.child_environment import POSTGRESQL, environment
from gateway.base.exit_status import ended_with
from gateway.base.parent_death import signal_on_parent_death
from gateway.store.backup import BackupError
from gateway.store.postgres import Connection, program_options

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_MAX_SAID = 2_000
_TICK = 1.0
_UNWANTED_VARIABLES = frozenset({"PGTZ", "PGDATESTYLE", "PGGEQO", "PGAPPNAME"})
"""What libpq would set up a session by, which `connection_variables` does."""

Progress = Callable[[], None]
"""Is called about once a second while a program runs."""


@dataclass(frozen=True, slots=True)
class Tools:
    """PostgreSQL's programs of one major version, in one folder."""

    folder: Path
    major: int

    def run(
        self,
        program: str,
        *arguments: str,
        dsn: str | None = None,
        output: IO[bytes] | int = subprocess.DEVNULL,
        progress: Progress | None = None,
    ) -> None:
        """Run a program to its end. ``dsn`` is the database that it connects to.

        Raises `BackupError` with what it said when it fails. An exception on the way ends it too.
        """
        given = {"LC_MESSAGES": "C", **(connection_variables(dsn) if dsn else {})}
        variables = environment(*POSTGRESQL, given=given)
        variables = {name: value for name, value in variables.items() if name not in _UNWANTED_VARIABLES}
        variables["PGAPPNAME"] = application_name(program)
        process = subprocess.Popen(  # noqa: S603 - PostgreSQL's own program, no shell
            [str(self.folder / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            env=variables,
            preexec_fn=functools.partial(_end_with_parent, os.getpid()),
        )
        try:
            while True:
                try:
                    _, said = process.communicate(timeout=_TICK)
                    break
                except subprocess.TimeoutExpired:
                    if progress is not None:
                        progress()
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode != 0:
            text = said.decode(errors="replace").strip()[-_MAX_SAID:]
            full = "\nThe disk is full: free some space, or choose another --output." if "No space left" in text else ""
            raise BackupError(f"{program} {self.major} ended with {ended_with(process.returncode)}:\n{text}{full}")

    def read(self, program: str, *arguments: str) -> str:
        """Run a program that needs no database, and return what it printed. Raises `BackupError`."""
        done = subprocess.run(  # noqa: S603 - PostgreSQL's own program, no shell
            [str(self.folder / program), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=environment(),
        )
        if done.returncode != 0:
            raise BackupError(
                f"{program} {self.major} ended with {ended_with(done.returncode)}: {done.stderr.strip()[-_MAX_SAID:]}"
            )
        return done.stdout


def application_name(program: str) -> str:
    """Return the name by which a program that was started here is known on the server."""
    return f"obs-hub {program}"


def _end_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends, however that is. Runs between fork and exec.

    ``SIGTERM``, on which PostgreSQL's programs have the server give up what they had asked of it.
    """
    if signal_on_parent_death(signal.SIGTERM) and os.getppid() != parent:  # it ended before
        os._exit(1)


def find(server: int, folders: Iterable[Path]) -> Tools:
    """Choose the programs for a server of a major version, among those in some folders and on PATH.

    Those of the server's own version are best: older ones refuse, and what newer ones write may hold settings that the
    server does not know. Raises `BackupError` when there are none that will do.
    """
    found: dict[int, Tools] = {}
    for folder in (*folders, *_on_path()):
        major = _major(folder)
        if major is not None:
            found.setdefault(major, Tools(folder, major))
    fitting = [tools for major, tools in sorted(found.items()) if major >= server]
    if not fitting:
        have = f"only {', '.join(map(str, sorted(found)))} was found" if found else "none was found"
        raise BackupError(
            f"pg_dump and pg_restore of PostgreSQL {server} are needed for this server, and {have}; install the "
            f"package postgresql-client-{server} (or newer), or name the folder that they are in by --bin-dir"
        )
    return fitting[0]


def server_major(connection: psycopg.Connection[object]) -> int:
    """Return the major version of a server."""
    return connection.info.server_version // 10_000


def check_direct(connection: Connection) -> None:
    """Raise `BackupError` where a pooler is in between: the programs set up a session of their own and rely on it."""
    if connection.pooled is not None:
        raise BackupError(
            "the connection string leads through a pooler such as PgBouncer, and pg_dump and pg_restore need a session "
            "of their own; give the --dsn of the server itself (or, where the pooler is in session mode, say "
            "options='-c obs_hub.pooler=none' in it)"
        )


def connection_variables(dsn: str) -> Mapping[str, str]:
    """Return the environment variables of libpq by which a program connects as a connection string says.

    Other users of the machine can read a command line, and not an environment. Raises `BackupError` for a secret that
    has no variable.
    """
    names = {option.keyword.decode(): option.envvar for option in psycopg.pq.Conninfo.get_defaults()}
    variables = {"PGCLIENTENCODING": "UTF8", "PGOPTIONS": program_options(dsn)}
    for keyword, value in conninfo_to_dict(dsn).items():
        if keyword in ("client_encoding", "options"):
            continue
        variable = names.get(keyword)
        if variable is not None:
            variables[variable.decode()] = str(value)
        elif keyword == "sslpassword":
            raise BackupError(
                "the connection string has an sslpassword, which pg_dump cannot be given; use another key"
            )
    return variables


def database_option(dsn: str) -> str:
    """Return the option that makes ``pg_restore`` connect: to the database alone, the rest is in the environment."""
    return f"--dbname={make_conninfo(dbname=str(conninfo_to_dict(dsn).get('dbname') or ''))}"


def _on_path() -> Iterable[Path]:
    for folder in os.get_exec_path():
        yield Path(folder)
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian's, where PATH has a wrapper at most


def _major(folder: Path) -> int | None:
    """Return the version of the programs in a folder; None where they are not, or do not run."""
    program = shutil.which("pg_dump", path=str(folder))
    if program is None or shutil.which("pg_restore", path=str(folder)) is None:
        return None
    try:
        said = subprocess.run(  # noqa: S603 - asks a program for its version
            [program, "--version"], capture_output=True, text=True, check=False, timeout=30, env=environment()
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(said)
    return int(match[1]) if match else None
