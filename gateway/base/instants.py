"""Instants and spans of time, as people write and read them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

from gateway.base.settings import parse_duration

SECOND = 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST, _LATEST = 0, 2**63 - 1


def parse_instant(text: str, now: datetime) -> datetime:
    """Read a duration before now (``15m``, ``1h30m``, ``7d``) or an ISO 8601 time, local unless it says otherwise.

    Raises `ValueError` with examples when it is neither.
    """
    with contextlib.suppress(ValueError, OverflowError):
        return now - parse_duration(text)
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return datetime.fromisoformat(text.strip()).astimezone()
    raise ValueError("expected a duration such as 15m, 1h30m or 7d, or a time such as 2026-01-31T14:00")


def unix_nano(instant: datetime) -> int:
    """Return an instant in nanoseconds since the Unix epoch."""
    return (instant - _EPOCH) // _MICROSECOND * 1000


def from_unix_nano(nanoseconds: int) -> datetime:
    """Return an instant in UTC, to the microsecond. What no OTLP time can be becomes the nearest that can."""
    return _EPOCH + timedelta(microseconds=min(max(nanoseconds, _EARLIEST), _LATEST) // 1000)


def local_time(nanoseconds: int) -> str:
    """Return an instant in the local time zone, to the millisecond."""
    return from_unix_nano(nanoseconds).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def iso_time(nanoseconds: int) -> str:
    """Return an instant in UTC as ISO 8601, with all nine digits."""
    return f"{from_unix_nano(nanoseconds):%Y-%m-%dT%H:%M:%S}.{nanoseconds % SECOND:09d}Z"


def rounded(value: float) -> str:
    """Return a number with three digits that count, or all of those before the point unless there are too many."""
    return f"{value:.0f}" if 100 <= abs(value) < 1e15 else f"{value:.3g}"


def short_duration(nanoseconds: float) -> str:
    """Return a length of time in its most readable unit: ``850 ns``, ``1.25 ms``, ``3.4 s``, ``2m 5s``, ``3d 4h``."""
    size = abs(nanoseconds)
    if size >= 60 * SECOND:
        minutes, seconds = divmod(round(nanoseconds / SECOND), 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        return f"{days}d {hours}h" if days else f"{hours}h {minutes}m" if hours else f"{minutes}m {seconds}s"
    for unit, length in (("s", SECOND), ("ms", 10**6), ("µs", 10**3)):
        if size >= length:
            return f"{rounded(nanoseconds / length)} {unit}"
    return f"{nanoseconds:.0f} ns"
