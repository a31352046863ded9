import os
import stat
from pathlib import Path

import pytest

from gateway.files.durability import replace_file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_as_a_whole_with_the_mode_that_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before")
    with file.open() as reader:
        replace_file(file, b"after", mode=0o644)
        assert reader.read() == "before"
    assert file.read_bytes() == b"after"
    assert mode(file) == 0o644
    assert list(tmp_path.iterdir()) == [file]


def test_planted_links_are_not_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").symlink_to(victim)
    (folder / ".file.aaaa.new").symlink_to(victim)
    (folder / ".file.new").symlink_to(victim)
    names = iter(["aaaa", "bbbb"])
    monkeypatch.setattr("secrets.token_hex", lambda length: next(names))
    replace_file(folder / "file", b"new")
    assert victim.read_text() == "precious"
    assert not (folder / "file").is_symlink()
    assert (folder / "file").read_bytes() == b"new"


def test_what_fails_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before")

    def fail(_: int) -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        replace_file(file, b"after", before=fail)
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_killed_process_left_is_taken_away_and_nothing_else(tmp_path: Path) -> None:
    old, fresh, other = (tmp_path / name for name in (".file.1a2b.new", ".file.3c4d.new", ".other.1a2b.new"))
    for each in (old, fresh, other):
        each.touch()
    for each in (old, other):
        os.utime(each, (0, 0))
    replace_file(tmp_path / "file", b"")
    assert {path.name for path in tmp_path.iterdir()} == {"file", fresh.name, other.name}
