"""``obs-hub systemd``, with stand-ins for systemctl and systemd-sysusers that write down how they are called."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.systemd import install as installation
from gateway.systemd.units import MARK, UNITS, UnitError, unit_of
from tests.integration.cli.processes import obs_hub

STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >> {calls}
if [ -e {calls}.fails ]; then cat {calls}.fails >&2; exit 5; fi
# What is installed of a template is told by what is enabled.
verb= folder={units}
for word; do
    case "$word" in
    --root=*) folder="${{word#--root=}}/etc/systemd/system" ;;
    enable | disable) verb=$word ;;
    *@*.timer)
        mkdir -p "$folder/timers.target.wants"
        if [ "$verb" = enable ]; then ln -sf "$folder/${{word%@*}}@.timer" "$folder/timers.target.wants/$word"; fi
        if [ "$verb" = disable ]; then rm -f "$folder/timers.target.wants/$word"; fi ;;
    esac
done
"""


class Machine:
    """A machine of our own: a user's folders, a system to prepare, and what its service manager was told."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.config = folder / "config"
        self.units = self.config / "systemd/user"
        self._calls = folder / "calls"
        self._path = folder / "bin"
        self.root.mkdir()
        self._path.mkdir()
        for name in ("systemctl", "systemd-sysusers"):
            (self._path / name).write_text(STAND_IN.format(calls=self._calls, units=self.units))
            (self._path / name).chmod(0o755)

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run ``obs-hub systemd``."""
        return obs_hub(
            "systemd",
            *arguments,
            PATH=f"{self._path}:{os.environ['PATH']}",
            XDG_CONFIG_HOME=str(self.config),
            XDG_STATE_HOME=str(self.config.parent / "state"),
        )

    def done(self, *arguments: object) -> str:
        result = self.run(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def refused(self, *arguments: object) -> str:
        result = self.run(*arguments)
        assert result.returncode != 0, result.stdout
        assert "Traceback" not in result.stderr
        return result.stderr

    def calls(self) -> list[str]:
        """What was called since the last time this was asked."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        self._calls.unlink(missing_ok=True)
        return lines

    def fail(self, saying: str) -> None:
        """Let everything that is called fail."""
        self._calls.with_name("calls.fails").write_text(saying)

    def files(self, folder: Path) -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    return Machine(tmp_path)


DEFAULT = ["obs-hub-hostmetrics.service", "obs-hub-journal.service", "obs-hub.service"]
USER = ("--user", "--command", "/bin/true")


def test_without_names_the_gateway_host_metrics_and_the_journal_are_installed_and_started(machine: Machine) -> None:
    said = machine.done("install", *USER)
    assert machine.files(machine.units) == DEFAULT
    assert machine.calls() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable --now obs-hub.service obs-hub-hostmetrics.service obs-hub-journal.service",
    ]
    gateway = (machine.units / "obs-hub.service").read_text()
    assert "\nExecStart=/bin/true serve\n" in gateway
    assert f"OBSHUB_CONFIG={machine.config}/obs-hub/hub.yaml" in gateway
    assert f"OBSHUB_DATA_DIR={machine.config.parent}/state/obs-hub\n" in gateway
    assert "journalctl --user -u obs-hub -f" in said
    assert "* gateway          installed" in machine.done("list", "--user")


def test_a_dry_run_shows_every_line_and_every_command_and_does_nothing(machine: Machine) -> None:
    said = machine.done("install", *USER, "--dry-run", "backup")
    assert f"write {machine.units}/obs-hub-backup.timer" in said
    assert "    OnCalendar=*-*-* 02:30:00" in said
    assert "run systemctl --user enable --now obs-hub-backup.timer" in said
    assert (machine.calls(), machine.files(machine.config)) == ([], [])


def test_installing_again_changes_nothing_and_an_upgrade_restarts_what_it_changes(machine: Machine) -> None:
    machine.done("install", *USER)
    machine.calls()
    before = {path: path.stat().st_mtime_ns for path in machine.units.iterdir()}
    assert "replace" not in machine.done("install", *USER)
    assert {path: path.stat().st_mtime_ns for path in machine.units.iterdir()} == before
    assert not [call for call in machine.calls() if "restart" in call]

    moved = ("--user", "--command", "/bin/false")
    said = machine.done("install", *moved, "--dry-run", "gateway")
    assert "    -ExecStart=/bin/true serve\n    +ExecStart=/bin/false serve" in said
    machine.done("install", *moved, "gateway")
    assert "systemctl --user try-restart obs-hub.service" in machine.calls()


def test_an_upgrade_without_names_is_for_all_that_is_installed(machine: Machine) -> None:
    machine.done("install", *USER, "hostmetrics-once", "backup")
    machine.calls()
    machine.done("install", "--user", "--command", "/bin/false")
    assert machine.calls()[-1] == (
        "systemctl --user enable --now obs-hub.service obs-hub-hostmetrics-once.timer obs-hub-journal.service"
        " obs-hub-backup.timer"
    )
    assert all("/bin/false" in path.read_text() for path in machine.units.glob("*.service"))
    assert "uninstall the other first" in machine.refused("install", *USER, "hostmetrics")


def test_configuration_and_drop_ins_are_their_owners(machine: Machine) -> None:
    config, drop_in = machine.config / "obs-hub/hub.yaml", machine.units / "obs-hub.service.d/override.conf"
    for path in (config, drop_in):
        path.parent.mkdir(parents=True)
        path.write_text("# mine\n")
    machine.done("install", *USER)
    said = machine.done("uninstall", "--user")
    assert (config.read_text(), drop_in.read_text()) == ("# mine\n", "# mine\n")
    assert "Left as they are" in said


def test_a_unit_of_somebody_elses_is_neither_replaced_nor_removed(machine: Machine) -> None:
    theirs = machine.units / "obs-hub.service"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("[Service]\nExecStart=/usr/bin/theirs\n")
    assert "was not written by `obs-hub systemd install`; move it away" in machine.refused("install", *USER)
    assert (machine.files(machine.config), machine.calls()) == (["systemd/user/obs-hub.service"], [])
    machine.done("install", *USER, "journal")
    machine.done("uninstall", "--user")
    assert machine.files(machine.units) == ["obs-hub.service"]


def test_uninstalling_stops_disables_and_removes_and_can_be_done_twice(machine: Machine) -> None:
    machine.done("install", *USER)
    machine.done("install", *USER, "page")
    machine.calls()
    machine.done("uninstall", "--user", "page")
    assert machine.files(machine.units) == DEFAULT
    assert machine.calls() == [
        "systemctl --user disable --now obs-hub-page.service obs-hub-page.timer",
        "systemctl --user daemon-reload",
    ]
    machine.done("uninstall", "--user")
    assert machine.files(machine.units) == []
    machine.calls()
    assert "nothing to remove" in machine.done("uninstall", "--user")
    assert machine.calls() == []


TEMPLATE = ["obs-hub-pipeline@.service", "obs-hub-pipeline@.timer"]


def enabled(machine: Machine) -> list[str]:
    return sorted(path.name for path in (machine.units / "timers.target.wants").glob("*"))


def test_each_pipeline_has_a_unit_of_one_template(machine: Machine) -> None:
    machine.done("install", *USER, "pipeline@reading", "pipeline@orders")
    assert [name for name in machine.files(machine.units) if "/" not in name] == TEMPLATE
    assert machine.calls()[-1] == (
        "systemctl --user enable --now obs-hub-pipeline@reading.timer obs-hub-pipeline@orders.timer"
    )
    listed = machine.done("list", "--user")
    for name in ("reading", "orders"):
        assert re.search(rf"pipeline@{name} +installed +obs-hub-pipeline@{name}\.service, ", listed)
    machine.done("install", "--user", "--command", "/bin/false")
    restarted = next(call for call in machine.calls() if "try-restart" in call)
    assert restarted.split()[3:] == [f"obs-hub-pipeline@{name}.service" for name in ("orders", "reading")]

    machine.done("uninstall", "--user", "pipeline@reading")
    assert machine.calls()[0] == (
        "systemctl --user disable --now obs-hub-pipeline@reading.service obs-hub-pipeline@reading.timer"
    )
    assert enabled(machine) == ["obs-hub-pipeline@orders.timer"]
    assert set(TEMPLATE) <= set(machine.files(machine.units)), "the other one needs them"
    machine.done("uninstall", "--user", "pipeline@orders")
    assert not set(TEMPLATE) & set(machine.files(machine.units))
    assert "nothing to remove" in machine.done("uninstall", "--user", "pipeline@orders")


def test_uninstalling_all_takes_instances_and_what_is_left_of_a_template(machine: Machine) -> None:
    machine.done("install", *USER, "pipeline@reading", "pipeline@orders")
    (machine.units / "timers.target.wants/obs-hub-pipeline@orders.timer").unlink()
    machine.calls()
    machine.done("uninstall", "--user")
    assert machine.calls()[0].endswith(" obs-hub-pipeline@reading.service obs-hub-pipeline@reading.timer")
    assert machine.files(machine.units) == []
    machine.done("install", *USER, "pipeline@reading")
    (machine.units / "timers.target.wants/obs-hub-pipeline@reading.timer").unlink()
    machine.done("uninstall", "--user")
    assert machine.files(machine.units) == []


@pytest.fixture(params=["without names", "by its new name", "by its earlier name"])
def upgrade(request: pytest.FixtureRequest) -> list[str]:
    return {"without names": [], "by its new name": ["pipeline@reading"], "by its earlier name": ["reading-sync"]}[
        request.param
    ]


def earlier_installation(units: Path, etc: Path, *, ours: bool = True) -> None:
    """What an earlier version installed of a unit of its own for one pipeline, and what somebody gave it."""
    units.mkdir(parents=True)
    mark = f"{MARK}\n" if ours else ""
    environment = "Environment=OBSHUB_CONFIG=/srv/hub.yaml OBSHUB_DATA_DIR=/srv/hub\n"
    (units / "obs-hub-reading-sync.service").write_text(f"{mark}[Service]\nExecStart=/bin/true\n{environment}")
    (units / "obs-hub-reading-sync.timer").write_text(f"{mark}[Timer]\nOnCalendar=hourly\n")
    (units / "obs-hub-reading-sync.timer.d").mkdir()
    (units / "obs-hub-reading-sync.timer.d/override.conf").write_text("[Timer]\nOnCalendar=daily\n")
    (etc / "unit-credentials/reading-sync").mkdir(parents=True, mode=0o700)
    (etc / "unit-credentials/reading-sync/mongo-uri").write_text("mongodb://localhost")
    (etc / "reading-sync.env").write_text("A=1\n")


def test_the_unit_that_the_pipeline_reading_had_becomes_an_instance_with_all_that_was_its(
    machine: Machine, upgrade: list[str]
) -> None:
    units, etc = machine.root / "etc/systemd/system", machine.root / "etc/obs-hub"
    earlier_installation(units, etc)
    machine.done("install", "--root", machine.root, "--command", "/bin/true", *upgrade)
    left = machine.files(machine.root)
    assert not [name for name in left if "reading-sync" in name]
    assert "etc/systemd/system/timers.target.wants/obs-hub-pipeline@reading.timer" in left
    assert (units / "obs-hub-pipeline@reading.timer.d/override.conf").read_text() == "[Timer]\nOnCalendar=daily\n"
    assert (etc / "pipeline@reading.env").read_text() == "A=1\n"
    assert (etc / "unit-credentials/pipeline@reading/mongo-uri").read_text() == "mongodb://localhost"
    assert (etc / "unit-credentials/pipeline@reading").stat().st_mode & 0o777 == 0o700
    installed = (units / "obs-hub-pipeline@.service").read_text()
    assert "OBSHUB_CONFIG=/srv/hub.yaml OBSHUB_DATA_DIR=/srv/hub\n" in installed, "the paths are what they were"
    assert "LoadCredential=hub:/etc/obs-hub/unit-credentials/pipeline@%i\n" in installed
    calls = machine.calls()
    assert calls[-2].startswith(f"systemctl --root={machine.root} enable ")
    assert "obs-hub-pipeline@reading.timer" in calls[-2]
    assert calls[-1] == (
        f"systemctl --root={machine.root} disable obs-hub-reading-sync.service obs-hub-reading-sync.timer"
    )
    again = machine.done("install", "--root", machine.root, "--command", "/bin/true")
    assert "move" not in again
    assert machine.calls()[-1].startswith(f"systemctl --root={machine.root} enable ")


def test_what_becomes_an_instance_is_shown_first(machine: Machine) -> None:
    earlier_installation(machine.units, machine.config / "obs-hub")
    shown = machine.done("install", *USER, "--dry-run", "pipeline@reading")
    assert f"move {machine.config}/obs-hub/reading-sync.env to {machine.config}/obs-hub/pipeline@reading.env" in shown
    assert f"remove {machine.units}/obs-hub-reading-sync.timer" in shown
    assert "installed" in next(
        line for line in machine.done("list", "--user").splitlines() if "pipeline@reading" in line
    )
    machine.done("uninstall", "--user", "reading-sync")
    assert machine.files(machine.units) == ["obs-hub-reading-sync.timer.d/override.conf"]


def test_a_unit_of_somebody_elses_with_the_earlier_name_stays(machine: Machine) -> None:
    earlier_installation(machine.units, machine.config / "obs-hub", ours=False)
    before = machine.files(machine.config)
    machine.done("install", *USER, "pipeline@reading")
    assert set(before) <= set(machine.files(machine.config))
    assert not [call for call in machine.calls() if "reading-sync" in call]


def test_what_was_cut_off_is_finished_by_doing_it_again(machine: Machine) -> None:
    machine.fail("Failed to connect to bus")
    assert "daemon-reload` failed (exit code 5):\nFailed to connect to bus" in machine.refused("install", *USER)
    machine._calls.with_name("calls.fails").unlink()
    machine.calls()
    machine.done("install", *USER)
    assert machine.calls()[-1].startswith("systemctl --user enable --now obs-hub.service")
    machine.fail("Failed to disable")
    machine.refused("uninstall", "--user")
    assert machine.files(machine.units) == DEFAULT
    machine._calls.with_name("calls.fails").unlink()
    machine.done("uninstall", "--user")
    assert machine.files(machine.units) == []


def test_a_system_can_be_prepared_below_a_directory(machine: Machine) -> None:
    machine.done(
        "install", "--root", machine.root, "--command", "/opt/obs-hub/bin/obs-hub", "gateway", "openbao", "gitops-sync"
    )
    assert machine.files(machine.root) == [
        "etc/obs-hub/hub.yaml",
        "etc/obs-hub/openbao.hcl",
        "etc/systemd/system/obs-hub-gitops-sync.service",
        "etc/systemd/system/obs-hub-gitops-sync.timer",
        "etc/systemd/system/obs-hub-openbao.service",
        "etc/systemd/system/obs-hub.service",
        "etc/sysusers.d/obs-hub.conf",
        "etc/sysusers.d/openbao.conf",
    ]
    for folder in ("credentials", "unit-credentials/gitops-sync"):
        assert (machine.root / "etc/obs-hub" / folder).stat().st_mode & 0o777 == 0o700
    assert machine.calls() == [
        f"systemd-sysusers --root={machine.root} obs-hub.conf openbao.conf",
        f"systemctl --root={machine.root} enable obs-hub.service obs-hub-openbao.service obs-hub-gitops-sync.timer",
    ]
    gateway = (machine.root / "etc/systemd/system/obs-hub.service").read_text()
    assert "OBSHUB_CONFIG=/etc/obs-hub/hub.yaml OBSHUB_DATA_DIR=/var/lib/obs-hub\n" in gateway

    machine.done("uninstall", "--root", machine.root, "gateway", "openbao")
    left = machine.files(machine.root)
    assert "etc/sysusers.d/obs-hub.conf" in left  # gitops-sync runs as it
    assert "etc/sysusers.d/openbao.conf" not in left
    assert "etc/obs-hub/openbao.hcl" in left


def test_every_unit_is_given_its_own_credentials_only(machine: Machine) -> None:
    names = [name for name in UNITS if name not in ("hostmetrics-once", "pipeline@")]  # the first is instead of another
    units = {name: unit for name in (*names, "pipeline@reading", "pipeline@a") if (unit := unit_of(name)) is not None}
    machine.done("install", "--root", machine.root, "--command", "/opt/obs-hub/bin/obs-hub", *units)
    given: dict[str, list[str]] = {}
    for name, unit in units.items():
        text = (machine.root / "etc/systemd/system" / f"{unit.service}.service").read_text()
        text = text.replace("%i", unit.instance or "")
        given[name] = re.findall(r"^LoadCredential=\S+:(\S+)$", text, re.MULTILINE)
    folders = [folder for each in given.values() for folder in each]
    assert given["gateway"] == ["/etc/obs-hub/credentials"]
    assert len(folders) == len(set(folders))
    # systemd takes the files of folders inside a folder along with it.
    assert not [one for one in folders for other in folders if one != other and one.startswith(f"{other}/")]
    assert all((machine.root / folder.lstrip("/")).is_dir() for folder in folders)


def test_the_umask_of_whoever_installs_keeps_the_hubs_users_out_of_nothing(machine: Machine) -> None:
    previous = os.umask(0o077)
    try:
        machine.done("install", "--root", machine.root, "--command", "/opt/obs-hub/bin/obs-hub", "gateway")
    finally:
        os.umask(previous)
    modes = {str(each.relative_to(machine.root)): each.stat().st_mode & 0o777 for each in machine.root.rglob("*")}
    assert modes.pop("etc/obs-hub/credentials") == 0o700
    assert {mode for path, mode in modes.items() if (machine.root / path).is_dir()} == {0o755}
    assert {mode for path, mode in modes.items() if (machine.root / path).is_file()} == {0o644}


def test_a_system_of_ones_own_is_prepared_with_other_paths(machine: Machine) -> None:
    machine.done(
        "install", "--root", machine.root, "--command", "/bin/true",
        "--config", "/srv/hub.yaml", "--data-dir", "/srv/hub", "gateway",
    )  # fmt: skip
    gateway = (machine.root / "etc/systemd/system/obs-hub.service").read_text()
    assert "OBSHUB_CONFIG=/srv/hub.yaml OBSHUB_DATA_DIR=/srv/hub\n" in gateway
    assert "\nReadWritePaths=/srv/hub\n" in gateway
    assert not (machine.root / "etc/obs-hub/hub.yaml").exists()
    # They stay so, for an upgrade must not give the hub an empty store, and are those of whatever is added.
    machine.done("install", "--root", machine.root, "--command", "/bin/false", "backup", "gateway")
    for service in ("obs-hub", "obs-hub-backup"):
        text = (machine.root / f"etc/systemd/system/{service}.service").read_text()
        assert "OBSHUB_CONFIG=/srv/hub.yaml OBSHUB_DATA_DIR=/srv/hub\n" in text
    assert not (machine.root / "etc/obs-hub/hub.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("install", "--user", "openbao"), "openbao can only be run by the system; leave out --user"),
        (("install", "--user", "hostmetrics", "hostmetrics-once"), "choose one of them"),
        (("install", "--user", "gatewy"), "is not one of"),
        (("install", "--user", "--root", "/etc"), "it does not go with --user"),
        (("install", "--user", "--command", "/nowhere/obs-hub"), "there is no /nowhere/obs-hub; say by --command"),
    ],
)
def test_what_cannot_be_is_said(machine: Machine, arguments: tuple[str, ...], message: str) -> None:
    assert message in machine.refused(*arguments)
    assert machine.calls() == []


def test_openbao_is_installed_first(tmp_path: Path) -> None:
    bao = installation.UNITS["openbao"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(UnitError, match="the command bao is not on PATH"):
            installation.installing([bao], installation.Target(), Path("/bin/true"))


def test_without_systemd_it_says_so(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = obs_hub(
        "systemd", "install", *USER, PATH=str(tmp_path / "empty"), XDG_CONFIG_HOME=str(tmp_path / "another")
    )
    assert result.returncode == 1
    assert "systemctl is not there: is this machine run by systemd?" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_without_the_right_to_write_it_says_what_to_do(machine: Machine) -> None:
    (machine.root / "etc").mkdir(mode=0o555)
    message = machine.refused("install", "--root", machine.root, "--command", "/bin/true", "gateway")
    assert "run it with sudo, or for yourself with --user" in message


def test_a_program_a_configuration_and_data_that_the_units_could_not_reach_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hidden in ("/home", "/root", "/tmp"):
        with pytest.raises(UnitError, match=r"which the units do not see .*/opt/obs-hub/bin/obs-hub"):
            installation.check_reachable([Path(hidden)])
    installation.check_reachable([Path("/bin/sh")])
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "closed/obs-hub").touch()
    with pytest.raises(UnitError, match=r"the units do not see /home/me/hub\.yaml \(ProtectHome\).*--user"):
        installation.check_visible(Path("/home/me/hub.yaml"))
    installation.check_visible(Path("/srv/hub"))
    monkeypatch.setattr(installation, "_HIDDEN", {})
    with pytest.raises(UnitError, match="only some may enter"):
        installation.check_reachable([tmp_path / "closed/obs-hub"])


def test_a_dry_run_shows_everything_and_then_what_stands_in_the_way(machine: Machine) -> None:
    result = machine.run("install", "--dry-run", "--command", "/bin/true", "--config", "/home/me/hub.yaml", "gateway")
    assert result.returncode == 1
    assert "write /etc/systemd/system/obs-hub.service" in result.stdout
    assert "the units do not see /home/me/hub.yaml" in result.stderr
    assert machine.calls() == []
