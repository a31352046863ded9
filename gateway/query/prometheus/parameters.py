"""What a request asks for: the parameters of Prometheus's API, read as it reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from gateway.query.errors import BadQueryError

_T = TypeVar("_T")

MIN_TIME, MAX_TIME = -(2**53), 2**53
"""Milliseconds: all of time, for who names no start or end."""

_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_MILLISECONDS = (365 * 86_400_000, 7 * 86_400_000, 86_400_000, 3_600_000, 60_000, 1000, 1)
_MAX_STEPS = 11_000


class Parameters:
    """The parameters of one request, from its URL and its body. What is wrong with one raises `BadQueryError`."""

    def __init__(self, values: Mapping[str, Sequence[str]]) -> None:
        self._values = values

    def text(self, name: str) -> str:
        """Return a parameter, the first of that name; empty when it is not there."""
        return next(iter(self._values.get(name, ())), "")

    def all(self, name: str) -> Sequence[str]:
        """Return all parameters of a name."""
        return self._values.get(name, ())

    def time(self, name: str, default: int | None = None) -> int:
        """Return a time in milliseconds since the epoch. Without a default the parameter must be there."""
        if default is not None and not self.text(name):
            return default
        return self._read(
            name, lambda text: _time(text, f"invalid time value for '{name}': " if default is not None else "")
        )

    def duration(self, name: str) -> float | None:
        """Return a duration in milliseconds; None when it is not there."""
        return self._read(name, _duration) if self.text(name) else None

    def limit(self, name: str = "limit") -> int:
        """Return how many results are wanted at most; 0 stands for all."""
        return self._read(name, _limit) if self.text(name) else 0

    def range(self) -> tuple[int, int, int]:
        """Return start, end and step of a range query in milliseconds."""
        start, end = self._read("start", _time), self._read("end", _time)
        if end < start:
            raise invalid("end", "end timestamp must not be before start time")
        step = self._read("step", _duration)
        if step <= 0:
            raise invalid(
                "step", "zero or negative query resolution step widths are not accepted. Try a positive integer"
            )
        if (end - start) / step > _MAX_STEPS:
            raise BadQueryError(
                "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution "
                "(?step=XX)"
            )
        return start, end, max(round(step), 1)

    def _read(self, name: str, read: Callable[[str], _T]) -> _T:
        try:
            return read(self.text(name))
        except ValueError as error:
            raise invalid(name, str(error)) from error


def invalid(name: str, why: str) -> BadQueryError:
    """Return the error for a parameter that cannot be read."""
    return BadQueryError(f'invalid parameter "{name}": {why}')


def _time(text: str, prefix: str = "") -> int:
    if _FLOAT.fullmatch(text):
        return _bounded(float(text) * 1000)
    if found := _RFC3339.fullmatch(text):
        date, clock, fraction, zone = found.groups()
        at = datetime.fromisoformat(f"{date}T{clock}{'+00:00' if zone in 'Zz' else zone}")
        return round(at.astimezone(UTC).timestamp()) * 1000 + int(float(fraction or 0) * 1000)
    raise ValueError(f'{prefix}cannot parse "{text}" to a valid timestamp')


def _bounded(milliseconds: float) -> int:
    """Return whole milliseconds, as Prometheus rounds them; what is beyond all time becomes its end."""
    if not math.isfinite(milliseconds):
        return MAX_TIME if milliseconds > 0 else MIN_TIME
    return min(max(round(milliseconds), MIN_TIME), MAX_TIME)


def _duration(text: str) -> float:
    if _FLOAT.fullmatch(text):
        milliseconds = float(text) * 1000
        if abs(milliseconds) > 2**63 / 1e6:
            raise ValueError(f'cannot parse "{text}" to a valid duration. It overflows int64')
        return milliseconds
    if text == "0":
        return 0
    if text and (found := _DURATION.fullmatch(text)):
        total = sum(int(number or 0) * length for number, length in zip(found.groups(), _MILLISECONDS, strict=True))
        if total <= 2**63 // 10**6:
            return total
    raise ValueError(f'cannot parse "{text}" to a valid duration')


def _limit(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,18}", text):
        raise ValueError(f'strconv.Atoi: parsing "{text}": invalid syntax')
    if int(text) < 0:
        raise ValueError("limit must be non-negative")
    return int(text)
