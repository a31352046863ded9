"""``obs-hub store copy`` of an embedded store: while its hub runs, to the end, and into another data directory."""

from __future__ import annotations

from pathlib import Path

from tests.integration.cli.processes import Hubs, config_text, obs_hub


def test_a_hub_moves_to_another_data_directory(hubs_to_start: Hubs, tmp_path: Path) -> None:
    hub = hubs_to_start.start(config_text()).until_ready()
    sent = obs_hub("send", "event", "order.placed", "--body", '{"total": 12.5}', "--data-dir", hub.data_dir)
    assert sent.returncode == 0, sent.stderr
    elsewhere = hubs_to_start.folder / "elsewhere" / "data"
    copy = ("store", "copy", "--data-dir", hub.data_dir, "--to-data-dir", elsewhere)

    refused = obs_hub(*copy)
    assert refused.returncode == 1
    assert "Stop it first; or copy what there is with --while-running" in refused.stderr
    assert not elsewhere.exists()
    ahead = obs_hub(*copy, "--while-running")
    assert ahead.returncode == 0, ahead.stderr
    assert "Not done: stop the gateways" in ahead.stdout
    hub.stop()

    done = obs_hub(*copy)
    assert done.returncode == 0, done.stderr
    assert "going on with a copy that was broken off" in done.stderr
    assert "The store is copied" in done.stdout
    moved = hubs_to_start.start(config_text(), name="elsewhere").until_ready()
    total = "SELECT body ->> 'total' FROM events WHERE name = 'order.placed'"
    found = obs_hub("query", total, "--csv", "--data-dir", moved.data_dir)
    assert found.stdout.split() == ["?column?", "12.5"], found.stderr


def test_where_there_is_no_store(tmp_path: Path) -> None:
    result = obs_hub("store", "copy", "--data-dir", tmp_path / "none", "--to-data-dir", tmp_path / "other")
    assert result.returncode == 1
    assert "there is no store in" in result.stderr
    assert not (tmp_path / "other").exists()
