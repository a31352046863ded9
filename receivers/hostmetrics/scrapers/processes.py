"""Processes by state, and the uptime."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator

import psutil

from receivers.hostmetrics.conventions import PROCESS_COUNT, PROCESS_CREATED, UPTIME, Attribute
from receivers.hostmetrics.sensor import Observation, procfs

# The conventions know the first four; blocked (in an uninterruptible sleep, mostly on a disk) and idle (a kernel thread
# with nothing to do) are the Collector's, which are worth telling apart from sleeping.
_STATES = ("running", "sleeping", "stopped", "defunct", "blocked", "idle")
_STATE_BY_LETTER = {
    b"R": "running",
    b"S": "sleeping",
    b"T": "stopped",
    b"t": "stopped",
    b"Z": "defunct",
    b"X": "defunct",
    b"x": "defunct",
    b"D": "blocked",
    b"K": "blocked",
    b"I": "idle",
    b"P": "idle",
}
_STATE_BY_NAME = {
    psutil.STATUS_RUNNING: "running",
    psutil.STATUS_SLEEPING: "sleeping",
    psutil.STATUS_STOPPED: "stopped",
    psutil.STATUS_TRACING_STOP: "stopped",
    psutil.STATUS_ZOMBIE: "defunct",
    psutil.STATUS_DEAD: "defunct",
    psutil.STATUS_DISK_SLEEP: "blocked",
    psutil.STATUS_IDLE: "idle",
}


def by_state() -> Iterator[Observation]:
    """Yield the number of processes by state, states without any among them."""
    counts = _states_of_kernel() if psutil.LINUX else _states_of_psutil()
    for state in (*_STATES, "unknown") if counts["unknown"] else _STATES:
        yield Observation(PROCESS_COUNT, counts[state], {Attribute.PROCESS_STATE: state})


def created() -> Iterator[Observation]:
    """Yield how many processes and threads have been created, which psutil does not count. Linux only."""
    with procfs("stat").open("rb") as lines:
        forks = next(int(line.split()[1]) for line in lines if line.startswith(b"processes "))
    yield Observation(PROCESS_CREATED, forks)


def uptime() -> Iterator[Observation]:
    """Yield the seconds since the machine was started, suspended ones included."""
    if psutil.LINUX:
        # Not the difference of two times of day, which would jump whenever the clock is set.
        yield Observation(UPTIME, time.clock_gettime(time.CLOCK_BOOTTIME))
    else:
        yield Observation(UPTIME, time.time() - psutil.boot_time())


def _states_of_kernel() -> Counter[str]:
    """Count the states in procfs, reading one file a process; psutil takes two and a half times as long."""
    counts: Counter[str] = Counter()
    root = procfs()
    for name in os.listdir(root):  # noqa: PTH208 - a Path for each of all processes would double the cost
        if not name.isdigit():
            continue
        try:
            with open(f"{root}/{name}/stat", "rb") as file:  # noqa: PTH123 - likewise
                stat = file.read()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        # "pid (name) state …", and the name may contain anything.
        after_name = stat.rindex(b")") + 2
        counts[_STATE_BY_LETTER.get(stat[after_name : after_name + 1], "unknown")] += 1
    return counts


def _states_of_psutil() -> Counter[str]:
    return Counter(_STATE_BY_NAME.get(each.info["status"], "unknown") for each in psutil.process_iter(["status"]))
