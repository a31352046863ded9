"""What ``obs-hub spool status`` shows of who holds a spool, and of what it lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.base.settings import SpoolSettings
from gateway.cli.spool import spool as command
from gateway.config import Config
from gateway.data_paths import spool_directory
from gateway.pipeline.spool import Spool, segments
from tests.support.logged import Logged
from tests.unit.spool.conftest import batch, everything


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path


async def with_batches(directory: Path, count: int) -> Spool:
    """An open spool with a segment for each batch."""
    spool = Spool(directory, SpoolSettings().model_copy(update={"segment_size": 1}))
    await spool.open()
    for number in range(count):
        await spool.append(batch(number))
    return spool


def shown(data_dir: Path) -> list[str]:
    result = CliRunner().invoke(command, ["status", "--data-dir", str(data_dir)])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


async def test_who_holds_a_spool_is_shown(data_dir: Path) -> None:
    spool = await with_batches(spool_directory(data_dir, "timescale") / "0", 1)
    assert shown(data_dir) == [f"timescale/0: {spool.size:,} bytes in 1 segments, held by process {os.getpid()}"]
    await spool.close()
    assert shown(data_dir) == [f"timescale/0: {spool.size:,} bytes in 1 segments"]


async def test_what_is_missing_is_shown_before_a_hub_has_found_it_and_for_as_long_as_its_file_is_there(
    data_dir: Path,
) -> None:
    directory = spool_directory(data_dir, "timescale") / "0"
    await (await with_batches(directory, 4)).close()
    segments(directory)[1].unlink()
    os.truncate(segments(directory)[0], 13)
    missing = "  lost: 0000000000000002.segment: the segment is missing"
    assert shown(data_dir)[1:] == [missing], "the segment behind it, which knew its length, is gone"
    spool = await with_batches(directory, 0)
    await everything(spool)
    await spool.close()
    head, *lost = shown(data_dir)
    assert head == "timescale/0: 0 bytes in 0 segments"
    assert len(lost) == 1
    assert lost[0].startswith(f"{missing} (found 2")
    (directory / "losses").unlink()
    assert shown(data_dir) == [head]


async def test_segments_that_cannot_be_removed_are_shown_and_count_for_nothing(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = spool_directory(data_dir, "timescale") / "0"
    spool = await with_batches(directory, 3)

    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuses)
        await everything(spool)
        await spool.close()
    assert shown(data_dir) == [
        "timescale/0: 0 bytes in 0 segments",
        f"  3 segments were delivered and are still in {directory}; if they stay, the log says why",
    ]


@pytest.mark.parametrize("exporter", ["elsewhere", "timescale"])
async def test_what_no_exporter_takes_is_told_at_the_start(data_dir: Path, logged: Logged, exporter: str) -> None:
    from gateway.assembly import warn_of_spools_without_exporter
    from gateway.config import load

    await (await with_batches(spool_directory(data_dir, exporter) / "0", 1)).close()
    config: Config = load(None)
    warn_of_spools_without_exporter(config, data_dir)
    told = [(entry["exporter"], entry["bytes"]) for entry in logged.of("a spool holds batches for an exporter")]
    assert told == ([("elsewhere", 60)] if exporter == "elsewhere" else [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
async def test_what_root_drains_stays_with_the_user_whose_spool_it_is(data_dir: Path) -> None:
    directory = spool_directory(data_dir, "timescale") / "0"
    directory.mkdir(parents=True)
    os.chown(directory, 12345, 12345)
    await (await with_batches(directory, 3)).close()
    segments(directory)[1].unlink()
    spool = await with_batches(directory, 0)
    await everything(spool)
    await spool.close()
    assert {path.name: path.stat().st_uid for path in directory.iterdir()} == dict.fromkeys(
        ("lock", "cursor", "losses"), 12345
    )
