"""What the gate leaves on disk: that it runs, and what it did last and why. It proves nothing about Tailscale."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.files.durability import replace_file
from gateway.files.locks import FileLock, LockHeldError, is_locked


class AlreadyRunningError(Exception):
    """Another gate runs on the data directory."""


class Record(msgspec.Struct, frozen=True):
    """The gate's last change: ``state`` is open, closed or unknown; ``since`` is in seconds since the Unix epoch.

    ``port``, ``path`` and ``command`` are what it was set to then.
    """

    state: str
    since: float
    reason: str
    pid: int
    port: int
    path: str
    command: str = "tailscale"


class RecordFile:
    """The record of the gate that runs on a directory, or ran last."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "state.json"
        self._lock = directory / "gate.lock"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the one gate of the directory for the length of a block. The lock ends with the process, however it ends.

        Raises `AlreadyRunningError`, or `OSError` when the directory cannot be written to.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock)
        try:
            lock.acquire()
        except LockHeldError:
            raise AlreadyRunningError(
                f"another gate runs on {self._directory}; stop it, or choose another --data-dir"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def running(self) -> bool:
        """Tell whether a gate runs on the directory."""
        try:
            return is_locked(self._lock)
        except FileNotFoundError:
            return False

    def write(self, record: Record) -> None:
        """Replace the record. Raises `OSError`."""
        replace_file(self._file, msgspec.json.encode(record), lasting=False)

    def read(self) -> Record | None:
        """Return the last record; None when there is none, or nothing sensible in it."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Record)
        except (OSError, msgspec.MsgspecError):
            return None
