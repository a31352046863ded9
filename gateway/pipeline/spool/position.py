"""Where reading of a spool stands, in a small file beside the segments.

It is written before a segment that was taken is removed, and names it. So a segment that cannot be removed is known to
have been taken, and is not delivered a second time by the next start. Batches are read again rather than skipped: a
file that is missing, or not whole, says nothing.

::

    0000000000000007.segment 1234           read on here
    last 0000000000000009.segment 16778000  the last segment had at least so many bytes
    taken 0000000000000006.segment          not to be read again, should it still be there
    crc 5d41402a                            of all before

Files of older versions have the first line only.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from gateway.files.durability import replace_file
from gateway.files.locks import give_to_owner

SUFFIX = ".segment"
_FILE = "cursor"


@dataclass(slots=True, frozen=True)
class Position:
    """What the file says. Segments are named by their numbers, ``offset`` and ``length`` are in bytes.

    ``segment`` is the one to read from; with offset 0 it may be one that is not begun yet. ``certain``: the file has a
    checksum, so that what is not there must have been lost.
    """

    segment: int
    offset: int
    last: tuple[int, int] | None = None
    taken: frozenset[int] = frozenset()
    certain: bool = True


def name_of(segment: int) -> str:
    """Return the name of a segment's file."""
    return f"{segment:016d}{SUFFIX}"


def read_position(directory: Path) -> Position | None:
    """Return what the file says; None when there is none, or nothing that can be relied on."""
    try:
        content = (directory / _FILE).read_text("ascii")
        body, mark, checksum = content.rpartition("crc ")
        if not mark:
            name, offset = content.split()
            return Position(_number(name), int(offset), certain=False)
        if int(checksum, 16) != zlib.crc32(body.encode()):
            return None
        (name, offset), *rest = [line.split() for line in body.splitlines()]
        last = next(((_number(line[1]), int(line[2])) for line in rest if line[0] == "last"), None)
        return Position(
            _number(name), int(offset), last, frozenset(_number(line[1]) for line in rest if line[0] == "taken")
        )
    except (OSError, ValueError, IndexError):
        return None


def write_position(directory: Path, position: Position, *, durable: bool) -> None:
    """Replace the file. ``durable``: it outlives a crash of the machine, too. Raises `OSError`."""
    lines = [f"{name_of(position.segment)} {position.offset}"]
    if position.last is not None:
        lines.append(f"last {name_of(position.last[0])} {position.last[1]}")
    lines += [f"taken {name_of(number)}" for number in sorted(position.taken)]
    body = ("\n".join(lines) + "\n").encode()
    replace_file(
        directory / _FILE,
        body + f"crc {zlib.crc32(body):08x}\n".encode(),
        lasting=durable,
        sweep=bool(position.taken),  # seldom: a look at the folder at each write would cost more than the write
        before=lambda descriptor: give_to_owner(descriptor, directory),
    )


def _number(name: str) -> int:
    return int(name.removesuffix(SUFFIX))
