"""What somebody may have meant who wrote a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST_LISTED = 30


def near(word: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Return the known words that are most like one, the nearest first. Case makes no difference."""
    by_lower = {each.lower(): each for each in sorted(known)}
    found = difflib.get_close_matches(word.lower(), by_lower, n=most)
    if len(word) > 2 and len(found) < most:  # part of a long name is not like it by the letters that it lacks
        found += [each for each in by_lower if word.lower() in each and each not in found][: most - len(found)]
    return [by_lower[each] for each in found]


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'endpoint'?``, or the known words when none is near and they are not too many."""
    words = sorted(set(known))
    if found := near(word, words):
        return f"; did you mean '{found[0]}'?"
    if len(words) > _MOST_LISTED:
        return f"; known: {', '.join(words[:_MOST_LISTED])}, …"
    return f"; known: {', '.join(words)}" if words else ""
