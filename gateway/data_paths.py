"""Where in the data directory each part keeps what it has to remember."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote


def spool_directory(data_dir: Path, exporter: str) -> Path:
    """Return where an exporter's spools are: one directory in it for each worker."""
    return data_dir / "spool" / quote(exporter, safe="")


def spools(data_dir: Path) -> Iterator[tuple[str, Path]]:
    """Yield the exporter's name and the directory of each spool there is."""
    for exporter in sorted(spool_directory(data_dir, "").glob("*")):
        for directory in sorted(path for path in exporter.glob("*") if path.name.isdecimal()):
            yield unquote(exporter.name), directory


def receiver_directory(data_dir: Path, receiver: str) -> Path:
    """Return where a receiver keeps how far it has come."""
    return data_dir / "receiver" / quote(receiver, safe="")


def dead_letter_directory(data_dir: Path, exporter: str) -> Path:
    """Return where an exporter's dead letters are."""
    return data_dir / "dead-letter" / quote(exporter, safe="")
