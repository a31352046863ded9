"""The types that components' settings are made of, so that every component reads its settings alike.

Durations are written as the Collector writes them (``15s``, ``1h30m``), with ``d`` for days and ``w`` for weeks
besides; sizes as Kubernetes writes them (``4MiB``, ``500KB``, or a number of bytes).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

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


class Contradiction(NamedTuple):
    """Settings that are valid each by itself and not together: where one of them is, and what to do.

    ``refused`` tells whether nothing may run like this; else it is a warning.
    """

    place: tuple[str, ...]
    message: str
    refused: bool = True


class Settings(BaseModel):
    """Base of every component's settings: unknown keys are errors, values do not change.

    The docstring below a field is its description, in the reference and in the schema.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    def contradictions(self) -> Iterable[Contradiction]:
        """Return the settings that are valid each by itself and not together."""
        return ()


class SpoolSettings(Settings):
    """Where batches wait, on disk, for a destination that is down or slow. Clients get their OK meanwhile."""

    enabled: bool = True
    """Without it, a batch that cannot be delivered is refused, and the client keeps it."""
    max_size: ByteSize = Field(default=2**30, ge=2**20)
    """Bytes on disk. What happens when they are used up, ``when_full`` says."""
    when_full: Literal["auto", "refuse", "drop_oldest"] = "auto"
    """``refuse``: clients are told to come back, and no exporter of the signal gets the batch. ``drop_oldest``: the
    oldest segment is lost, which is counted and logged, so that a dead side destination does not stop the store.
    ``auto``: ``drop_oldest`` where other exporters keep all that this one is given, the store among them; else
    ``refuse``, as for Loki beside a store that keeps events only."""
    max_age: Duration | None = None
    """Batches that waited longer go to the dead letters. ``null``: they wait as long as it takes."""
    segment_size: ByteSize = Field(default=16 * 2**20, ge=2**16)
    """Bytes of one file. Space is given back file by file."""
    fsync: Literal["always", "never"] = "always"
    """``always``: a batch is on disk before its OK. ``never``: in the hands of the operating system, which a crash of
    the process survives and a crash of the machine does not."""


class DeadLetterSettings(Settings):
    """Batches that the destination refused for good, kept on disk with the reason."""

    max_size: ByteSize = Field(default=2**30, ge=2**20)
    """Bytes on disk. When they are used up, a batch that is refused for good stays with its client, or in the spool,
    and what is behind it waits; with ``spool.when_full: drop_oldest`` it is lost, and counted with what the spool
    dropped. Replay dead letters, or drop them, to make room."""


class RetrySettings(Settings):
    """How a destination that is down is tried again: at growing intervals, each varied at random."""

    initial_interval: Duration = timedelta(milliseconds=500)
    """The first pause. A pause that the destination asks for counts if it is longer, up to ten minutes of it."""
    max_interval: Duration = timedelta(seconds=30)
    """The longest pause."""
    multiplier: float = Field(default=2.0, ge=1)
    """By how much each pause is longer than the one before."""
    randomization_factor: float = Field(default=0.5, ge=0, le=1)
    """By how much of itself a pause is varied, so that gateways do not come back all at once."""


class ExporterSettings(Settings):
    """What every exporter has around it."""

    timeout: Duration = Field(default=timedelta(seconds=10), ge=timedelta(milliseconds=100))
    """The longest that one attempt may take. What it carried is then spooled, or refused. A batch out of the spool that
    alone takes longer gets more time, step by step up to a minute."""
    slow_after: Duration = Field(default=timedelta(seconds=1), ge=timedelta(milliseconds=10))
    """How long a batch waits for its commit before it is answered from the spool instead."""
    receipt_window: Duration = Field(default=timedelta(hours=24), ge=timedelta(minutes=1))
    """How long a batch that the destination has, or the spool, is known again and not given to it a second time. It is
    remembered in memory, up to 50,000 batches."""
    retry_on_failure: RetrySettings = RetrySettings()
    spool: SpoolSettings = SpoolSettings()
    dead_letters: DeadLetterSettings = DeadLetterSettings()

    keeps_logs: ClassVar[bool] = False
    """Whether what it sends to keeps all log records, for people to read there. A store beside it then need keep events
    only."""
