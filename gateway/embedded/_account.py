"""Who runs the server. PostgreSQL refuses to run as root, so root runs it as a system user that has nothing else."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import structlog

from gateway.base.child_environment import environment
from gateway.base.exit_status import ended_with
from gateway.embedded.errors import EmbeddedPostgresError

SYSTEM_USER = "obs-hub"
_FALLBACK = "postgres"

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """The user that the server runs as. ``switch`` tells that it is another one than this process's."""

    uid: int
    gid: int
    name: str
    switch: bool

    def own(self, path: Path) -> None:
        """Make the account the owner of a path."""
        if self.switch:
            os.chown(path, self.uid, self.gid)

    def passes(self, path: Path) -> bool:
        """Tell whether the account may pass through the directories above a path."""
        return not self.switch or all(self._passes(directory.stat()) for directory in path.resolve().parents)

    def _passes(self, found: os.stat_result) -> bool:
        if found.st_uid == self.uid:
            return bool(found.st_mode & stat.S_IXUSR)
        if found.st_gid == self.gid:
            return bool(found.st_mode & stat.S_IXGRP)
        return bool(found.st_mode & stat.S_IXOTH)


def server_account(data: Path) -> Account:
    """Choose who runs the server of a database's data directory.

    That is the user of this process. For root it is the owner of the data where there is some, else the system user
    ``obs-hub``, which is made when missing. Raises `EmbeddedPostgresError` when it cannot be made.
    """
    if os.geteuid() != 0:
        uid = os.geteuid()
        return Account(uid, os.getegid(), _name_of(uid), switch=False)
    if data.exists() and (found := data.stat()).st_uid != 0:
        return Account(found.st_uid, found.st_gid, _name_of(found.st_uid), switch=True)
    entry = _system_user()
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name, switch=True)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _system_user() -> pwd.struct_passwd:
    if (entry := _look_up(SYSTEM_USER)) is not None:
        return entry
    why = _make_system_user()
    # Another hub may have made it at the same moment, so what counts is whether it is there.
    entry = _look_up(SYSTEM_USER) or _look_up(_FALLBACK)
    if entry is None:
        raise EmbeddedPostgresError(
            f"PostgreSQL refuses to run as root, and the system user '{SYSTEM_USER}' could not be made ({why}); "
            "make it by hand, or run the hub as another user than root"
        )
    return entry


def _look_up(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _make_system_user() -> str:
    """Make the system user: no home, no shell, no password. Returns why it could not, where it could not."""
    useradd = shutil.which("useradd", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/sbin")
    if useradd is None:
        return "there is no useradd"
    command = [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    command += ["--shell", "/usr/sbin/nologin", "--comment", "Observability Hub", SYSTEM_USER]
    result = subprocess.run(  # noqa: S603 - fixed arguments
        command, capture_output=True, text=True, check=False, env=environment()
    )
    if result.returncode != 0:
        return result.stderr.strip() or f"useradd ended with {ended_with(result.returncode)}"
    _log.warning("made a system user: PostgreSQL refuses to run as root, so it runs as this one", user=SYSTEM_USER)
    return ""
