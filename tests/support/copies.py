"""What stands in a binary COPY."""

from __future__ import annotations

import struct
from collections.abc import Iterator


def fields(chunk: bytes, columns: int) -> Iterator[tuple[bytes | None, ...]]:
    """Read binary COPY rows: for each the content of its fields."""
    at = 0
    while at < len(chunk):
        (count,) = struct.unpack_from(">h", chunk, at)
        assert count == columns
        at += 2
        row: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", chunk, at)
            at += 4
            row.append(None if length < 0 else chunk[at : at + length])
            at += max(length, 0)
        yield tuple(row)
