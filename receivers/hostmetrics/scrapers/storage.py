"""Disks and filesystems."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from receivers.hostmetrics.config import DiskScraper, FilesystemScraper, selected
from receivers.hostmetrics.conventions import (
    DISK_IO,
    DISK_IO_TIME,
    DISK_LIMIT,
    DISK_MERGED,
    DISK_OPERATION_TIME,
    DISK_OPERATIONS,
    DISK_PENDING,
    FILESYSTEM_INODES,
    FILESYSTEM_LIMIT,
    FILESYSTEM_USAGE,
    FILESYSTEM_UTILIZATION,
    Attribute,
)
from receivers.hostmetrics.sensor import Failed, Observation, Reading, procfs

_SECONDS_PER_MILLISECOND = 0.001
_SECTOR = 512  # the kernel counts in these whatever the device has

# By instrument, the fields of psutil for reads and writes and what turns them into the instrument's unit. Not every
# platform has all of them.
_BY_DIRECTION = (
    (DISK_IO, ("read_bytes", "write_bytes"), 1),
    (DISK_OPERATIONS, ("read_count", "write_count"), 1),
    (DISK_MERGED, ("read_merged_count", "write_merged_count"), 1),
    (DISK_OPERATION_TIME, ("read_time", "write_time"), _SECONDS_PER_MILLISECOND),
)


def disks(settings: DiskScraper) -> Iterator[Observation]:
    """Yield what each selected disk has read and written since it was there.

    Devices made of others (device mapper, RAID) count the bytes of those once more; add up physical disks only.
    """
    pending = _pending() if psutil.LINUX else {}
    # Without psutil's own correction of counters that wrap: these are 64 bits wide, and the start time promises what
    # the kernel counted.
    for device, counters in psutil.disk_io_counters(perdisk=True, nowrap=False).items():
        if not selected(device, settings.include_devices, settings.exclude_devices):
            continue
        if not settings.partitions and _is_partition(device):
            continue
        fields = counters._asdict()
        for instrument, names, factor in _BY_DIRECTION:
            for direction, name in zip(("read", "write"), names, strict=True):
                if name in fields:
                    attributes = {Attribute.SYSTEM_DEVICE: device, Attribute.DISK_IO_DIRECTION: direction}
                    yield Observation(instrument, fields[name] * factor, attributes)
        if device in pending:
            yield Observation(DISK_PENDING, pending[device], {Attribute.SYSTEM_DEVICE: device})
        if (size := _size(device)) is not None:
            yield Observation(DISK_LIMIT, size, {Attribute.SYSTEM_DEVICE: device})
        if "busy_time" in fields:
            busy = fields["busy_time"] * _SECONDS_PER_MILLISECOND
            yield Observation(DISK_IO_TIME, busy, {Attribute.SYSTEM_DEVICE: device})


def filesystems(settings: FilesystemScraper) -> Reading:
    """Yield the space of each selected filesystem in bytes by state, and the share in use.

    As ``df`` does, the share leaves out what is reserved for root: at 1 nobody else can write any more. And a
    filesystem that is mounted in several places, as bind mounts and containers do, is there once, at the shortest path.
    """
    for mount in _once_each(_mounts(settings)):
        try:
            usage = psutil.disk_usage(mount.mountpoint)
        except OSError as error:
            yield Failed(f"filesystem {mount.mountpoint}", error)
            continue
        if not usage.total:
            continue  # a pseudo filesystem such as proc
        filesystem = {
            Attribute.SYSTEM_DEVICE: mount.device,
            Attribute.SYSTEM_FILESYSTEM_MOUNTPOINT: mount.mountpoint,
            Attribute.SYSTEM_FILESYSTEM_TYPE: mount.fstype,
            Attribute.SYSTEM_FILESYSTEM_MODE: "ro" if "ro" in mount.opts.split(",") else "rw",
        }
        yield Observation(FILESYSTEM_LIMIT, usage.total, filesystem)
        reserved = usage.total - usage.used - usage.free
        for state, value in (("used", usage.used), ("free", usage.free), ("reserved", reserved)):
            yield Observation(FILESYSTEM_USAGE, value, filesystem | {Attribute.SYSTEM_FILESYSTEM_STATE: state})
        for state, inodes in _inodes(mount.mountpoint).items():
            yield Observation(FILESYSTEM_INODES, inodes, filesystem | {Attribute.SYSTEM_FILESYSTEM_STATE: state})
        if usable := usage.used + usage.free:
            used = filesystem | {Attribute.SYSTEM_FILESYSTEM_STATE: "used"}
            yield Observation(FILESYSTEM_UTILIZATION, usage.used / usable, used)


def _inodes(path: str) -> dict[str, int]:
    """Return the inodes of a filesystem by state; nothing where it has no fixed number of them, as btrfs has none."""
    try:
        found = os.statvfs(path)
    except OSError:  # it was there a moment ago
        return {}
    return {"used": found.f_files - found.f_ffree, "free": found.f_ffree} if found.f_files else {}


def _mounts(settings: FilesystemScraper) -> Iterator[Any]:
    """Yield what is mounted and selected, as psutil has it."""
    partitions = psutil.disk_partitions(all=settings.include_virtual_filesystems)
    # Where one filesystem is mounted over another, only the last can be reached.
    for mount in {each.mountpoint: each for each in partitions}.values():
        if not selected(mount.fstype, settings.include_fs_types, settings.exclude_fs_types):
            continue
        if selected(mount.mountpoint, settings.include_mount_points, settings.exclude_mount_points):
            yield mount


def _once_each(mounts: Iterable[Any]) -> Iterable[Any]:
    """Return one mount of each filesystem, in the order in which filesystems first appear."""
    chosen: dict[str | int, Any] = {}
    for mount in mounts:
        known = chosen.setdefault(_filesystem(mount), mount)
        if len(mount.mountpoint) < len(known.mountpoint):
            chosen[_filesystem(mount)] = mount
    return chosen.values()


def _filesystem(mount: Any) -> str | int:
    """Tell filesystems apart: by their block device, whose space they share whatever part of it is mounted (a
    subvolume, say), and by what the kernel tells where there is none."""
    if mount.device.startswith("/"):
        return str(mount.device)
    try:
        return Path(mount.mountpoint).stat().st_dev
    except OSError:  # which asking for its space will find as well, and report
        return str(mount.mountpoint)


def _pending() -> dict[str, int]:
    """Return how many reads and writes are under way by device, which psutil does not tell.

    Source: the kernel's ``Documentation/admin-guide/iostats.rst``, field 9.
    """
    fields = [line.split(None, 12) for line in procfs("diskstats").read_text().splitlines()]
    return {each[2]: int(each[11]) for each in fields if len(each) > 11}


def _size(device: str) -> int | None:
    """Return the size of a device in bytes; None where there is no sysfs."""
    try:
        return int(Path("/sys/class/block", device.replace("/", "!"), "size").read_bytes()) * _SECTOR
    except (OSError, ValueError):
        return None


def _is_partition(device: str) -> bool:
    """Tell whether a device is a partition of another. False where there is no sysfs."""
    return Path("/sys/class/block", device.replace("/", "!"), "partition").exists()
