"""What a spool lost is known, counted once, and there to be seen later."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.pipeline.spool import Spool, find, segments, status
from gateway.pipeline.spool.segment import HEADER_SIZE, MARK, record_size
from tests.support.logged import Logged
from tests.unit.spool.conftest import OpenSpool, batch, everything

SIZE = record_size(batch(0))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
async def five_segments(open_spool: OpenSpool, directory: Path) -> list[Path]:
    """What a gateway that was killed again and again left: two batches in each segment."""
    for number in range(5):
        spool = await open_spool()
        await spool.append(batch(2 * number))
        await spool.append(batch(2 * number + 1))
    return segments(directory)


async def numbers(spool: Spool) -> list[int]:
    return [int(each.payload[:8]) for each in await everything(spool)]


def losses(directory: Path) -> list[str]:
    return [f"{loss.place}: {loss.what}" for loss in status(directory).losses]


async def test_a_segment_missing_in_the_middle_is_told_at_the_start_and_once(
    open_spool: OpenSpool, directory: Path, five_segments: list[Path], logged: Logged
) -> None:
    five_segments[2].unlink()
    assert find(directory).losses == [(five_segments[2].name, "the segment is missing")]
    spool = await open_spool()
    assert spool.damaged == 1
    told = [(entry["place"], entry["loss"]) for entry in logged.of("the spool lost data")]
    assert told == [(five_segments[2].name, "the segment is missing")]
    assert losses(directory) == [f"{five_segments[2].name}: the segment is missing"]
    again = await open_spool()
    assert again.damaged == 0, "told already"
    assert await numbers(again) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert len(losses(directory)) == 1


async def test_the_first_to_be_read_is_missed_too(
    open_spool: OpenSpool, directory: Path, five_segments: list[Path]
) -> None:
    spool = await open_spool()
    for _ in range(2):
        _, took = await spool.read(1)
        took()
        await spool.trim()
    assert segments(directory) == five_segments[1:]
    await spool.close()
    five_segments[1].unlink()
    five_segments[2].unlink()
    after = await open_spool()
    assert after.damaged == 2
    assert await numbers(after) == [6, 7, 8, 9]


async def test_the_last_is_missed_when_it_was_there_at_a_clean_end(open_spool: OpenSpool, directory: Path) -> None:
    spool = await open_spool(segment_size="64KiB")
    for number in range(3):
        await spool.append(batch(number, 50_000))
    await spool.close()
    segments(directory)[-1].unlink()
    after = await open_spool()
    assert after.damaged == 1
    await after.append(batch(3))
    assert await numbers(after) == [0, 1, 3]
    assert losses(directory) == ["0000000000000003.segment: the segment is missing"]


@pytest.mark.parametrize("length", [0, 7, SIZE - 1, SIZE, SIZE + 1, SIZE + HEADER_SIZE, 2 * SIZE - 1])
async def test_a_segment_with_another_behind_it_that_is_cut_short_anywhere_is_told(
    open_spool: OpenSpool, directory: Path, five_segments: list[Path], length: int
) -> None:
    os.truncate(five_segments[0], length)
    spool = await open_spool()
    assert spool.damaged == 1
    assert losses(directory) == [
        f"{five_segments[0].name}: the segment is shorter than what was written to it, by {2 * SIZE - length} bytes"
    ]
    for _ in range(2):  # read, and not taken
        await spool.read(1)
    assert await numbers(spool) == [*range(length // SIZE), *range(2, 10)]
    assert spool.empty
    assert len(losses(directory)) == 1


async def test_a_last_segment_that_is_shorter_than_at_a_clean_end_is_told(
    open_spool: OpenSpool, directory: Path
) -> None:
    spool = await open_spool()
    await spool.append(batch(0))
    await spool.append(batch(1))
    await spool.close()
    os.truncate(segments(directory)[0], SIZE + 3)
    after = await open_spool()
    assert after.damaged == 1
    assert await numbers(after) == [0]


async def test_a_record_that_breaks_in_the_middle_is_written_down(
    open_spool: OpenSpool, directory: Path, five_segments: list[Path]
) -> None:
    content = bytearray(five_segments[0].read_bytes())
    content[HEADER_SIZE] ^= 0xFF
    five_segments[0].write_bytes(content)
    assert await numbers(await open_spool()) == list(range(1, 10))
    assert losses(directory) == [f"{five_segments[0].name} at 0: {SIZE} bytes are damaged and set aside"]


async def test_a_broken_end_with_another_segment_behind_it_is_no_torn_end(
    open_spool: OpenSpool, directory: Path, five_segments: list[Path]
) -> None:
    content = five_segments[0].read_bytes()
    five_segments[0].write_bytes(content[:SIZE] + bytes(SIZE))
    spool = await open_spool()
    assert await numbers(spool) == [0, *range(2, 10)]
    assert spool.damaged == 1


async def test_a_write_that_failed_leaves_no_gap_in_the_numbers(
    open_spool: OpenSpool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spool = await open_spool(segment_size="64KiB")
    for number in range(6):
        for name in ("write", "open"):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, full)
                with pytest.raises(Exception, match="No space left"):
                    await spool.append(batch(99, 70_000))
        await spool.append(batch(number, 70_000))
    after = await open_spool()
    assert await numbers(after) == list(range(6))
    assert (after.damaged, losses(directory)) == (0, [])


async def test_files_of_an_older_version_are_read_without_alarm(
    open_spool: OpenSpool, directory: Path, five_segments: list[Path]
) -> None:
    """They have no heads, a position of one line, and what a crash left at the end of a segment behind others."""
    for path in five_segments:
        path.write_bytes(path.read_bytes()[-2 * SIZE :] + MARK[:3])
    (directory / "cursor").write_text(f"{five_segments[0].name} {SIZE}\n")
    spool = await open_spool()
    assert await numbers(spool) == list(range(1, 10))
    assert spool.damaged == 0


# -- segments that cannot be removed -----------------------------------------------------------------------------------


@pytest.fixture
def unremovable() -> Iterator[Callable[[], None]]:
    """Segments cannot be removed, until the function is called."""
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".segment":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        real(path, missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        yield patch.undo


async def test_a_segment_that_cannot_be_removed_is_told_and_not_delivered_again(
    open_spool: OpenSpool,
    directory: Path,
    five_segments: list[Path],
    unremovable: Callable[[], None],
    logged: Logged,
) -> None:
    spool = await open_spool()
    assert len(await numbers(spool)) == 10
    assert spool.unremoved == 5
    told = [entry["reason"] for entry in logged.of("was delivered and cannot be removed")]
    assert told == 5 * ["Operation not permitted"]
    assert segments(directory) == five_segments
    its = status(directory)
    assert (its.size, its.segments, its.taken) == (0, 0, 5)

    after_kill = await open_spool()
    assert after_kill.empty
    await after_kill.append(batch(10))
    assert await numbers(after_kill) == [10]
    unremovable()
    await after_kill.open()
    assert (after_kill.unremoved, segments(directory), after_kill.damaged) == (0, [], 0)


@pytest.mark.usefixtures("unremovable")
async def test_when_neither_it_can_be_removed_nor_that_be_noted_the_log_says_what_that_means(
    open_spool: OpenSpool,
    five_segments: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    logged: Logged,
) -> None:
    spool = await open_spool()
    real = Path.replace

    def read_only(path: Path, target: Path) -> Path:
        if target.name == "cursor":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, target)

    monkeypatch.setattr(Path, "replace", read_only)
    assert len(await numbers(spool)) == 10
    assert "the next start delivers it again, should it still be there" in logged.text
    assert len(await numbers(await open_spool())) == 10
