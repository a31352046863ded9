"""Memory, swap and paging."""

from __future__ import annotations

from collections.abc import Iterator

import psutil

from receivers.hostmetrics.conventions import (
    MEMORY_AVAILABLE,
    MEMORY_LIMIT,
    MEMORY_SHARED,
    MEMORY_USAGE,
    MEMORY_UTILIZATION,
    PAGING_FAULTS,
    PAGING_OPERATIONS,
    PAGING_USAGE,
    PAGING_UTILIZATION,
    Attribute,
)
from receivers.hostmetrics.sensor import Observation, procfs


def memory() -> Iterator[Observation]:
    """Yield the memory in bytes by state, and each state's share of the total.

    As the conventions define it, ``used`` is what is not available (Linux: MemTotal - MemAvailable), so the states
    overlap and do not add up to the total: cache that cannot be given back is in ``used`` as well.
    """
    values = psutil.virtual_memory()._asdict()
    total = values["total"]
    yield Observation(MEMORY_LIMIT, total)
    for state in ("used", "free", "cached", "buffers"):
        if state in values:
            attributes = {Attribute.SYSTEM_MEMORY_STATE: state}
            yield Observation(MEMORY_USAGE, values[state], attributes)
            yield Observation(MEMORY_UTILIZATION, values[state] / total, attributes)
    if psutil.LINUX:
        yield Observation(MEMORY_AVAILABLE, values["available"])
        yield Observation(MEMORY_SHARED, values["shared"])


def swap() -> Iterator[Observation]:
    """Yield the swap space of all devices together in bytes by state, and shares where there is any swap."""
    swap = psutil.swap_memory()
    for state, value in (("used", swap.used), ("free", swap.free)):
        attributes = {Attribute.SYSTEM_PAGING_STATE: state}
        yield Observation(PAGING_USAGE, value, attributes)
        if swap.total:
            yield Observation(PAGING_UTILIZATION, value / swap.total, attributes)


def paging() -> Iterator[Observation]:
    """Yield page faults, and pages swapped in and out, which psutil does not count. Linux only."""
    counts = dict(line.split() for line in procfs("vmstat").read_text().splitlines())
    major = int(counts["pgmajfault"])
    for kind, faults in (("major", major), ("minor", int(counts["pgfault"]) - major)):
        yield Observation(PAGING_FAULTS, faults, {Attribute.SYSTEM_PAGING_FAULT_TYPE: kind})
    for direction, name in (("in", "pswpin"), ("out", "pswpout")):
        # A kernel built without swap counts no pages swapped.
        if name in counts:
            attributes = {Attribute.SYSTEM_PAGING_DIRECTION: direction, Attribute.SYSTEM_PAGING_FAULT_TYPE: "major"}
            yield Observation(PAGING_OPERATIONS, int(counts[name]), attributes)
