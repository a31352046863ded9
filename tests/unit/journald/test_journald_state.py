"""The position on disk: it survives what happens to processes and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from receivers.journald.errors import JournalError
from receivers.journald.state import Pending, State


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    state = State(tmp_path / "deep" / "state")
    assert (state.cursor, state.pending) == (None, None)
    state.settle("s=1;i=1")
    state.intend(Pending("s=1;i=2", b"a\nb\0\xff", 2))
    state.close()

    again = State(tmp_path / "deep" / "state")
    assert (again.cursor, again.pending) == ("s=1;i=1", Pending("s=1;i=2", b"a\nb\0\xff", 2))
    again.settle("s=1;i=2")
    again.close()
    last = State(tmp_path / "deep" / "state")
    assert (last.cursor, last.pending) == ("s=1;i=2", None)
    last.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    state = State(tmp_path)
    with pytest.raises(JournalError, match="another process sends the journal"):
        State(tmp_path)
    state.close()
    State(tmp_path).close()


def test_a_directory_that_is_removed_is_made_again_and_one_that_is_another_s_is_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    state = State(directory)
    directory.rename(tmp_path / "away")
    state.settle("s=1;i=1")
    assert (directory / "position").exists()
    directory.rename(tmp_path / "further away")
    other = State(directory)
    with pytest.raises(OSError, match="still uses it"):
        state.settle("s=1;i=2")
    assert not (directory / "position").exists()
    other.close()
    state.settle("s=1;i=3")
    state.close()
    again = State(directory)
    assert again.cursor == "s=1;i=3"
    again.close()


def test_a_directory_that_cannot_be_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be kept in"):
        State(tmp_path / "file" / "state")


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    """At whichever byte it was cut: what is read is what was written, or nothing."""
    state = State(tmp_path)
    state.settle("s=1;i=1")
    state.intend(Pending("s=1;i=2", b"payload", 2))
    state.close()
    file = tmp_path / "position"
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        state = State(tmp_path)
        assert (state.cursor, state.pending) == (None, None)
        assert (tmp_path / "position.damaged").read_bytes() == whole[:length]
        state.close()


def test_without_a_directory_it_is_kept_in_memory() -> None:
    state = State(None)
    state.intend(Pending("s=1;i=2", b"payload", 2))
    state.settle("s=1;i=2")
    assert (state.file, state.cursor, state.pending) == (None, "s=1;i=2", None)
    state.close()
