"""What each scraper reads: of this machine, and of machines that had to be made up."""

import socket
from collections import namedtuple
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from opentelemetry.semconv._incubating.attributes.cpu_attributes import CpuModeValues
from opentelemetry.semconv._incubating.attributes.disk_attributes import DiskIoDirectionValues
from opentelemetry.semconv._incubating.attributes.hw_attributes import HwLimitTypeValues, HwTypeValues
from opentelemetry.semconv._incubating.attributes.network_attributes import (
    NetworkConnectionStateValues,
    NetworkIoDirectionValues,
)
from opentelemetry.semconv._incubating.attributes.process_attributes import ProcessStateValues
from opentelemetry.semconv._incubating.attributes.system_attributes import (
    SystemFilesystemStateValues,
    SystemMemoryLinuxHugepagesStateValues,
    SystemMemoryLinuxSlabStateValues,
    SystemMemoryStateValues,
    SystemPagingDirectionValues,
    SystemPagingFaultTypeValues,
    SystemPagingStateValues,
)

from receivers.hostmetrics.config import DiskScraper, FilesystemScraper, NetworkScraper
from receivers.hostmetrics.scrapers import cpu, hardware, memory, network, processes, storage
from receivers.hostmetrics.sensor import Failed, Observation

linux = pytest.mark.skipif(not psutil.LINUX, reason="reads Linux's procfs")


def observations(reading: Iterable[Observation | Failed]) -> list[Observation]:
    found = list(reading)
    assert not [each for each in found if isinstance(each, Failed)]
    return [each for each in found if isinstance(each, Observation)]


def values(reading: Iterable[Observation | Failed], name: str, *attributes: str) -> dict[Any, int | float]:
    """The values of one metric, by the values of some of its attributes."""
    found: dict[Any, int | float] = {}
    for instrument, value, its_attributes, _, _ in observations(reading):
        if instrument.name == name:
            key = tuple(its_attributes[each] for each in attributes)
            assert key not in found, f"{name} has two points for {key}"
            found[key[0] if len(key) == 1 else key] = value
    return found


def of(enum: Iterable[Any]) -> set[str]:
    return {each.value for each in enum}


DEVICE = {"system.device"}
FILESYSTEM = {"system.device", *(f"system.filesystem.{each}" for each in ("mountpoint", "type", "mode"))}
INTERFACE = {"network.interface.name", "network.io.direction"}

# What each metric's points are told apart by.
ATTRIBUTES: dict[str, set[str]] = {
    "system.cpu.time": {"cpu.logical_number", "cpu.mode"},
    "system.cpu.utilization": {"cpu.logical_number", "cpu.mode"},
    "system.cpu.frequency": {"cpu.logical_number"},
    "system.cpu.logical.count": set(),
    "system.cpu.physical.count": set(),
    "system.cpu.load_average.1m": set(),
    "system.cpu.load_average.5m": set(),
    "system.cpu.load_average.15m": set(),
    "system.memory.limit": set(),
    "system.memory.usage": {"system.memory.state"},
    "system.memory.utilization": {"system.memory.state"},
    "system.memory.linux.available": set(),
    "system.memory.linux.shared": set(),
    "system.memory.linux.slab.usage": {"system.memory.linux.slab.state"},
    "system.memory.linux.hugepages.limit": set(),
    "system.memory.linux.hugepages.page_size": set(),
    "system.memory.linux.hugepages.reserved": set(),
    "system.memory.linux.hugepages.surplus": set(),
    "system.memory.linux.hugepages.usage": {"system.memory.linux.hugepages.state"},
    "system.memory.linux.hugepages.utilization": {"system.memory.linux.hugepages.state"},
    "system.paging.usage": {"system.paging.state"},
    "system.paging.utilization": {"system.paging.state"},
    "system.paging.operations": {"system.paging.direction", "system.paging.fault.type"},
    "system.paging.faults": {"system.paging.fault.type"},
    "system.disk.io": DEVICE | {"disk.io.direction"},
    "system.disk.operations": DEVICE | {"disk.io.direction"},
    "system.disk.merged": DEVICE | {"disk.io.direction"},
    "system.disk.operation_time": DEVICE | {"disk.io.direction"},
    "system.disk.io_time": DEVICE,
    "system.disk.limit": DEVICE,
    "system.disk.pending_operations": DEVICE,
    "system.filesystem.inodes.usage": FILESYSTEM | {"system.filesystem.state"},
    "system.filesystem.limit": FILESYSTEM,
    "system.filesystem.usage": FILESYSTEM | {"system.filesystem.state"},
    "system.filesystem.utilization": FILESYSTEM | {"system.filesystem.state"},
    "system.network.io": INTERFACE,
    "system.network.packet.count": INTERFACE | DEVICE,
    "system.network.packet.dropped": INTERFACE,
    "system.network.errors": INTERFACE,
    "system.network.connection.count": {"network.transport", "network.connection.state"},
    "system.process.count": {"process.state"},
    "system.process.created": set(),
    "system.uptime": set(),
}
VALUES: dict[str, set[str]] = {
    "cpu.mode": of(CpuModeValues),
    "disk.io.direction": of(DiskIoDirectionValues),
    "network.connection.state": of(NetworkConnectionStateValues),
    "network.io.direction": of(NetworkIoDirectionValues),
    "network.transport": {"tcp"},
    # The Collector's two, besides those of the conventions.
    "process.state": of(ProcessStateValues) | {"blocked", "idle", "unknown"},
    "system.filesystem.mode": {"ro", "rw"},
    "system.filesystem.state": of(SystemFilesystemStateValues),
    "system.memory.linux.hugepages.state": of(SystemMemoryLinuxHugepagesStateValues),
    "system.memory.linux.slab.state": of(SystemMemoryLinuxSlabStateValues),
    "system.memory.state": of(SystemMemoryStateValues),
    "system.paging.direction": of(SystemPagingDirectionValues),
    "system.paging.fault.type": of(SystemPagingFaultTypeValues),
    "system.paging.state": of(SystemPagingStateValues),
}


@linux
@pytest.mark.parametrize(
    ("read", "names"),
    [
        (lambda: cpu.Times(per_core=True).read(), "system.cpu.time"),
        (cpu.count, "system.cpu.logical.count"),
        (cpu.load, "system.cpu.load_average.1m system.cpu.load_average.5m system.cpu.load_average.15m"),
        (
            memory.memory,
            "system.memory.limit system.memory.usage system.memory.utilization system.memory.linux.available "
            "system.memory.linux.shared",
        ),
        (memory.kernel, "system.memory.linux.slab.usage"),
        (memory.swap, "system.paging.usage"),
        (memory.paging, "system.paging.faults"),
        (
            lambda: network.interfaces(NetworkScraper()),
            "system.network.io system.network.packet.count system.network.packet.dropped system.network.errors",
        ),
        (network.connections, "system.network.connection.count"),
        (processes.by_state, "system.process.count"),
        (processes.created, "system.process.created"),
        (processes.uptime, "system.uptime"),
        # A machine, or a container, need not have these.
        (cpu.frequency, ""),
        (lambda: storage.disks(DiskScraper()), ""),
        (lambda: storage.filesystems(FilesystemScraper()), ""),
    ],
)
def test_this_machine(read: Callable[[], Iterable[Observation | Failed]], names: str) -> None:
    found = observations(read())
    assert {each.instrument.name for each in found} >= set(names.split())
    for instrument, value, attributes, entity, _ in found:
        assert value >= 0, instrument.name
        assert entity is None, instrument.name
        assert attributes.keys() == ATTRIBUTES[instrument.name], instrument.name
        for name, attribute in attributes.items():
            assert attribute in VALUES.get(name, {attribute}), name
    points = [(each.instrument.name, frozenset(each.attributes.items())) for each in found]
    assert len(set(points)) == len(points), "two points of a metric have the same attributes"


# CPU


@pytest.fixture
def cpu_times(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what psutil says the CPUs have spent, in seconds."""
    times = namedtuple("times", "user nice system idle iowait irq softirq steal guest")

    def are(*cpus: tuple[float, ...]) -> None:
        each = [times(*cpu) for cpu in cpus]
        total = times(*map(sum, zip(*cpus, strict=True)))
        monkeypatch.setattr(psutil, "cpu_times", lambda percpu=False: each if percpu else total)

    return are


def test_cpu_time_is_by_core_and_mode(cpu_times: Callable[..., None]) -> None:
    cpu_times((1, 2, 3, 4, 5, 6, 7, 8, 9), (0, 0, 0, 0, 0, 0, 0, 0, 0))
    found = values(cpu.Times(per_core=True).read(), "system.cpu.time", "cpu.logical_number", "cpu.mode")
    first = {mode: seconds for (number, mode), seconds in found.items() if number == 0}
    # Hard and soft interrupts are one mode; the guest's time is in the user's already.
    assert first == {"user": 1, "nice": 2, "system": 3, "idle": 4, "iowait": 5, "interrupt": 13, "steal": 8}
    assert {number for number, _ in found} == {0, 1}


def test_utilization_is_the_share_since_the_previous_reading(cpu_times: Callable[..., None]) -> None:
    times = cpu.Times(per_core=True)
    cpu_times((10, 0, 0, 100, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 0, 0, 0))
    assert values(times.read(), "system.cpu.utilization", "cpu.logical_number", "cpu.mode") == {}
    cpu_times((11, 0, 0, 103, 0, 0, 0, 0, 0), (2, 0, 2, 0, 0, 0, 0, 0, 0))
    found = values(times.read(), "system.cpu.utilization", "cpu.logical_number", "cpu.mode")
    assert {key: share for key, share in found.items() if share} == {
        (0, "user"): 0.25,
        (0, "idle"): 0.75,
        (1, "user"): 0.5,
        (1, "system"): 0.5,
    }


def test_all_cores_together_have_no_number(cpu_times: Callable[..., None]) -> None:
    times = cpu.Times(per_core=False)
    cpu_times((1, 0, 0, 0, 0, 0, 0, 0, 0), (2, 0, 0, 0, 0, 0, 0, 0, 0))
    found = observations(times.read())
    assert values(found, "system.cpu.time", "cpu.mode")["user"] == 3
    assert all(each.attributes.keys() == {"cpu.mode"} for each in found)


def test_a_mode_the_kernel_corrects_downwards_has_not_grown(cpu_times: Callable[..., None]) -> None:
    times = cpu.Times(per_core=False)
    cpu_times((0, 0, 0, 5, 0, 0, 0, 0, 0))
    list(times.read())
    cpu_times((2, 0, 0, 4, 0, 0, 0, 0, 0))
    found = values(times.read(), "system.cpu.utilization", "cpu.mode")
    assert (found["user"], found["idle"]) == (1, 0)


def test_no_time_between_two_readings_is_no_utilization(cpu_times: Callable[..., None]) -> None:
    times = cpu.Times(per_core=False)
    cpu_times((1, 0, 0, 0, 0, 0, 0, 0, 0))
    list(times.read())
    assert values(times.read(), "system.cpu.utilization", "cpu.mode") == {}


def test_when_cpus_come_or_go_utilization_starts_anew(cpu_times: Callable[..., None]) -> None:
    times = cpu.Times(per_core=True)
    cpu_times((1, 0, 0, 0, 0, 0, 0, 0, 0))
    list(times.read())
    cpu_times((2, 0, 0, 0, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0, 0, 0, 0))
    assert values(times.read(), "system.cpu.utilization", "cpu.logical_number", "cpu.mode") == {}


def test_modes_a_platform_does_not_tell_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    darwin = namedtuple("darwin", "user nice system idle")
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu=False: darwin(1, 2, 3, 4))
    found = values(cpu.Times(per_core=False).read(), "system.cpu.time", "cpu.mode")
    assert found == {"user": 1, "nice": 2, "system": 3, "idle": 4}


def test_physical_cores_are_left_out_where_they_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 4 if logical else None)
    assert [(each.instrument.name, each.value) for each in cpu.count()] == [("system.cpu.logical.count", 4)]


# Memory


@linux
def test_memory_utilization_is_the_share_of_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    real = psutil.virtual_memory()
    made_up = real._replace(total=1000, available=700, used=300, free=400, cached=250, buffers=50, shared=7)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: made_up)
    found = observations(memory.memory())
    assert values(found, "system.memory.usage", "system.memory.state") == {
        "used": 300,
        "free": 400,
        "cached": 250,
        "buffers": 50,
    }
    assert values(found, "system.memory.utilization", "system.memory.state") == {
        "used": 0.3,
        "free": 0.4,
        "cached": 0.25,
        "buffers": 0.05,
    }
    plain = {each.instrument.name: each.value for each in found if not each.attributes}
    assert plain == {
        "system.memory.limit": 1000,
        "system.memory.linux.available": 700,
        "system.memory.linux.shared": 7,
    }


def test_without_swap_there_is_no_share_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(total=0, used=0, free=0))
    found = observations(memory.swap())
    assert values(found, "system.paging.usage", "system.paging.state") == {"used": 0, "free": 0}
    assert values(found, "system.paging.utilization", "system.paging.state") == {}
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(total=8, used=2, free=6))
    found = observations(memory.swap())
    assert values(found, "system.paging.utilization", "system.paging.state") == {"used": 0.25, "free": 0.75}


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up procfs."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    monkeypatch.setattr(psutil, "LINUX", True)
    return tmp_path


def test_paging(proc: Path) -> None:
    (proc / "vmstat").write_text("pgpgin 5\npswpin 3\npswpout 4\npgfault 100\npgmajfault 10\n")
    found = observations(memory.paging())
    assert values(found, "system.paging.faults", "system.paging.fault.type") == {"major": 10, "minor": 90}
    assert values(found, "system.paging.operations", "system.paging.direction") == {"in": 3, "out": 4}


def test_the_frequency_is_that_of_each_cpu_that_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_CPUS", str(tmp_path))
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    for number, text in ((0, "2100000\n"), (2, "800000\n"), (3, "<unknown>\n")):
        folder = tmp_path / f"cpu{number}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(text)
    found = values(cpu.frequency(), "system.cpu.frequency", "cpu.logical_number")
    assert found == {0: 2_100_000_000, 2: 800_000_000}


MEMINFO = """MemTotal: 1000 kB
SReclaimable: 3 kB
SUnreclaim: 2 kB
HugePages_Total: {total}
HugePages_Free: 6
HugePages_Rsvd: 2
HugePages_Surp: 1
Hugepagesize: 2048 kB
"""


def test_slab_and_huge_pages(proc: Path) -> None:
    (proc / "meminfo").write_text(MEMINFO.format(total=8))
    found = observations(memory.kernel())
    by = "system.memory.linux.hugepages.state"
    slab = values(found, "system.memory.linux.slab.usage", "system.memory.linux.slab.state")
    assert slab == {"reclaimable": 3072, "unreclaimable": 2048}
    assert values(found, "system.memory.linux.hugepages.usage", by) == {"used": 2, "free": 6}
    assert values(found, "system.memory.linux.hugepages.utilization", by) == {"used": 0.25, "free": 0.75}
    assert {each.instrument.name.rpartition(".")[2]: each.value for each in found if not each.attributes} == {
        "limit": 8,
        "page_size": 2 * 2**20,
        "reserved": 2,
        "surplus": 1,
    }


def test_without_huge_pages_there_is_only_their_number(proc: Path) -> None:
    (proc / "meminfo").write_text(MEMINFO.format(total=0))
    found = [each for each in memory.kernel() if "hugepages" in each.instrument.name]
    assert [(each.instrument.name, each.value) for each in found] == [("system.memory.linux.hugepages.limit", 0)]
    (proc / "meminfo").write_text("MemTotal: 1000 kB\n")
    assert list(memory.kernel()) == []


def test_a_kernel_without_swap_has_page_faults_all_the_same(proc: Path) -> None:
    (proc / "vmstat").write_text("pgfault 100\npgmajfault 10\n")
    assert {each.instrument.name for each in memory.paging()} == {"system.paging.faults"}


# Disks and filesystems


@pytest.fixture
def _two_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = "read_count write_count read_bytes write_bytes read_time write_time read_merged_count write_merged_count"
    counters = namedtuple("counters", f"{fields} busy_time")
    disks = {
        "sda": counters(1, 2, 3, 4, 5000, 6000, 7, 8, 9000),
        "sda1": counters(1, 2, 3, 4, 5000, 6000, 7, 8, 9000),
        "loop0": counters(1, 2, 3, 4, 5000, 6000, 7, 8, 9000),
    }
    monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk, nowrap: disks)
    monkeypatch.setattr(storage, "_is_partition", lambda device: device == "sda1")


@pytest.mark.usefixtures("_two_disks")
def test_disks_in_the_units_of_the_conventions() -> None:
    found = observations(storage.disks(DiskScraper()))
    by = ("system.device", "disk.io.direction")
    assert values(found, "system.disk.io", *by) == {("sda", "read"): 3, ("sda", "write"): 4}
    assert values(found, "system.disk.operations", *by) == {("sda", "read"): 1, ("sda", "write"): 2}
    assert values(found, "system.disk.merged", *by) == {("sda", "read"): 7, ("sda", "write"): 8}
    assert values(found, "system.disk.operation_time", *by) == {("sda", "read"): 5.0, ("sda", "write"): 6.0}
    assert values(found, "system.disk.io_time", "system.device") == {"sda": 9.0}


@pytest.mark.usefixtures("_two_disks")
def test_size_and_queue_of_disks(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (proc / "diskstats").write_text("   8  0 sda 1 2 3 4 5 6 7 8 42 10 11 0 0 0 0 12 13\n   7  0 loop0 0 0 0\n")
    monkeypatch.setattr(storage, "_size", lambda device: {"sda": 512 * 7}.get(device))
    found = observations(storage.disks(DiskScraper()))
    assert values(found, "system.disk.pending_operations", "system.device") == {"sda": 42}
    assert values(found, "system.disk.limit", "system.device") == {"sda": 3584}


@pytest.mark.usefixtures("_two_disks")
@pytest.mark.parametrize(
    ("settings", "devices"),
    [
        ({"partitions": True}, {"sda", "sda1"}),
        ({"exclude_devices": ()}, {"sda", "loop0"}),
        ({"include_devices": ("nvme*",)}, set()),
    ],
)
def test_disks_are_selected(settings: dict[str, Any], devices: set[str]) -> None:
    found = values(storage.disks(DiskScraper(**settings)), "system.disk.io_time", "system.device")
    assert found.keys() == devices


def mount(point: str, kind: str = "ext4", device: str = "", options: str = "rw,relatime") -> SimpleNamespace:
    """A mount of a filesystem of its own, unless a device is named."""
    return SimpleNamespace(mountpoint=point, fstype=kind, device=device or f"/dev/of{point}", opts=options)


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what is mounted. Each filesystem has 100 bytes: 60 used, 30 free, 10 reserved."""

    def usage(path: str) -> SimpleNamespace:
        if path == "/broken":
            raise PermissionError(13, "Permission denied", path)
        return SimpleNamespace(total=0 if path == "/proc" else 100, used=60, free=30)

    def are(*each: SimpleNamespace) -> None:
        def partitions(**virtual: bool) -> list[SimpleNamespace]:
            return [mount for mount in each if virtual["all"] or mount.device.startswith("/")]

        monkeypatch.setattr(psutil, "disk_partitions", partitions)
        monkeypatch.setattr(psutil, "disk_usage", usage)

    return are


def test_filesystem_space_adds_up_and_utilization_is_that_of_df(mounts: Callable[..., None]) -> None:
    mounts(mount("/", device="/dev/sda1", options="ro,noatime"))
    found = observations(storage.filesystems(FilesystemScraper()))
    usage = values(found, "system.filesystem.usage", "system.filesystem.state")
    assert usage == {"used": 60, "free": 30, "reserved": 10}
    assert values(found, "system.filesystem.limit", "system.filesystem.mountpoint") == {"/": 100}
    by = ("system.device", "system.filesystem.type", "system.filesystem.mode", "system.filesystem.state")
    assert values(found, "system.filesystem.utilization", *by) == {("/dev/sda1", "ext4", "ro", "used"): 60 / 90}


def test_inodes_add_up(mounts: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"/": SimpleNamespace(f_files=10, f_ffree=4), "/btrfs": SimpleNamespace(f_files=0, f_ffree=0)}
    monkeypatch.setattr(storage.os, "statvfs", counts.__getitem__)
    mounts(mount("/"), mount("/btrfs", "btrfs"))
    found = observations(storage.filesystems(FilesystemScraper()))
    by = ("system.filesystem.mountpoint", "system.filesystem.state")
    assert values(found, "system.filesystem.inodes.usage", *by) == {("/", "used"): 6, ("/", "free"): 4}


@pytest.mark.parametrize(
    ("settings", "points"),
    [
        ({}, {"/", "/data"}),
        ({"exclude_fs_types": ()}, {"/", "/data", "/snap/x"}),
        ({"include_fs_types": ("xfs",)}, {"/data"}),
        ({"exclude_mount_points": ()}, {"/", "/data", "/var/lib/docker/x"}),
        ({"include_mount_points": ("/d*",)}, {"/data"}),
        ({"include_virtual_filesystems": True}, {"/", "/data", "/tmp"}),
    ],
)
def test_filesystems_are_selected(mounts: Callable[..., None], settings: dict[str, Any], points: set[str]) -> None:
    mounts(
        mount("/"),
        mount("/data", "xfs"),
        mount("/snap/x", "squashfs"),
        mount("/var/lib/docker/x"),
        mount("/tmp", "tmpfs", "tmpfs"),
        mount("/proc", "proc", "proc"),
    )
    found = values(
        storage.filesystems(FilesystemScraper(**settings)), "system.filesystem.limit", "system.filesystem.mountpoint"
    )
    assert found.keys() == points


def test_of_filesystems_mounted_over_each_other_only_the_last_is_reported(mounts: Callable[..., None]) -> None:
    mounts(mount("/data", device="/dev/old"), mount("/data", device="/dev/new"))
    found = values(storage.filesystems(FilesystemScraper()), "system.filesystem.limit", "system.device")
    assert found == {"/dev/new": 100}


def test_a_filesystem_is_there_once_however_often_it_is_mounted(mounts: Callable[..., None]) -> None:
    """Bind mounts, subvolumes and containers' views are the same space, which `df` shows at the shortest path."""
    mounts(
        mount("/etc/resolv.conf", device="/dev/sda1"),
        mount("/", device="/dev/sda1"),
        mount("/home", "btrfs", device="/dev/sdb1"),
        mount("/srv/home", "btrfs", device="/dev/sdb1"),
    )
    found = values(storage.filesystems(FilesystemScraper()), "system.filesystem.limit", "system.filesystem.mountpoint")
    assert found == {"/": 100, "/home": 100}
    only = FilesystemScraper(include_mount_points=("/srv/*",))
    found = values(storage.filesystems(only), "system.filesystem.limit", "system.filesystem.mountpoint")
    assert found == {"/srv/home": 100}, "one that is not selected stands for none"


def test_filesystems_without_a_device_are_told_apart_by_the_kernel(mounts: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "bound").mkdir()
    mounts(
        mount(str(tmp_path), "overlay", "overlay"),
        mount(f"{tmp_path}/bound", "overlay", "overlay"),
        mount("/sys", "tmpfs", "tmpfs"),  # not /dev/shm, where the folder of the test may be
        mount("/gone", "tmpfs", "tmpfs"),
    )
    found = values(
        storage.filesystems(FilesystemScraper(include_virtual_filesystems=True)),
        "system.filesystem.limit",
        "system.filesystem.mountpoint",
    )
    assert found == {str(tmp_path): 100, "/sys": 100, "/gone": 100}


def test_a_filesystem_that_fails_does_not_hide_the_others(mounts: Callable[..., None]) -> None:
    mounts(mount("/broken"), mount("/"))
    failed, *found = storage.filesystems(FilesystemScraper())
    assert isinstance(failed, Failed)
    assert failed.sensor == "filesystem /broken"
    assert values(found, "system.filesystem.limit", "system.filesystem.mountpoint") == {"/": 100}


# Network


def test_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = SimpleNamespace(
        bytes_sent=1, bytes_recv=2, packets_sent=3, packets_recv=4, errin=5, errout=6, dropin=7, dropout=8
    )
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic, nowrap: {"eth0": counters, "veth1": counters})
    found = observations(network.interfaces(NetworkScraper()))
    by = ("network.interface.name", "network.io.direction")
    receive, transmit = ("eth0", "receive"), ("eth0", "transmit")
    assert values(found, "system.network.io", *by) == {receive: 2, transmit: 1}
    assert values(found, "system.network.packet.count", *by) == {receive: 4, transmit: 3}
    assert values(found, "system.network.errors", *by) == {receive: 5, transmit: 6}
    assert values(found, "system.network.packet.dropped", *by) == {receive: 7, transmit: 8}
    everything = NetworkScraper(include_interfaces=("veth*",), exclude_interfaces=())
    assert {name for name, _ in values(network.interfaces(everything), "system.network.io", *by)} == {"veth1"}


def test_connections_are_counted_by_state(proc: Path) -> None:
    (proc / "net").mkdir()
    (proc / "net" / "tcp").write_text(
        "  sl  local_address rem_address   st tx_queue\n"
        "   0: 0100007F:D889 00000000:0000 0A 00000000:00000000\n"
        "   1: 0100007F:D889 0100007F:0001 01 00000000:00000000\n"
        "   2: 0100007F:D889 0100007F:0002 03 00000000:00000000\n"
        "   3: 0100007F:D889 0100007F:0002 0C 00000000:00000000\n"
        "  10: 0100007F:D889 0100007F:0002 0B 00000000:00000000\n"
    )
    # A kernel without IPv6 has no tcp6.
    found = values(network.connections(), "system.network.connection.count", "network.connection.state")
    assert found.keys() == of(NetworkConnectionStateValues)
    assert {state: count for state, count in found.items() if count} == {
        "listen": 1,
        "established": 1,
        "syn_received": 2,
        "closing": 1,
    }
    (proc / "net" / "tcp6").write_text("header\n   0: 00:1 00:2 06 00:00\n")
    found = values(network.connections(), "system.network.connection.count", "network.connection.state")
    assert found["time_wait"] == 1


@linux
def test_the_kernel_and_psutil_number_states_alike() -> None:
    from psutil._pslinux import TCP_STATUSES

    for number, name in TCP_STATUSES.items():
        assert network._STATE_BY_NUMBER[number.encode()] == network._STATE_BY_NAME[name]


@linux
def test_a_socket_that_listens_is_counted() -> None:
    def listening() -> int | float:
        found = values(network.connections(), "system.network.connection.count", "network.connection.state")
        return found["listen"]

    with socket.create_server(("127.0.0.1", 0)):
        assert listening() >= 1


def test_elsewhere_psutil_counts_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "LINUX", False)
    connections = [SimpleNamespace(status=each) for each in (psutil.CONN_LISTEN, psutil.CONN_NONE, psutil.CONN_LISTEN)]
    monkeypatch.setattr(psutil, "net_connections", lambda kind: connections if kind == "tcp" else [])
    found = values(network.connections(), "system.network.connection.count", "network.connection.state")
    assert found["listen"] == sum(found.values()) == 2


# Processes


def test_processes_are_counted_by_state_whatever_they_are_called(proc: Path) -> None:
    for pid, stat in enumerate(
        ["1 (a) S 0", "2 (b) R) R 0", "3 (:) Z \n() D 0", "4 (t) t 0", "5 (k) I 0", "6 (k) ? 0"]
    ):
        (proc / str(pid)).mkdir()
        (proc / str(pid) / "stat").write_text(stat)
    (proc / "7").mkdir()  # has ended meanwhile
    (proc / "net").mkdir()  # is no process
    found = values(processes.by_state(), "system.process.count", "process.state")
    assert found == {
        "sleeping": 1,
        "running": 1,
        "blocked": 1,
        "stopped": 1,
        "idle": 1,
        "defunct": 0,
        "unknown": 1,
    }


@linux
def test_all_processes_are_counted_and_this_one_runs() -> None:
    found = values(processes.by_state(), "system.process.count", "process.state")
    assert found["running"] >= 1
    assert "unknown" not in found


def test_elsewhere_psutil_counts_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "LINUX", False)
    each = [SimpleNamespace(info={"status": status}) for status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DISK_SLEEP)]
    monkeypatch.setattr(psutil, "process_iter", lambda attributes: each)
    found = values(processes.by_state(), "system.process.count", "process.state")
    assert {state: count for state, count in found.items() if count} == {"defunct": 1, "blocked": 1}


def test_processes_created(proc: Path) -> None:
    (proc / "stat").write_text("cpu 1 2\nbtime 3\nprocesses 4711\nprocs_running 1\n")
    assert [each.value for each in processes.created()] == [4711]


def test_elsewhere_uptime_is_the_time_since_psutils_boot_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "LINUX", False)
    monkeypatch.setattr(psutil, "boot_time", lambda: 1000.0)
    monkeypatch.setattr(processes.time, "time", lambda: 1234.5)
    assert [each.value for each in processes.uptime()] == [234.5]


# Hardware


def temperature(label: str, current: float, high: float | None = None, critical: float | None = None) -> Any:
    return SimpleNamespace(label=label, current=current, high=high, critical=critical)


def test_temperatures_and_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    chips = {
        "coretemp": [temperature("Package id 0", 45.0, 80.0, 100.0)],
        # Two disks of one make; psutil has one list for both, with their labels twice.
        "nvme": [temperature("Composite", 40.0, 84.8, 84.8), temperature("Composite", 41.0, 65261.85, 0.0)],
        "acpitz": [temperature("", 27.8)],
    }
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: chips, raising=False)
    found = observations(hardware.temperatures())
    assert values(found, "hw.temperature", "hw.id") == {
        "temperature/coretemp/0": 45.0,
        "temperature/nvme/0": 40.0,
        "temperature/nvme/1": 41.0,
        "temperature/acpitz/0": 27.8,
    }
    assert values(found, "hw.temperature.limit", "hw.id", "hw.limit_type") == {
        ("temperature/coretemp/0", "high.critical"): 100.0,
        ("temperature/coretemp/0", "high.degraded"): 80.0,
        ("temperature/nvme/0", "high.critical"): 84.8,
    }
    assert found[0].attributes == {
        "hw.type": "temperature",
        "hw.id": "temperature/coretemp/0",
        "hw.name": "coretemp Package id 0",
        "hw.sensor_location": "Package id 0",
    }
    assert found[-1].attributes == {
        "hw.type": "temperature",
        "hw.id": "temperature/acpitz/0",
        "hw.name": "acpitz",
    }
    assert {each.attributes["hw.type"] for each in found} <= of(HwTypeValues)
    limits = {each.attributes["hw.limit_type"] for each in found if "hw.limit_type" in each.attributes}
    assert limits <= of(HwLimitTypeValues)


def test_fans(monkeypatch: pytest.MonkeyPatch) -> None:
    chips = {"nct6775": [SimpleNamespace(label="", current=0), SimpleNamespace(label="cpu", current=1200)]}
    monkeypatch.setattr(psutil, "sensors_fans", lambda: chips, raising=False)
    found = observations(hardware.fans())
    assert values(found, "hw.fan.speed", "hw.id") == {"fan/nct6775/0": 0, "fan/nct6775/1": 1200}
    assert {each.attributes["hw.type"] for each in found} == {"fan"} <= of(HwTypeValues)
