"""From the journal to a destination: what is sent, from where on, and what happens when something is away."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import structlog
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from structlog.testing import capture_logs

from gateway.component import ACCEPTED, Batch, MalformedPayloadError, Outcome, OverloadedError, Receiver, Signal
from gateway.component.declaration import Context
from gateway.net.remote import elsewhere
from receivers.journald import emitter as emitter_module
from receivers.journald import reader as reader_module
from receivers.journald import sender as sender_module
from receivers.journald.config import JournaldConfig
from receivers.journald.emitter import Emitter
from receivers.journald.errors import JournalError
from receivers.journald.factory import create
from receivers.journald.journalctl import Stream
from receivers.journald.records import Request
from receivers.journald.state import State
from tests.support.consumers import Collecting
from tests.support.journals import Journal, RealJournal, StandInJournal, entry
from tests.support.logged import Logged
from tests.support.waiting import PATIENCE, until

Config = Callable[..., JournaldConfig]


def emitter_of(config: JournaldConfig, state: Path | None, **how: Any) -> Emitter:
    return Emitter(config, elsewhere(config, [Signal.LOGS]), state, **how)


def make(name: str, config: JournaldConfig, state: Path) -> Receiver:
    """The receiver, given what the hub would give it whose settings name an endpoint."""
    return create(name, config, elsewhere(config, [Signal.LOGS]), Context(state_dir=state))


async def once(config: JournaldConfig, state: Path | None = None, patience: float = 30.0) -> Emitter:
    emitter = emitter_of(config, state, follow=False, patience=patience)
    await emitter.run()
    return emitter


@asynccontextmanager
async def following(config: JournaldConfig, state: Path | None = None) -> AsyncIterator[Emitter]:
    emitter = emitter_of(config, state)
    task = asyncio.create_task(emitter.run())
    try:
        yield emitter
    finally:
        await emitter.stop()
        async with asyncio.timeout(PATIENCE):
            await task


def programs(journal: Journal) -> list[psutil.Process]:
    """The journalctl processes that read a journal."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if f"--directory={journal.directory}" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def refusing(code: grpc.StatusCode, pause: float | None = None) -> Any:
    def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
        if pause is not None:
            delay = Duration()
            delay.FromNanoseconds(round(pause * 1e9))
            status = Status(code=8)
            status.details.add().Pack(RetryInfo(retry_delay=delay))
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, "because")

    return answer


async def test_once_sends_what_is_there_and_then_only_what_is_new(
    journal: Journal, destination: Any, config: Config, tmp_path: Path
) -> None:
    journal.write(entry("one"), entry("two"))
    assert (await once(config(journal), tmp_path / "state")).sender.accepted == 2
    assert (await once(config(journal), tmp_path / "state")).sender.accepted == 0
    journal.write(entry("three"))
    await once(config(journal), tmp_path / "state")
    assert destination.bodies == ["one", "two", "three"]


async def test_it_follows(journal: Journal, destination: Any, config: Config, tmp_path: Path) -> None:
    journal.write(entry("before"))
    async with following(config(journal), tmp_path / "state"):
        await until(lambda: destination.bodies == ["before"])
        journal.write(entry("after"))
        await until(lambda: destination.bodies == ["before", "after"])
    assert not programs(journal)


async def test_it_begins_at_the_end_unless_told_otherwise(
    journal: Journal, destination: Any, config: Config, tmp_path: Path
) -> None:
    settings = config(journal, start_at="end")
    journal.write(entry("old"), entry("older", PRIORITY="7"))
    assert (await once(settings, tmp_path / "state")).sender.accepted == 0
    journal.write(entry("new"))
    await once(settings, tmp_path / "state")
    assert destination.bodies == ["new"]


async def test_an_empty_journal_is_followed_from_its_first_entry(
    journal: Journal, destination: Any, config: Config
) -> None:
    async with following(config(journal, start_at="end")):
        await until(lambda: [each for each in programs(journal) if "--follow" in each.cmdline()])
        journal.write(entry("first"))
        await until(lambda: destination.bodies == ["first"])


async def test_requests_are_as_large_as_the_settings_allow(journal: Journal, destination: Any, config: Config) -> None:
    journal.write(*(entry(f"{number}") for number in range(25)), entry("x" * 5000), entry("y" * 5000))
    await once(config(journal, batch={"max_records": 10, "max_size": "5000B"}))
    sizes = [len(payload) for payload in destination.accepted]
    assert [record.body.string_value[:2] for record in destination.records] == [
        *map(str, range(25)),
        "xx",
        "yy",
    ]
    assert len(sizes) >= 4
    assert max(sizes) < 12_000


UNITS = [
    entry("a", _SYSTEMD_UNIT="nginx.service"),
    entry("b", _SYSTEMD_UNIT="docker-1.scope"),
    entry("c", _SYSTEMD_UNIT="docker-2.scope", PRIORITY="3"),
    entry("d", _SYSTEMD_UNIT="sshd.service", PRIORITY="4"),
    entry("e", _SYSTEMD_UNIT="init.scope", UNIT="nginx.service", _PID="1", SYSLOG_IDENTIFIER="systemd"),
    entry("f", _SYSTEMD_UNIT="liar.service", UNIT="nginx.service", _PID="666"),
    entry("g", _SYSTEMD_UNIT="user@1000.service", _SYSTEMD_USER_UNIT="music.service", _UID="1000", PRIORITY="3"),
    entry("h", _SYSTEMD_UNIT="user@1000.service", USER_UNIT="music.service", _UID="1000", SYSLOG_IDENTIFIER="systemd"),
]


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"units": ["nginx"]}, "ae"),
        ({"units": ["nginx.service", "docker-*"]}, "abce"),
        ({"units": ["nginx", "music"]}, "aegh"),
        ({"units": ["nginx", "music"], "priority": "err"}, "g"),
        ({"units": ["nginx", "music"], "matches": ["SYSLOG_IDENTIFIER=systemd"]}, "eh"),
        ({"units": ["nginx"], "matches": ["_SYSTEMD_UNIT=sshd.service"]}, ""),
        ({"exclude_units": ["docker-*"]}, "adefgh"),
        ({"units": ["docker-*"], "exclude_units": ["docker-2.scope"]}, "b"),
        ({"priority": "warning"}, "cdg"),
        ({"matches": ["SYSLOG_IDENTIFIER=systemd"]}, "eh"),
        ({"matches": ["PRIORITY=3", "PRIORITY=4", "_HOSTNAME=nas"]}, "cdg"),
    ],
    ids=str,
)
async def test_what_is_sent_can_be_chosen(
    journal: Journal, destination: Any, config: Config, settings: dict[str, Any], sent: str
) -> None:
    journal.write(*UNITS)
    await once(config(journal, **settings))
    assert "".join(sorted(destination.bodies)) == sent


async def test_what_is_not_sent_moves_the_position_too(
    journal: Journal, destination: Any, config: Config, tmp_path: Path
) -> None:
    journal.write(*UNITS)
    await once(config(journal, units=["nothing-*"]), tmp_path)
    assert destination.attempts == 0
    await once(config(journal), tmp_path)
    assert destination.attempts == 0


async def test_the_position_is_where_the_destination_acknowledged(
    journal: Journal, destination: Any, config: Config, tmp_path: Path
) -> None:
    journal.write(entry("one"))
    destination.answer = refusing(grpc.StatusCode.UNAVAILABLE)
    emitter = emitter_of(config(journal), tmp_path, follow=False, patience=0.3)
    assert await emitter.run() is False
    state = State(tmp_path)
    assert state.cursor is None
    assert state.pending is not None
    state.close()

    destination.answer = lambda *_: b""
    await once(config(journal), tmp_path)
    assert destination.bodies == ["one"]
    state = State(tmp_path)
    assert (state.cursor is not None, state.pending) == (True, None)
    state.close()


async def test_what_was_pending_is_sent_byte_by_byte_whatever_the_settings_are_now(
    journal: Journal, destination: Any, config: Config, tmp_path: Path
) -> None:
    seen: list[bytes] = []

    def lose_the_answer(payload: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(payload)
        context.abort(grpc.StatusCode.UNAVAILABLE, "stored, but the answer is lost")

    journal.write(*(entry(f"{number}") for number in range(5)))
    destination.answer = lose_the_answer
    await once(config(journal), tmp_path, patience=0.1)
    journal.write(entry("5"))
    destination.answer = lambda *_: b""
    await once(config(journal, batch={"max_records": 2}, units=["web.service"]), tmp_path)
    assert destination.accepted[0] == seen[0]
    assert destination.bodies == ["0", "1", "2", "3", "4", "5"]


async def test_a_destination_that_asks_for_time_gets_it(
    stand_in: StandInJournal, destination: Any, config: Config
) -> None:
    stand_in.write(entry("one"))
    destination.answer = refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, pause=0.5)
    begin = time.monotonic()
    async with following(config(stand_in)):
        await until(lambda: destination.attempts)
        destination.answer = lambda *_: b""
        await until(lambda: destination.bodies == ["one"])
        assert time.monotonic() - begin >= 0.5


async def test_nothing_runs_and_little_is_held_while_the_destination_is_away(
    journal: Journal,
    destination: Any,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    logged: Logged,
) -> None:
    monkeypatch.setattr(sender_module, "AWAY_SECONDS", 0.2)
    destination.answer = refusing(grpc.StatusCode.UNAVAILABLE)
    journal.write(*(entry(f"{number} " + "x" * 1000) for number in range(2000)))
    async with following(config(journal, batch={"max_records": 100, "timeout": "50ms"})) as emitter:
        await until(lambda: destination.attempts > 3 and not programs(journal))
        assert not emitter._reader._lines
        assert emitter._state.pending is not None
        assert len(emitter._state.pending.payload) < 300_000
        journal.write(entry("meanwhile"))
        destination.answer = lambda *_: b""
        await until(lambda: len(destination.bodies) == 2001)
    assert [body.split()[0] for body in destination.bodies] == [*map(str, range(2000)), "meanwhile"]
    assert len(logged.of("wait in the journal")) == 1


async def test_a_slow_destination_leaves_the_rest_in_the_journal(
    stand_in: StandInJournal, destination: Any, config: Config
) -> None:
    stand_in.write(*(entry("x" * 1000) for _ in range(5000)))

    def slow(*_: Any) -> bytes:
        time.sleep(0.02)
        return b""

    destination.answer = slow
    held = 0
    async with following(config(stand_in, batch={"max_records": 100})) as emitter:
        while len(destination.accepted) < 50:
            held = max(held, sum(map(len, emitter._reader._lines)))
            await asyncio.sleep(0.005)
    assert len(destination.records) == 5000
    assert 0 < held < 400_000


async def test_one_bad_record_is_left_out_and_its_neighbours_are_sent(
    journal: Journal, destination: Any, config: Config, tmp_path: Path, logged: Logged
) -> None:
    def picky(payload: bytes, context: grpc.ServicerContext) -> bytes:
        if b"poison" in payload:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no poison")
        return b""

    destination.answer = picky
    journal.write(*(entry("poison" if number == 37 else f"{number}") for number in range(100)))
    emitter = await once(config(journal), tmp_path)
    assert destination.bodies == [str(number) for number in range(100) if number != 37]
    assert (emitter.sender.accepted, emitter.sender.refused) == (99, 1)
    assert [entry["records"] for entry in logged.of("log records are refused for good and left out")] == [1]
    assert (await once(config(journal), tmp_path)).sender.refused == 0


async def test_a_destination_that_refuses_everything_holds_up_nothing(
    stand_in: StandInJournal, destination: Any, config: Config
) -> None:
    destination.answer = refusing(grpc.StatusCode.INVALID_ARGUMENT)
    stand_in.write(*(entry(f"{number}") for number in range(1000)))
    emitter = await once(config(stand_in, batch={"max_records": 1000, "timeout": "1h"}))  # one request
    assert emitter.sender.refused == 1000
    assert destination.attempts < 60


async def test_a_message_about_the_receiver_itself_does_not_make_another_each_time(
    stand_in: StandInJournal, destination: Any, config: Config
) -> None:
    """What it logs gets into the journal, and is refused like everything else."""
    destination.answer = refusing(grpc.StatusCode.INVALID_ARGUMENT)

    def into_the_journal(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        stand_in.write(entry(line["event"]))
        return line

    with capture_logs() as said:
        structlog.get_config()["processors"].insert(0, into_the_journal)
        async with following(config(stand_in, batch={"timeout": "10ms"})) as emitter:
            stand_in.write(entry("the first"))
            await until(lambda: emitter.sender.refused >= 2)
            attempts = destination.attempts
            await asyncio.sleep(1)
            assert destination.attempts <= attempts + 1
    assert len([each for each in said if each["event"] == "log records are refused for good and left out"]) == 1


async def test_a_program_that_is_killed_is_started_again(
    journal: Journal, destination: Any, config: Config, tmp_path: Path
) -> None:
    async with following(config(journal), tmp_path):
        for number in range(3):
            journal.write(entry(f"{number}"))
            await until(lambda: len(destination.bodies) == number + 1)  # noqa: B023 - used at once
            (program,) = await until(lambda: [each for each in programs(journal) if "--follow" in each.cmdline()])
            os.kill(program.pid, signal.SIGKILL)
        journal.write(entry("last"))
        await until(lambda: "last" in destination.bodies)
    assert destination.bodies == ["0", "1", "2", "last"]


async def test_a_journal_that_lost_the_position_is_read_from_the_next_entry(
    stand_in: StandInJournal, destination: Any, config: Config, tmp_path: Path, logged: Logged
) -> None:
    stand_in.write(entry("one"), entry("two"))
    await once(config(stand_in), tmp_path)
    stand_in.write(*(entry(f"lost {number}") for number in range(7)))
    stand_in.vacuum()
    stand_in.write(entry("three"), entry("four"))
    await once(config(stand_in), tmp_path)
    assert destination.bodies == ["one", "two", "three", "four"]
    assert [entry["missing_at_most"] for entry in logged.of("no longer has the entry")] == [7]


async def test_a_real_journal_that_was_replaced_is_read_from_its_first_later_entry(
    real: RealJournal, destination: Any, config: Config, tmp_path: Path, logged: Logged
) -> None:
    real.write(entry("one"), entry("two"))
    await once(config(real), tmp_path)
    real.vacuum()
    real.write(entry("three"), entry("four"))
    await once(config(real), tmp_path)
    assert destination.bodies == ["one", "two", "three", "four"]
    assert [entry["missing_at_most"] for entry in logged.of("no longer has the entry")] == ["not known"]


async def test_a_real_journal_rotated_between_two_reads_loses_nothing(
    real: RealJournal, destination: Any, config: Config, tmp_path: Path, logged: Logged
) -> None:
    real.write(entry("one"), entry("two"))
    async with following(config(real), tmp_path):
        await until(lambda: destination.bodies == ["one", "two"])
        real.file.rename(real.directory / "archived@1.journal")
        real.write(entry("three"))
        await until(lambda: len(destination.bodies) == 3)
    await once(config(real), tmp_path)
    assert destination.bodies == ["one", "two", "three"]
    assert "missing" not in logged.text


async def test_files_that_a_real_journal_rotates_to_are_found(
    real: RealJournal, destination: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_RENEW_SECONDS", 0.2)
    real.write(entry("one"), entry("two"))
    async with following(config(real, directory=None, files=[f"{real.directory}/*.journal"]), tmp_path):
        await until(lambda: destination.bodies == ["one", "two"])
        real.file.rename(real.directory / "archived@1.journal")
        real.write(entry("three"))
        await until(lambda: len(destination.bodies) == 3)
        real.write(entry("four"))
        await until(lambda: len(destination.bodies) == 4)
    assert destination.bodies == ["one", "two", "three", "four"]


async def test_what_is_missing_is_told_once(
    real: RealJournal,
    destination: Any,
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged: Logged,
) -> None:
    """A unit that says nothing for long: its last entry goes, and the program is started again and again."""
    monkeypatch.setattr(reader_module, "_RENEW_SECONDS", 0.1)
    settings = config(real, directory=None, files=[f"{real.directory}/*.journal"], units=["web"])
    real.write(entry("one"))
    await once(settings, tmp_path)
    real.vacuum()
    real.write(entry("of another", _SYSTEMD_UNIT="other.service"))
    async with following(settings, tmp_path) as emitter:
        looked = 0
        find = emitter._reader._journalctl.find

        async def counted(cursor: str) -> Any:
            nonlocal looked
            looked += 1
            return await find(cursor)

        monkeypatch.setattr(emitter._reader._journalctl, "find", counted)
        await until(lambda: looked >= 3)
    assert logged.text.count("no longer has the entry where reading ended") == 1


async def test_a_damaged_real_journal_does_not_stop_the_others(
    real: RealJournal, destination: Any, config: Config, tmp_path: Path, logged: Logged
) -> None:
    real.write(*(entry(f"{number}") for number in range(50)))
    (real.directory / "noise.journal").write_bytes(os.urandom(100_000))
    content = bytearray(real.file.read_bytes())
    at = content.find(b"MESSAGE=20")
    content[at - 64 : at + 40] = b"\xff" * 104
    (real.directory / "bitten.journal").write_bytes(content)
    async with following(config(real), tmp_path):
        await until(lambda: "49" in destination.bodies)
        real.write(entry("later"))
        await until(lambda: "later" in destination.bodies)
    assert {str(number) for number in range(50)} <= set(destination.bodies)
    assert "noise.journal corrupted, ignoring file" in logged.text


async def test_entries_of_an_earlier_boot_are_sent(real: RealJournal, destination: Any, config: Config) -> None:
    """``journalctl --follow`` by itself shows the current boot only."""
    real.write(entry("before the reboot"))
    real.write(entry("after the reboot", _BOOT_ID="f" * 32))
    async with following(config(real)):
        await until(lambda: len(destination.bodies) == 2)
    assert destination.bodies == ["before the reboot", "after the reboot"]


async def test_bytes_lines_and_long_messages(journal: Journal, destination: Any, config: Config) -> None:
    long = "long " * 4000
    journal.write(
        entry("two\nlines"), entry(b"\x1b[31mred\x1b[0m"), entry(b"bad \xff\xfe byte\x01"), entry(long), entry("ünï")
    )
    await once(config(journal))
    assert destination.bodies == [
        "two\nlines",
        "\x1b[31mred\x1b[0m",
        "bad \\xff\\xfe byte\x01",
        long,
        "ünï",
    ]


async def test_an_entry_larger_than_memory_allows_is_left_out(
    stand_in: StandInJournal,
    destination: Any,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    logged: Logged,
) -> None:
    monkeypatch.setattr("receivers.journald.journalctl.MAX_LINE", 200_000)
    stand_in.write(entry("small"), entry("x" * 3_000_000), entry("y" * 150_000), entry("small too"))
    emitter = await once(config(stand_in))
    assert [body[:5] for body in destination.bodies] == ["small", "yyyyy", "small"]
    assert emitter.unreadable == 1
    assert "larger than this receiver holds" in logged.text


async def test_an_entry_that_is_too_large_counts_also_where_a_batch_ends_meanwhile(
    stand_in: StandInJournal, destination: Any, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What of it is too much is there before the batch's deadline, its end is not."""
    read = Stream.read
    reads = iter(range(10**6))

    async def slow(stream: Stream) -> list[bytes]:
        if next(reads) == 1:
            stream.left_out += 1
            await asyncio.Event().wait()
        return await read(stream)

    stand_in.write(entry("small"))
    monkeypatch.setattr(Stream, "read", slow)
    async with following(config(stand_in, batch={"timeout": "50ms"})) as emitter:
        await until(lambda: destination.bodies == ["small"])
        assert emitter.unreadable == 1


async def test_an_entry_that_cannot_be_a_log_record_is_left_out_and_its_neighbours_are_sent(
    stand_in: StandInJournal, destination: Any, config: Config, tmp_path: Path, logged: Logged
) -> None:
    stand_in.write(entry("one"), entry("without a time", __REALTIME_TIMESTAMP="soon"), entry("two"))
    emitter = await once(config(stand_in), tmp_path)
    assert destination.bodies == ["one", "two"]
    assert emitter.unreadable == 1
    (left_out,) = logged.of("an entry of the journal is left out")
    assert left_out["reason"].startswith("no __REALTIME_TIMESTAMP")


async def test_a_journal_whose_end_cannot_be_found_at_first_is_followed_once_it_can(
    stand_in: StandInJournal,
    destination: Any,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    logged: Logged,
) -> None:
    monkeypatch.setattr(emitter_module, "_PAUSE_SECONDS", 0.05)
    broken = stand_in.directory / "broken"
    broken.write_text("Journal file is truncated.")
    stand_in.write(entry("old"))
    async with following(config(stand_in, start_at="end")):
        await until(lambda: "the journal cannot be read" in logged.text)
        broken.unlink()
        await until(lambda: [each for each in programs(stand_in) if "--follow" in each.cmdline()])
        stand_in.write(entry("new"))
        await until(lambda: destination.bodies == ["new"])


async def test_a_failure_that_nobody_thought_of_does_not_end_it(
    stand_in: StandInJournal,
    destination: Any,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    logged: Logged,
) -> None:
    monkeypatch.setattr(emitter_module, "_PAUSE_SECONDS", 0.05)
    settle, failures = State.settle, [TypeError("nobody thought of this")]

    def fail_once(state: State, cursor: str) -> None:
        if failures:
            raise failures.pop()
        settle(state, cursor)

    monkeypatch.setattr(State, "settle", fail_once)
    stand_in.write(entry("one"))
    async with following(config(stand_in)):
        await until(lambda: "sending the journal failed; it is tried again" in logged.text)
        stand_in.write(entry("two"))
        await until(lambda: "two" in destination.bodies)


async def test_what_journalctl_complains_about_is_said_and_tried_again(
    stand_in: StandInJournal, destination: Any, config: Config, logged: Logged
) -> None:
    broken = stand_in.directory / "broken"
    broken.write_text("No journal files were opened due to insufficient permissions.")
    stand_in.write(entry("one"))
    with pytest.raises(JournalError, match="insufficient permissions"):
        await once(config(stand_in))
    async with following(config(stand_in)):
        await until(lambda: "the group systemd-journal" in logged.text)
        broken.unlink()
        await until(lambda: destination.bodies == ["one"])


async def test_a_full_disk_keeps_no_log_from_being_sent(
    stand_in: StandInJournal,
    destination: Any,
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged: Logged,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    stand_in.write(entry("the disk is full"))
    await once(config(stand_in), tmp_path)
    assert destination.bodies == ["the disk is full"]
    assert logged.of("cannot be written down")[0]["reason"] == "[Errno 28] No space left on device"


def test_without_journalctl_it_says_what_to_install(config: Config, stand_in: StandInJournal, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="Install systemd's journalctl"):
        emitter_of(config(stand_in, journalctl_path="no-such-journalctl"), tmp_path)


async def test_the_receiver_sends_what_it_read_before_it_ends(
    stand_in: StandInJournal, destination: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, read = Request.add, []

    def noted(request: Request, fields: Any) -> None:
        add(request, fields)
        read.append(fields["MESSAGE"])

    monkeypatch.setattr(Request, "add", noted)
    receiver = make("journald/web", config(stand_in, batch={"timeout": "1h"}), tmp_path)
    assert (receiver.name, receiver.endpoints) == ("journald/web", {})
    await receiver.stop(0)  # harmless when not started
    stand_in.write(entry("one"))
    await receiver.start()
    await until(lambda: [each for each in programs(stand_in) if "--follow" in each.cmdline()])
    stand_in.write(entry("two"))
    await until(lambda: read == ["one", "two"])
    await receiver.stop(30)
    assert destination.bodies == ["one", "two"]
    await once(config(stand_in), tmp_path)
    assert destination.bodies == ["one", "two"]


async def test_the_receiver_ends_in_time_when_nobody_answers(
    stand_in: StandInJournal, destination: Any, config: Config, tmp_path: Path
) -> None:
    destination.answer = refusing(grpc.StatusCode.UNAVAILABLE)
    stand_in.write(entry("one"))
    receiver = make("journald", config(stand_in), tmp_path)
    await receiver.start()
    await until(lambda: destination.attempts)
    await receiver.stop(30)
    destination.answer = lambda *_: b""
    await once(config(stand_in), tmp_path)
    assert destination.bodies == ["one"]


async def test_without_an_endpoint_it_is_handed_to_the_hub_that_runs_it(
    stand_in: StandInJournal, config: Config, tmp_path: Path
) -> None:
    def picky(batch: Batch) -> Outcome:
        if b"bad" in batch.payload:
            raise MalformedPayloadError("no request")
        return ACCEPTED

    consumer = Collecting(picky)
    settings = config(stand_in, endpoint=None)
    stand_in.write(entry("one"), entry("bad"), entry("two"))
    emitter = Emitter(settings, consumer, tmp_path / "state", follow=False)
    assert await emitter.run()
    assert (emitter.sender.accepted, emitter.sender.refused) == (2, 1)
    consumer.batches.clear()
    assert await Emitter(settings, consumer, tmp_path / "state", follow=False).run()
    assert not consumer.batches, "what is done with is not read again"


async def test_a_hub_that_is_full_is_given_it_again(stand_in: StandInJournal, config: Config, tmp_path: Path) -> None:
    full = [OverloadedError("full", 0)] * 2

    def answer(_: Batch) -> Outcome:
        if full:
            raise full.pop()
        return ACCEPTED

    consumer = Collecting(answer)
    stand_in.write(entry("one"))
    assert await Emitter(config(stand_in, endpoint=None), consumer, tmp_path / "state", follow=False).run()
    assert (consumer.asked, len(consumer.batches)) == (3, 1)
