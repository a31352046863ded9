"""When the clock is trusted with dropping what has expired."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from exporters.timescale.clock import Clock

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class World:
    """A clock that can be set, time that passes all the same, and a database with a clock of its own."""

    def __init__(self, last_stored: datetime | None = START - HOUR) -> None:
        self.wall = self.database = START
        self.passed = 1000.0
        self.last_stored = last_stored
        self.clock = Clock(lambda: self.wall, lambda: self.passed)

    def wait(self, duration: timedelta) -> None:
        self.wall += duration
        self.database += duration
        self.passed += duration.total_seconds()

    def trusted(self) -> bool:
        now = self.clock.trusted(self)  # type: ignore[arg-type]
        assert now in (None, self.wall)
        return now is not None

    def execute(self, _: str) -> Any:
        return self

    def fetchone(self) -> tuple[datetime, datetime | None]:
        return self.database, self.last_stored


def test_a_clock_that_goes_on_as_it_did_is_trusted() -> None:
    world = World()
    assert world.trusted()
    world.wait(100 * DAY)
    assert world.trusted()


def test_after_it_was_set_it_is_given_an_hour() -> None:
    for jump in (400 * DAY, -400 * DAY):
        world = World()
        assert world.trusted()
        world.wall += jump
        world.database += jump
        assert not world.trusted()
        world.wait(HOUR / 2)
        assert not world.trusted()
        world.wait(HOUR)
        assert world.trusted()


def test_small_corrections_do_not_matter() -> None:
    world = World()
    assert world.trusted()
    world.wall += timedelta(minutes=5)
    assert world.trusted()


def test_it_is_not_trusted_while_the_database_has_another_time() -> None:
    world = World()
    world.wall += 2 * HOUR
    for _ in range(5):
        assert not world.trusted()
        world.wait(HOUR)
    world.database = world.wall
    world.wait(HOUR)
    assert world.trusted()


def test_a_start_after_a_long_pause_waits_for_the_clock_to_be_set() -> None:
    for last_stored in (None, START - 2 * DAY, START + 2 * DAY):
        world = World(last_stored)
        assert not world.trusted()
        world.wait(2 * HOUR)
        assert world.trusted()
