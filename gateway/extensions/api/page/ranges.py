"""Time ranges as they stand in URLs: ``range=1h`` up to now, or ``from`` and ``to``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.query.errors import BadQueryError

RANGES: Mapping[str, timedelta] = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
DEFAULT = "1h"
_MILLISECONDS = re.compile(r"\d{10,14}")
_UNESCAPED_PLUS = re.compile(r"(:\d\d(?:\.\d+)?) (\d\d:\d\d)$")
"""A plus sign that was not escaped in a URL is a space."""
_YEARS = (1970, 2262)
_EXPECTED = "expected a time such as 2026-05-01T12:00:00Z, or milliseconds since 1970"


@dataclass(frozen=True, slots=True)
class Range:
    """From ``start`` to ``end``, both in UTC. ``name`` is that of a range up to now; None where both ends are fixed."""

    start: datetime
    end: datetime
    name: str | None = None

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.end - self.start).total_seconds()

    @property
    def parameters(self) -> dict[str, str]:
        """How it stands in a URL."""
        if self.name is not None:
            return {"range": self.name}
        return {"from": text_of(self.start), "to": text_of(self.end)}

    @property
    def fixed(self) -> dict[str, str]:
        """How it stands in a URL that is to show the same tomorrow."""
        return {"from": text_of(self.start), "to": text_of(self.end)}


def text_of(at: datetime) -> str:
    """Return a time as a URL has it: RFC 3339 in UTC, to the millisecond where there are any."""
    at = at.astimezone(UTC)
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds").replace("+00:00", "Z")


def range_of(asked: Mapping[str, str], now: datetime, default: str = DEFAULT) -> Range:
    """Return the range that parameters of a URL name. Raises `BadQueryError`.

    Of ``from`` and ``to`` one alone is enough: up to now, and from an hour before.
    """
    start, end = (time_of(name, asked[name]) if asked.get(name) else None for name in ("from", "to"))
    if start is None and end is None:
        name = asked.get("range") or default
        if name not in RANGES:
            raise BadQueryError(f"range={name[:40]!r} is none of {', '.join(RANGES)}; or use from= and to=")
        return Range(now - RANGES[name], now, name)
    end = end or max(now, start or now)
    start = start or end - RANGES[DEFAULT]
    if start >= end:
        raise BadQueryError(f"from={text_of(start)} is not before to={text_of(end)}")
    return Range(start, end)


def time_of(name: str, text: str) -> datetime:
    """Return the time that a parameter of a URL names. Raises `BadQueryError`."""
    try:
        if _MILLISECONDS.fullmatch(text):
            at = datetime.fromtimestamp(int(text) / 1000, UTC)
        else:
            at = datetime.fromisoformat(_UNESCAPED_PLUS.sub(r"\1+\2", text))
            at = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise BadQueryError(f"{name}={text[:40]!r}: {_EXPECTED}") from None
    if not _YEARS[0] <= at.year < _YEARS[1]:
        raise BadQueryError(f"{name}={text[:40]!r}: the store has nothing of that year")
    return at
