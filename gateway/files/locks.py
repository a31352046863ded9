"""Locks on files, by which processes of one machine keep out of each other's way.

A lock is the kernel's and ends with the process, however that ends; Python's descriptors are not inherited, so no child
keeps it alive. The file stays: removing it would let two processes lock two files of the same name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import time
from pathlib import Path

PATIENCE = 0.5
"""Seconds to try for a lock. Whoever only looks holds it for an instant, and must not be taken for its holder."""

_PAUSE = 0.05


class LockHeldError(BlockingIOError):
    """Another process holds a lock."""

    def __init__(self, file: Path) -> None:
        super().__init__(errno.EAGAIN, f"{holder_of(file)} holds the lock", str(file))


class NoLocksError(OSError):
    """A file system has no locks, such as NFS for folders: without one nobody could be sure to be alone.

    ``reason`` is what the system said.
    """

    def __init__(self, file: Path, error: OSError) -> None:
        super().__init__(error.errno, f"its file system has no locks ({error.strerror})", str(file))
        self.reason = error.strerror


class FileLock:
    """The lock of one file, which is made unless it is there; or of a folder, which has to be. Not re-entrant.

    With ``named``, the file says by a number which process holds it.
    """

    def __init__(self, file: Path, *, folder: bool = False, named: bool = False) -> None:
        self._file = file
        self._flags = os.O_RDONLY | os.O_DIRECTORY if folder else os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        self._named = named
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this holds the lock of the file that is at that place now: it may have been removed and remade."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._file.stat())
        except OSError:
            return False

    def acquire(self, patience: float = 0.0) -> None:
        """Take the lock, in at most so many seconds; `math.inf` waits for it.

        Raises `LockHeldError` when another process has it, `NoLocksError`, or `OSError` when the file cannot be opened.
        """
        deadline = time.monotonic() + patience
        while not self.held:
            self.release()
            self._descriptor = os.open(self._file, self._flags | os.O_CLOEXEC, 0o600)
            try:
                self._lock(self._descriptor, wait=patience == math.inf)
            except BlockingIOError:
                self.release()
                if time.monotonic() >= deadline:
                    raise LockHeldError(self._file) from None
                time.sleep(_PAUSE)
            except BaseException:
                self.release()
                raise

    def release(self) -> None:
        """Let others have the lock. Harmless when this does not hold it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self, descriptor: int, *, wait: bool) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            raise NoLocksError(self._file, error) from error
        if self._named:
            with contextlib.suppress(OSError):  # a full disk; who holds it is then not told
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            give_to_owner(descriptor, self._file.parent)


def is_locked(file: Path) -> bool:
    """Return whether a process holds the lock of a file. Raises `OSError` when that cannot be looked at."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def pid_of_holder(file: Path) -> int | None:
    """Return the number of the process that a lock's file names; None when it names none."""
    try:
        return int(file.read_text("ascii"))
    except (OSError, ValueError):
        return None


def holder_of(file: Path) -> str:
    """Return who holds a lock, such as ``process 123``."""
    pid = pid_of_holder(file)
    return "another process" if pid is None else f"process {pid}"


def give_to_owner(descriptor: int, directory: Path) -> None:
    """Give an open file to the user whose directory it is in: a command of root's must not keep that user out of it."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            owner = directory.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
