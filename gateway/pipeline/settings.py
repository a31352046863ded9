"""The types that components' settings are made of, so that every component reads its settings alike.

Durations are written as the Collector writes them (``15s``, ``1h30m``), with ``d`` for days and ``w`` for weeks
besides; sizes as Kubernetes writes them (``4MiB``, ``500KB``, or a number of bytes).
"""

from __future__ import annotations

import contextlib
import re
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", re.IGNORECASE)
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_duration(value: object) -> timedelta:
    """Read ``15s``, ``1h30m``, ``500ms``, ``30d``. Raises `ValueError` with an example when it cannot."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and value:
        parts = _DURATION.findall(value)
        if "".join(number + unit for number, unit in parts) == value:
            with contextlib.suppress(OverflowError):
                return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))
    raise ValueError("expected a duration such as 15s, 1h30m or 30d")


def format_duration(value: timedelta) -> str:
    """Write a duration the way `parse_duration` reads it."""
    rest = round(value / timedelta(milliseconds=1))
    text = ""
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, round(_SECONDS[unit] * 1000))
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_size(value: object) -> int:
    """Read ``4MiB``, ``500KB`` or a number of bytes. Raises `ValueError` with an example when it cannot."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        with contextlib.suppress(OverflowError):
            return int(float(match[1]) * _BYTES[(match[2] or "").lower()])
    raise ValueError("expected a size such as 4MiB, 500KB or a number of bytes")


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": "string", "examples": ["15s", "1h30m", "30d"]}),
]
"""A `datetime.timedelta`, written ``15s`` or ``30d``."""

ByteSize = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}], "examples": ["4MiB"]}),
]
"""A number of bytes, written ``4MiB``."""


class Settings(BaseModel):
    """Base of every component's settings: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
