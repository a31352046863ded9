"""What comes with the hub for the programs around it, in a checkout and in a wheel; a configuration to begin with."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gateway.assets import ASSETS, files
from tests.integration.cli.processes import ROOT, environment, obs_hub
from tests.support.waiting import PATIENCE

CONFIG = ROOT / "otel-config"


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_there_is_in_the_project_is_listed() -> None:
    shown = obs_hub("assets", "list").stdout
    there = {path.relative_to(CONFIG).as_posix() for path in CONFIG.rglob("*") if path.is_file()}
    there = {name for name in there if not name.startswith("grafana/source/")}
    assert {file for asset in ASSETS for file in files(asset.name)} == there
    for name in there:
        assert name in shown.split()


def test_a_folder_is_copied_with_what_is_in_it(tmp_path: Path) -> None:
    target = tmp_path / "not/there/yet"
    copied = obs_hub("assets", "copy", "grafana/provisioning", target)
    assert copied.returncode == 0, copied.stderr
    assert content(target) == content(CONFIG / "grafana/provisioning")
    assert copied.stdout.count("wrote ") == len(content(target))
    again = obs_hub("assets", "copy", "grafana/provisioning/", target)
    assert (again.returncode, again.stdout.count("unchanged ")) == (0, len(content(target)))


def test_nothing_is_written_through_a_link_and_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    source = (CONFIG / "alloy/config.alloy").read_bytes()
    mine, elsewhere = tmp_path / "mine.alloy", tmp_path / "elsewhere"
    mine.symlink_to(elsewhere)
    assert obs_hub("assets", "copy", "alloy/config.alloy", mine).returncode == 0
    assert not elsewhere.exists()
    assert mine.read_bytes() == source
    mine.write_text("changed")
    mine.chmod(0o640)
    assert obs_hub("assets", "copy", "alloy/config.alloy", mine, "--force").returncode == 0
    assert mine.read_bytes() == source
    assert stat.S_IMODE(mine.stat().st_mode) == 0o640


@pytest.mark.parametrize(("target", "written"), [("alloy/", "alloy/config.alloy"), ("mine.alloy", "mine.alloy")])
def test_a_file_goes_into_a_folder_or_gets_the_name(tmp_path: Path, target: str, written: str) -> None:
    assert obs_hub("assets", "copy", "alloy/config.alloy", f"{tmp_path}/{target}").returncode == 0
    assert (tmp_path / written).read_bytes() == (CONFIG / "alloy/config.alloy").read_bytes()


def test_a_file_that_somebody_changed_stays_and_nothing_is_copied_unless_it_is_said(tmp_path: Path) -> None:
    mine = tmp_path / "homelab.json"
    mine.write_text("{}")
    refused = obs_hub("assets", "copy", "grafana/dashboards", tmp_path)
    assert refused.returncode == 1
    assert str(mine) in refused.stderr
    assert "--force" in refused.stderr
    assert content(tmp_path) == {"homelab.json": b"{}"}
    assert obs_hub("assets", "copy", "grafana/dashboards", tmp_path, "--force").returncode == 0
    assert content(tmp_path) == content(CONFIG / "grafana/dashboards")


@pytest.mark.parametrize("name", ["grafana/nope", "grafana/source", "../systemd", "", "/", "."])
def test_what_is_not_there_is_said_not_to_be(tmp_path: Path, name: str) -> None:
    answered = obs_hub("assets", "copy", name, tmp_path)
    assert answered.returncode == 1
    assert "obs-hub assets list" in answered.stderr
    assert content(tmp_path) == {}


# -- the wheel ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installation from a wheel has, without the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        check=True,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        timeout=PATIENCE,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def from_wheel(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "obs_hub", *words],
        check=False,
        cwd=folder,
        env=environment(PYTHONPATH=str(installed)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_a_page_for_the_public_is_made_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    made = from_wheel(installed, tmp_path, "page", "build", "--without-hub", "--output", str(tmp_path / "site"))
    assert (made.returncode, made.stderr) == (0, "")
    assert {"index.html", "evolution.html", "style.css", "architecture.svg"} <= content(tmp_path / "site").keys()


def test_the_wheel_has_the_assets_and_no_second_source_of_them(installed: Path, tmp_path: Path) -> None:
    listed = from_wheel(installed, tmp_path, "assets", "list")
    assert listed.stdout == obs_hub("assets", "list").stdout
    copied = from_wheel(installed, tmp_path, "assets", "copy", "grafana", "grafana")
    assert copied.returncode == 0, copied.stderr
    here = content(CONFIG / "grafana")
    assert content(tmp_path / "grafana") == {name: text for name, text in here.items() if not name.startswith("source")}
    assert not (installed / "obs_hub/_packages/gateway/_assets/grafana/source").exists()


def test_the_wheel_can_begin_a_configuration_and_check_it(installed: Path, tmp_path: Path) -> None:
    assert from_wheel(installed, tmp_path, "config", "init").returncode == 0
    checked = from_wheel(installed, tmp_path, "config", "check", "-c", "hub.yaml")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "hub.yaml is valid.\n", "")


# -- a configuration to begin with -------------------------------------------------------------------------------------


def test_a_configuration_to_begin_with_is_never_written_over_another(tmp_path: Path) -> None:
    file = tmp_path / "my hub.yaml"
    written = obs_hub("config", "init", file)
    assert written.returncode == 0, written.stderr
    assert f"obs-hub up -c '{file}'" in written.stdout
    begun = file.read_text()
    file.write_text("mine")
    file.chmod(0o600)
    refused = obs_hub("config", "init", file)
    assert refused.returncode == 1
    assert "was left as it is" in refused.stderr
    assert file.read_text() == "mine"
    assert obs_hub("config", "init", file, "--force").returncode == 0
    assert file.read_text() == begun
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, "whoever kept it to themselves still does"


def test_a_configuration_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    answered = obs_hub("config", "init", tmp_path / "none" / "hub.yaml")
    assert answered.returncode == 1
    assert os.strerror(2) in answered.stderr


def test_a_file_without_a_page_is_said_to_have_none(tmp_path: Path) -> None:
    file = tmp_path / "hub.yaml"
    file.write_text(
        "receivers: {otlp: }\nexporters: {timescale: }\n"
        "service: {pipelines: {logs: {receivers: [otlp], exporters: [timescale]}}}\n"
    )
    checked = obs_hub("config", "check", "-c", file)
    assert checked.returncode == 0
    assert "there is no page and no API" in checked.stderr
