"""``obs-hub journal``: a machine's logs, into a hub that is somewhere else."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import psycopg
import pytest
import yaml

from receivers.journald.state import State
from tests.integration.cli.processes import HubProcess, config_text, obs_hub
from tests.support.journals import StandInJournal, entry


@pytest.fixture
def journal(tmp_path: Path) -> StandInJournal:
    return StandInJournal(tmp_path / "journal")


def send(folder: Path, journal: StandInJournal, *options: object, **settings: Any) -> CompletedProcess[str]:
    """Run the command once, with a configuration that names the journal."""
    config = yaml.safe_load(config_text())
    config["receivers"]["journald"] = {"journalctl_path": journal.journalctl, **settings}
    config["service"]["pipelines"]["logs"]["receivers"].append("journald")
    (folder / "journal.yaml").write_text(yaml.safe_dump(config))
    place = ["--config", folder / "journal.yaml", "--data-dir", folder / "state", "--directory", journal.directory]
    return obs_hub("journal", "--once", *place, *options)


def stored(hub: HubProcess, name: str) -> list[Any]:
    with psycopg.connect(hub.dsn) as connection:
        query = "SELECT body, severity, attributes FROM logs WHERE service_name = %s ORDER BY time_unix_nano"
        return connection.execute(query, [name]).fetchall()


def test_each_line_is_sent_once(hub: HubProcess, journal: StandInJournal, tmp_path: Path) -> None:
    message = json.dumps({"msg": "GET /", "level": "error", "status": 500})
    journal.write(
        entry("started", _SYSTEMD_UNIT="shop.service"),
        entry(message, _SYSTEMD_UNIT="shop.service"),
        entry("other", _SYSTEMD_UNIT="other.service"),
    )
    options = ["--endpoint", f"http://{hub.grpc}", "--start-at", "beginning", "--unit", "shop", "--unit", "none-*"]
    for _ in range(2):
        result = send(tmp_path, journal, *options)
        assert result.returncode == 0, result.stderr
    (told,) = [line for line in map(json.loads, result.stderr.splitlines()) if line["event"] == "the journal was sent"]
    assert (told["sent"], told["refused"], told["unreadable"]) == (0, 0, 0)
    rows = stored(hub, "shop")
    assert [row[:2] for row in rows] == [("started", "info"), ("GET /", "error")]
    assert rows[1][2] == rows[0][2] | {"status": 500}
    assert rows[0][2]["systemd.unit"] == "shop.service"
    assert not stored(hub, "other")


def test_the_first_time_it_begins_at_the_end_and_says_so(
    hub: HubProcess, journal: StandInJournal, tmp_path: Path
) -> None:
    journal.write(entry("old", _SYSTEMD_UNIT="late.service"))
    result = send(tmp_path, journal, endpoint=f"http://{hub.grpc}")
    assert result.returncode == 0, result.stderr
    assert "start_at: beginning" in result.stderr
    journal.write(entry("new", _SYSTEMD_UNIT="late.service"))
    assert send(tmp_path, journal, endpoint=f"http://{hub.grpc}").returncode == 0
    assert [row[0] for row in stored(hub, "late")] == ["new"]


def test_what_cannot_work_is_said_at_once(journal: StandInJournal, tmp_path: Path) -> None:
    missing = send(tmp_path, journal, journalctl_path="no-such-journalctl")
    assert (missing.returncode, "Install systemd's journalctl" in missing.stderr) == (1, True)
    wrong = send(tmp_path, journal, "--priority", "loud")
    assert (wrong.returncode, "Invalid value for --priority" in wrong.stderr) == (2, True)
    (journal.directory / "broken").write_text("No journal files were opened due to insufficient permissions.")
    denied = send(tmp_path, journal)
    assert (denied.returncode, "the group systemd-journal" in denied.stderr) == (1, True)
    state = State(tmp_path / "state/receiver/journald")
    taken = send(tmp_path, journal)
    assert (taken.returncode, "another process sends the journal" in taken.stderr) == (1, True)
    state.close()
