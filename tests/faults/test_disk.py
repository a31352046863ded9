"""The disk that the spool is on is full, or fails."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.harness import Gateway, load, prove, until
from tests.integration.cli.processes import Hubs
from tests.support.databases import Database


@contextmanager
def mounted(hubs: Hubs, place: Path, size: str) -> Iterator[Path]:
    """A file system of that size at a place of the gateway ``hub``, until the gateway has ended."""
    place.mkdir(parents=True)
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        hubs.end()
        subprocess.run(["umount", "--lazy", str(place)], check=False)


@pytest.fixture
def small_disk(hubs_to_start: Hubs) -> Iterator[Path]:
    """A file system of one megabyte, where the spool will be."""
    with mounted(hubs_to_start, hubs_to_start.folder / "hub" / "data" / "spool", "1m") as place:
        yield place


@pytest.fixture
def disk_of_postgresql(hubs_to_start: Hubs) -> Iterator[Path]:
    """A file system of its own for the embedded PostgreSQL: enough for what it needs, and not for much more."""
    with mounted(hubs_to_start, hubs_to_start.folder / "hub" / "data" / "postgres", "160m") as place:
        yield place


def test_the_disk_of_postgresql_is_full(hubs_to_start: Hubs, disk_of_postgresql: Path) -> None:
    """PostgreSQL ends when it cannot write its log. The gateway spools, and starts it until there is room again."""
    gateway = Gateway(hubs_to_start).start()
    ballast = disk_of_postgresql / "ballast"
    with load(gateway, clients=2, points=200) as clients:
        clients.until_acknowledged(5)
        free = os.statvfs(disk_of_postgresql)
        with ballast.open("wb") as file, suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
        until(lambda: gateway.spooled, "batches in the spool")
        clients.until_acknowledged(20)
        clients.finish()
    assert gateway.spooled
    ballast.unlink()
    until(lambda: not gateway.spooled, "the spool being empty")
    prove("the disk of PostgreSQL is full", clients, gateway)


def test_the_disk_of_the_spool_is_full(hubs_to_start: Hubs, small_disk: Path, native_database: Database) -> None:
    gateway = Gateway(hubs_to_start, native_database.dsn, spool={"segment_size": "256KiB"}).start()
    with load(gateway, points=2000) as clients:
        clients.until_acknowledged(5)
        native_database.allow_connections(False)
        until(lambda: clients.answers["UNAVAILABLE"] > 10, "refusals")
        before = clients.requests
        native_database.allow_connections(True)
        until(lambda: clients.requests > before + 10, "new acknowledgements")
        clients.finish()
    prove("the disk of the spool is full", clients, gateway)


def test_a_disk_that_is_full_from_the_start_does_not_keep_batches_from_a_database_that_came_back(
    hubs_to_start: Hubs, small_disk: Path, native_database: Database
) -> None:
    gateway = Gateway(hubs_to_start, native_database.dsn).start()
    (small_disk / "ballast").write_bytes(b"\0" * (2**20 - 16 * 2**10))
    with load(gateway, points=2000) as clients:
        clients.until_acknowledged(5)
        native_database.allow_connections(False)
        until(lambda: clients.answers["UNAVAILABLE"] > 10, "refusals")
        native_database.allow_connections(True)
        clients.until_acknowledged(10)
        clients.finish()
    prove("no room for a spool at all", clients, gateway)


def test_the_spool_is_full(hubs_to_start: Hubs, native_database: Database) -> None:
    spool = {"max_size": "1MiB", "segment_size": "128KiB"}
    gateway = Gateway(hubs_to_start, native_database.dsn, spool=spool).start()
    with load(gateway, points=2000) as clients:
        clients.until_acknowledged(5)
        native_database.allow_connections(False)
        until(lambda: clients.answers["RESOURCE_EXHAUSTED"] > 10, "refusals")
        assert gateway.spooled <= 2**20
        native_database.allow_connections(True)
        clients.until_acknowledged(10)
        clients.finish()
    assert not clients.without_retry_info
    prove("the spool is full", clients, gateway)


def test_the_spool_s_directory_is_removed_at_run_time(hubs_to_start: Hubs, native_database: Database) -> None:
    """What it held is gone, and said to be; what comes after is safe again."""
    gateway = Gateway(hubs_to_start, native_database.dsn).start()
    native_database.allow_connections(False)
    with load(gateway) as doomed:
        doomed.until_acknowledged(10)
    shutil.rmtree(gateway.hub.data_dir / "spool")
    with load(gateway) as clients:
        clients.until_acknowledged(10)
        native_database.allow_connections(True)
        until(lambda: not gateway.spooled, "the spool being empty")
        clients.finish()
    assert "was removed" in gateway.log()
    prove("spool directory removed at run time", clients, gateway)
