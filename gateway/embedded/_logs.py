"""The server's log, bounded in size.

PostgreSQL begins a new file after 10 MB but removes none, so the newest are kept here and the rest removed.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

KEPT_FILES = 5
_TAIL_BYTES = 4_096
_TAIL_LINES = 15


def prune(folder: Path) -> None:
    """Remove all but the newest log files."""
    for old in _files(folder)[:-KEPT_FILES]:
        with contextlib.suppress(OSError):
            old.unlink()


def tail(folder: Path, start_output: Path) -> str:
    """Return the last lines that the server wrote, for an error message; empty when it wrote none."""
    lines: list[str] = []
    for file in (start_output, *_files(folder)[-1:]):
        with contextlib.suppress(OSError), file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - _TAIL_BYTES))
            lines += opened.read().decode(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:])


def _files(folder: Path) -> list[Path]:
    """Return the log files, oldest first: their names hold the time at which each was begun."""
    return sorted(folder.glob("postgresql-*.log"))
