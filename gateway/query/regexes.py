"""Regular expressions of query languages: RE2's, matched against whole values, in time linear in their length.

Most of those that dashboards send are alternatives between plain words (``a|b|c``); they need no engine at all. All
others are RE2's business, which is a wheel on common platforms; docs/decisions/0090 says what happens on others.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from gateway.query.errors import BadQueryError

try:
    re2: Any = importlib.import_module("re2")
except ImportError:  # no wheel for this platform
    re2 = None

_SPECIAL = frozenset("\\.+*?()|[]{}^$")
MAX_LENGTH = 1 << 16
"""Characters of a pattern."""


class Regex:
    """A compiled regular expression that matches whole values; ``.`` matches newlines, as in Prometheus."""

    __slots__ = ("_compiled", "pattern", "words")

    def __init__(self, pattern: str) -> None:
        """Compile `pattern`. Raises `BadQueryError` where RE2 does not take it."""
        self.pattern = pattern
        words = pattern.split("|")
        plain = len(pattern) <= MAX_LENGTH and not any(_SPECIAL.intersection(word) for word in words)
        self.words: frozenset[str] | None = frozenset(words) if plain else None
        """All values that match, where they can be told (an index finds them without looking at others)."""
        self._compiled: Any = None if plain else _compile(pattern)

    def matches(self, value: str) -> bool:
        """Return whether the whole of `value` matches."""
        if self.words is not None:
            return value in self.words
        return self._compiled.fullmatch(value) is not None

    def expand(self, value: str, template: str) -> str | None:
        """Return `template` with ``$1``, ``${1}``, ``$name`` filled from the groups of a match; None without one."""
        if self._compiled is None:
            self._compiled = _compile(self.pattern)
        found = self._compiled.fullmatch(value)
        if found is None:
            return None
        names = self._compiled.groupindex
        groups = self._compiled.groups

        def group(name: str) -> str:
            number = int(name) if name.isdecimal() else names.get(name)
            return (found.group(number) or "") if number is not None and number <= groups else ""

        return _expanded(template, group)


@functools.lru_cache(maxsize=1024)
def regex(pattern: str) -> Regex:
    """Return the `Regex` of `pattern`, from a cache. Raises `BadQueryError`."""
    return Regex(pattern)


def _compile(pattern: str) -> Any:
    if len(pattern) > MAX_LENGTH:
        raise BadQueryError(f"regular expression of {len(pattern)} characters: at most {MAX_LENGTH} are allowed")
    if re2 is None:
        raise BadQueryError(
            f"regular expression {pattern!r} needs the package google-re2, which has no wheel for this platform: "
            "build it with RE2's headers installed, or use plain alternatives such as 'a|b'"
        )
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        text = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        raise BadQueryError(f"error parsing regexp: {text}") from None


def _expanded(template: str, group: Callable[[str], str]) -> str:
    """Fill `template` by the rules of Go's ``Regexp.Expand``: the longest name of letters, digits and underscores."""
    parts: list[str] = []
    at = 0
    while (dollar := template.find("$", at)) >= 0:
        parts.append(template[at:dollar])
        at = dollar + 1
        if template.startswith("$", at):
            parts.append("$")
            at += 1
            continue
        braces = template.startswith("{", at)
        first = last = at + braces
        while last < len(template) and (template[last].isalnum() or template[last] == "_"):
            last += 1
        if last == first or (braces and not template.startswith("}", last)):
            parts.append("$")  # no name: as it is
            continue
        parts.append(group(template[first:last]))
        at = last + braces
    parts.append(template[at:])
    return "".join(parts)
