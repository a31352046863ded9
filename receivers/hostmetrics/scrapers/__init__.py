"""The scrapers: each module reads one part of the machine, each function in it one sensor."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import psutil

from receivers.hostmetrics.config import Scrapers
from receivers.hostmetrics.scrapers import container, cpu, hardware, memory, network, process, processes, storage
from receivers.hostmetrics.sensor import Sensor


def sensors(scrapers: Scrapers) -> Iterator[Sensor]:
    """Yield the sensors of every enabled group that this platform has. Each is to be read by one thread only."""
    if scrapers.cpu.enabled:
        yield Sensor("cpu", cpu.Times(per_core=scrapers.cpu.per_core).read)
        yield Sensor("cpu count", cpu.count)
        if psutil.LINUX:
            yield Sensor("cpu frequency", cpu.frequency)
    if scrapers.load.enabled:
        yield Sensor("load", cpu.load)
    if scrapers.memory.enabled:
        yield Sensor("memory", memory.memory)
        if psutil.LINUX:
            yield Sensor("kernel memory", memory.kernel)
    if scrapers.paging.enabled:
        yield Sensor("swap", memory.swap)
        if psutil.LINUX:
            yield Sensor("paging", memory.paging)
    if scrapers.disk.enabled:
        yield Sensor("disk", partial(storage.disks, scrapers.disk))
    if scrapers.filesystem.enabled:
        yield Sensor("filesystem", partial(storage.filesystems, scrapers.filesystem))
    if scrapers.network.enabled:
        yield Sensor("network", partial(network.interfaces, scrapers.network))
    if scrapers.connections.enabled:
        yield Sensor("connections", network.connections)
    if scrapers.processes.enabled:
        yield Sensor("processes", processes.by_state)
        if psutil.LINUX:
            yield Sensor("processes created", processes.created)
    if scrapers.process.enabled and psutil.LINUX:
        yield Sensor("single processes", process.Processes(scrapers.process).read)
    if scrapers.container.enabled:
        yield Sensor("containers", container.Containers(scrapers.container).read)
    if scrapers.system.enabled:
        yield Sensor("uptime", processes.uptime)
    if scrapers.sensors.enabled:
        if hasattr(psutil, "sensors_temperatures"):
            yield Sensor("temperatures", hardware.temperatures)
        if hasattr(psutil, "sensors_fans"):
            yield Sensor("fans", hardware.fans)
