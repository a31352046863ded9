"""Making a backup, so that whatever bears the name of one is complete, on disk, and can be read."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.files.durability import sync
from gateway.files.locks import FileLock, LockHeldError
from gateway.store import layout, restore_mark
from gateway.store.backup import BackupError, archive, tools
from gateway.store.connections import Connections
from gateway.store.reader import views_schema

_PARTIAL = ".partial"
_LOCK_WAIT = 60_000
"""Milliseconds that ``pg_dump`` waits for a table that is just being changed."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made, and the older ones that were removed for it."""

    path: Path
    size: int
    removed: list[Path]


def backup(
    dsn: str, directory: Path, *, keep: int | None, bin_dirs: Sequence[Path], progress: Callable[[int], None]
) -> Backup:
    """Back up the store into a new file of a directory, which is made where it is missing.

    With ``keep``, the oldest backups of this database beyond so many are removed, once the new one is good.
    ``progress`` is told the bytes written so far. Raises `BackupError`, and `psycopg.Error` when the server does not
    answer. What is there already is never overwritten, and nothing half-made is left behind.
    """
    with Connections(dsn).open() as connection:
        tools.check_direct(connection)
        schema, timescale = _store(connection)
        programs = tools.find(tools.server_major(connection), bin_dirs)
        database = connection.info.dbname
    with _alone_in(directory):
        while (path := directory / archive.name(database, datetime.now(UTC), timescale)).exists():
            time.sleep(0.1)  # it was made within this second
        partial = path.with_name(path.name + _PARTIAL)
        try:
            _dump(programs, dsn, partial, schema, progress, whole=timescale is not None)
            _check(programs, partial, progress)
            sync(partial)
            partial.rename(path)
            sync(directory)
        except OSError as error:
            raise BackupError(f"the backup cannot be written: {error}") from error
        finally:
            partial.unlink(missing_ok=True)
        size = path.stat().st_size
        # Not this one, though it may bear the oldest date: the clock was wrong when the others were made, or is now.
        others = [each for each in archive.backups(directory, database) if each != path]
        old = [] if keep is None else others[: max(len(others) + 1 - keep, 0)]
        try:
            for each in old:
                each.unlink()
        except OSError as error:
            raise BackupError(f"{path} is made, but an older backup cannot be removed: {error}") from error
        return Backup(path, size, old)


_ELSEWHERE = """
SELECT format('ALTER TABLE %s SET SCHEMA %I', c.oid::regclass, n.nspname)
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
JOIN pg_namespace n ON n.oid = p.relnamespace
WHERE p.relkind = 'p' AND c.relnamespace <> p.relnamespace
    AND n.oid = (SELECT relnamespace FROM pg_class WHERE oid = 'store_setting'::regclass)
"""
"""Finds partitions that a dump of the store's schema would leave out."""


def _store(connection: layout.Connection) -> tuple[str, str | None]:
    """Return the schema that the store is in, and the version of TimescaleDB where it is laid out by that."""
    if restore_mark.is_unfinished(connection):
        raise BackupError(restore_mark.MESSAGE)
    present = layout.current(connection)
    if present is None:
        raise BackupError("there is no store in this database: nothing to back up")
    schema = connection.execute(
        "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = 'store_setting'::regclass"
    ).fetchone()
    assert schema is not None
    if present.native:
        if elsewhere := connection.execute(_ELSEWHERE).fetchall():
            moves = "; ".join(row[0] for row in elsewhere)
            raise BackupError(f"partitions are outside of the schema of their tables; move them there first: {moves}")
        return str(schema[0]), None
    version = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    assert version is not None
    return str(schema[0]), str(version[0])


def _dump(
    programs: tools.Tools, dsn: str, partial: Path, schema: str, progress: Callable[[int], None], *, whole: bool
) -> None:
    """Write the dump: of one schema, or (hypertables are spread over several) of the whole database.

    The readers' schema is left out: it is made of the store's views again at the end of a restore.
    """
    only = [f"--exclude-schema={_pattern(views_schema(schema))}" if whole else f"--schema={_pattern(schema)}"]
    # Made here for its mode: nobody else may read what telemetry holds.
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    programs.run(
        "pg_dump",
        "--format=custom",
        f"--file={partial}",
        "--no-password",
        f"--lock-wait-timeout={_LOCK_WAIT}",
        *only,
        dsn=dsn,
        progress=lambda: progress(partial.stat().st_size),
    )


def _pattern(schema: str) -> str:
    """Return a schema's name as a pattern of pg_dump's that only it matches."""
    return '"' + schema.replace('"', '""') + '"'


def _check(programs: tools.Tools, partial: Path, progress: Callable[[int], None]) -> None:
    """Read the whole file back: its table of contents says what should be there, not that all of it is."""
    size = partial.stat().st_size
    archive.read(partial, programs)
    programs.run("pg_restore", "--file=/dev/null", str(partial), progress=lambda: progress(size))


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Be the only backup in a directory, and clear away what a killed one left."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(directory / ".lock")
        lock.acquire()
    except LockHeldError:
        raise BackupError(f"another backup into {directory} is under way") from None
    except OSError as error:
        raise BackupError(f"{directory} cannot be written to: {error.strerror}; choose another --output") from error
    try:
        for left in directory.glob(f"*.dump{_PARTIAL}"):
            left.unlink(missing_ok=True)
        yield
    finally:
        lock.release()
