"""The clock of the gateway's machine jumps, by days, while it runs and while batches wait in its spool.

The clock is that of the gateway's process: a module that Python loads before the program puts one there which adds what
a file says.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.harness import Gateway, load, prove, until
from tests.integration.cli.processes import Hubs
from tests.support.databases import Database

DAY = 86_400

SITECUSTOMIZE = """
import datetime, os, time

def offset():
    try:
        return int(open(os.environ["TEST_CLOCK_OFFSET"]).read() or 0)
    except OSError:
        return 0

real_time, real_time_ns = time.time, time.time_ns
time.time = lambda: real_time() + offset()
time.time_ns = lambda: real_time_ns() + offset() * 10**9

class Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

datetime.datetime = Datetime
"""


class JumpingClock:
    """The clock of a gateway, and of the clients that stamp their records by it."""

    def __init__(self, folder: Path) -> None:
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
        self._file = folder / "offset"
        self._folder = folder
        self.set(0)

    def set(self, seconds: int) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self._file)

    def now(self) -> int:
        return time.time_ns() + int(self._file.read_text()) * 10**9

    @property
    def variables(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self._folder), "TEST_CLOCK_OFFSET": str(self._file)}


@pytest.fixture
def clock(tmp_path: Path) -> JumpingClock:
    return JumpingClock(tmp_path)


def test_the_clock_jumps_while_batches_come_in_and_wait(
    hubs_to_start: Hubs, native_database: Database, clock: JumpingClock
) -> None:
    gateway = Gateway(hubs_to_start, native_database.dsn).start(**clock.variables)
    for days in (0, 3, -3, 1):
        clock.set(days * DAY)
        with load(gateway, clock=clock.now) as clients:
            clients.until_acknowledged(10)
            native_database.allow_connections(False)
            clients.until_acknowledged(20)
            clients.finish()
        assert gateway.spooled
        clock.set(-days * DAY)  # replayed by another clock than they came in by
        native_database.allow_connections(True)
        until(lambda: not gateway.spooled, "the spool being empty")
        prove(f"the clock jumps by {days} and {-2 * days} days", clients, gateway)


def test_a_clock_that_is_years_ahead_for_a_while_expires_nothing(
    hubs_to_start: Hubs, native_database: Database, clock: JumpingClock
) -> None:
    gateway = Gateway(hubs_to_start, native_database.dsn, maintenance_interval="1s").start(**clock.variables)
    with load(gateway, clock=clock.now) as before:
        before.until_acknowledged(10)
        before.finish()
    clock.set(1000 * DAY)
    with load(gateway, clock=clock.now) as ahead:
        ahead.until_acknowledged(10)
        ahead.finish()
    until(lambda: "nothing is dropped as expired" in gateway.log(), "the doubt in the clock")
    time.sleep(3)  # some rounds of maintenance, which would drop what seems to have expired
    clock.set(0)
    prove("the clock is years ahead for a while: before", before, gateway)
    prove("the clock is years ahead for a while: meanwhile", ahead, gateway)
