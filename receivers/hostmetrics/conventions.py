"""The table of every metric, with its name, unit and kind, and the names of the attributes.

They follow the OpenTelemetry semantic conventions (system and hardware metrics, version 1.44); the few metrics that the
conventions lack follow the Collector's hostmetrics receiver and say so. The names are written out rather than imported
because the conventions' package keeps them in a private part, free to change in any release; tests hold these names
against that package.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"


class Kind(enum.Enum):
    """What the values of a metric mean: which OpenTelemetry instrument would have made them."""

    COUNTER = "counter"
    """Only grows, since the machine was started."""
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
FILESYSTEM_USAGE = _up_down_counter("system.filesystem.usage", "By", "Space of a filesystem by state")
FILESYSTEM_UTILIZATION = _gauge("system.filesystem.utilization", "1", "Share in use of the space that users may use")
FILESYSTEM_LIMIT = _up_down_counter("system.filesystem.limit", "By", "Total space of a filesystem")

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

# Hardware
TEMPERATURE = _gauge("hw.temperature", "Cel", "Temperature in degrees Celsius")
TEMPERATURE_LIMIT = _gauge("hw.temperature.limit", "Cel", "Temperature limit in degrees Celsius")
FAN_SPEED = _gauge("hw.fan.speed", "rpm", "Fan speed in revolutions per minute")


class Attribute:
    """The names of the attributes of data points."""

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
    PROCESS_STATE: Final = "process.state"
    SYSTEM_DEVICE: Final = "system.device"
    SYSTEM_FILESYSTEM_MODE: Final = "system.filesystem.mode"
    SYSTEM_FILESYSTEM_MOUNTPOINT: Final = "system.filesystem.mountpoint"
    SYSTEM_FILESYSTEM_STATE: Final = "system.filesystem.state"
    SYSTEM_FILESYSTEM_TYPE: Final = "system.filesystem.type"
    SYSTEM_MEMORY_STATE: Final = "system.memory.state"
    SYSTEM_PAGING_DIRECTION: Final = "system.paging.direction"
    SYSTEM_PAGING_FAULT_TYPE: Final = "system.paging.fault.type"
    SYSTEM_PAGING_STATE: Final = "system.paging.state"
