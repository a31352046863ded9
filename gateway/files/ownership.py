"""Who may write to a directory: the process that holds its lock.

A data directory outlives the processes that write to it, and one of them may not be quite dead when the next begins: a
worker whose first process was killed, a process that waits for a disk. So every directory that is written by one
process at a time has a lock of its own. Nobody but its holder writes to the directory or takes anything from it.
"""

from __future__ import annotations

import errno
from pathlib import Path

from gateway.files import locks
from gateway.files.locks import FileLock, LockHeldError, holder_of, is_locked

NAME = "lock"


class DirectoryInUseError(OSError):
    """Another process holds the lock of a directory."""

    def __init__(self, directory: Path, who: str) -> None:
        super().__init__(errno.EBUSY, f"{who} still uses it", str(directory))


class DirectoryLock:
    """The lock of one directory, which has to be there. One that is not released ends with the process.

    ``file`` is the file that is locked, when it is not the one in the directory.
    """

    def __init__(self, directory: Path, file: Path | None = None) -> None:
        self._file = file or directory / NAME
        self._lock = FileLock(self._file, named=True)

    @property
    def held(self) -> bool:
        """Whether this is the owner of the directory that is at that place now: it may have been removed and remade."""
        return self._lock.held

    def acquire(self, patience: float | None = None) -> None:
        """Become the owner of the directory, in at most so many seconds (`locks.PATIENCE`).

        Raises `DirectoryInUseError` when another process is, `OSError` when the directory is not there, may not be
        written to, or is on a file system without locks.
        """
        try:
            self._lock.acquire(locks.PATIENCE if patience is None else patience)
        except LockHeldError:
            raise DirectoryInUseError(self._file.parent, holder_of(self._file)) from None

    def release(self) -> None:
        """Let others own the directory. Harmless when this is not its owner."""
        self._lock.release()


def holder(directory: Path) -> str | None:
    """Return who owns a directory, such as ``process 123``; None when nobody does, or this user may not look."""
    file = directory / NAME
    try:
        return holder_of(file) if is_locked(file) else None
    except OSError:
        return None
