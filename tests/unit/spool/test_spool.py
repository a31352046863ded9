"""The spool: what it took is on disk, comes back in order, and survives what happens to disks."""

# ruff: noqa: ASYNC240 - tests may block

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.component import UnavailableError
from gateway.component.errors import OverloadedError
from gateway.pipeline.spool import segments, status
from gateway.pipeline.spool.segment import HEADER_SIZE, record_size
from tests.support.logged import Logged
from tests.support.waiting import PATIENCE
from tests.unit.spool.conftest import OpenSpool, batch, everything

KIB = 2**10


def fail(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


# -- order and durability ----------------------------------------------------------------------------------------------


async def test_batches_come_back_in_the_order_they_were_appended(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    sent = [batch(number) for number in range(50)]
    for each in sent[:25]:
        await spool.append(each)
    await asyncio.gather(*map(spool.append, sent[25:]))
    assert await everything(spool, most_bytes=100) == sent
    assert spool.empty


async def test_everything_acknowledged_is_there_after_a_kill(open_spool: OpenSpool) -> None:
    sent = [batch(number, 50 * KIB) for number in range(12)]
    killed = await open_spool(segment_size=128 * KIB)
    for each in sent:
        await killed.append(each)
    assert await everything(await open_spool()) == sent


async def test_what_was_taken_before_a_kill_is_not_read_again_but_for_the_last(open_spool: OpenSpool) -> None:
    sent = [batch(number, 100) for number in range(10)]
    killed = await open_spool()
    await asyncio.gather(*map(killed.append, sent))
    for _ in range(4):
        _, took = await killed.read(100)
        took()
        await killed.trim()
    _, took = await killed.read(100)
    took()  # and killed before the trim: read again, never too few
    assert await everything(await open_spool()) == sent[4:]


async def test_a_clean_end_leaves_nothing_of_what_was_taken(open_spool: OpenSpool, directory: Path) -> None:
    spool = await open_spool()
    await spool.append(batch(1))
    _, took = await spool.read(1)
    took()
    await spool.close()
    assert segments(directory) == []


async def test_appends_that_wait_together_share_one_fsync(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await open_spool()
    await spool.append(batch(0))
    calls = 0
    real = os.fdatasync

    def counted(file: int) -> None:
        nonlocal calls
        calls += 1
        real(file)

    monkeypatch.setattr(os, "fdatasync", counted)
    await asyncio.gather(*(spool.append(batch(number)) for number in range(1, 101)))
    assert calls == 1
    assert len(await everything(spool)) == 101


async def test_an_append_returns_after_its_fsync_and_not_before(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await open_spool()
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    await spool.append(batch(1))
    assert len(synced) == 1


async def test_fsync_never_leaves_it_to_the_operating_system(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fdatasync", lambda _: pytest.fail("fsync was called"))
    spool = await open_spool(fsync="never")
    await spool.append(batch(1))
    assert len(await everything(spool)) == 1


async def test_a_client_that_gives_up_does_not_take_its_batch_back(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    task = asyncio.create_task(spool.append(batch(1)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await spool.append(batch(2))
    assert len(await everything(spool)) == 2


async def test_space_is_given_back_when_batches_are_taken(open_spool: OpenSpool, directory: Path) -> None:
    spool = await open_spool(segment_size=64 * KIB)
    for number in range(20):
        await spool.append(batch(number, 20 * KIB))
    assert len(segments(directory)) > 5
    heads = (len(segments(directory)) - 1) * HEADER_SIZE
    assert spool.size == status(directory).size == 20 * (20 * KIB + HEADER_SIZE) + heads
    half, took = await spool.read(1)
    took()
    before = status(directory).size
    while len(half) < 10:
        more, took = await spool.read(1)
        half += more
        took()
    await spool.trim()
    assert status(directory).size <= before - 5 * 20 * KIB
    await everything(spool)
    assert (spool.size, status(directory).size, segments(directory)) == (0, 0, [])


# -- bounds ------------------------------------------------------------------------------------------------------------


async def test_a_full_spool_refuses_and_takes_again_when_it_has_been_read(open_spool: OpenSpool) -> None:
    spool = await open_spool(max_size="1MiB")
    for number in range(10):
        await spool.append(batch(number, 100 * KIB))
    with pytest.raises(OverloadedError, match="at most 1048576"):
        await spool.append(batch(10, 100 * KIB))
    assert len(await everything(spool)) == 10
    await spool.append(batch(100, 100 * KIB))


async def test_appends_side_by_side_do_not_get_past_the_bound(open_spool: OpenSpool, directory: Path) -> None:
    spool = await open_spool(max_size="1MiB")
    results = await asyncio.gather(
        *(spool.append(batch(number, 100 * KIB)) for number in range(50)), return_exceptions=True
    )
    assert results.count(None) == 10
    assert all(isinstance(one, OverloadedError) for one in results if one is not None)
    assert status(directory).size <= 2**20
    assert len(await everything(spool)) == 10


# -- disks that fail ---------------------------------------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """While the list holds a number, that many more bytes are written, then the disk is full."""
    room: list[int] = []
    real = os.write

    def write(file: int, data: bytes) -> int:
        if not room:
            return real(file, data)
        if room[0] <= 0:
            raise fail(errno.ENOSPC)
        written = real(file, bytes(data[: room[0]]))
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", write)
    yield room
    monkeypatch.undo()


@pytest.mark.parametrize("room", [0, 1, HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + 5, 2 * HEADER_SIZE + 30])
async def test_a_disk_that_fills_up_in_the_middle_of_a_write_costs_nothing_acknowledged(
    open_spool: OpenSpool, full_disk: list[int], room: int
) -> None:
    spool = await open_spool()
    await spool.append(batch(1))
    full_disk.append(room)
    results = await asyncio.gather(spool.append(batch(2)), spool.append(batch(3)), return_exceptions=True)
    assert [type(one) for one in results] == [UnavailableError] * 2
    assert "No space left" in str(results[0])
    assert spool.size == record_size(batch(1))
    full_disk.clear()
    await spool.append(batch(4))
    assert [each.digest for each in await everything(await open_spool())] == [batch(1).digest, batch(4).digest]


async def test_a_full_disk_and_a_kill_lose_nothing_acknowledged_even_if_the_rest_cannot_be_cut_off(
    open_spool: OpenSpool, full_disk: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await open_spool()
    await spool.append(batch(1))

    def no_cutting(*_: object) -> None:
        raise fail(errno.EIO)

    monkeypatch.setattr(os, "ftruncate", no_cutting)
    full_disk.append(HEADER_SIZE + 3)
    with pytest.raises(UnavailableError):
        await spool.append(batch(2))
    full_disk.clear()
    await spool.append(batch(3))
    after_kill = await open_spool()
    assert [each.digest for each in await everything(after_kill)] == [batch(1).digest, batch(3).digest]
    assert after_kill.damaged == 0


async def test_an_fsync_that_fails_is_no_ok_and_the_next_append_uses_another_file(
    open_spool: OpenSpool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await open_spool()
    await spool.append(batch(1))

    def failing(_: int) -> None:
        raise fail(errno.EIO)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        with pytest.raises(UnavailableError, match="Input/output error"):
            await spool.append(batch(2))
    await spool.append(batch(3))
    assert len(segments(directory)) == 2
    assert [each.digest for each in await everything(spool)] == [batch(1).digest, batch(3).digest]


async def test_an_unexpected_error_reaches_those_who_wait(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await open_spool()
    with monkeypatch.context() as patch:
        patch.setattr(spool, "_write", lambda _: 1 / 0)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(UnavailableError):
                await spool.append(batch(1))
    await spool.append(batch(2))
    assert len(await everything(spool)) == 1


async def test_an_append_after_the_end_is_refused_rather_than_kept_waiting(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    await spool.close()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(UnavailableError):
            await spool.append(batch(1))


async def test_a_directory_that_cannot_be_written_refuses_until_it_can(
    open_spool: OpenSpool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def read_only(path: os.PathLike[str], flags: int, *rest: int) -> int:
        if flags & os.O_CREAT:
            raise fail(errno.EROFS)
        return real(path, flags, *rest)

    spool = await open_spool()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        with pytest.raises(UnavailableError, match="Read-only file system"):
            await spool.append(batch(1))
        assert (spool.size, spool.empty) == (0, True)
    await spool.append(batch(2))
    assert len(await everything(spool)) == 1


async def test_a_file_where_the_directory_should_be_refuses_until_it_is_gone(
    open_spool: OpenSpool, directory: Path
) -> None:
    directory.write_text("in the way")
    spool = await open_spool()
    with pytest.raises(UnavailableError):
        await spool.append(batch(1))
    directory.unlink()
    await spool.append(batch(2))
    assert len(await everything(spool)) == 1


async def test_a_directory_that_could_not_be_read_at_the_start_gives_up_what_it_holds_later(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await open_spool()).append(batch(1))

    def unreadable(_: Path) -> Iterator[Path]:
        raise fail(errno.EIO)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", unreadable)
        spool = await open_spool()
        assert spool.empty
    await spool.append(batch(2))
    assert [each.digest for each in await everything(spool)] == [batch(1).digest, batch(2).digest]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.ENOMEM])
async def test_a_segment_that_cannot_be_opened_at_the_moment_is_read_later_and_not_given_up(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    spool = await open_spool()
    await spool.append(batch(1))

    def refuses(*_: object) -> None:
        raise fail(number)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuses)
        with pytest.raises(UnavailableError, match="cannot be read"):
            await spool.read(1)
    assert len(await everything(spool)) == 1
    assert spool.damaged == 0


async def test_a_segment_that_the_disk_cannot_read_any_more_is_set_aside_and_the_others_are_delivered(
    open_spool: OpenSpool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await open_spool()).append(batch(1))
    await (await open_spool()).append(batch(2))
    spool = await open_spool()
    first = segments(directory)[0]
    real = Path.open

    def broken_sector(path: Path, *rest: object) -> object:
        if path == first:
            raise fail(errno.EIO)
        return real(path, *rest)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", broken_sector)
    assert [each.digest for each in await everything(spool)] == [batch(2).digest]
    assert spool.damaged == 1
    assert (directory / "damaged" / first.name).exists()


async def test_a_directory_that_is_removed_is_made_again_and_the_loss_is_reported(
    open_spool: OpenSpool, directory: Path, logged: Logged
) -> None:
    spool = await open_spool()
    await spool.append(batch(1))
    shutil.rmtree(directory)
    await spool.append(batch(2))
    assert [each.digest for each in await everything(spool)] == [batch(2).digest]
    assert spool.damaged == 1
    assert "was removed" in logged.text


async def test_a_segment_that_somebody_cut_short_is_reported(
    open_spool: OpenSpool, directory: Path, logged: Logged
) -> None:
    spool = await open_spool()
    await spool.append(batch(1))
    await spool.append(batch(2))
    os.truncate(segments(directory)[0], record_size(batch(1)))
    assert len(await everything(spool)) == 1
    assert spool.damaged == 1
    assert "shorter than what was written" in logged.text


# -- damage ------------------------------------------------------------------------------------------------------------


async def test_a_damaged_record_is_set_aside_counted_once_and_the_others_are_delivered(
    open_spool: OpenSpool, directory: Path, logged: Logged
) -> None:
    size = record_size(batch(0))
    first = await open_spool()
    for number in range(5):
        await first.append(batch(number))
    await first.close()
    (path,) = segments(directory)
    content = bytearray(path.read_bytes())
    content[2 * size + HEADER_SIZE] ^= 0xFF
    path.write_bytes(content)
    spool = await open_spool()
    for _ in range(3):  # read, not taken, read again: as when the destination is still away
        batches, _ = await spool.read(2**20)
        assert len(batches) == 4
    assert len(await everything(spool)) == 4
    assert spool.damaged == 1
    (aside,) = (directory / "damaged").iterdir()
    assert aside.read_bytes() == content[2 * size : 3 * size]
    assert logged.text.count("damaged and set aside") == 1


@pytest.mark.parametrize("cut", range(1, HEADER_SIZE + 20, 7))
async def test_a_torn_end_is_cut_off_without_alarm(
    open_spool: OpenSpool, directory: Path, cut: int, logged: Logged
) -> None:
    killed = await open_spool()
    await killed.append(batch(1))
    await killed.append(batch(2))
    path = segments(directory)[0]
    os.truncate(path, path.stat().st_size - cut)
    spool = await open_spool()
    await spool.append(batch(3))
    assert [each.digest for each in await everything(spool)] == [batch(1).digest, batch(3).digest]
    assert spool.damaged == 0
    assert segments(directory) == []
    assert not [entry for entry in logged.entries if entry["log_level"] == "error"]


async def test_a_segment_of_nothing_but_garbage_does_not_stop_the_others(
    open_spool: OpenSpool, directory: Path
) -> None:
    directory.mkdir()
    (directory / f"{1:016d}.segment").write_bytes(os.urandom(5000))
    (directory / f"{2:016d}.segment").write_bytes(b"")
    (directory / "notes.segment").write_text("not ours")
    spool = await open_spool()
    await spool.append(batch(1))
    assert len(await everything(spool)) == 1
    assert spool.empty


# -- the cursor --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 40,
        b"garbage",
        b"0000000000000001.segment -7\n",
        b"0000000000000001.segment 13\n",
        b"0000000000000001.segment 99999999\n",
        b"0000000000000009.segment 60\n",
        "größer 5".encode(),
    ],
)
async def test_a_lost_or_wrong_cursor_makes_batches_be_read_again_never_skipped(
    open_spool: OpenSpool, directory: Path, content: bytes
) -> None:
    killed = await open_spool()
    for number in range(3):
        await killed.append(batch(number))
    (directory / "cursor").write_bytes(content)
    assert len(await everything(await open_spool())) == 3


async def test_a_cursor_that_outlived_its_segment_does_not_count_for_a_new_one(
    open_spool: OpenSpool, directory: Path
) -> None:
    directory.mkdir()
    (directory / "cursor").write_text(f"{1:016d}.segment {record_size(batch(1))}\n")
    killed = await open_spool()
    await killed.append(batch(1))
    await killed.append(batch(2))
    assert [each.digest for each in await everything(await open_spool())] == [batch(1).digest, batch(2).digest]
