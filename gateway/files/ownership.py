"""Who may write to a directory: the process that holds its lock.

A data directory outlives the processes that write to it, and one of them may not be quite dead when the next begins: a
worker whose first process was killed, a process that waits for a disk. So every directory that is written by one
process at a time has a lock of its own. It is the kernel's and ends with the process, however that ends. Nobody but its
holder writes to the directory or takes anything from it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

NAME = "lock"

_PAUSE = 0.05
PATIENCE = 0.5
"""Seconds to try for a lock. Whoever only looks holds it for an instant, and must not be taken for an owner."""


class HeldError(OSError):
    """Another process holds the lock of a directory."""

    def __init__(self, directory: Path, who: str) -> None:
        super().__init__(errno.EBUSY, f"{who} still uses it", str(directory))


class Lock:
    """The lock of one directory, which has to be there. One that is not released ends with the process.

    ``file`` is the file that is locked, when it is not the one in the directory.
    """

    def __init__(self, directory: Path, file: Path | None = None) -> None:
        self._file = file or directory / NAME
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this is the owner of the directory that is at that place now: it may have been removed and remade."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._file.stat())
        except OSError:
            return False

    def acquire(self, patience: float | None = None) -> None:
        """Become the owner of the directory, in at most so many seconds (`PATIENCE`).

        Raises `HeldError` when another process is, `OSError` when the directory is not there, may not be written to, or
        is on a file system without locks: without one nobody could be sure to be alone.
        """
        deadline = time.monotonic() + (PATIENCE if patience is None else patience)
        while not self.held:
            self.release()
            # Python's descriptors are not inherited, so no child keeps the lock alive.
            self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                self._lock(self._descriptor)
            except BlockingIOError:
                self.release()
                if time.monotonic() >= deadline:
                    raise HeldError(self._file.parent, _holder(self._file)) from None
                time.sleep(_PAUSE)
            except BaseException:
                self.release()
                raise

    def release(self) -> None:
        """Let others own the directory. Harmless when this is not its owner."""
        if self._descriptor is not None:
            # The file stays: removing it would let two processes lock two files of the same name.
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            raise OSError(error.errno, f"its file system has no locks ({error.strerror})", str(self._file)) from error
        with contextlib.suppress(OSError):  # a full disk; who holds it is then not told
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        give_to_owner(descriptor, self._file.parent)


def give_to_owner(descriptor: int, directory: Path) -> None:
    """Give an open file to the user whose directory it is in: a command of root's must not keep that user out of it."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            owner = directory.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def holder(directory: Path) -> str | None:
    """Return who owns a directory, such as ``process 123``; None when nobody does, or this user may not look."""
    try:
        descriptor = os.open(directory / NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(directory / NAME)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def _holder(file: Path) -> str:
    try:
        return f"process {int(file.read_text('ascii'))}"
    except (OSError, ValueError):
        return "another process"
