"""Which hub it is that holds runs, and in which store."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from typing import Protocol

from gateway.files.durability import create
from gateway.operations import Operations
from gateway.runs.repository import Runs


class View(Protocol):
    """What an extension with runs has to know of the hub that it is part of."""

    @property
    def data_dir(self) -> Path | None:
        """The hub's data directory."""
        ...

    @property
    def dsn(self) -> str | None:
        """The connection string of its store."""
        ...

    @property
    def operations(self) -> Operations:
        """What it tells about itself with."""
        ...


def runs_of(extension: str, view: View) -> Runs:
    """Return the runs of a hub. Raises `ValueError` when it has no store to keep them in."""
    if view.dsn is None:
        raise ValueError(f"the extension {extension} keeps its runs in PostgreSQL: use an exporter of type timescale")
    return Runs(lambda: view.dsn or "", holder(view.data_dir))


def holder(data_dir: Path | None) -> str | None:
    """Return what tells this hub from others, through its restarts: hubs each have a data directory of their own.

    None without a data directory: then runs that were under way are resumed a while after a restart, not at once.
    """
    if data_dir is None:
        return None
    file = data_dir / "hub.id"
    with contextlib.suppress(FileNotFoundError):
        if known := file.read_text(encoding="ascii"):  # empty: made by a hub that was killed before it wrote
            return known
    fresh = data_dir / f"hub.id.{os.getpid()}"
    try:
        with os.fdopen(create(fresh), "w", encoding="ascii") as written:
            written.write(str(uuid.uuid4()))
        if file.exists():
            fresh.replace(file)
        else:
            with contextlib.suppress(FileExistsError):  # another was first
                file.hardlink_to(fresh)
    finally:
        fresh.unlink(missing_ok=True)
    return file.read_text(encoding="ascii")
