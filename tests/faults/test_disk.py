"""The disk that the spool is on is full, or fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from gateway.data_paths import dead_letter_directory
from gateway.pipeline.dead_letters import DeadLetters
from gateway.store import migrate
from gateway.store.connections import Connections
from tests.faults.harness import METHOD, Gateway, load, prove, request, retry_info, until, until_delivered
from tests.integration.cli.processes import Hubs, obs_hub
from tests.support.databases import Database
from tests.support.waiting import PATIENCE


@contextmanager
def disk(hubs: Hubs, folder: str, size: str) -> Iterator[Path]:
    """A file system of that size in the data directory of the gateway ``hub``."""
    place = hubs.folder / "hub" / "data" / folder
    place.mkdir(parents=True)
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        hubs.end()
        subprocess.run(["umount", "--lazy", str(place)], check=False)


@pytest.fixture
def small_disk(hubs_to_start: Hubs) -> Iterator[Path]:
    """A file system of one megabyte, where the spool of the gateway ``hub`` will be."""
    with disk(hubs_to_start, "spool", "1m") as place:
        yield place


def fill(place: Path) -> Path:
    """Take all the space that is left; return the file that does."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def test_the_disk_of_postgresql_is_full(hubs_to_start: Hubs) -> None:
    """It refuses rows, or ends itself when not even its log can be written; both are over when there is space again."""
    with disk(hubs_to_start, "postgres", "256m") as place:
        gateway = Gateway(hubs_to_start).start()
        with load(gateway, records=2000) as clients:
            clients.until_acknowledged(5)
            ballast = fill(place)
            until(lambda: gateway.spooled, "something being spooled")
            clients.until_acknowledged(20)
            time.sleep(2)
            fill(place)
            clients.until_acknowledged(5)
            ballast.unlink()
            clients.finish()
            until_delivered(clients, gateway)
        assert "No space left on device" in gateway.log()
        prove("the disk of PostgreSQL is full", clients, gateway)


def test_a_store_is_copied_to_a_disk_that_is_too_small(hubs_to_start: Hubs, native_database: Database) -> None:
    """The server that the copy has started ends itself, as its log has no room; then there is room, and it goes on."""
    migrate(Connections(native_database.dsn))
    native_database.run(
        "INSERT INTO run (id, kind, name, state, trigger, output)"
        " SELECT gen_random_uuid(), 'a', 'b', 'succeeded', '{}', noise || n"
        " FROM (SELECT string_agg(md5(i::text), '') AS noise FROM generate_series(1, 64000) i) AS one,"
        " generate_series(1, 20) AS n"
    )
    with disk(hubs_to_start, "postgres", "96m") as place:
        copy = ("store", "copy", "--from", native_database.dsn, "--to-data-dir", place.parent)
        refused = obs_hub(*copy)
        assert refused.returncode == 1
        assert " is full" in refused.stderr
        assert "Traceback" not in refused.stderr
        subprocess.run(["mount", "-o", "remount,size=512m", str(place)], check=True)
        done = obs_hub(*copy)
        assert done.returncode == 0, done.stderr
        assert "going on with a copy that was broken off" in done.stderr
        assert re.search(r"^run +20 ", done.stdout, re.MULTILINE)
        assert "Start the hub with --data-dir" in done.stdout


def test_the_disk_of_the_spool_is_full(hubs_to_start: Hubs, small_disk: Path, native_database: Database) -> None:
    gateway = Gateway(hubs_to_start, native_database.dsn, spool={"segment_size": "256KiB"}).start()
    with load(gateway, records=2000, pause=0) as clients:
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
    with load(gateway, records=2000, pause=0) as clients:
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
    with load(gateway, records=2000, pause=0) as clients:
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
        until_delivered(clients, gateway)
        clients.finish()
    assert "was removed" in gateway.log()
    prove("spool directory removed at run time", clients, gateway)


def test_there_is_no_room_for_dead_letters(hubs_to_start: Hubs, native_database: Database) -> None:
    """What is refused for good stays with its client; its neighbours are stored; room lets it become a letter."""
    patient = {"timeout": "60s", "slow_after": "60s"}  # or a busy machine answers from the spool
    gateway = Gateway(hubs_to_start, native_database.dsn, dead_letters={"max_size": "1MiB"}, **patient).start()
    letters = dead_letter_directory(gateway.hub.data_dir, "timescale")
    letters.mkdir(parents=True)
    ballast = letters / "ballast"
    ballast.write_bytes(bytes(2**20))
    native_database.run("ALTER TABLE sample ADD CONSTRAINT no_nine CHECK (int_value <> 9)")
    with load(gateway) as clients, grpc.insecure_channel(gateway.endpoint) as channel:
        send = channel.unary_unary(METHOD)
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as caught:
                send(request([9]), timeout=PATIENCE)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert retry_info(caught.value) is not None
            assert "dead_letters.max_size" in caught.value.details()
            assert "no_nine" in caught.value.details()
            clients.until_acknowledged(10)
        ballast.unlink()
        send(request([9]), timeout=PATIENCE)
        clients.finish()
    (letter,) = DeadLetters(letters)
    assert "no_nine" in letter.reason
    prove("no room for dead letters", clients, gateway)
