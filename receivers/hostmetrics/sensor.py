"""What the scrapers are made of: a sensor, and what reading it yields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import psutil

from receivers.hostmetrics.conventions import Instrument

Attributes: TypeAlias = Mapping[str, str | int]


@dataclass(frozen=True, slots=True, eq=False)
class Entity:
    """What has a resource of its own beside the machine: a process, a container.

    ``attributes`` are added to those of the machine. ``started``, in nanoseconds since the Unix epoch, is since when
    its counters count.
    """

    attributes: Mapping[str, str | int | Sequence[str]]
    started: int


class Observation(NamedTuple):
    """One value of one metric. Its time is that of the whole collection.

    ``entity`` is whose it is, where it is not the machine's. ``started`` is since when a counter counts, where that is
    not since the entity, or the machine, was started.
    """

    instrument: Instrument
    value: int | float
    attributes: Attributes = MappingProxyType({})
    entity: Entity | None = None
    started: int = 0


class Failed(NamedTuple):
    """A part of a sensor that could not be read, such as one filesystem of many, while the others could."""

    sensor: str
    error: Exception


Reading: TypeAlias = Iterable[Observation | Failed]


@dataclass(frozen=True, slots=True)
class Sensor:
    """Something that can be read, and that fails by itself: a sensor's failure concerns no other sensor.

    ``name`` is for people, in the log. ``read`` may raise anything.
    """

    name: str
    read: Callable[[], Reading]


def procfs(*names: str) -> Path:
    """Return a path inside Linux's procfs, wherever psutil has been told that it is mounted."""
    return Path(psutil.PROCFS_PATH, *names)
