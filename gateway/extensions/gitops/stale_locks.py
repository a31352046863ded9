"""Lock files that a git left which was killed: taken away where nobody can be at work on them.

Git makes ``index.lock`` and its like, and takes them away when it is done; killed, it leaves them, and every later git
refuses. Whoever calls this holds the clone against other hubs. What is left are the owner's own gits: one that runs in
the clone, or holds the file open, keeps its lock.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

_OBJECTS = re.compile(r"[0-9a-f]{2}")
_HOLD_NOTHING = ("fsmonitor--daemon", "credential-cache--daemon")
"""Gits that run on and on, and change nothing in a repository."""

_NOT_GITS = {"hooks", "obs-hub", "lfs"}
"""Folders of a git directory whose files are not git's own."""


def reclaim(work_tree: Path, folders: Iterable[Path]) -> list[Path]:
    """Remove the lock files in git directories that nobody uses, and return them. Blocks."""
    found = sorted({lock for folder in folders for lock in _locks(folder)})
    if not found:
        return []
    found = _unused(found, [work_tree.resolve(), *(folder.resolve() for folder in folders)])
    removed = []
    for lock in found:
        with contextlib.suppress(OSError):
            lock.unlink()
            removed.append(lock)
    return removed


def _locks(folder: Path) -> Iterator[Path]:
    """Yield the lock files of a git directory, of its submodules and of its other work trees."""
    for parent, folders, files in os.walk(folder):
        place = Path(parent)
        if place == folder:
            folders[:] = [name for name in folders if name not in _NOT_GITS]
        if place.name == "objects":
            folders[:] = [name for name in folders if not _OBJECTS.fullmatch(name)]
        for name in files:
            if name.endswith(".lock") and stat.S_ISREG((place / name).lstat().st_mode):
                yield place / name


def _unused(locks: list[Path], places: list[Path]) -> list[Path]:
    """Return those of the lock files that no process has open and no git can be at work on."""
    held: set[tuple[int, int]] = set()
    owners: set[int] = set()
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
            try:
                held |= set(_open_files(process.pid))
                if process.name().startswith("git") and _works_in(process, places):
                    return []
            except (psutil.AccessDenied, PermissionError):
                if process.name().startswith("git"):  # it may be here; what it makes is its user's
                    owners |= set(process.uids())
    kept = []
    for lock in locks:
        with contextlib.suppress(FileNotFoundError):
            found = lock.lstat()
            if (found.st_dev, found.st_ino) not in held and found.st_uid not in owners:
                kept.append(lock)
    return kept


def _open_files(pid: int) -> Iterator[tuple[int, int]]:
    for descriptor in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found = descriptor.stat()
            if stat.S_ISREG(found.st_mode):
                yield found.st_dev, found.st_ino


def _works_in(process: psutil.Process, places: list[Path]) -> bool:
    """Tell whether a git works on a clone: it changes into it, unless told the git directory by name."""
    if any(one in process.cmdline() for one in _HOLD_NOTHING):
        return False
    said = [process.cwd(), process.environ().get("GIT_DIR", ""), *process.cmdline()]
    texts = [text.partition("=")[2] if text.startswith("--") else text for text in said]
    return any(Path(text).is_relative_to(place) for text in texts if text.startswith("/") for place in places)
