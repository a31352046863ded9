"""``obs-hub db backup`` and ``restore`` with the embedded store: from one machine to another."""

from __future__ import annotations

from pathlib import Path

from tests.integration.cli.processes import Hubs, config_text, obs_hub


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
    for more in ([], ["--replace"]):
        done = obs_hub("db", "restore", file, *more, "--data-dir", elsewhere)
        assert done.returncode == 0, done.stderr
    hub = hubs_to_start.start(config_text(), name="elsewhere").until_ready()
    found = obs_hub("query", "SELECT body ->> 'total' FROM events WHERE name = 'order.placed'", "--csv",
                    "--data-dir", hub.data_dir)  # fmt: skip
    assert found.stdout.split() == ["?column?", "12.5"]
    again = obs_hub("send", "event", "order.placed", "--data-dir", hub.data_dir)
    assert again.returncode == 0, again.stderr


def test_where_there_is_no_store(tmp_path: Path) -> None:
    result = obs_hub("db", "backup", "--data-dir", tmp_path / "none")
    assert result.returncode == 1
    assert "there is no store in" in result.stderr
    assert not (tmp_path / "none").exists()
