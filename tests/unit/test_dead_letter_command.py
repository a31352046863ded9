"""``obs-hub dead-letter`` where there are none: it says so, and where it looked."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main


def run(command: str, data_dir: Path) -> Result:
    words = ["dead-letter", *command.split(), "--data-dir", str(data_dir)]
    return CliRunner().invoke(main, words, env={"OBSHUB_CONFIG": ""})


@pytest.mark.parametrize("command", ["list", "replay", "replay --all", "drop", "drop --all"])
def test_without_dead_letters_there_is_nothing_to_do(tmp_path: Path, command: str) -> None:
    done = run(command, tmp_path)
    assert (done.exit_code, done.output) == (0, f"There are no dead letters. The data directory is {tmp_path}.\n")


@pytest.mark.parametrize("command", ["show 7f3a", "replay 7f3a", "drop 7f3a"])
def test_one_that_is_named_cannot_be_among_none(tmp_path: Path, command: str) -> None:
    done = run(command, tmp_path)
    assert done.exit_code == 1
    assert "There are no dead letters." in done.output
