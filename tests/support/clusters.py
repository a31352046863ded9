"""A PostgreSQL that was made once, for all that starts an embedded one and does not care how it was made.

``initdb`` and the migrations cost most of a hub's first start. What is tested of these begins with nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from gateway.embedded import EmbeddedPostgres
from tests.support.databases import Database, Server
from tests.support.stores import migrate

VARIABLE = "OBSHUB_TEST_SHARED"
"""The folder that all processes of a run share. The first of them makes and removes it."""


def share() -> Path | None:
    """Make the folder that this run's processes share; None where an earlier one has made it."""
    if VARIABLE in os.environ:
        return None
    # Not under pytest's own directory: nobody else may enter that, and the server may run as another user.
    os.environ[VARIABLE] = tempfile.mkdtemp(prefix="obs-hub-test-")
    return Path(os.environ[VARIABLE])


def place(directory: Path, *, waits_for_disk: bool = False) -> None:
    """Put a PostgreSQL with an empty, migrated store where an ``EmbeddedPostgres`` of that directory has its own.

    That it waits for the disk no test can see, but that it is set to: what is written outlives the death of its
    processes either way.
    """
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(mode=0o711)
    place_data(directory / "data")
    if not waits_for_disk:
        with (directory / "data/postgresql.conf").open("a") as file:
            file.write("fsync = off\n")


def place_data(directory: Path) -> None:
    """Put the data directory alone somewhere."""
    subprocess.run(["cp", "-a", "--reflink=auto", shared_data(), directory], check=True)


def shared_data() -> Path:
    """The data directory that all others are copies of; it belongs to whoever runs the server."""
    shared = Path(os.environ[VARIABLE])
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "data").exists():
            with EmbeddedPostgres(shared / "postgres") as postgres:
                migrate(Database(Server("native", postgres.dsn), "obs_hub"))
            shutil.move(shared / "postgres/data", shared / "data")
    return shared / "data"
