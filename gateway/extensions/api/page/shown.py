"""Times, severities and links of telemetry as the views show them. All times are in UTC, as they are in the URL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.base.instants import from_unix_nano, short_duration, unix_nano
from gateway.extensions.api.page.ranges import text_of as url_time
from gateway.extensions.api.page.view import link
from gateway.query.values import text_of

_LONGEST_VALUE = 4_000
_MOST_ATTRIBUTES = 100
COLOURS = 8
"""How many colours tell services apart; further ones begin anew. They are ``--series-1`` and so on in the style."""


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant: ``iso`` for programs, ``day`` and ``clock`` (to the millisecond) for people."""

    iso: str
    day: str
    clock: str

    @classmethod
    def of(cls, nanoseconds: int) -> Moment:
        """Return one in nanoseconds since the Unix epoch."""
        at = from_unix_nano(nanoseconds)
        return cls(exact(at), f"{at:%Y-%m-%d}", f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}")


def exact(at: datetime) -> str:
    """Return a time as a URL has it, to the microsecond."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def around(nanoseconds: int, before: timedelta, after: timedelta) -> dict[str, str]:
    """Return the parameters of a URL for the time around an instant."""
    at = from_unix_nano(nanoseconds)
    return {"from_": url_time(at - before), "to": url_time(at + after)}


def minute_of(nanoseconds: int) -> dict[str, str]:
    """Return the parameters of a URL for the minute of an instant, and the seconds before and after it."""
    at = from_unix_nano(nanoseconds).replace(second=0, microsecond=0)
    return {"from_": url_time(at - timedelta(seconds=5)), "to": url_time(at + timedelta(seconds=65))}


def ago(at: datetime, now: datetime) -> str:
    """Return how long ago something was."""
    return f"{short_duration(max(unix_nano(now) - unix_nano(at), 10**9))} ago"


def length_of(seconds: float) -> str:
    """Return a length of time in its largest unit: in finer ones, the page would change for its own sake."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (size == 60 and seconds >= size):
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def pairs(*attributes: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return attributes as text, so many and so long as a page can show."""
    found = [(key, _bounded(text_of(value))) for each in attributes for key, value in each.items()]
    if len(found) > _MOST_ATTRIBUTES:
        found[_MOST_ATTRIBUTES:] = [("…", f"and {len(found) - _MOST_ATTRIBUTES} more")]
    return found


def _bounded(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"


def bounded(value: Any) -> str:
    """Return a value as text, as long as a page can show."""
    return _bounded(text_of(value))


def colours(services: Iterable[str]) -> dict[str, int]:
    """Return a number from 1 for the colour of each service, in the order in which they come."""
    return {service: number % COLOURS + 1 for number, service in enumerate(dict.fromkeys(services))}


def trace_link(trace_id: str | None, span_id: str | None = None) -> str | None:
    """Return the URL of a trace, and of a span in it."""
    if not trace_id:
        return None
    url = link(f"/traces/{trace_id}", span=span_id)
    return f"{url}#span-{span_id}" if span_id else url


def chosen(names: Sequence[str], asked: Sequence[str]) -> list[tuple[str, bool]]:
    """Return names to choose from, with those that are asked for whatever they are, and which these are."""
    return [(name, name in asked) for name in dict.fromkeys((*asked, *names))]
