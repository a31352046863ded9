"""Which batches of a spool an operator wants dropped.

They are named in a file beside the segments, one a line: the digest and the time of arrival. Segments are only ever
appended to and removed, so a batch is dropped by being passed over when the spool is replayed, before anything of it is
looked at; this way it is of no matter whether a hub runs when it is asked for. The file is removed once the spool is
empty.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gateway.component.batch import Batch
from gateway.files.durability import replace_file
from gateway.files.locks import give_to_owner

_FILE = "removals"


def name(batch: Batch) -> str:
    """Return what names one batch, also among equal ones."""
    return f"{batch.digest.hex()} {batch.received_at}"


def wanted(directory: Path) -> frozenset[str]:
    """Return the names of the batches of a spool that are to be dropped. Raises `OSError`."""
    try:
        return frozenset((directory / _FILE).read_text().splitlines())
    except FileNotFoundError:
        return frozenset()


def ask(directory: Path, batches: Iterable[Batch]) -> None:
    """Have batches of a spool dropped; it lasts through a crash of the machine. Raises `OSError`."""
    names = sorted(wanted(directory) | {name(batch) for batch in batches})
    content = "".join(f"{each}\n" for each in names).encode()
    # Root may ask for it, and the hub, as another user, is to read it.
    replace_file(directory / _FILE, content, before=lambda descriptor: give_to_owner(descriptor, directory))


def forget(directory: Path) -> None:
    """Remove the file: the spool is empty. Raises `OSError`."""
    (directory / _FILE).unlink(missing_ok=True)
