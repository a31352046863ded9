"""A later version of the hub: the present one with a migration more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.store import schema
from gateway.store.migrations import Migration, all_migrations
from tests.support.databases import Database
from tests.support.stores import migrate

NEXT = "9998"
"""The number of its migration."""


@contextmanager
def later_version(folder: Path, *, writes_from: str | None = None, maintains_from: str = NEXT) -> Iterator[None]:
    """Let this process be one of that version, for the length of a block.

    By default gateways of the present one may write to its stores, and do not know of all that there is to maintain.
    """
    file = folder / f"{NEXT}_later.sql"
    file.write_text("-- Something more.\nALTER TABLE log ADD COLUMN later int;\nCREATE TABLE later (id int);\n")
    known = [*all_migrations(), Migration(NEXT, file)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(schema, "all_migrations", lambda: known)
        patched.setattr(schema, "WRITES_FROM", writes_from or all_migrations()[-1].revision)
        patched.setattr(schema, "MAINTAINS_FROM", maintains_from)
        yield


def migrate_later(database: Database, folder: Path, **compatible: str) -> None:
    """Migrate a store as a gateway of the later version does at its start."""
    with later_version(folder, **compatible):
        migrate(database)
