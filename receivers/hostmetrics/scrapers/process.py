"""Single processes: the ones that use most, or those of some names. Linux only.

One file is read of every process, to choose by; the rest is read of those that are chosen. psutil would read several
files of each.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from receivers.hostmetrics.config import ProcessScraper, selected
from receivers.hostmetrics.conventions import (
    PROCESS_CONTEXT_SWITCHES,
    PROCESS_CPU_TIME,
    PROCESS_CPU_UTILIZATION,
    PROCESS_DISK_IO,
    PROCESS_FILE_DESCRIPTOR_COUNT,
    PROCESS_MEMORY_USAGE,
    PROCESS_MEMORY_VIRTUAL,
    PROCESS_PAGING_FAULTS,
    PROCESS_THREAD_COUNT,
    PROCESS_UPTIME,
    Attribute,
)
from receivers.hostmetrics.sensor import Entity, Observation, procfs

_NANOSECONDS = 10**9
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

_NEW_PER_HOUR = 6
"""How many processes that were never reported before may be within an hour, for each that is reported at once."""

_MOST_TEXT = 200
"""Characters of a command, which its process may set to anything."""

_GONE = (FileNotFoundError, ProcessLookupError)

_Key = tuple[int, int]
"""What tells a process from another with its number: the number, and when it was started, in ticks since the boot."""


@dataclass(slots=True)
class _Process:
    """What ``/proc/[pid]/stat`` says. Times are in ticks, memory is in bytes."""

    pid: int
    name: str
    minor_faults: int
    major_faults: int
    user: int
    system: int
    threads: int
    started: int
    virtual: int
    resident: int

    @property
    def key(self) -> _Key:
        return self.pid, self.started


@dataclass(slots=True)
class Processes:
    """Chooses among the processes of this machine at each reading, by what they did since the previous one.

    Whoever was reported before and lives has no advantage, but costs none of the places for new ones: each process is a
    resource of its own in the store, and a machine that starts thousands must not fill it.
    """

    settings: ProcessScraper
    _previous: dict[_Key, tuple[int, int]] = field(default_factory=dict)
    _read_at: float = 0.0
    _entities: dict[_Key, Entity] = field(default_factory=dict)
    _places: float = -1.0
    _boot: int = field(default_factory=lambda: round(psutil.boot_time() * _NANOSECONDS))

    def read(self) -> Iterator[Observation]:
        """Yield what is to be told of the processes chosen; nothing at the first reading."""
        now = time.monotonic()
        elapsed = now - self._read_at
        found = [each for each in _all() if self._is_meant(each)]
        spent = {each.key: (each.user, each.system) for each in found}
        previous, self._previous = self._previous, spent
        self._read_at = now
        self._entities = {key: entity for key, entity in self._entities.items() if key in spent}
        self._make_places(elapsed)
        for each in self._chosen(found, previous):
            with contextlib.suppress(*_GONE):
                entity = self._entities.get(each.key)
                if entity is None:
                    entity = self._entities[each.key] = _entity(each, self._boot)
                yield from _observations(each, previous[each.key], elapsed, entity)

    def _is_meant(self, process: _Process) -> bool:
        # Threads of the kernel have no memory of their own, and none is a program.
        return process.virtual > 0 and selected(process.name, self.settings.include_names, self.settings.exclude_names)

    def _make_places(self, elapsed: float) -> None:
        most = 2.0 * self.settings.top
        if self._places < 0:
            self._places = most
        self._places = min(most, self._places + elapsed * _NEW_PER_HOUR * self.settings.top / 3600)

    def _chosen(self, found: Sequence[_Process], previous: dict[_Key, tuple[int, int]]) -> Iterator[_Process]:
        def use(process: _Process) -> int:
            if self.settings.by == "memory":
                return process.resident
            return process.user + process.system - sum(previous[process.key])

        known = [each for each in found if each.key in previous]
        for each in sorted(known, key=use, reverse=True)[: self.settings.top]:
            if each.key not in self._entities:
                if self._places < 1:
                    continue
                self._places -= 1
            yield each


def _all() -> Iterator[_Process]:
    root = procfs()
    for name in os.listdir(root):  # noqa: PTH208 - a Path for each of all processes would double the cost
        if not name.isdigit():
            continue
        try:
            with open(f"{root}/{name}/stat", "rb") as file:  # noqa: PTH123 - likewise
                stat = file.read()
        except (*_GONE, PermissionError):
            continue  # it has ended meanwhile, or procfs is mounted so that it hides what others do
        # "pid (name) state …", and the name may contain anything. Fields are counted from the state, the third.
        before, _, after = stat.rpartition(b")")
        fields = after.split(None, 22)
        yield _Process(
            pid=int(name),
            name=before.partition(b"(")[2].decode(errors="replace"),
            minor_faults=int(fields[7]),
            major_faults=int(fields[9]),
            user=int(fields[11]),
            system=int(fields[12]),
            threads=int(fields[17]),
            started=int(fields[19]),
            virtual=int(fields[20]),
            resident=int(fields[21]) * _PAGE,
        )


def _entity(process: _Process, boot: int) -> Entity:
    """Describe a process. Its arguments are left out, for they may hold secrets. Raises when it has ended."""
    folder = procfs(str(process.pid))
    started = boot + process.started * _NANOSECONDS // _TICKS
    name = process.name
    with contextlib.suppress(PermissionError):  # of somebody else's process
        name = Path(folder, "exe").readlink().name.removesuffix(" (deleted)")
    attributes: dict[str, str | int] = {
        Attribute.PROCESS_PID: process.pid,
        Attribute.PROCESS_CREATION_TIME: _iso(started),
        Attribute.PROCESS_EXECUTABLE_NAME: name,
        Attribute.PROCESS_COMMAND: _command(folder) or name,
        Attribute.PROCESS_OWNER: _user(folder.stat().st_uid),
    }
    return Entity(attributes, started)


def _iso(nanoseconds: int) -> str:
    moment = datetime.fromtimestamp(nanoseconds // 10**7 / 100, UTC)  # the kernel counts in hundredths
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _command(folder: Path) -> str:
    """Return the program as it was called; of a process that has set its own title, the first word of that."""
    first = Path(folder, "cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace")
    return first.partition(" ")[0].rstrip(":")[:_MOST_TEXT]


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _observations(process: _Process, before: tuple[int, int], elapsed: float, entity: Entity) -> Iterator[Observation]:
    for mode, ticks, earlier in (("user", process.user, before[0]), ("system", process.system, before[1])):
        attributes = {Attribute.CPU_MODE: mode}
        yield Observation(PROCESS_CPU_TIME, ticks / _TICKS, attributes, entity)
        share = max(0, ticks - earlier) / _TICKS / elapsed / (psutil.cpu_count() or 1)
        yield Observation(PROCESS_CPU_UTILIZATION, share, attributes, entity)
    yield Observation(PROCESS_MEMORY_USAGE, process.resident, entity=entity)
    yield Observation(PROCESS_MEMORY_VIRTUAL, process.virtual, entity=entity)
    yield Observation(PROCESS_THREAD_COUNT, process.threads, entity=entity)
    for kind, faults in (("major", process.major_faults), ("minor", process.minor_faults)):
        yield Observation(PROCESS_PAGING_FAULTS, faults, {Attribute.SYSTEM_PAGING_FAULT_TYPE: kind}, entity)
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME) - process.started / _TICKS
    yield Observation(PROCESS_UPTIME, max(0.0, uptime), entity=entity)
    yield from _details(procfs(str(process.pid)), entity)


def _details(folder: Path, entity: Entity) -> Iterator[Observation]:
    """Yield what has files of its own. Of other users' processes only root may read some; those are left out."""
    status = _fields(folder, "status")
    for kind, name in (("voluntary", "voluntary_ctxt_switches"), ("involuntary", "nonvoluntary_ctxt_switches")):
        if name in status:
            attributes = {Attribute.PROCESS_CONTEXT_SWITCH_TYPE: kind}
            yield Observation(PROCESS_CONTEXT_SWITCHES, int(status[name]), attributes, entity)
    with contextlib.suppress(PermissionError):
        descriptors = len(os.listdir(folder / "fd"))  # noqa: PTH208 - names are enough
        yield Observation(PROCESS_FILE_DESCRIPTOR_COUNT, descriptors, entity=entity)
    with contextlib.suppress(PermissionError):
        io = _fields(folder, "io")
        for direction, name in (("read", "read_bytes"), ("write", "write_bytes")):
            yield Observation(PROCESS_DISK_IO, int(io[name]), {Attribute.DISK_IO_DIRECTION: direction}, entity)


def _fields(folder: Path, name: str) -> dict[str, str]:
    lines = (folder / name).read_text(errors="replace").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
