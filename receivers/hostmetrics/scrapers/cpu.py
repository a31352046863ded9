"""CPU time, utilisation, count, frequency and load."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from receivers.hostmetrics.conventions import (
    CPU_FREQUENCY,
    CPU_LOGICAL_COUNT,
    CPU_PHYSICAL_COUNT,
    CPU_TIME,
    CPU_UTILIZATION,
    LOAD_AVERAGE_1M,
    LOAD_AVERAGE_5M,
    LOAD_AVERAGE_15M,
    Attribute,
)
from receivers.hostmetrics.sensor import Observation

# By the conventions' modes, the fields of psutil that make them up; not every platform has all of them. Linux counts
# the time of guests in user and nice already.
_MODES = {
    "user": ("user",),
    "nice": ("nice",),
    "system": ("system",),
    "idle": ("idle",),
    "iowait": ("iowait",),
    "interrupt": ("irq", "softirq"),
    "steal": ("steal",),
}


_CPUS = "/sys/devices/system/cpu"


class Times:
    """CPU time by mode since the machine was started, and utilisation since the previous reading.

    The first reading has no utilisation.
    """

    def __init__(self, *, per_core: bool) -> None:
        self._per_core = per_core
        self._previous: list[dict[str, float]] = []

    def read(self) -> Iterator[Observation]:
        """Yield seconds by mode, and once there is a previous reading, shares between 0 and 1 that add up to 1."""
        times = [_by_mode(each) for each in psutil.cpu_times(percpu=True)] if self._per_core else [_all_cpus()]
        # CPUs come and go in virtual machines; then nobody knows which of them is which.
        previous = self._previous if len(self._previous) == len(times) else [None] * len(times)
        self._previous = times
        for number, (now, before) in enumerate(zip(times, previous, strict=True)):
            cpu: dict[str, str | int] = {Attribute.CPU_LOGICAL_NUMBER: number} if self._per_core else {}
            attributes = {mode: cpu | {Attribute.CPU_MODE: mode} for mode in now}
            for mode, seconds in now.items():
                yield Observation(CPU_TIME, seconds, attributes[mode])
            for mode, share in _utilization(before, now).items():
                yield Observation(CPU_UTILIZATION, share, attributes[mode])


def count() -> Iterator[Observation]:
    """Yield how many CPUs there are; physical cores only where the platform tells them."""
    for instrument, cpus in (
        (CPU_LOGICAL_COUNT, psutil.cpu_count()),
        (CPU_PHYSICAL_COUNT, psutil.cpu_count(logical=False)),
    ):
        if cpus is not None:
            yield Observation(instrument, cpus)


def frequency() -> Iterator[Observation]:
    """Yield the frequency of each logical CPU in Hz, where the kernel tells it by cpufreq. Linux only.

    What virtual machines have instead, a nominal frequency in ``/proc/cpuinfo``, never changes and is slow to read.
    """
    for cpu in range(psutil.cpu_count() or 0):
        path = Path(f"{_CPUS}/cpu{cpu}/cpufreq/scaling_cur_freq")
        with contextlib.suppress(OSError, ValueError):  # none, offline, or "<unknown>"
            yield Observation(CPU_FREQUENCY, int(path.read_bytes()) * 1000, {Attribute.CPU_LOGICAL_NUMBER: cpu})


def load() -> Iterator[Observation]:
    """Yield the load averages: threads that run or wait to, not divided by the number of CPUs."""
    for instrument, value in zip(
        (LOAD_AVERAGE_1M, LOAD_AVERAGE_5M, LOAD_AVERAGE_15M), psutil.getloadavg(), strict=True
    ):
        yield Observation(instrument, value)


def _all_cpus() -> dict[str, float]:
    return _by_mode(psutil.cpu_times())


def _by_mode(times: Any) -> dict[str, float]:
    fields = times._asdict()
    return {
        mode: sum(fields[part] for part in parts if part in fields)
        for mode, parts in _MODES.items()
        if parts[0] in fields
    }


def _utilization(before: Mapping[str, float] | None, now: Mapping[str, float]) -> dict[str, float]:
    """Return the share of each mode in the time that passed between two readings.

    The time that passed is the sum over the modes rather than that of a clock, so that the shares add up to 1 whatever
    the kernel's ticks. The kernel may correct idle and iowait downwards; such a mode counts as not having grown.
    """
    if before is None:
        return {}
    grown = {mode: max(0.0, seconds - before[mode]) for mode, seconds in now.items()}
    elapsed = sum(grown.values())
    return {mode: seconds / elapsed for mode, seconds in grown.items()} if elapsed else {}
