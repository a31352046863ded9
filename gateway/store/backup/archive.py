"""A file that ``pg_dump`` made: its name, and what is in it.

The name says what a restore must know and the file does not: ``obs_hub-20261124T031500Z-timescaledb-2.29.2.dump`` is
the database, the instant (UTC), and the version of TimescaleDB, without which its catalogs cannot be restored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.store.backup import BackupError
from gateway.store.backup.tools import Tools

_STAMP = "%Y%m%dT%H%M%SZ"
_TIMESCALE = re.compile(r"-timescaledb-(\d+(?:\.\d+)*(?:-\w+)?)\.dump$")
_DATA = re.compile(r"^\d+; \d+ \d+ TABLE DATA (?P<schema>.+) store_setting (?P<owner>.+)$", re.MULTILINE)
_EXTENSION = re.compile(r"^\d+; \d+ \d+ EXTENSION - timescaledb", re.MULTILINE)
_FUNCTION = re.compile(r"^\d+; \d+ \d+ FUNCTION (?P<schema>\S+) (?P<signature>.+\)) \S+$", re.MULTILINE)
_OWNER = re.compile(r"^\d+; .* (\S+)$", re.MULTILINE)
_UNWANTED = re.compile(r"^\d+; \d+ \d+ (?:SCHEMA - |COMMENT - (?:SCHEMA|EXTENSION) |EXTENSION - )")


def name(database: str, at: datetime, timescale: str | None) -> str:
    """Return the name of a backup."""
    kind = "native" if timescale is None else f"timescaledb-{timescale}"
    return f"{_plain(database)}-{at.astimezone(UTC).strftime(_STAMP)}-{kind}.dump"


def backups(directory: Path, database: str) -> list[Path]:
    """Return the complete backups of a database in a directory, oldest first."""
    pattern = re.compile(rf"{re.escape(_plain(database))}-\d{{8}}T\d{{6}}Z-(?:native|timescaledb-[\w.-]+)\.dump")
    return sorted(path for path in directory.iterdir() if pattern.fullmatch(path.name) and path.is_file())


@dataclass(frozen=True, slots=True)
class Archive:
    """What is in a backup.

    ``owner`` is the user that the store belonged to, ``owners`` are all that something belonged to. ``timescale`` is
    the version of TimescaleDB that it needs: None for the native layout, "" where the name of the file does not tell.
    """

    path: Path
    contents: str
    schema: str
    owner: str
    owners: frozenset[str]
    timescale: str | None

    def to_restore(self) -> str:
        """Return the list of what to restore (for ``--use-list``): all but what a database has already."""
        return "".join(line for line in self.contents.splitlines(keepends=True) if not _UNWANTED.match(line))

    def functions(self) -> list[str]:
        """Return the functions in it, as SQL names them."""
        return [f'"{each["schema"]}".{each["signature"]}' for each in _FUNCTION.finditer(self.contents)]


def read(path: Path, tools: Tools) -> Archive:
    """Read the table of contents. Raises `BackupError` when it is no backup of a store."""
    if not path.is_file():
        raise BackupError(f"there is no file {path}")
    contents = tools.read("pg_restore", "--list", str(path))
    data = _DATA.search(contents)
    if data is None:
        raise BackupError(f"{path} is no backup of a store: it has no table store_setting")
    timescale = None
    if _EXTENSION.search(contents):
        match = _TIMESCALE.search(path.name)
        timescale = match[1] if match else ""
    owners = frozenset(_OWNER.findall(contents))
    return Archive(path, contents, data["schema"], data["owner"], owners, timescale)


def _plain(database: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", database)
