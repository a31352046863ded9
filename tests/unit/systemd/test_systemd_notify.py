"""What a service says to systemd, over a real socket."""

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path

import pytest

from gateway.systemd.notify import Notifier
from gateway.systemd.watchdog import Heartbeats, beat, feed_watchdog
from tests.integration.cli.processes import PATIENCE
from tests.support.logged import Logged
from tests.support.service_manager import manager
from tests.support.waiting import until


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_readiness_status_and_the_end_are_said_in_the_words_of_sd_notify(kind: str, tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify") if kind == "path" else f"@obs-hub-{uuid.uuid4()}") as systemd:
        notifier = Notifier(systemd.address)
        notifier.status("starting\nREADY=1")
        notifier.ready("serving")
        notifier.alive()
        notifier.stopping("storing", 110)
        assert systemd.listen() == [
            {"STATUS": "starting READY=1"},  # one field: a line break does not make two of it
            {"READY": "1", "STATUS": "serving"},
            {"WATCHDOG": "1"},
            {"STOPPING": "1", "STATUS": "storing", "EXTEND_TIMEOUT_USEC": "110000000"},
        ]


def test_the_environment_says_whom_to_tell_and_is_not_passed_on() -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid()), "A": "b"}
    assert Notifier.from_environment(environ).watchdog == 60
    assert environ == {"A": "b"}


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}],
    ids=["none", "off", "garbled", "another-process"],
)
def test_a_watchdog_that_is_not_meant_for_us(environ: dict[str, str]) -> None:
    assert Notifier.from_environment(environ).watchdog is None


def test_without_a_service_manager_nothing_is_said_and_one_that_is_gone_stops_nothing(
    tmp_path: Path, logged: Logged
) -> None:
    Notifier().ready("serving")
    assert not logged.entries
    Notifier(str(tmp_path / "gone")).ready("serving")
    (warning,) = logged.entries
    assert (warning["event"], warning["message"]) == ("systemd could not be told", "READY=1")


async def test_systemd_is_told_that_all_is_well_only_while_every_worker_beats(tmp_path: Path, logged: Logged) -> None:
    with manager(str(tmp_path / "notify")) as systemd:
        ours, theirs = os.pipe()
        heard = Heartbeats()
        heard.follow(3, ours)
        looks = 0

        def silent(seconds: float) -> list[int]:
            nonlocal looks
            looks += 1
            return heard.silent(seconds)

        telling = asyncio.create_task(feed_watchdog(Notifier(systemd.address, 0.4), silent))
        beating = asyncio.create_task(beat(theirs, 0.4))
        await until(lambda: systemd.has("WATCHDOG"))
        beating.cancel()
        await until(lambda: heard.silent(0.2))
        systemd.listen()
        before = looks
        await until(lambda: looks > before + 3)
        assert not systemd.listen(), "told that all is well"
        assert [entry["workers"] for entry in logged.of("nothing has been heard of workers")] == [[3]]
        os.close(theirs)
        ours, theirs = os.pipe()
        heard.follow(3, ours)  # its successor
        beating = asyncio.create_task(beat(theirs, 0.4))
        await until(systemd.listen)
        beating.cancel()
        telling.cancel()
        os.close(theirs)
        await until(lambda: is_closed(ours))  # by who followed it


def is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False


async def test_beats_that_nobody_takes_hold_up_nobody_and_end_with_their_reader() -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    while True:
        try:
            os.write(theirs, b"." * 4096)
        except BlockingIOError:
            break
    beating = asyncio.create_task(beat(theirs, 0.08))
    await asyncio.sleep(0.1)
    assert not beating.done()
    os.close(ours)
    async with asyncio.timeout(PATIENCE):
        await beating
    os.close(theirs)
