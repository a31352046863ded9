"""``obs-hub db backup`` and ``restore`` with the embedded store: from one machine to another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gateway.embedded import binaries
from tests.integration.cli.processes import PATIENCE, ROOT, Hubs, config_text, environment, obs_hub, until
from tests.support.restores import stuck_pg_restore


def test_a_hub_is_backed_up_while_it_runs_and_goes_on_elsewhere(hubs_to_start: Hubs, tmp_path: Path) -> None:
    hub = hubs_to_start.start(config_text()).until_ready()
    sent = obs_hub("send", "event", "order.placed", "--body", '{"total": 12.5}', "--data-dir", hub.data_dir)
    assert sent.returncode == 0, sent.stderr
    made = obs_hub("db", "backup", "--output", tmp_path, "--data-dir", hub.data_dir)
    assert made.returncode == 0, made.stderr
    (file,) = tmp_path.glob("*.dump")
    assert made.stdout.startswith(str(file))

    refused = obs_hub("db", "restore", file, "--replace", "--data-dir", hub.data_dir)
    assert refused.returncode == 1
    assert "stop the gateways" in refused.stderr
    hub.stop()

    elsewhere = hubs_to_start.folder / "elsewhere" / "data"
    kill_half_way(tmp_path, "db", "restore", str(file), "--data-dir", str(elsewhere))
    for more in ([], ["--replace"]):
        done = obs_hub("db", "restore", file, *more, "--data-dir", elsewhere)
        assert done.returncode == 0, done.stderr
    hub = hubs_to_start.start(config_text(), name="elsewhere").until_ready()
    found = obs_hub("query", "SELECT body ->> 'total' FROM events WHERE name = 'order.placed'", "--csv",
                    "--data-dir", hub.data_dir)  # fmt: skip
    assert found.stdout.split() == ["?column?", "12.5"]
    again = obs_hub("send", "event", "order.placed", "--data-dir", hub.data_dir)
    assert again.returncode == 0, again.stderr


def kill_half_way(folder: Path, *command: str) -> None:
    """Begin a restore, and kill it when the tables are there and their indexes are not."""
    programs, pid = stuck_pg_restore(folder, binaries())
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", *command, "--bin-dir", str(programs)],
            cwd=ROOT, env=environment(), stderr=stderr,
        )  # fmt: skip
    try:
        until(lambda: pid.exists() or process.poll() is not None)
        assert process.poll() is None, (folder / "stderr").read_text()
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_where_there_is_no_store(tmp_path: Path) -> None:
    result = obs_hub("db", "backup", "--data-dir", tmp_path / "none")
    assert result.returncode == 1
    assert "there is no store in" in result.stderr
    assert not (tmp_path / "none").exists()
