"""``obs-hub spool drop``: what an operator gives up is named, confirmed and passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.base.settings import SpoolSettings
from gateway.cli import main
from gateway.data_paths import spool_directory
from gateway.pipeline.spool import Spool, removals
from tests.unit.spool.conftest import batch


@pytest.fixture
async def data_dir(tmp_path: Path) -> Path:
    """A data directory in which batches 0 and 1 wait for Loki, and batch 2 for the store."""
    for exporter, numbers in (("loki", (0, 1)), ("timescale", (2,))):
        waiting = Spool(spool_directory(tmp_path, exporter) / "0", SpoolSettings())
        await waiting.open()
        for number in numbers:
            await waiting.append(batch(number))
        await waiting.close()
    return tmp_path


def run(data_dir: Path, *words: str, answer: str = "") -> Result:
    return CliRunner().invoke(main, ["spool", *words, "--data-dir", str(data_dir)], input=answer)


def to_be_dropped(data_dir: Path) -> list[str]:
    lines = run(data_dir, "list").output.splitlines()
    return [line.split()[5] for line in lines if line.endswith("to be dropped")]


def test_one_batch_by_its_digest(data_dir: Path) -> None:
    digest = batch(1).digest.hex()
    result = run(data_dir, "drop", digest[:8], answer="y\n")
    assert result.exit_code == 0, result.output
    assert "Drop 1 batches of 20 bytes?" in result.output
    assert to_be_dropped(data_dir) == [digest]


def test_nothing_is_dropped_without_a_yes(data_dir: Path) -> None:
    assert run(data_dir, "drop", "--all", answer="n\n").exit_code == 1
    assert to_be_dropped(data_dir) == []


def test_all_of_one_exporter(data_dir: Path) -> None:
    assert run(data_dir, "drop", "--exporter", "loki", "--yes").exit_code == 0
    assert sorted(to_be_dropped(data_dir)) == sorted(batch(number).digest.hex() for number in (0, 1))
    assert not removals.wanted(spool_directory(data_dir, "timescale") / "0")


def test_all(data_dir: Path) -> None:
    assert "3 batches of 60 bytes" in run(data_dir, "drop", "--all", "--yes").output
    assert len(to_be_dropped(data_dir)) == 3
    assert "Nothing waits there." in run(data_dir, "drop", "--exporter", "otlp", "--yes").output


@pytest.mark.parametrize("digest", ["", "zz"])
def test_a_digest_that_names_none_or_several_drops_nothing(data_dir: Path, digest: str) -> None:
    assert run(data_dir, "drop", digest, "--yes").exit_code == 1
    assert to_be_dropped(data_dir) == []


@pytest.mark.parametrize("words", [[], ["--all", "--exporter", "loki"], ["abc", "--all"]])
def test_what_is_to_be_dropped_is_said_in_one_way(data_dir: Path, words: list[str]) -> None:
    assert run(data_dir, "drop", *words).exit_code == 2


def test_a_spool_that_nothing_waits_in_says_so_and_where_it_looked(tmp_path: Path) -> None:
    listed = run(tmp_path, "list")
    assert (listed.exit_code, listed.stdout) == (0, "")
    assert "Nothing waits in any spool." in listed.stderr
    assert str(tmp_path) in listed.stderr


def test_an_exporter_that_has_no_spool_is_said_to_have_none(data_dir: Path) -> None:
    said = run(data_dir, "drop", "--exporter", "lokki", "--yes").output
    assert "No exporter lokki has a spool; did you mean 'loki'?" in said
