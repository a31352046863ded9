"""The settings of the host metrics receiver, in the shape the OpenTelemetry Collector's users know.

.. code-block:: yaml

    receivers:
      hostmetrics:
        collection_interval: 15s
        scrapers:
          cpu: {per_core: false}
          filesystem: {exclude_mount_points: [/mnt/scratch]}
          processes: {enabled: false}
        endpoint: https://hub.example.com:4317
        headers: {authorization: "Bearer ${env:HUB_TOKEN}"}

Names that are included or excluded are shell patterns (``eth*``), as `fnmatch` reads them; excluding wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gateway.base.settings import Duration, Settings
from gateway.net.destination import EmitterSettings


def selected(name: str, include: Iterable[str], exclude: Iterable[str]) -> bool:
    """Tell whether a name matches one of the patterns to include and none of those to exclude."""
    return any(fnmatchcase(name, each) for each in include) and not any(fnmatchcase(name, each) for each in exclude)


Patterns = tuple[str, ...]
"""Shell patterns for names, such as ``eth*``."""

_SHORTEST = timedelta(seconds=1)


class Scraper(Settings):
    """What every group of metrics has."""

    enabled: bool = True
    """Whether to collect this group."""


class CpuScraper(Scraper):
    """CPU time and utilisation by mode, frequency."""

    per_core: bool = True
    """Whether each logical CPU is reported by itself; otherwise all of them together."""


class DiskScraper(Scraper):
    """Disk I/O, operations and time, size."""

    include_devices: Patterns = ("*",)
    """Devices to report, such as ``sd*``."""

    exclude_devices: Patterns = ("loop*", "ram*", "zram*")
    """Devices to leave out."""

    partitions: bool = False
    """Whether partitions are reported besides the disks they are on, which count the same bytes once more."""


class FilesystemScraper(Scraper):
    """Filesystem usage and utilisation, inodes."""

    include_virtual_filesystems: bool = False
    """Whether to report filesystems without a block device: tmpfs, overlay, NFS, FUSE.

    A network filesystem whose server does not answer holds up every collection until it does.
    """

    include_fs_types: Patterns = ("*",)
    """Types of filesystem to report, such as ``ext4``."""

    exclude_fs_types: Patterns = ("erofs", "iso9660", "squashfs")
    """Types of filesystem to leave out. The default ones are images, full by nature."""

    include_mount_points: Patterns = ("*",)
    """Mount points to report."""

    exclude_mount_points: Patterns = ("/etc/*", "/var/lib/containers/*", "/var/lib/docker/*", "/var/lib/kubelet/*")
    """Mount points to leave out. The default ones are filesystems that are mounted elsewhere too."""


class NetworkScraper(Scraper):
    """Network I/O, packets, errors and drops."""

    include_interfaces: Patterns = ("*",)
    """Interfaces to report, such as ``eth*``."""

    exclude_interfaces: Patterns = ("cali*", "veth*")
    """Interfaces to leave out. The default ones are those of containers, with a new name for each container."""


class ProcessScraper(Scraper):
    """Single processes: the ones that use most, or those of some names. Off unless named. Linux only.

    Each process is a resource of its own, so the store gets new series with every process that is reported. A process
    is reported once it has lived through a collection, and new ones at most six times ``top`` an hour.
    """

    top: int = Field(default=10, ge=1, le=200)
    """How many processes to report at most: those that use most of ``by``."""

    by: Literal["cpu", "memory"] = "cpu"
    """What to choose by: CPU time since the last collection, or physical memory."""

    include_names: Patterns = ("*",)
    """Names of programs to report, such as ``postgres``, as the kernel has them: at most 15 characters."""

    exclude_names: Patterns = ()
    """Names of programs to leave out."""


class ContainerScraper(Scraper):
    """Containers of Docker or Podman that run, where their socket may be read."""

    socket: Path | None = None
    """Where Docker or Podman listens. ``null``: the first that may be read of ``DOCKER_HOST``, ``/run/docker.sock``,
    ``/run/podman/podman.sock`` and the user's own Podman; without any there are no containers."""

    top: int = Field(default=50, ge=1, le=500)
    """How many containers to report at most, the oldest first."""

    include_names: Patterns = ("*",)
    """Names of containers to report."""

    exclude_names: Patterns = ()
    """Names of containers to leave out."""


class Scrapers(Settings):
    """The groups of metrics. All but ``process`` are collected unless switched off with ``enabled: false``."""

    cpu: CpuScraper = CpuScraper()
    load: Scraper = Scraper()
    """Load averages over 1, 5 and 15 minutes."""
    memory: Scraper = Scraper()
    """Memory usage and utilisation by state; on Linux slab and huge pages."""
    paging: Scraper = Scraper()
    """Swap usage and utilisation, paging operations and faults."""
    disk: DiskScraper = DiskScraper()
    filesystem: FilesystemScraper = FilesystemScraper()
    network: NetworkScraper = NetworkScraper()
    connections: Scraper = Scraper()
    """TCP connections by state."""
    processes: Scraper = Scraper()
    """Processes by state, and processes created."""
    process: ProcessScraper = ProcessScraper(enabled=False)
    container: ContainerScraper = ContainerScraper()
    system: Scraper = Scraper()
    """Uptime."""
    sensors: Scraper = Scraper()
    """Temperatures and fans, where the hardware has them."""

    @model_validator(mode="before")
    @classmethod
    def _named_is_collected(cls, data: Any) -> Any:
        """As in the Collector, a group named without settings (``cpu:``) is collected with its defaults."""
        if isinstance(data, dict):
            return {group: {} if settings is None else settings for group, settings in data.items()}
        return data


class HostMetricsConfig(EmitterSettings):
    """Settings of the ``hostmetrics`` receiver. Without any it collects everything, every 15 seconds.

    ``timeout`` is never longer than ``collection_interval``.
    """

    collection_interval: Annotated[Duration, Field(ge=_SHORTEST)] = timedelta(seconds=15)
    """How often to collect and send; at least ``1s``."""

    scrapers: Scrapers = Scrapers()
    """What to collect."""
