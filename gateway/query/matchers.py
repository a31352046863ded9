"""What label matchers match."""

from __future__ import annotations

from gateway.query.regexes import regex
from gateway.query.series import Matcher


def matches(matcher: Matcher, value: str) -> bool:
    """Return whether a value of a label matches; that of a label that is missing is empty."""
    match matcher.op:
        case "=":
            return value == matcher.value
        case "!=":
            return value != matcher.value
        case "=~":
            return regex(matcher.value).matches(value)
        case "!~":
            return not regex(matcher.value).matches(value)
