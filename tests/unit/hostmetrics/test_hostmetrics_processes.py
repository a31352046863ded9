"""Single processes: which are chosen, what is told of each, and how many there may come to be."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from receivers.hostmetrics.config import ProcessScraper
from receivers.hostmetrics.scrapers import process
from receivers.hostmetrics.scrapers.process import Processes
from receivers.hostmetrics.sensor import Entity, Observation

TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
SECOND = 10**9
pytestmark = pytest.mark.skipif(not psutil.LINUX, reason="reads Linux's procfs")

_Set = Callable[..., None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(process.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Set:
    """Has a made-up procfs hold a process, or what has become of it."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    listdir = os.listdir
    # A procfs lists processes by their numbers; other file systems list files as they like.
    monkeypatch.setattr(process.os, "listdir", lambda path: sorted(listdir(path), key=lambda name: (len(name), name)))
    (tmp_path / "stat").write_text("cpu 1 2 3\nbtime 1764000000\n")

    def has(pid: int, name: str = "app", *, user: int = 0, system: int = 0, pages: int = 1, started: int = 5) -> None:
        folder = tmp_path / str(pid)
        folder.mkdir(exist_ok=True)
        virtual = pages * 2 * PAGE
        times = f"{user} {system} 0 0 20 0 3 0 {started}"
        (folder / "stat").write_text(f"{pid} ({name}) S 1 1 1 0 -1 64 11 0 22 0 {times} {virtual} {pages} 0\n")
        (folder / "status").write_text("Name: x\nvoluntary_ctxt_switches: 7\nnonvoluntary_ctxt_switches: 8\n")
        (folder / "io").write_text("rchar: 1\nwchar: 2\nread_bytes: 4096\nwrite_bytes: 8192\n")
        (folder / "cmdline").write_bytes(f"/usr/bin/{name}\0--password\0secret\0".encode())
        (folder / "fd").mkdir(exist_ok=True)
        for number in range(3):
            (folder / "fd" / str(number)).touch()
        if not (folder / "exe").is_symlink():
            (folder / "exe").symlink_to(f"/usr/bin/{name}-1.2")

    return has


def pids(found: list[Observation]) -> list[Any]:
    return [each.entity.attributes["process.pid"] for each in found if each.entity and _is_memory(each)]


def _is_memory(each: Observation) -> bool:
    return each.instrument.name == "process.memory.usage"


def test_what_is_told_of_a_process(has: _Set, clock: list[float]) -> None:
    under_test = Processes(ProcessScraper())
    has(42, "my (odd) app", user=10 * TICKS, system=TICKS, pages=3)
    assert list(under_test.read()) == [], "nothing can be said of what it does now"
    has(42, "my (odd) app", user=13 * TICKS, system=TICKS, pages=3)
    clock[0] += 15
    found = list(under_test.read())
    told = {(each.instrument.name, *map(str, each.attributes.values())): each.value for each in found}
    assert told.pop(("process.uptime",)) > 0
    assert told == {
        ("process.cpu.time", "user"): 13.0,
        ("process.cpu.time", "system"): 1.0,
        ("process.cpu.utilization", "user"): pytest.approx(0.1),  # 3 s of 15 s of 2 CPUs
        ("process.cpu.utilization", "system"): 0.0,
        ("process.memory.usage",): 3 * PAGE,
        ("process.memory.virtual",): 6 * PAGE,
        ("process.thread.count",): 3,
        ("process.paging.faults", "minor"): 11,
        ("process.paging.faults", "major"): 22,
        ("process.context_switches", "voluntary"): 7,
        ("process.context_switches", "involuntary"): 8,
        ("process.unix.file_descriptor.count",): 3,
        ("process.disk.io", "read"): 4096,
        ("process.disk.io", "write"): 8192,
    }
    (entity,) = {each.entity for each in found}
    assert isinstance(entity, Entity)
    assert entity.started == 1_764_000_000 * SECOND + 5 * SECOND // TICKS
    assert entity.attributes == {
        "process.pid": 42,
        "process.creation.time": "2025-11-24T16:00:00.050Z",
        "process.executable.name": "my (odd) app-1.2",
        "process.command": "/usr/bin/my",
        "process.owner": "root" if os.getuid() == 0 else entity.attributes["process.owner"],
    }
    assert not [value for value in entity.attributes.values() if "secret" in str(value)], "no arguments"


def test_the_ones_that_use_most_are_chosen(has: _Set, clock: list[float]) -> None:
    by_cpu, by_memory = Processes(ProcessScraper(top=2)), Processes(ProcessScraper(top=2, by="memory"))
    for pid in range(1, 5):
        has(pid, user=100 * (5 - pid), pages=pid)
    assert [*by_cpu.read(), *by_memory.read()] == []
    clock[0] += 15
    for pid, spent in ((1, 10), (2, 20), (3, 0), (4, 5)):  # what was spent before does not count
        has(pid, user=100 * (5 - pid) + spent, pages=pid)
    assert pids(list(by_cpu.read())) == [2, 1]
    assert pids(list(by_memory.read())) == [4, 3]


def test_names_choose_too_and_threads_of_the_kernel_are_no_programs(has: _Set, clock: list[float]) -> None:
    under_test = Processes(ProcessScraper(include_names=("post*", "kworker*"), exclude_names=("postfix",)))
    for pid, name in enumerate(("postgres", "postgres", "postfix", "bash"), start=1):
        has(pid, name)
    has(9, "kworker/0:1", pages=0)
    list(under_test.read())
    clock[0] += 15
    assert sorted(pids(list(under_test.read()))) == [1, 2]


def test_a_number_that_is_taken_again_is_another_process(has: _Set, clock: list[float]) -> None:
    under_test = Processes(ProcessScraper())
    has(7, user=500)
    list(under_test.read())
    clock[0] += 15
    has(7, user=3, started=900)
    assert list(under_test.read()) == []
    clock[0] += 15
    has(7, user=3, started=900)
    (entity,) = {each.entity for each in under_test.read()}
    assert entity is not None
    assert entity.started == 1_764_000_000 * SECOND + 900 * SECOND // TICKS


def test_new_processes_are_bounded_over_time_and_known_ones_stay(has: _Set, clock: list[float], tmp_path: Path) -> None:
    """A machine that starts thousands of programs must not fill the store with their resources."""
    under_test = Processes(ProcessScraper(top=2))
    has(1, pages=1)
    seen: set[Any] = set()
    list(under_test.read())
    for number in range(1, 241):  # an hour
        has(1, user=10**6 * number)
        has(1000 + number, user=1000)
        clock[0] += 15
        list(under_test.read())
        has(1000 + number, user=2000)
        clock[0] += 0.001
        has(1, user=10**6 * number + 500_000)
        chosen = pids(list(under_test.read()))
        assert 1 in chosen
        seen.update(chosen)
    assert 10 < len(seen) <= 2 * 2 + 6 * 2 + 1


def test_a_process_that_ends_meanwhile_and_one_of_somebody_else(
    has: _Set, clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_test = Processes(ProcessScraper())
    has(1)
    has(2)
    list(under_test.read())
    clock[0] += 15
    (tmp_path / "1" / "status").unlink()
    listdir = os.listdir

    def forbidding(path: Any) -> list[str]:
        if str(path).endswith("/fd"):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(process.os, "listdir", forbidding)
    found = list(under_test.read())
    assert {each.instrument.name for each in found if each.entity and each.entity.attributes["process.pid"] == 2} >= {
        "process.cpu.time",
        "process.disk.io",
    }
    assert "process.unix.file_descriptor.count" not in {each.instrument.name for each in found}


def test_this_process_is_among_those_of_its_name() -> None:
    name = psutil.Process().name()[:15]
    under_test = Processes(ProcessScraper(include_names=(name,), top=200))
    list(under_test.read())
    began = time.process_time()
    while time.process_time() - began < 3 / TICKS:
        pass
    found = {each.entity.attributes["process.pid"]: each.entity for each in under_test.read() if each.entity}
    assert found[os.getpid()].attributes["process.owner"]
    assert abs(found[os.getpid()].started / SECOND - psutil.Process().create_time()) < 2
