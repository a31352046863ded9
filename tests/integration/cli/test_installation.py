"""An installed hub beside packages of other projects whose names are those of its folders."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.cli.processes import ROOT, Hubs, config_text, environment, obs_hub
from tests.support import shared
from tests.support.waiting import PATIENCE

FOREIGN = ("gateway", "receivers", "exporters")


def run(*words: object, cwd: Path, fails: bool = False, **variables: str) -> str:
    """Run a program to its end; return what it wrote, of its errors where it is to fail."""
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


def build(target: str, checkout: Path, folder: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder, cwd=checkout)
    (built,) = folder.iterdir()
    return built


@dataclass
class Installation:
    """A virtual environment with a wheel in it, and with the packages of other projects."""

    folder: Path
    wheel: Path

    @property
    def program(self) -> Path:
        return self.folder / "bin/obs-hub"

    @property
    def site(self) -> Path:
        return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(self.folder)}))

    def obs_hub(self, *words: object, fails: bool = False) -> str:
        return run(self.program, *words, cwd=self.folder, fails=fails)

    def python(self, program: str, *, fails: bool = False) -> str:
        return run(self.folder / "bin/python", "-c", program, cwd=self.folder, fails=fails).strip()


def install(folder: Path) -> None:
    folder.mkdir()
    made = Installation(folder / "venv", build("wheel", ROOT, folder / "dist"))
    venv.create(made.folder)
    for name in FOREIGN:
        package = made.site / name
        package.mkdir()
        (package / "__init__.py").write_text('whose = "somebody else\'s"\n')
    run(
        *(sys.executable, "-m", "pip", "--python", made.folder / "bin/python", "--disable-pip-version-check"),
        *("install", "--no-deps", "--no-index", "--no-compile", made.wheel),
        cwd=folder,
    )
    # What the hub depends on is there already; paths that such a file adds are not looked into for further files.
    (made.site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))


@pytest.fixture(scope="module")
def installed() -> Installation:
    folder = shared.once("installed", install)
    (wheel,) = (folder / "dist").iterdir()
    return Installation(folder / "venv", wheel)


def test_the_wheel_brings_one_import_name(installed: Installation) -> None:
    brought = {path.name for path in installed.site.iterdir()} - {*FOREIGN, "dependencies.pth", "__pycache__"}
    assert {name for name in brought if not name.endswith(".dist-info")} == {"obs_hub"}
    assert not (installed.site / "obs_hub/_packages/gateway/packaging").exists()


def test_commands_work_and_say_the_version_of_the_wheel(installed: Installation) -> None:
    version = installed.wheel.name.split("-")[1]
    assert installed.obs_hub("--version") == f"obs-hub, version {version}\n"
    assert run(installed.folder / "bin/python", "-m", "obs_hub", "--version", cwd=installed.folder).endswith(
        version + "\n"
    )
    installed.obs_hub("config", "init", "hub.yaml")
    assert installed.obs_hub("config", "check", "-c", "hub.yaml") == "hub.yaml is valid.\n"
    assert installed.obs_hub("assets", "list") == obs_hub("assets", "list").stdout


@pytest.mark.parametrize("imports", ["import gateway", "import obs_hub, gateway", "import gateway, obs_hub"])
def test_other_programs_have_their_own_packages(installed: Installation, imports: str) -> None:
    assert installed.python(f"{imports}\nprint(gateway.whose)") == "somebody else's"
    assert installed.python("import obs_hub, receivers, exporters\nprint(receivers.whose == exporters.whose)") == "True"


def test_plugins_and_the_hub_have_the_same_classes(installed: Installation) -> None:
    program = (
        "from obs_hub.component import Signal; from gateway.component import Signal as ours; print(Signal is ours)"
    )
    assert installed.python(program) == "True"
    other = (
        "from gateway.component import Signal; from obs_hub.component import Signal as public; print(Signal is public)"
    )
    assert installed.python(f"import obs_hub; obs_hub.open_folder(); {other}") == "True"
    for module, name, of in (
        ("settings", "ExporterSettings", "gateway.base.settings"),
        ("testing", "ExporterContract", "gateway.testing"),
    ):
        same = f"from obs_hub.{module} import {name}; import {of} as ours; print({name} is ours.{name})"
        assert installed.python(same) == "True"


def test_a_process_that_has_imported_another_package_is_told_so(installed: Installation) -> None:
    said = installed.python("import exporters, obs_hub.component", fails=True)
    assert f"this process has imported 'exporters' from {installed.site}/exporters" in said
    assert said.rstrip().endswith("use the hub in a process without it")


def test_a_hub_runs_with_its_workers_where_other_packages_are_on_every_path(
    installed: Installation, hubs_to_start: Hubs
) -> None:
    """Also in the current folder, and in ``PYTHONPATH``, which the processes of the workers inherit."""
    hub = hubs_to_start.start(
        config_text(),
        *("--workers", "2"),
        program=[str(installed.program)],
        cwd=installed.site,
        PYTHONPATH=str(installed.site),
    ).until_ready()
    workers = hub.workers
    assert workers
    sent = installed.obs_hub("send", "event", "installed", "--data-dir", hub.data_dir)
    assert "read back from events" in sent
    assert installed.obs_hub("query", "SELECT name FROM events", "--csv", "--data-dir", hub.data_dir).split() == [
        "name",
        "installed",
    ]
    assert hub.stop() == 0


def test_a_hub_advises_the_command_that_it_was_started_by(installed: Installation) -> None:
    told = "import sys, obs_hub; obs_hub.open_folder(); from gateway.cli.run import _program; print(_program())"
    python = str(installed.folder / "bin/python")
    for argv, advised in (
        (str(installed.program), [str(installed.program)]),
        (str(installed.site / "obs_hub/__main__.py"), [python, "-m", "obs_hub"]),
    ):
        program = f"import sys; sys.argv[0] = {argv!r}; {told}"
        assert installed.python(program) == str(advised)


def test_units_run_the_installed_command(installed: Installation, tmp_path: Path) -> None:
    installed.obs_hub("systemd", "install", "--root", tmp_path, "gateway")
    (unit,) = tmp_path.rglob("obs-hub.service")
    assert re.search(rf"^ExecStart={re.escape(str(installed.program))} serve\b", unit.read_text(), re.MULTILINE)


def test_a_checkout_that_is_installed_as_it_is_has_no_copies_in_the_environment(tmp_path: Path) -> None:
    built = run(
        *(sys.executable, "-c", "import hatchling.build, sys; print(hatchling.build.build_editable(sys.argv[1]))"),
        *(tmp_path,),
        cwd=ROOT,
    ).split()[-1]
    with zipfile.ZipFile(tmp_path / built) as wheel:
        (paths,) = [name for name in wheel.namelist() if ".dist-info/" not in name]
        assert wheel.read(paths).decode().split() == [str(ROOT), str(ROOT / "gateway/packaging")]


def test_a_checkout_that_was_installed_as_it_is_stands_beside_them_too(installed: Installation) -> None:
    paths = f"{installed.site}:{ROOT / 'gateway/packaging'}"
    program = (sys.executable, "-m", "obs_hub", "assets", "list")
    assert run(*program, cwd=installed.site.parent, PYTHONPATH=paths) == obs_hub("assets", "list").stdout


# -- the version -------------------------------------------------------------------------------------------------------


def test_a_source_distribution_knows_its_version_without_git(tmp_path: Path, installed: Installation) -> None:
    """Also where it lies within the checkout of something else."""
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    run("git", "init", "-q", tmp_path, cwd=tmp_path)
    with tarfile.open(sdist) as archive:
        assert not re.search(r"/\.(git|venv)/", "\n".join(archive.getnames()))
        archive.extractall(tmp_path / "unpacked", filter="data")
    (checkout,) = (tmp_path / "unpacked").iterdir()
    wheel = build("wheel", checkout, tmp_path / "wheel")
    assert wheel.name == installed.wheel.name
