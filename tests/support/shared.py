"""What is made once for all processes of a run of the tests, in a folder that they share."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

VARIABLE = "OBSHUB_TEST_SHARED"
"""The folder that all processes of a run share. The first of them makes and removes it."""


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
