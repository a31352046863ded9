"""What a spool lost, in a file beside the segments, for a person to see who comes later.

A line for each: when it was found, where, and what. It is there until somebody removes it.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.files.locks import give_to_owner

_FILE = "losses"
_MOST_BYTES = 256 * 2**10
"""What is found when there is so much already is logged and counted, and not written down."""


@dataclass(slots=True, frozen=True)
class Loss:
    """One loss: when it was found (ISO 8601), the segment or the bytes of it, and what happened to them."""

    at: str
    place: str
    what: str


def read_losses(directory: Path) -> list[Loss]:
    """Return what was written down, oldest first."""
    try:
        lines = (directory / _FILE).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [Loss(*parts) for line in lines if len(parts := line.split("\t", 2)) == 3]


def write_loss(directory: Path, place: str, what: str) -> None:
    """Add one. What cannot be written down is in the log all the same."""
    path = directory / _FILE
    with contextlib.suppress(OSError):
        if path.exists() and path.stat().st_size > _MOST_BYTES:
            return
        line = f"{datetime.now(UTC).isoformat(timespec='seconds')}\t{place}\t{what}\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            give_to_owner(descriptor, directory)
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
