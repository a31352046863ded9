"""What an earlier run left in the directory of a spool, and what is missing of it.

Segments are numbered without gaps, each tells how long the one before it is, and the position tells where reading
stands. Together they show a segment that is gone or was cut short.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.pipeline.spool.position import SUFFIX, Position, name_of, read_position
from gateway.pipeline.spool.segment import HEADER_SIZE, Damage, Head, scan

DAMAGED = "damaged"
_MOST_MISSING = 1_000
"""How many numbers of one gap are looked at, which a file with a number out of the blue could make any."""


@dataclass(slots=True)
class Segment:
    """One file. Records are durable, and readable, up to ``end``.

    ``exact``: that much was written to it, so what is missing or broken up to there is lost. Otherwise it is the length
    of the file, and an incomplete record at its end what a crash left.
    """

    number: int
    path: Path
    end: int
    exact: bool


@dataclass(slots=True)
class Found:
    """What there is: segments to read, the first of them from ``offset`` on, and those that were taken already.

    ``number`` is the highest in use. ``losses`` are places and what is missing there, ``torn`` how many bytes a crash
    left at the end of the last segment.
    """

    segments: list[Segment] = field(default_factory=list)
    taken: list[Path] = field(default_factory=list)
    offset: int = 0
    number: int = 0
    losses: list[tuple[str, str]] = field(default_factory=list)
    torn: int = 0


def find(directory: Path) -> Found:
    """Look at a directory that is owned. Raises `OSError` when it cannot be read."""
    position = read_position(directory)
    found = Found()
    for path in segments(directory):
        number = int(path.stem)
        if position is not None and number in position.taken:
            found.taken.append(path)
        else:
            found.segments.append(Segment(number, path, path.stat().st_size, exact=False))
    found.number = _last_number(found, position)
    heads = _lengths(found, position)
    _missing(found, position, heads, directory / DAMAGED)
    if position is not None and found.segments and position.segment == found.segments[0].number:
        found.offset = _boundary(found.segments[0], position.offset)
    return found


def segments(directory: Path) -> list[Path]:
    """Return the segment files of a spool directory, oldest first."""
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == SUFFIX and path.stem.isdecimal())
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_file(path: Path, start: int, end: int) -> bytes:
    """Return the bytes of a file from a place on, up to another or to its end. Raises `OSError`."""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def _last_number(found: Found, position: Position | None) -> int:
    """Return the highest number in use. A position must not be taken for one in a segment that is begun later."""
    numbers = [segment.number for segment in found.segments] + [int(path.stem) for path in found.taken]
    if position is not None:
        not_begun = position.certain and not position.offset
        numbers.append(position.segment - 1 if not_begun else position.segment)
    return max(numbers, default=0)


def _lengths(found: Found, position: Position | None) -> dict[int, Head]:
    """Find out how long the segments were. Returns the heads of those that have one, by number."""
    heads = {}
    for before, segment in itertools.pairwise(found.segments):
        head = _head(segment)
        if head is None:
            continue
        heads[segment.number] = head
        if head.number == before.number:
            _had(found, before, head.length)
            before.end, before.exact = head.length, True
    if found.segments:
        last = found.segments[-1]
        found.torn = _cut_torn_end(last)
        if position is not None and position.last is not None and position.last[0] == last.number:
            _had(found, last, position.last[1])
            last.end = max(last.end, position.last[1])
    return heads


def _had(found: Found, segment: Segment, length: int) -> None:
    """Note that a segment had so many bytes."""
    if segment.end < length:
        found.losses.append(cut_short(segment, length - segment.end))


def cut_short(segment: Segment, size: int) -> tuple[str, str]:
    """Return the loss of bytes at the end of a segment."""
    return segment.path.name, f"the segment is shorter than what was written to it, by {size} bytes"


def _head(segment: Segment) -> Head | None:
    data = b""
    with contextlib.suppress(OSError):  # reading it will say so
        data = read_file(segment.path, 0, HEADER_SIZE)
    first = next(scan(data), None)
    return first if isinstance(first, Head) else None


def _cut_torn_end(segment: Segment) -> int:
    """Leave out what a crash left at the end of a segment that nothing was written behind. Returns how much."""
    try:
        items: Sequence[object] = list(scan(read_file(segment.path, 0, segment.end)))
    except OSError:
        return 0
    segment.exact = True
    if not items or not isinstance(torn := items[-1], Damage) or not torn.torn:
        return 0
    segment.end = torn.start
    return torn.end - torn.start


def _missing(found: Found, position: Position | None, heads: dict[int, Head], damaged: Path) -> None:
    """Find gaps in the numbers: from where reading stands to the last segment that there is known to have been."""
    present = [segment.number for segment in found.segments]
    # Heads know better than numbers, which an older version left out when a write had failed.
    gaps = [
        (before + 1, number)
        for before, number in itertools.pairwise(present)
        if number not in heads or heads[number].number > before
    ]
    if position is not None and position.certain:
        start = position.segment
        if present and present[0] > start and (present[0] not in heads or heads[present[0]].number >= start):
            gaps.insert(0, (start, present[0]))
        last = max(position.last[0] if position.last else 0, start if position.offset else 0)
        behind = present[-1] + 1 if present else start
        if last >= behind:
            gaps.append((behind, last + 1))
            found.number = max(found.number, last)
    for start, end in gaps:
        for number in range(start, min(end, start + _MOST_MISSING)):
            taken = position is not None and number in position.taken
            if not taken and not (damaged / name_of(number)).exists():
                found.losses.append((name_of(number), "the segment is missing"))


def _boundary(segment: Segment, offset: int) -> int:
    """Return where to read on: at the offset if a record ends there, else at the start; twice is better than never."""
    try:
        data = read_file(segment.path, 0, segment.end)
    except OSError:
        return 0
    ends = (item.end for item in scan(data))
    return offset if offset in ends else 0
