"""How far the journal has been sent, on disk.

Before a request is sent, its bytes are written down together with the position that they lead to; when it is
acknowledged, the position alone. After a crash in between, those bytes are sent once more, whatever the settings or the
journal are by then, and a gateway that has them already recognizes them. The file is replaced as a whole, so it is
always one or the other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from gateway.base.crashpoints import crashpoint
from gateway.files.durability import replace_file
from gateway.files.ownership import DirectoryInUseError, DirectoryLock
from receivers.journald.errors import JournalError

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pending:
    """A request and the position in the journal after it. Without records there is nothing to send."""

    cursor: str
    payload: bytes = b""
    records: int = 0


class _Header(msgspec.Struct, omit_defaults=True):
    """The first line of the file. ``pending`` is the position after the request that follows that line."""

    cursor: str | None = None
    pending: str | None = None
    records: int = 0
    digest: str = ""


class State:
    """The position of one receiver. Without a directory it is remembered in memory only.

    Raises `JournalError` when another process uses the directory, or it cannot be made.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._lock = None if directory is None else DirectoryLock(directory)
        self.cursor: str | None = None
        self.pending: Pending | None = None
        if directory is not None and self._lock is not None:
            try:
                self._open(directory, self._lock)
            except OSError as error:
                self.close()
                if isinstance(error, JournalError):
                    raise
                raise JournalError(f"the position in the journal cannot be kept in {directory}: {error}") from error

    @property
    def file(self) -> Path | None:
        """The file with the position."""
        return None if self._directory is None else self._directory / "position"

    def intend(self, pending: Pending) -> None:
        """Write down what is about to be sent. Raises `OSError` when it cannot; it may be sent all the same."""
        self.pending = pending
        self._write(_Header(self.cursor, pending.cursor, pending.records, _digest(pending.payload)), pending.payload)

    def settle(self, cursor: str) -> None:
        """Write down that everything up to a position is done with. Raises `OSError` when it cannot."""
        self.cursor, self.pending = cursor, None
        self._write(_Header(cursor))

    def close(self) -> None:
        """Let others use the directory."""
        if self._lock is not None:
            self._lock.release()

    def _open(self, directory: Path, lock: DirectoryLock) -> None:
        directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        try:
            lock.acquire()
        except DirectoryInUseError:
            raise JournalError(
                f"another process sends the journal and keeps its position in {directory}; stop it, or give this one "
                "another --data-dir"
            ) from None
        file = directory / "position"
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return
        try:
            self._read(content)
        except (msgspec.MsgspecError, ValueError):
            aside = directory / "position.damaged"
            file.replace(aside)
            _log.error(
                "the position in the journal is damaged and set aside; reading begins as if for the first time",
                file=str(file),
                aside=aside.name,
            )

    def _read(self, content: bytes) -> None:
        line, _, payload = content.partition(b"\n")
        header = msgspec.json.decode(line, type=_Header)
        if header.pending is not None:
            if header.digest != _digest(payload):
                raise ValueError("not the bytes that were written")
            self.pending = Pending(header.pending, payload, header.records)
        self.cursor = header.cursor

    def _write(self, header: _Header, payload: bytes = b"") -> None:
        if self._directory is None:
            return
        if self._lock is not None and not self._lock.held:
            # Somebody removed the directory. The one that is there now may be another's.
            self._directory.mkdir(parents=True, mode=0o700, exist_ok=True)
            self._lock.acquire()
        content = msgspec.json.encode(header) + b"\n" + payload
        replace_file(
            self._directory / "position", content, before=lambda descriptor: crashpoint("before position fsync")
        )


def _digest(payload: bytes) -> str:
    return hashlib.blake2b(payload, digest_size=16).hexdigest()
