"""What may be written to the store of what others wrote: bounded, and such that PostgreSQL takes it."""

from __future__ import annotations

from typing import Any

MAX_OUTPUT = 64 * 1024
"""Characters of a run's output that are kept: its beginning and, as what went wrong is there, more of its end."""
MAX_ERROR = 4 * 1024


def clean(text: str) -> str:
    """Return a text without what PostgreSQL cannot store: NUL and halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def clean_json(value: Any) -> Any:
    """Return a JSON value with all its texts made clean."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): clean_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(inner) for inner in value]
    return value


def bounded(text: str, limit: int = MAX_OUTPUT) -> str:
    """Return a text of at most ``limit`` characters, with a note where the middle was left out."""
    if len(text) <= limit:
        return text
    note = f"\n[… {len(text) - limit:,} or more characters left out …]\n"
    head = max((limit - len(note)) // 4, 0)
    tail = max(limit - len(note) - head, 0)
    return (text[:head] + note + text[len(text) - tail :])[:limit]


class Output:
    """What a run writes, piece by piece: as much of it as is kept, in as much memory."""

    def __init__(self, limit: int = MAX_OUTPUT) -> None:
        self._limit = limit
        self._head = ""
        self._tail = ""
        self._length = 0

    def add(self, text: str) -> None:
        """Add a piece."""
        self._length += len(text)
        room = self._limit // 4 - len(self._head)
        if room > 0:
            self._head += text[:room]
            text = text[room:]
        # The tail is cut only when it has grown to twice its size, so that many short pieces cost little.
        self._tail += text[-self._limit :]
        if len(self._tail) > 2 * self._limit:
            self._tail = self._tail[-self._limit :]

    @property
    def text(self) -> str:
        """All of it, or its beginning and its end with a note between."""
        if self._length == len(self._head) + len(self._tail):
            return bounded(self._head + self._tail, self._limit)
        note = f"\n[… {self._length - self._limit:,} or more characters left out …]\n"
        return self._head + note + self._tail[len(self._head) + len(note) - self._limit :]
