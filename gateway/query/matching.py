"""Label matchers at work: whether a label's value is what a query asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gateway.query.regexes import regex
from gateway.query.series import Matcher

_MOST_REMEMBERED = 100_000


class Condition:
    """A matcher, ready to be asked. It remembers its answers, for the same values come again.

    Raises `BadQueryError` for a regular expression that cannot be read.
    """

    __slots__ = ("_known", "_matches", "_value", "_wanted", "matcher", "name")

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher
        self.name = matcher.name
        self._value = matcher.value
        self._wanted = not matcher.op.startswith("!")
        self._known: dict[str, bool] = {}
        self._matches = regex(matcher.value).matches if matcher.op.endswith("~") else None

    @property
    def takes_nothing(self) -> bool:
        """Whether it is true of series that have no such label."""
        return self("")

    @property
    def equal_to(self) -> str | None:
        """The one value that it is true of, where there is no other."""
        return self._value if self.matcher.op == "=" else None

    def __call__(self, value: str) -> bool:
        """Tell whether a value matches; a label that is missing has an empty one."""
        if self._matches is None:
            return (value == self._value) is self._wanted
        if (known := self._known.get(value)) is None:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            known = self._known[value] = self._matches(value) is self._wanted
        return known


def conditions(matchers: Iterable[Matcher]) -> list[Condition]:
    """Return matchers, ready to be asked."""
    return [Condition(matcher) for matcher in matchers]


def all_match(conditions: Sequence[Condition], labels: Mapping[str, str]) -> bool:
    """Tell whether labels are as every condition asks."""
    return all(condition(labels.get(condition.name, "")) for condition in conditions)
