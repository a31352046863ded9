"""What is made once for all processes of a run of the tests, in a folder that they share, and where that is."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil

VARIABLE = "OBSHUB_TEST_SHARED"
"""The folder that all processes of a run share. The first of them makes and removes it."""

_MEMORY = Path("/dev/shm")
_ENOUGH = 6 * 2**30
"""Bytes of memory: more than twice what the files of a run take at most."""


def use_memory() -> None:
    """Let temporary files be in memory, unless somebody said where, or it is too little, or no program may run there.

    Nearly all tests make databases and drop them again. On a disk that costs a file system's journal several times as
    much as PostgreSQL itself, and no test reads what a power failure left but those of `tests.support.power`.
    """
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK | os.X_OK):
        return
    found = os.statvfs(_MEMORY)
    free = min(found.f_bavail * found.f_frsize, psutil.virtual_memory().available)
    if not found.f_flag & os.ST_NOEXEC and free >= _ENOUGH:
        os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


def share() -> Path | None:
    """Make the folder that this run's processes share; None where an earlier one has made it."""
    if VARIABLE in os.environ:
        return None
    # Not under pytest's own directory: nobody else may enter that, and the server may run as another user.
    os.environ[VARIABLE] = tempfile.mkdtemp(prefix="obs-hub-test-")
    return folder()


def folder() -> Path:
    """The folder that this run's processes share."""
    return Path(os.environ[VARIABLE])


def once(name: str, make: Callable[[Path], object]) -> Path:
    """The path of a name, where the first process that asks makes something; the others wait for it.

    It stays where it was made. What a process began that could not finish it is made anew.
    """
    made, done = folder() / name, folder() / f"{name}.done"
    with (folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(made, ignore_errors=True)
            make(made)
            done.touch()
    return made
