"""Which hub it is that holds a run."""

from __future__ import annotations

import uuid
from pathlib import Path


def holder(data_dir: Path | None) -> str | None:
    """Return what tells this hub from others, through its restarts: hubs each have a data directory of their own.

    None without a data directory: then runs that were under way are resumed a while after a restart, not at once.
    """
    if data_dir is None:
        return None
    file = data_dir / "hub.id"
    try:
        with file.open("x", encoding="ascii") as fresh:
            fresh.write(str(uuid.uuid4()))
    except FileExistsError:
        pass
    return file.read_text(encoding="ascii") or None
