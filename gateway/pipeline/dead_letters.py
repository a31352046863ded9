"""Dead letters: batches that a destination refuses for good, kept with the reason beside them.

Each is two files: the payload as it came (``.otlp``, a serialized ``Export*ServiceRequest``) and what is known of it
(``.json``). A letter is named by arrival and digest, so the same batch refused twice is one letter.

They are bounded in bytes on disk. Several processes keep letters in one directory, and the command line drops them. So
whoever changes something holds the directory's lock meanwhile: a letter that is dropped and kept again at the same
moment must not lose one of its halves. How much there is comes from looking at the directory, now and then.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.component.batch import Batch, Signal
from gateway.files.durability import replace_file
from gateway.files.ownership import NAME, DirectoryLock

_PAYLOAD, _ABOUT = ".otlp", ".json"
_BLOCK = 4096
_LOOK_SECONDS = 5.0
_PATIENCE = 5.0
"""Seconds to wait for somebody else who changes the directory, which takes as long as writing a letter."""
_WRITTEN_WITHIN = 3600.0
"""Seconds: what is no whole letter by then never becomes one."""


@dataclass(slots=True, frozen=True)
class DeadLetter:
    """One letter, without its payload."""

    name: str
    signal: Signal
    reason: str
    received_at: datetime
    refused_at: datetime
    size: int


@dataclass(slots=True, frozen=True)
class Usage:
    """How many letters there are, and the bytes they occupy on disk."""

    count: int
    size: int


class DeadLetters:
    """The dead letters of one exporter, in a directory. ``max_size`` is in bytes on disk; None for no bound.

    Its methods may be called from any thread.
    """

    def __init__(self, directory: Path, max_size: int | None = None) -> None:
        self.directory = directory
        self._max_size = max_size
        self._lock = threading.Lock()
        self._seen = Usage(0, 0)
        self._look_at = 0.0

    def tidy(self) -> None:
        """Remove halves of letters, which a process left that was killed as it wrote them. They had not been answered.

        Recent ones stay: another process may be writing them. What cannot be removed stays too.
        """
        if self.directory.is_dir():
            with contextlib.suppress(OSError), self._lock, self._owned():
                self._tidy()

    def _tidy(self) -> None:
        before = time.time() - _WRITTEN_WITHIN
        there = {path.name for path in self.directory.glob("*")}
        for name in there:
            if name.endswith(".new") or (name.endswith(_PAYLOAD) and name.removesuffix(_PAYLOAD) + _ABOUT not in there):
                path = self.directory / name
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < before:
                        path.unlink()

    def usage(self) -> Usage:
        """Return how much there is, as of a few seconds ago at most."""
        with self._lock:
            self._look()
            return self._seen

    def keep(self, batch: Batch, reason: str) -> DeadLetter:
        """Keep a batch durably. Raises `OSError` when the disk does not take it, or the bound would be exceeded."""
        with self._lock:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._owned():
                return self._keep(batch, reason)

    @contextlib.contextmanager
    def _owned(self) -> Iterator[None]:
        """Hold the directory for the length of a block. Raises `OSError` when another does not let go of it."""
        lock = DirectoryLock(self.directory, self.directory.with_name(f"{self.directory.name}.{NAME}"))
        lock.acquire(_PATIENCE)
        try:
            yield
        finally:
            lock.release()

    def _keep(self, batch: Batch, reason: str) -> DeadLetter:
        self._make_room(_on_disk(len(batch.payload)) + _BLOCK)
        name = f"{batch.received_at:020d}-{batch.digest.hex()}"
        about = {
            "signal": batch.signal.value,
            "reason": reason,
            "received_at_unix_nano": batch.received_at,
            "refused_at": datetime.now(UTC).isoformat(),
            "digest": batch.digest.hex(),
            "size": len(batch.payload),
        }
        replace_file(self.directory / (name + _PAYLOAD), batch.payload, sweep=False)
        # Written last: a letter is there when this file is.
        replace_file(self.directory / (name + _ABOUT), json.dumps(about, indent=2).encode(), sweep=False)
        return _letter(name, about)

    def _make_room(self, size: int) -> None:
        """Count a letter that is about to be written. Raises `OSError` when there is no room for it."""
        self._look()
        if self._max_size is not None and self._seen.size + size > self._max_size:
            self._look(anew=True)
            if self._seen.size + size > self._max_size:
                raise OSError(
                    errno.ENOSPC,
                    f"there are {self._seen.count} already, of {self._seen.size} bytes, of at most {self._max_size} "
                    "(setting dead_letters.max_size); replay or drop some",
                )
        self._seen = Usage(self._seen.count + 1, self._seen.size + size)

    def _look(self, *, anew: bool = False) -> None:
        now = time.monotonic()
        if not anew and now < self._look_at:
            return
        count = size = 0
        with contextlib.suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # dropped at this moment
                    size += _on_disk(entry.stat().st_size)
                    count += entry.name.endswith(_ABOUT)
        self._seen, self._look_at = Usage(count, size), now + _LOOK_SECONDS

    def __iter__(self) -> Iterator[DeadLetter]:
        """Yield the letters, oldest first."""
        for path in sorted(self.directory.glob("*" + _ABOUT)):
            try:
                yield _letter(path.stem, json.loads(path.read_text("utf-8")))
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                continue  # dropped meanwhile, or no letter of ours

    def find(self, name: str) -> DeadLetter | None:
        """Return the letter whose name begins so, or None when there is none or more than one."""
        found = [letter for letter in self if letter.name.startswith(name)]
        return found[0] if len(found) == 1 else None

    def batch(self, letter: DeadLetter) -> Batch:
        """Return the batch of a letter, as it was received."""
        about: dict[str, Any] = json.loads((self.directory / (letter.name + _ABOUT)).read_text("utf-8"))
        payload = (self.directory / (letter.name + _PAYLOAD)).read_bytes()
        return Batch(
            letter.signal, payload, bytes.fromhex(about["digest"]), received_at=int(about["received_at_unix_nano"])
        )

    def drop(self, letter: DeadLetter) -> None:
        """Remove a letter. Raises `OSError` when that cannot be done."""
        with self._lock, self._owned():
            for suffix in (_ABOUT, _PAYLOAD):
                (self.directory / (letter.name + suffix)).unlink(missing_ok=True)


def _letter(name: str, about: dict[str, Any]) -> DeadLetter:
    return DeadLetter(
        name,
        Signal(about["signal"]),
        str(about["reason"]),
        datetime.fromtimestamp(int(about["received_at_unix_nano"]) / 1e9, UTC),
        datetime.fromisoformat(about["refused_at"]),
        int(about["size"]),
    )


def _on_disk(size: int) -> int:
    """Return the bytes that a file occupies: many small letters must not be mistaken for little."""
    return max(-(-size // _BLOCK), 1) * _BLOCK
