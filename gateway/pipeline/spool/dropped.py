"""What a full spool dropped: the account of it, in a file beside the segments.

It only grows, so that nobody has to look at the right moment; who has seen it may remove the file.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.component.batch import Batch
from gateway.files.durability import replace_file
from gateway.otlp.counting import count_readable

_FILE = "dropped"


@dataclass(slots=True, frozen=True)
class Dropped:
    """How many batches, records and bytes of payload were dropped, and when the last of them (ISO 8601)."""

    batches: int = 0
    records: int = 0
    size: int = 0
    last: str = ""


def read_dropped(directory: Path) -> Dropped:
    """Return what was dropped from the spool in a directory, also while a gateway uses it."""
    try:
        about = json.loads((directory / _FILE).read_text("ascii"))
        return Dropped(int(about["batches"]), int(about["records"]), int(about["size"]), str(about["last"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Dropped()


def note_dropped(directory: Path, before: Dropped, batches: Sequence[Batch]) -> Dropped:
    """Add batches to the account. A disk that does not take it is no reason to stop: metric and log tell, too."""
    after = Dropped(
        before.batches + len(batches),
        before.records + sum(map(count_readable, batches)),
        before.size + sum(len(batch.payload) for batch in batches),
        datetime.now(UTC).isoformat(timespec="seconds"),
    )
    path = directory / _FILE
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, f"{json.dumps(asdict(after))}\n".encode(), lasting=False)
    return after
