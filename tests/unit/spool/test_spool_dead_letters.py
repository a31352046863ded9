"""Dead letters: kept whole, with the reason, once."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

import pytest

from gateway.component import Batch, Signal
from gateway.files.ownership import DirectoryInUseError
from gateway.pipeline.dead_letters import DeadLetters, Usage
from tests.unit.spool.conftest import batch


@pytest.fixture
def letters(tmp_path: Path) -> DeadLetters:
    return DeadLetters(tmp_path / "dead-letter" / "timescale")


def test_a_letter_holds_the_batch_as_it_came_and_why_it_was_refused(letters: DeadLetters) -> None:
    refused = Batch.of(Signal.TRACES, os.urandom(1000))
    letter = letters.keep(refused, "it breaks a constraint")
    (found,) = letters
    assert found == letter
    assert (found.signal, found.reason, found.size) == (Signal.TRACES, "it breaks a constraint", 1000)
    assert letters.batch(found) == refused


def test_the_same_batch_twice_is_one_letter_with_the_latest_reason(letters: DeadLetters) -> None:
    refused = batch(1)
    letters.keep(refused, "first")
    letters.keep(refused, "second")
    assert [letter.reason for letter in letters] == ["second"]


def test_letters_are_listed_oldest_first_and_found_by_the_beginning_of_the_name(letters: DeadLetters) -> None:
    kept = [letters.keep(batch(number), "no") for number in range(3)]
    assert list(letters) == sorted(kept, key=lambda letter: letter.received_at)
    assert letters.find(kept[1].name) == kept[1]
    assert letters.find("0") is None, "more than one begins so"
    assert letters.find("x") is None


def test_a_dropped_letter_leaves_nothing(letters: DeadLetters) -> None:
    letters.drop(letters.keep(batch(1), "no"))
    assert list(letters) == []
    assert list(letters.directory.iterdir()) == []


def test_no_folder_is_no_letters(letters: DeadLetters) -> None:
    assert list(letters) == []
    assert letters.find("a") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b'{"signal": "smells"}', b"\xff"])
def test_what_is_no_letter_is_passed_over(letters: DeadLetters, content: bytes) -> None:
    kept = letters.keep(batch(1), "no")
    (letters.directory / "stray.json").write_bytes(content)
    assert list(letters) == [kept]


def test_a_payload_that_a_crash_left_without_its_reason_is_no_letter_and_is_completed_by_the_next_try(
    letters: DeadLetters,
) -> None:
    refused = batch(1)
    letter = letters.keep(refused, "no")
    (letters.directory / f"{letter.name}.json").unlink()
    assert list(letters) == []
    letters.keep(refused, "no")
    assert len(list(letters)) == 1


@pytest.mark.parametrize(("age", "left"), [(0, 4), (7200, 2)])
def test_halves_of_letters_are_removed_once_nobody_can_be_writing_them(
    letters: DeadLetters, age: float, left: int
) -> None:
    refused = batch(1)
    letter = letters.keep(refused, "no")
    (letters.directory / "half.otlp").write_bytes(b"x")
    (letters.directory / "other.json.new").write_bytes(b"x")
    for path in letters.directory.iterdir():
        os.utime(path, (time.time() - age,) * 2)
    letters.tidy()
    assert list(letters) == [letter]
    assert letters.batch(letter) == refused
    assert len(list(letters.directory.iterdir())) == left


def test_there_is_room_for_so_much_and_no_more(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path / "letters", max_size=5 * 8192)
    kept = [letters.keep(batch(number), "no") for number in range(5)]
    with pytest.raises(OSError, match=r"5 already, of 40960 bytes.*dead_letters.max_size.*replay or drop") as caught:
        letters.keep(batch(9), "no")
    assert caught.value.errno == errno.ENOSPC
    assert len(list(letters)) == 5
    DeadLetters(letters.directory).drop(kept[0])  # as the command line does, in another process
    letters.keep(batch(9), "no")
    assert len(list(letters)) == 5


def test_what_an_earlier_run_kept_counts(tmp_path: Path) -> None:
    DeadLetters(tmp_path).keep(batch(1, size=10_000), "no")
    assert DeadLetters(tmp_path).usage() == Usage(count=1, size=4 * 4096)
    with pytest.raises(OSError, match="1 already"):
        DeadLetters(tmp_path, max_size=20_000).keep(batch(2), "no")


def test_a_letter_is_on_the_disk_when_it_counts_as_kept(letters: DeadLetters, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int | str] = []

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append("directory" if stat.S_ISDIR(status.st_mode) else status.st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    letter = letters.keep(Batch.of(Signal.LOGS, b"x" * 1000), "no")
    about = (letters.directory / f"{letter.name}.json").stat().st_size
    assert synced == [1000, "directory", about, "directory"]


def test_half_a_letter_is_not_left_on_a_full_disk(letters: DeadLetters, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        letters.keep(batch(1), "no")
    assert list(letters.directory.iterdir()) == []


def test_nobody_changes_the_letters_while_another_process_does(
    letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A letter that is dropped while the same batch is kept again would lose its payload."""
    monkeypatch.setattr("gateway.pipeline.dead_letters._PATIENCE", 0)
    letter = letters.keep(batch(1), "no")
    with DeadLetters(letters.directory)._owned():
        with pytest.raises(DirectoryInUseError):
            letters.keep(batch(2), "no")
        with pytest.raises(DirectoryInUseError):
            letters.drop(letter)
        letters.tidy()
    assert list(letters) == [letter]
    letters.drop(letter)
    letters.keep(batch(2), "no")
    assert len(list(letters)) == 1
