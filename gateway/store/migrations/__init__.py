"""The migrations of the store, in the order of their numbers.

A migration is one file of SQL, ``0002_runs.sql``, which begins with a line that says what it is about. One that has to
look first is a module, ``v0001_store.py``, with a function ``upgrade``, and the SQL that it runs is beside it.
"""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from gateway.store.layout import Connection
from gateway.store.postgres import UnusableServerError

_HERE = Path(__file__).parent

WRITES_FROM = "0006"
"""The earliest version whose gateways store everything right in a store that has all migrations: they go on writing
while the store is migrated under them, and may be started on it. A migration that breaks what they write raises it."""

MAINTAINS_FROM = "0009"
"""Likewise, the earliest whose gateways know of all that maintenance has to look at."""


@dataclass(slots=True, frozen=True)
class Migration:
    """One step of the schema: its number, by which a store remembers it, and where it is written."""

    revision: str
    file: Path

    def describe(self) -> str:
        """Return its number and what it is about, in one line."""
        text = self.file.read_text("utf-8")
        if self.file.suffix == ".py":
            said = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0]
        else:
            said = text.partition("\n")[0].removeprefix("--").strip()
        return f"{self.revision} {said}"

    def upgrade(self, connection: Connection, wanted_layout: str) -> None:
        """Make its changes in the transaction under way. ``wanted_layout`` is for the one that decides about it."""
        if self.file.suffix == ".py":
            importlib.import_module(f"{__name__}.{self.file.stem}").upgrade(connection, wanted_layout)
        else:
            connection.execute(self.file.read_bytes())


def all_migrations() -> list[Migration]:
    """Return every migration, oldest first."""
    modules = {file.name[1:5]: file for file in _HERE.glob("v[0-9][0-9][0-9][0-9]_*.py")}
    scripts = {file.name[:4]: file for file in _HERE.glob("[0-9][0-9][0-9][0-9]_*.sql")}
    return [Migration(revision, file) for revision, file in sorted((scripts | modules).items())]


def run_file(connection: Connection, name: str, **replaced: str) -> None:
    """Run a file of SQL, in which ``%(word)s`` is replaced by what is given for ``word``."""
    script = (_HERE / name).read_text("utf-8")
    for word, replacement in replaced.items():
        script = script.replace(f"%({word})s", replacement)
    connection.execute(script.encode())


def drop_continuous_aggregate(connection: Connection, name: str) -> None:
    """Drop one of TimescaleDB's. Raises `UnusableServerError` where it would stay in TimescaleDB's catalogs."""
    if connection.execute("SHOW session_replication_role").fetchone() != ("origin",):
        raise UnusableServerError(
            "session_replication_role is not origin for this user or database, so triggers do not run, which "
            "migrations on TimescaleDB need; an administrator can set it to origin there, or let this user do so by "
            "GRANT SET ON PARAMETER session_replication_role"
        )
    connection.execute(sql.SQL("DROP MATERIALIZED VIEW {}").format(sql.Identifier(name)))
