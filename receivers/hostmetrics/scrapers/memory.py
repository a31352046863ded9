"""Memory, swap and paging."""

from __future__ import annotations

from collections.abc import Iterator

import psutil

from receivers.hostmetrics.conventions import (
    HUGEPAGES_LIMIT,
    HUGEPAGES_PAGE_SIZE,
    HUGEPAGES_RESERVED,
    HUGEPAGES_SURPLUS,
    HUGEPAGES_USAGE,
    HUGEPAGES_UTILIZATION,
    MEMORY_AVAILABLE,
    MEMORY_LIMIT,
    MEMORY_SHARED,
    MEMORY_SLAB,
    MEMORY_USAGE,
    MEMORY_UTILIZATION,
    PAGING_FAULTS,
    PAGING_OPERATIONS,
    PAGING_USAGE,
    PAGING_UTILIZATION,
    Attribute,
)
from receivers.hostmetrics.sensor import Observation, procfs

_KIB = 1024


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


def kernel() -> Iterator[Observation]:
    """Yield the slab, and huge pages where any are set aside, which psutil does not tell. Linux only.

    Of huge pages these are the ones of the default size, in pages; transparent ones are none of them.
    """
    found = {}
    for line in procfs("meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        found[name] = int(value.split()[0])
    for state, name in (("reclaimable", "SReclaimable"), ("unreclaimable", "SUnreclaim")):
        if name in found:
            attributes = {Attribute.SYSTEM_MEMORY_LINUX_SLAB_STATE: state}
            yield Observation(MEMORY_SLAB, found[name] * _KIB, attributes)
    if "HugePages_Total" not in found:  # a kernel built without them
        return
    limit, free = found["HugePages_Total"], found["HugePages_Free"]
    yield Observation(HUGEPAGES_LIMIT, limit)
    if not limit:
        return
    yield Observation(HUGEPAGES_PAGE_SIZE, found["Hugepagesize"] * _KIB)
    yield Observation(HUGEPAGES_RESERVED, found["HugePages_Rsvd"])
    yield Observation(HUGEPAGES_SURPLUS, found["HugePages_Surp"])
    for state, pages in (("used", limit - free), ("free", free)):
        attributes = {Attribute.SYSTEM_MEMORY_LINUX_HUGEPAGES_STATE: state}
        yield Observation(HUGEPAGES_USAGE, pages, attributes)
        yield Observation(HUGEPAGES_UTILIZATION, pages / limit, attributes)


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
