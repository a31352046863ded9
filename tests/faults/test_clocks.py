"""The clock is set, forward and back by days, while gateway and PostgreSQL run."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import grpc
import psycopg
import pytest

from gateway.base import child_environment
from gateway.embedded import EmbeddedPostgres
from tests.faults.harness import METHOD, ROUNDS, Gateway, load, prove, request, stored, until
from tests.integration.cli.processes import Hubs
from tests.support.waiting import PATIENCE

DAY = 86_400


@pytest.fixture
def clock() -> Iterator[tuple[dict[str, str], Callable[[int], None]]]:
    """The variables by which a process gets a wall clock that can be set, and what sets it by seconds."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc) to make a clock with that can be set")
    # Not under pytest's own directory: nobody else may enter that, and PostgreSQL may run as another user.
    folder = Path(tempfile.mkdtemp(prefix="obs-hub-clock-"))
    folder.chmod(0o755)
    library, offset = folder / "clock.so", folder / "offset"
    source = Path(__file__).with_name("clock.c")
    made = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"the clock cannot be compiled here: {made.stderr.decode()[:300]}")

    def set_by(seconds: int) -> None:
        with offset.open("r+b" if offset.exists() else "wb") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))

    set_by(0)
    try:
        yield {"LD_PRELOAD": str(library), "OBSHUB_TEST_CLOCK": str(offset)}, set_by
    finally:
        shutil.rmtree(folder)


def test_the_clock_is_set_forward_and_back_by_days(
    hubs_to_start: Hubs,
    postgres: EmbeddedPostgres,
    clock: tuple[dict[str, str], Callable[[int], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Further than anything is kept: what was stored must not be taken for old, nor what is repeated for new."""
    variables, set_by = clock
    # A hub hands no such variables to its PostgreSQL, so this one is not the hub's.
    monkeypatch.setattr(child_environment, "BASE", (*child_environment.BASE, *variables))
    postgres.stop()
    with monkeypatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        postgres.start()
    accept = {"past": "200d", "future": "10d"}
    kept = {"metrics": "200d", "rollup_1m": "200d"}  # what rollups are made of; the rest is in danger
    settings: dict[str, object] = {
        "accept": accept,
        "retention": kept,
        "maintenance_interval": "1s",
        "spool": {"max_size": "64MiB"},
    }
    gateway = Gateway(hubs_to_start, postgres.dsn, **settings).start(**variables)
    repeated = request(range(500, 520))
    jumps = (3, 0, -2, 100, 0) * ROUNDS
    with load(gateway, pause=0.1) as clients, grpc.insecure_channel(gateway.endpoint) as channel:
        repeat = channel.unary_unary(METHOD)

        def go_on() -> None:
            clients.until_acknowledged(10)
            repeat(repeated, timeout=PATIENCE, wait_for_ready=True)
            time.sleep(1.2)  # a round of maintenance
            clients.until_acknowledged(10)

        go_on()  # a jump is noticed by who has seen the clock before
        for before, days in pairwise((0, *jumps)):
            set_by(days * DAY)
            assert abs(server_time(gateway.dsn) - time.time() - days * DAY) < DAY / 2, "PostgreSQL has that clock, too"
            go_on()
            if days > before:
                until(lambda: "clock went forward" in gateway.log(), "its being noticed")
            if days in (-2, 100):  # and out of a crash into another time than before
                gateway.kill()
                gateway.start(**variables)
                go_on()
        clients.finish()
    until(lambda: not gateway.spooled, "the spool being empty")
    assert "maintenance is put off" not in gateway.log()
    assert {stored(gateway.dsn)[number] for number in range(500, 520)} == {1}
    prove("clock set forward and back by days", clients, gateway, rounds=len(jumps))


def server_time(dsn: str) -> float:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        assert row is not None
        return float(row[0])
