"""The assets of the pages: read once, and compressed once."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gateway

_INSTALLED = Path(gateway.__file__).parent / "_page"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(gateway.__file__).parents[1] / "page"
"""Where templates and assets are: in the installed package, or in a checkout."""

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".ico": "image/x-icon"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent. ``version`` is a digest of it."""

    content: bytes
    compressed: bytes
    content_type: str
    version: str


@cache
def assets() -> Mapping[str, Asset]:
    """Return all assets, by their path below ``/static``."""
    folder = FOLDER / "static"
    return {
        path.relative_to(folder).as_posix(): _read(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in _TYPES
    }


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    version = hashlib.blake2b(content, digest_size=6).hexdigest()
    return Asset(content, gzip.compress(content, 9, mtime=0), _TYPES[path.suffix], version)


def asset_url(name: str) -> str:
    """Return where an asset is; the URL changes with it. Raises `KeyError`."""
    return f"/static/{name}?v={assets()[name].version}"
