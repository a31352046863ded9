"""What somebody plants under the names that spools and dead letters write to is not written through."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.pipeline.dead_letters import DeadLetters
from gateway.pipeline.spool import removals
from gateway.pipeline.spool.dropped import Dropped, note_dropped
from gateway.pipeline.spool.position import Position, write_position
from gateway.runs import hub_id
from tests.unit.spool.conftest import batch

BATCH = batch(1)


def keep_a_letter(directory: Path) -> None:
    DeadLetters(directory).keep(BATCH, "bad")


def drop_by_hand(directory: Path) -> None:
    removals.ask(directory, [BATCH])


def note_the_position(directory: Path) -> None:
    write_position(directory, Position(1, 0, None, frozenset()), durable=False)


def note_what_was_dropped(directory: Path) -> None:
    note_dropped(directory, Dropped(), [BATCH])


def make_an_identity(directory: Path) -> None:
    hub_id.holder(directory)


def plant_pipe(path: Path, victim: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    "plant", [Path.symlink_to, Path.hardlink_to, plant_pipe], ids=["symbolic link", "hard link", "pipe"]
)
@pytest.mark.parametrize(
    "write", [keep_a_letter, drop_by_hand, note_the_position, note_what_was_dropped, make_an_identity]
)
def test_what_is_planted_is_not_written_through(
    write: Callable[[Path], None], plant: Callable[[Path, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write to the directory would have the hub, or root who runs a command of it, write elsewhere."""
    victim, first, second = (tmp_path / name for name in ("victim", "first", "second"))
    victim.write_text("precious")
    opened: set[str] = set()
    real = os.open

    def noted(path: object, *arguments: int, **others: int) -> int:
        opened.add(Path(str(path)).name)
        return real(path, *arguments, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", noted)
    first.mkdir()
    write(first)
    second.mkdir()
    names = {name for name in opened if name.endswith(".new") or name.startswith("hub.id.")}
    assert names
    for name in names:
        plant(second / name, victim)
    write(second)
    assert victim.read_text() == "precious"
    assert len(list(first.iterdir())) <= len(list(second.iterdir()))
    assert all(path.is_file() and not path.is_symlink() for path in second.iterdir() if path.name not in names)
