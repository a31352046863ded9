"""Dead letters: batches that a destination refuses for good, kept with the reason beside them.

Each is two files: the payload as it came (``.otlp``, a serialized ``Export*ServiceRequest``) and what is known of it
(``.json``). A letter is named by arrival and digest, so the same batch refused twice is one letter.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.pipeline.batch import Batch, Signal

_PAYLOAD, _ABOUT = ".otlp", ".json"


@dataclass(slots=True, frozen=True)
class DeadLetter:
    """One letter, without its payload."""

    name: str
    signal: Signal
    reason: str
    received_at: datetime
    refused_at: datetime
    size: int


class DeadLetters:
    """The dead letters of one exporter, in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keep(self, batch: Batch, reason: str) -> DeadLetter:
        """Keep a batch durably. Raises `OSError` when the disk does not take it."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{batch.received_at:020d}-{batch.digest.hex()}"
        about = {
            "signal": batch.signal.value,
            "reason": reason,
            "received_at_unix_nano": batch.received_at,
            "refused_at": datetime.now(UTC).isoformat(),
            "digest": batch.digest.hex(),
            "size": len(batch.payload),
        }
        _write_durably(self.directory / (name + _PAYLOAD), batch.payload)
        # Written last: a letter is there when this file is.
        _write_durably(self.directory / (name + _ABOUT), json.dumps(about, indent=2).encode())
        return _letter(name, about)

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
        """Remove a letter."""
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


def _write_durably(path: Path, content: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
