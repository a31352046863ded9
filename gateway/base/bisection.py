"""What is refused is taken apart by halves until the bad parts stand alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

_Part = TypeVar("_Part")
_Item = TypeVar("_Item")
_Refusal = TypeVar("_Refusal")


async def bisect_refused(
    parts: list[_Part],
    attempt: Callable[[_Part], Awaitable[_Refusal | None]],
    halve: Callable[[_Part, _Refusal], Awaitable[Sequence[_Part] | None]],
) -> AsyncIterator[tuple[_Part, _Refusal]]:
    """Attempt each part, in order, and what is refused once more in halves; yield what can only be refused, and why.

    ``attempt`` returns why a part was refused, or None. ``halve`` returns what to attempt in its place; None for what
    cannot be taken apart, or is not to be. ``parts`` is what is left at any time, so that whoever is interrupted, by
    an error of ``attempt`` for one, can go on with it later.
    """
    while parts:
        part = parts[0]
        refusal = await attempt(part)
        halves = None if refusal is None else await halve(part, refusal)
        if refusal is not None and halves is None:
            yield part, refusal
        parts[:1] = halves or ()


async def halves_of(items: Sequence[_Item], _: object = None) -> tuple[Sequence[_Item], Sequence[_Item]] | None:
    """Return both halves of several items; None for one alone."""
    if len(items) < 2:
        return None
    middle = len(items) // 2
    return items[:middle], items[middle:]
