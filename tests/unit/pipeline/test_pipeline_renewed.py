"""Clients that are made anew when their files change: which is used, and when the one before is closed."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from gateway.net.reloading_client import POLL_INTERVAL, ReloadingClient


class Clients:
    """Makes clients, which are the content of a file, and closes them."""

    def __init__(self, file: Path) -> None:
        self.now = 0.0
        self.closed: list[str] = []
        self.file = file
        self.write("first")
        self.renewed = ReloadingClient(self.file.read_text, self._close, [None, file], lambda: self.now)

    def write(self, content: str) -> None:
        """Replace the file, and let it be time to look."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(content)
        fresh.replace(self.file)
        self.now += POLL_INTERVAL

    async def used(self) -> str:
        async with self.renewed.use() as client:
            return client

    async def _close(self, client: str) -> None:
        self.closed.append(client)


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    return Clients(tmp_path / "certificate")


async def test_a_client_is_as_its_files_are_and_the_one_before_is_closed(clients: Clients) -> None:
    assert await clients.used() == "first"
    clients.write("second")
    assert await clients.used() == "second"
    assert clients.closed == ["first"]
    await clients.renewed.close()
    assert clients.closed == ["first", "second"]


async def test_what_is_in_use_is_closed_after_its_last_use(clients: Clients) -> None:
    async with clients.renewed.use() as one:
        async with clients.renewed.use() as other:
            clients.write("second")
            assert await clients.used() == "second"
            assert (one, other, clients.closed) == ("first", "first", [])
        assert clients.closed == []
    assert clients.closed == ["first"]


async def test_a_failed_use_is_one_that_has_ended(clients: Clients) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with clients.renewed.use():
            clients.write("second")
            await clients.used()
            raise ZeroDivisionError
    assert clients.closed == ["first"]


async def test_files_that_cannot_be_used_leave_the_client_as_it_was_until_they_can(clients: Clients) -> None:
    clients.file.unlink()
    clients.now += POLL_INTERVAL
    assert await clients.used() == "first"
    clients.write("second")
    assert await clients.used() == "second"


async def test_files_are_not_looked_at_for_each_use(clients: Clients) -> None:
    clients.write("second")
    clients.now -= POLL_INTERVAL / 2
    assert await clients.used() == "first"
