"""The unit files: what systemd says of them, and that they agree with each other and with the hub."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from gateway import supervisor
from gateway.base.settings import parse_duration
from gateway.cli import main
from gateway.config import load
from gateway.config.service import DeliverySettings
from gateway.extensions.document_pipelines.config import _NAME
from gateway.systemd.install import Target
from gateway.systemd.units import FOLDER, MARK, UNITS, UnitError, rendered, sample, sysusers, unit_of
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[3]
ANALYZE = shutil.which("systemd-analyze")
EXPOSURE = 30
"""Tenths of systemd's measure, from 0 (locked in) to 100 (may do everything)."""

SERVICES = [unit.files[0] for unit in UNITS.values()]
FILES = [file for unit in UNITS.values() for file in unit.files]

needs_analyze = pytest.mark.skipif(
    ANALYZE is None, reason="systemd-analyze is not on PATH; on Debian: apt install systemd"
)


def text_of(file: str, *, per_user: bool = False) -> str:
    words = Target(per_user).words(Path("/bin/true"), None, None) | {"BAO": "/bin/true"}
    return rendered(file, words, per_user=per_user)


def settings(file: str, *, per_user: bool = False) -> dict[str, str]:
    """The settings of a unit file, of those given several times the last."""
    return dict(re.findall(r"^(\w+)=(.*)$", text_of(file, per_user=per_user), re.MULTILINE))


def written(folder: Path, *, per_user: bool = False) -> list[Path]:
    folder.mkdir()
    for file in FILES:
        (folder / file).write_text(text_of(file, per_user=per_user))
    return [folder / file for file in FILES]


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run(
        [ANALYZE, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=PATIENCE
    )


@needs_analyze
@pytest.mark.parametrize("per_user", [False, True], ids=["system", "user"])
def test_systemd_understands_every_unit(tmp_path: Path, per_user: bool) -> None:
    result = analyze("verify", "--man=no", *written(tmp_path / "units", per_user=per_user))
    complaints = [line for line in result.stderr.splitlines() if "obs-hub" in line]
    assert (result.returncode, complaints) == (0, [])


@needs_analyze
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_do_little_beyond_its_job(tmp_path: Path, service: str) -> None:
    written(tmp_path / "units")
    result = analyze(
        "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", tmp_path / "units" / service
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Overall exposure level" in result.stdout


def test_a_users_page_finds_the_store_of_the_hub_and_the_systems_sees_none_of_its_data() -> None:
    own, hubs = (settings(f"obs-hub{name}.service", per_user=True)["Environment"] for name in ("-page", ""))
    assert own == hubs
    system = settings("obs-hub-page.service")
    assert system["Environment"] == "OBSHUB_DATA_DIR=/var/lib/obs-hub-page"
    assert system["InaccessiblePaths"] == "-/var/lib/obs-hub"


def test_a_template_has_instances_and_other_units_have_none() -> None:
    reading = unit_of("pipeline@reading")
    assert reading is not None
    assert reading.files == ("obs-hub-pipeline@.service", "obs-hub-pipeline@.timer")
    assert reading.started == ("obs-hub-pipeline@reading.service", "obs-hub-pipeline@reading.timer")
    assert unit_of("reading-sync") == reading, "as it was called before"
    assert unit_of("pipeline@to-do.2") is not None
    for name in ("pipeline", "pipeline@", "pipeline@a b", "pipeline@../x", "pipeline@a%i", "backup@x", "nothing"):
        assert unit_of(name) is None, name


def test_every_pipeline_can_have_a_unit() -> None:
    """What may be the name of one is what may stand behind the @."""
    for name in ("reading", "a", "Orders_2.x-y", "0"):
        assert _NAME.fullmatch(name)
        assert unit_of(f"pipeline@{name}") is not None


def test_every_file_belongs_to_a_unit_and_every_unit_has_its_files() -> None:
    assert sorted(FILES) == sorted(
        path.name for path in (ROOT / "systemd").iterdir() if path.suffix in (".service", ".timer")
    )


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_a_unit_runs_as_the_user_that_is_made_for_it(unit: object) -> None:
    assert isinstance(unit, type(UNITS["gateway"]))
    found = settings(unit.files[0])
    assert found.get("User") == unit.user
    assert unit.user is not None or found["DynamicUser"] == "yes"
    if unit.user is not None:
        assert re.search(rf"^u {unit.user} - ", sysusers(unit.user), re.MULTILINE)


@pytest.mark.parametrize("service", [unit.files[0] for unit in UNITS.values() if unit.user == "obs-hub"])
def test_what_ends_as_the_gateways_user_leaves_shared_memory_alone(service: str) -> None:
    assert settings(service)["RemoveIPC"] == "no"


@pytest.mark.parametrize("service", [each for each in SERVICES if "OBSHUB_CONFIG=" in text_of(each)])
def test_what_reads_the_configuration_has_a_data_directory_that_it_may_look_into(service: str) -> None:
    found = settings(service)
    named = re.search(r"OBSHUB_DATA_DIR=(\S+)", found["Environment"])
    assert named is not None, "the default is below the user's home, which a unit may not see"
    assert named[1] in [f"/var/lib/{each}" for each in found["StateDirectory"].split()]
    assert found.get("InaccessiblePaths", "").removeprefix("-") != named[1]


@pytest.mark.parametrize("file", FILES)
def test_a_users_own_manager_is_asked_for_nothing_that_it_cannot_do(file: str) -> None:
    text = text_of(file, per_user=True)
    beyond = "User|DynamicUser|StateDirectory|LoadCredential|CapabilityBoundingSet|Supplementary|Protect|Private"
    assert not re.findall(rf"^(?:{beyond})\w*=.*", text, re.MULTILINE)
    assert "#[" not in text
    assert "/etc/obs-hub" not in text.partition("\n[Install]")[0].replace("# ", "")
    assert settings(file, per_user=True).get("WantedBy") in (None, "default.target", "timers.target")


def test_host_metrics_see_the_file_systems_as_they_are() -> None:
    for service in ("obs-hub-hostmetrics.service", "obs-hub-hostmetrics-once.service"):
        assert (
            not {"ProtectSystem", "ProtectHome", "PrivateTmp", "DynamicUser", "ReadWritePaths"}
            & settings(service).keys()
        )


def test_the_gateway_tells_systemd_how_it_does_and_has_time_to_stop() -> None:
    found = settings("obs-hub.service")
    assert (found["Type"], found["Restart"], found["KillMode"]) == ("notify", "always", "mixed")
    assert parse_duration(found["WatchdogSec"]).total_seconds() > 0
    longest = 2 * DeliverySettings().shutdown_grace.total_seconds() + supervisor._STOP_MARGIN
    assert parse_duration(found["TimeoutStopSec"].replace("min", "m")).total_seconds() >= longest


@pytest.mark.parametrize("timer", [file for file in FILES if file.endswith(".timer") and "hostmetrics" not in file])
def test_timers_make_up_for_what_was_missed_and_not_all_at_once(timer: str) -> None:
    found = settings(timer)
    assert found["Persistent"] == "yes"
    assert found["RandomizedDelaySec"]


@pytest.mark.parametrize("service", [each for each in SERVICES if "openbao" not in each])
def test_units_run_commands_that_there_are(service: str) -> None:
    command, context = main, None
    words = settings(service)["ExecStart"].split()[1:]
    for number, word in enumerate(words):
        context = command.make_context("obs-hub", [], parent=context, resilient_parsing=True)
        found = command.get_command(context, word)
        assert found is not None, words
        if not hasattr(found, "get_command"):
            options = [option for parameter in found.params for option in parameter.opts]
            assert {each for each in words[number + 1 :] if each.startswith("--")} <= set(options)
            return
        command = found  # type: ignore[assignment]


def test_the_configuration_to_begin_with_is_valid_and_listens_on_loopback(tmp_path: Path) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text(sample("hub.yaml"))
    config = load(path)
    assert not config.warnings
    protocols = config.receivers["otlp"].protocols  # type: ignore[attr-defined]
    assert (protocols.grpc.endpoint, protocols.http.endpoint) == ("127.0.0.1:4317", "127.0.0.1:4318")
    assert "hostmetrics" not in config.used_receivers  # a unit of its own sends them


def test_a_path_that_a_unit_file_cannot_hold_is_refused() -> None:
    for command in ("/opt/my hub/obs-hub", "/opt/100%/obs-hub", '/opt/"/obs-hub', "/opt/$HOME/obs-hub"):
        with pytest.raises(UnitError, match="choose another path"):
            rendered("obs-hub.service", Target().words(Path(command), None, None), per_user=False)


def test_an_installed_package_brings_the_units_along() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    folder = f"{wheel['sources']['gateway']}/_systemd"
    included = wheel["hooks"]["custom"]["force-include"]
    assert included["systemd"] == folder
    assert included["otel-config/openbao/openbao.hcl"] == f"{folder}/openbao.hcl"
    assert FOLDER == ROOT / "systemd"
    assert "storage" in sample("openbao.hcl")


def test_every_installed_file_says_who_wrote_it_and_how_to_change_it() -> None:
    text = text_of("obs-hub.service")
    assert text.startswith(MARK)
    assert "systemctl edit obs-hub.service" in text
    assert "@" not in text.replace("SystemCallFilter=@system-service", "").replace("~@privileged @resources", "")
