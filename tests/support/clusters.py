"""A PostgreSQL that was made once, for all that starts an embedded one and does not care how it was made.

``initdb`` and the migrations cost most of a hub's first start. What is tested of these begins with nothing.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from gateway.embedded import EmbeddedPostgres
from tests.support import shared
from tests.support.databases import Database, Server
from tests.support.stores import make_store


def place(directory: Path, *, waits_for_disk: bool = False) -> None:
    """Put a PostgreSQL with an empty, migrated store where an ``EmbeddedPostgres`` of that directory has its own.

    That it waits for the disk no test can see, but that it is set to: what is written outlives the death of its
    processes either way. Without, it does not compress its log either, of which each new database is much.
    """
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(mode=0o711)
    place_data(directory / "data")
    if not waits_for_disk:
        with (directory / "data/postgresql.conf").open("a") as file:
            file.write("fsync = off\nwal_compression = off\n")


def place_data(directory: Path) -> None:
    """Put the data directory alone somewhere."""
    subprocess.run(["cp", "-a", "--reflink=auto", shared_data(), directory], check=True)


def shared_data() -> Path:
    """The data directory that all others are copies of; it belongs to whoever runs the server."""
    return shared.once("data", _make)


def _make(data: Path) -> None:
    with EmbeddedPostgres(shared.folder() / "postgres") as postgres:
        make_store(Database(Server("native", postgres.dsn), "obs_hub"))
    shutil.move(shared.folder() / "postgres/data", data)
