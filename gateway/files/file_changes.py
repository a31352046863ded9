"""Whether files have changed.

Nothing runs in the background: the files are looked at when somebody asks, which is when it matters.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path


class FileChanges:
    """Tells when any of some files has changed, come or gone; by itself, looks once in ``interval`` seconds at most.

    What it compares with at first is how they are when it is made: make it before the files are read.
    """

    def __init__(
        self, files: Iterable[Path | None], interval: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._files = [file for file in files if file is not None]
        self._interval = interval
        self._clock = clock
        self._stamps = [*map(_stamp, self._files)]
        self._looked = clock()

    def seen(self, *, at_once: bool = False) -> bool:
        """Tell whether they have changed since they were last looked at; look ``at_once`` whenever that was."""
        now = self._clock()
        if not self._files or not (at_once or now - self._looked >= self._interval):
            return False
        self._looked = now
        before, self._stamps = self._stamps, [*map(_stamp, self._files)]
        return self._stamps != before


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - follows the links of a mounted Kubernetes secret
    except FileNotFoundError:
        return None
    except OSError:
        return ()  # it may be there: not the same as one that is gone
    return found.st_ino, found.st_ctime_ns, found.st_size  # not st_mtime: one that may be read at last has changed, too
