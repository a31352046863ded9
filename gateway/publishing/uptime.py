"""What is known of components becomes days and outages.

Time is cut into equal intervals. Of each it is known whether records of a component came, and whether they said that it
is well. From that alone follows what it was:

=========================================================  =================================================
records came, and said that it is well                     up
records came, and said that it is not                      degraded or down, as the content says
none came, and there were none before                      unknown: nobody knew of it yet
none came, and the hub is the component                    down: a hub that runs tells of itself
none came, and it is the hub, which runs since before      unknown: what it tells of itself does not get here
none came, and the hub told of itself meanwhile            down
none came, and the hub was silent, too                     unknown: nobody was there to hear of it
=========================================================  =================================================

What waited in a spool or with a client has its own time when it is stored later, so an outage of the store is none of
what sends to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum

import numpy as np
import numpy.typing as npt

DAY = timedelta(days=1)
States = npt.NDArray[np.int8]


class Was(IntEnum):
    """What a component was in an interval."""

    UNKNOWN = 0
    UP = 1
    DEGRADED = 2
    DOWN = 3


@dataclass(frozen=True, slots=True)
class Intervals:
    """Equal intervals from the beginning of a day (UTC) up to now, all of which are over."""

    start: datetime
    step: timedelta
    count: int

    @classmethod
    def until(cls, now: datetime, days: int, step: timedelta, late: timedelta) -> Intervals:
        """Return those of this many days, today among them, that ended ``late`` or longer ago."""
        now = now.astimezone(UTC)
        start = datetime(now.year, now.month, now.day, tzinfo=UTC) - (days - 1) * DAY
        return cls(start, step, max((now - late - start) // step, 0))

    @property
    def end(self) -> datetime:
        """The end of the last one."""
        return self.start + self.count * self.step

    def at(self, index: int) -> datetime:
        """The beginning of one."""
        return self.start + index * self.step

    def first_from(self, moment: datetime) -> int:
        """The first that does not begin before a moment, which may be after the last."""
        return max(-((self.start - moment) // self.step), 0)


@dataclass(frozen=True, slots=True)
class Day:
    """How much of a day, in parts of 1, a component was what. ``total`` is how much of the day there was so far."""

    date: date
    total: float
    up: float
    degraded: float
    down: float

    @property
    def known(self) -> float:
        """How much of the day is known."""
        return self.up + self.degraded + self.down

    @property
    def unknown(self) -> float:
        """How much of the day passed without anything being known."""
        return self.total - self.known if self.total - self.known > 1e-9 else 0.0

    @property
    def available(self) -> float | None:
        """The share of what is known in which the component worked; None where nothing is known."""
        return (self.up + self.degraded) / self.known if self.known else None


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a component was down. ``end`` is None when it still is, by what is known."""

    start: datetime
    end: datetime | None
    length: timedelta


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a component: its days, the oldest first, and its outages, the newest first."""

    days: list[Day]
    outages: list[Outage]

    @property
    def available(self) -> float | None:
        """The share of what is known in which the component worked; None where nothing is known."""
        known = sum(day.known for day in self.days)
        return sum(day.up + day.degraded for day in self.days) / known if known else None


def judged(heard: Mapping[str, States], hub: str | None, runs_from: int | None = None) -> dict[str, States]:
    """Return what each component was, by what was heard of it: `Was.UNKNOWN` where no records came.

    ``hub`` is the component that is the hub, if one is. Without it, silence is only ever unknown. ``runs_from`` is the
    first interval in which it is known to have run to the end, because it says so.
    """
    if hub is None or hub not in heard:
        return dict(heard)
    told = heard[hub]
    return {
        name: _judged(states, told) if name != hub else _judged(states, None, runs_from)
        for name, states in heard.items()
    }


def _judged(heard: States, witness: States | None, runs_from: int | None = None) -> States:
    """Return what a component was; without a witness it is the hub, which is its own."""
    was = heard.copy()
    present = np.flatnonzero(heard)
    if present.size:
        silent = heard == Was.UNKNOWN
        silent[: present[0]] = False
        if witness is not None:
            silent &= witness != Was.UNKNOWN
        elif runs_from is not None:
            silent[runs_from:] = False
        was[silent] = Was.DOWN
    return was


def history(was: States, intervals: Intervals) -> History:
    """Return the days and outages of a component."""
    return History(_days(was, intervals), _outages(was, intervals))


def _days(was: States, intervals: Intervals) -> list[Day]:
    share = intervals.step / DAY
    count = max(-(-(intervals.end - intervals.start) // DAY), 1)
    of_day = (np.arange(len(was)) * intervals.step.total_seconds() // DAY.total_seconds()).astype(np.int64)
    sums = {
        state: np.bincount(of_day[was == state], minlength=count) * share for state in (Was.UP, Was.DEGRADED, Was.DOWN)
    }
    totals = np.bincount(of_day, minlength=count) * share
    first = intervals.start.date()
    return [Day(first + n * DAY, *(float(of[n]) for of in (totals, *sums.values()))) for n in range(count)]


def _outages(was: States, intervals: Intervals) -> list[Outage]:
    down = np.concatenate(([False], was == Was.DOWN, [False])).astype(np.int8)
    begins, ends = np.flatnonzero(np.diff(down) == 1), np.flatnonzero(np.diff(down) == -1)
    return [
        Outage(
            intervals.at(int(begin)),
            None if end == len(was) else intervals.at(int(end)),
            int(end - begin) * intervals.step,
        )
        for begin, end in zip(begins[::-1], ends[::-1], strict=True)
    ]
