"""The table of every metric, with its name, unit and kind, and the names of the attributes.

They follow the OpenTelemetry semantic conventions (system, process, container and hardware metrics, version 1.44); the
few metrics that the conventions lack follow the Collector's receivers (hostmetrics, docker_stats) and say so. The names
are written out rather than imported because the conventions' package keeps them in a private part, free to change in
any release; tests hold these names against that package.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"


class Kind(enum.Enum):
    """What the values of a metric mean: which OpenTelemetry instrument would have made them."""

    COUNTER = "counter"
    """Only grows, since the machine, or the process or container that it is about, was started."""
    UP_DOWN_COUNTER = "updowncounter"
    """Goes up and down; values of different attributes can be added up."""
    GAUGE = "gauge"
    """A current value; adding up those of different attributes means nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Instrument:
    """One metric. ``unit`` is written in UCUM, as the conventions prescribe."""

    name: str
    unit: str
    kind: Kind
    description: str


def _counter(name: str, unit: str, description: str) -> Instrument:
    return Instrument(name, unit, Kind.COUNTER, description)


def _up_down_counter(name: str, unit: str, description: str) -> Instrument:
    return Instrument(name, unit, Kind.UP_DOWN_COUNTER, description)


def _gauge(name: str, unit: str, description: str) -> Instrument:
    return Instrument(name, unit, Kind.GAUGE, description)


# CPU and load
CPU_TIME = _counter("system.cpu.time", "s", "Seconds each logical CPU spent on each mode")
CPU_UTILIZATION = _gauge(
    "system.cpu.utilization", "1", "Share of the time since the last collection spent on each mode"
)
CPU_LOGICAL_COUNT = _up_down_counter("system.cpu.logical.count", "{cpu}", "Number of logical CPUs")
CPU_PHYSICAL_COUNT = _up_down_counter("system.cpu.physical.count", "{cpu}", "Number of physical CPU cores")
CPU_FREQUENCY = _gauge("system.cpu.frequency", "Hz", "Frequency that each logical CPU runs at")
# Not in the conventions; names and unit of the Collector.
LOAD_AVERAGE_1M = _gauge("system.cpu.load_average.1m", "{thread}", "Average CPU load over 1 minute")
LOAD_AVERAGE_5M = _gauge("system.cpu.load_average.5m", "{thread}", "Average CPU load over 5 minutes")
LOAD_AVERAGE_15M = _gauge("system.cpu.load_average.15m", "{thread}", "Average CPU load over 15 minutes")

# Memory and paging
MEMORY_USAGE = _up_down_counter("system.memory.usage", "By", "Memory in use by state")
MEMORY_UTILIZATION = _gauge("system.memory.utilization", "1", "Share of the memory in each state")
MEMORY_LIMIT = _up_down_counter("system.memory.limit", "By", "Total memory of the machine")
MEMORY_AVAILABLE = _up_down_counter(
    "system.memory.linux.available", "By", "Estimate of the memory that new applications can have without swapping"
)
MEMORY_SHARED = _up_down_counter("system.memory.linux.shared", "By", "Shared memory in use, mostly by tmpfs")
MEMORY_SLAB = _up_down_counter(
    "system.memory.linux.slab.usage", "By", "Memory that the kernel uses for caches of its own objects"
)
HUGEPAGES_LIMIT = _up_down_counter("system.memory.linux.hugepages.limit", "{page}", "Number of huge pages set aside")
HUGEPAGES_PAGE_SIZE = _up_down_counter("system.memory.linux.hugepages.page_size", "By", "Size of a huge page")
HUGEPAGES_RESERVED = _up_down_counter(
    "system.memory.linux.hugepages.reserved", "{page}", "Huge pages that are promised and not taken yet"
)
HUGEPAGES_SURPLUS = _up_down_counter(
    "system.memory.linux.hugepages.surplus", "{page}", "Huge pages beyond those set aside"
)
HUGEPAGES_USAGE = _up_down_counter("system.memory.linux.hugepages.usage", "{page}", "Huge pages by state")
HUGEPAGES_UTILIZATION = _gauge("system.memory.linux.hugepages.utilization", "1", "Share of huge pages in each state")
PAGING_USAGE = _up_down_counter("system.paging.usage", "By", "Swap space by state")
PAGING_UTILIZATION = _gauge("system.paging.utilization", "1", "Share of the swap space in each state")
PAGING_OPERATIONS = _counter("system.paging.operations", "{operation}", "Pages swapped in and out")
PAGING_FAULTS = _counter("system.paging.faults", "{fault}", "Page faults")

# Disks and filesystems
DISK_IO = _counter("system.disk.io", "By", "Bytes read and written")
DISK_OPERATIONS = _counter("system.disk.operations", "{operation}", "Reads and writes completed")
DISK_MERGED = _counter("system.disk.merged", "{operation}", "Reads and writes merged into another one")
DISK_OPERATION_TIME = _counter(
    "system.disk.operation_time", "s", "Time all reads and writes took, counted for each even where they overlap"
)
DISK_IO_TIME = _counter("system.disk.io_time", "s", "Time during which the disk was busy")
DISK_LIMIT = _up_down_counter("system.disk.limit", "By", "Size of the disk")
# Not in the conventions; name and unit of the Collector.
DISK_PENDING = _up_down_counter("system.disk.pending_operations", "{operations}", "Reads and writes under way")
FILESYSTEM_USAGE = _up_down_counter("system.filesystem.usage", "By", "Space of a filesystem by state")
FILESYSTEM_UTILIZATION = _gauge("system.filesystem.utilization", "1", "Share in use of the space that users may use")
FILESYSTEM_LIMIT = _up_down_counter("system.filesystem.limit", "By", "Total space of a filesystem")
# Not in the conventions; name and unit of the Collector.
FILESYSTEM_INODES = _up_down_counter("system.filesystem.inodes.usage", "{inodes}", "Inodes of a filesystem by state")

# Network
NETWORK_IO = _counter("system.network.io", "By", "Bytes received and transmitted")
NETWORK_PACKET_COUNT = _counter("system.network.packet.count", "{packet}", "Packets received and transmitted")
NETWORK_PACKET_DROPPED = _counter("system.network.packet.dropped", "{packet}", "Packets dropped without an error")
NETWORK_ERRORS = _counter("system.network.errors", "{error}", "Network errors")
NETWORK_CONNECTION_COUNT = _up_down_counter("system.network.connection.count", "{connection}", "Connections by state")

# Processes and the system
PROCESS_COUNT = _up_down_counter("system.process.count", "{process}", "Processes by state")
PROCESS_CREATED = _counter("system.process.created", "{process}", "Processes created")
UPTIME = _gauge("system.uptime", "s", "Time since the machine was started")

# Single processes
PROCESS_CPU_TIME = _counter("process.cpu.time", "s", "Seconds the process spent on each mode")
PROCESS_CPU_UTILIZATION = _gauge(
    "process.cpu.utilization", "1", "Share of all CPUs' time since the last collection spent on each mode"
)
PROCESS_MEMORY_USAGE = _up_down_counter("process.memory.usage", "By", "Physical memory in use")
PROCESS_MEMORY_VIRTUAL = _up_down_counter("process.memory.virtual", "By", "Virtual memory")
PROCESS_DISK_IO = _counter("process.disk.io", "By", "Bytes read from and written to disks")
PROCESS_THREAD_COUNT = _up_down_counter("process.thread.count", "{thread}", "Number of threads")
PROCESS_FILE_DESCRIPTOR_COUNT = _up_down_counter(
    "process.unix.file_descriptor.count", "{file_descriptor}", "Number of open file descriptors"
)
PROCESS_CONTEXT_SWITCHES = _counter("process.context_switches", "{context_switch}", "Context switches by type")
PROCESS_PAGING_FAULTS = _counter("process.paging.faults", "{fault}", "Page faults")
PROCESS_UPTIME = _gauge("process.uptime", "s", "Time since the process was started")

# Containers
CONTAINER_CPU_TIME = _counter("container.cpu.time", "s", "Seconds of CPU the container spent on each mode")
CONTAINER_CPU_USAGE = _gauge("container.cpu.usage", "{cpu}", "CPUs in use since the last collection by mode")
CONTAINER_MEMORY_USAGE = _up_down_counter("container.memory.usage", "By", "Memory in use, caches included")
CONTAINER_MEMORY_WORKING_SET = _up_down_counter(
    "container.memory.working_set", "By", "Memory in use that cannot be given back at once"
)
CONTAINER_MEMORY_AVAILABLE = _up_down_counter(
    "container.memory.available", "By", "Memory left until the container's own limit"
)
CONTAINER_DISK_IO = _counter("container.disk.io", "By", "Bytes read from and written to block devices")
CONTAINER_NETWORK_IO = _counter("container.network.io", "By", "Bytes received and transmitted")
CONTAINER_UPTIME = _gauge("container.uptime", "s", "Time since the container was started")
# Not in the conventions; name and unit of the Collector.
CONTAINER_RESTARTS = _counter("container.restarts", "{restarts}", "How often the container was started again")
# Of nobody's: built like the conventions' k8s.container.status.state.
CONTAINER_HEALTH = _up_down_counter(
    "container.health.status", "{container}", "1 for the state that the health check found, 0 for the others"
)

# Hardware
TEMPERATURE = _gauge("hw.temperature", "Cel", "Temperature in degrees Celsius")
TEMPERATURE_LIMIT = _gauge("hw.temperature.limit", "Cel", "Temperature limit in degrees Celsius")
FAN_SPEED = _gauge("hw.fan.speed", "rpm", "Fan speed in revolutions per minute")


class Attribute:
    """The names of the attributes of data points."""

    CONTAINER_HEALTH_STATE: Final = "container.health.state"  # not in the conventions, as its metric
    CONTAINER_ID: Final = "container.id"
    CONTAINER_IMAGE_NAME: Final = "container.image.name"
    CONTAINER_IMAGE_TAGS: Final = "container.image.tags"
    CONTAINER_NAME: Final = "container.name"
    CONTAINER_RUNTIME_NAME: Final = "container.runtime.name"
    CPU_LOGICAL_NUMBER: Final = "cpu.logical_number"
    CPU_MODE: Final = "cpu.mode"
    DISK_IO_DIRECTION: Final = "disk.io.direction"
    HW_ID: Final = "hw.id"
    HW_LIMIT_TYPE: Final = "hw.limit_type"
    HW_NAME: Final = "hw.name"
    HW_SENSOR_LOCATION: Final = "hw.sensor_location"
    HW_TYPE: Final = "hw.type"
    NETWORK_CONNECTION_STATE: Final = "network.connection.state"
    NETWORK_INTERFACE_NAME: Final = "network.interface.name"
    NETWORK_IO_DIRECTION: Final = "network.io.direction"
    NETWORK_TRANSPORT: Final = "network.transport"
    PROCESS_COMMAND: Final = "process.command"
    PROCESS_CONTEXT_SWITCH_TYPE: Final = "process.context_switch.type"
    PROCESS_CREATION_TIME: Final = "process.creation.time"
    PROCESS_EXECUTABLE_NAME: Final = "process.executable.name"
    PROCESS_OWNER: Final = "process.owner"
    PROCESS_PID: Final = "process.pid"
    PROCESS_STATE: Final = "process.state"
    SYSTEM_DEVICE: Final = "system.device"
    SYSTEM_FILESYSTEM_MODE: Final = "system.filesystem.mode"
    SYSTEM_FILESYSTEM_MOUNTPOINT: Final = "system.filesystem.mountpoint"
    SYSTEM_FILESYSTEM_STATE: Final = "system.filesystem.state"
    SYSTEM_FILESYSTEM_TYPE: Final = "system.filesystem.type"
    SYSTEM_MEMORY_LINUX_HUGEPAGES_STATE: Final = "system.memory.linux.hugepages.state"
    SYSTEM_MEMORY_LINUX_SLAB_STATE: Final = "system.memory.linux.slab.state"
    SYSTEM_MEMORY_STATE: Final = "system.memory.state"
    SYSTEM_PAGING_DIRECTION: Final = "system.paging.direction"
    SYSTEM_PAGING_FAULT_TYPE: Final = "system.paging.fault.type"
    SYSTEM_PAGING_STATE: Final = "system.paging.state"
