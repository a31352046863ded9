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
