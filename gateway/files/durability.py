"""What makes files last through a crash of the machine, and replaces them without being led elsewhere."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path

_ATTEMPTS = 10
_LEFT_BEHIND = 3600.0
"""Seconds after which a file that a killed process was writing is taken away by the next who writes there."""


def sync(path: Path) -> None:
    """Write a file, or a directory's entries, through to the disk. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create(path: Path, mode: int = 0o600) -> int:
    """Open a new file for writing in place of whatever has its name, and return its descriptor. Raises `OSError`.

    A link or a pipe that somebody planted there is not written to.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, mode)
    except FileExistsError:
        path.unlink(missing_ok=True)
        return os.open(path, flags, mode)


def replace_file(
    path: Path,
    content: bytes,
    *,
    mode: int = 0o600,
    lasting: bool = True,
    sweep: bool = True,
    before: Callable[[int], None] | None = None,
) -> None:
    """Replace a file as a whole: whoever reads sees it before or after. Raises `OSError`.

    What is written is a new file beside it. A link that somebody planted, under its name or under that of the new file,
    is replaced or passed over, and never written through. ``lasting``: it is on the disk when this returns.
    ``sweep``: what killed processes left there is taken away, which takes a look at the whole folder. ``before`` is
    called with the new file's descriptor before it takes the other's place.
    """
    if sweep:
        with contextlib.suppress(OSError):
            _sweep(path)
    fresh, descriptor = _beside(path, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            if before is not None:
                before(file.fileno())
            if lasting:
                os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    if lasting:
        sync(path.parent)


def mode_of(path: Path) -> int:
    """Return the permissions of a file that people have, so that replacing it keeps them; 0644 where there is none."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644


def _beside(path: Path, mode: int) -> tuple[Path, int]:
    """Make a new file beside another, which was not there before under any name or by any link."""
    for attempt in range(_ATTEMPTS):
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        try:
            return fresh, os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        except FileExistsError:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def _sweep(path: Path) -> None:
    """Take away what processes that were killed have left."""
    begin, now = f".{path.name}.", time.time()
    for entry in os.scandir(path.parent):
        if entry.name.startswith(begin) and entry.name.endswith(".new"):
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(found.st_mode) and now - found.st_mtime > _LEFT_BEHIND:
                with contextlib.suppress(FileNotFoundError):
                    Path(entry.path).unlink()
