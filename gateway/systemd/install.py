"""Putting units onto a machine, and taking them away: first a list of steps, which can be shown, then doing them.

Every step can be done again. What is cut off in the middle is finished by the same command, called once more; only a
restart of units whose files had been replaced by then is left to whoever calls it.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.base.child_environment import SYSTEMD, USER, environment
from gateway.base.exit_status import ended_with
from gateway.files.durability import replace_file
from gateway.systemd.units import UNITS, Unit, UnitError, is_ours, rendered, sample, sysusers

_HIDDEN = {"/home": "ProtectHome", "/root": "ProtectHome", "/run/user": "ProtectHome"} | {
    "/tmp": "PrivateTmp",  # noqa: S108 - not to write there
    "/var/tmp": "PrivateTmp",  # noqa: S108
}
"""Directories that the units do not see, and the setting that hides them."""

_PATHS = re.compile(r"^Environment=OBSHUB_CONFIG=(\S+) OBSHUB_DATA_DIR=(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Target:
    """The machine, or the user's part of it, that units are installed for.

    ``root`` is the directory that stands for ``/`` where the files of another system are prepared: nothing is started
    there.
    """

    per_user: bool = False
    root: Path = Path("/")

    @property
    def running(self) -> bool:
        """Whether this is the machine that we run on."""
        return self.root == Path("/")

    @property
    def units(self) -> Path:
        """Where an administrator's, or a user's own, unit files are."""
        return self.inside(_user_folder("XDG_CONFIG_HOME", ".config") / "systemd/user", "/etc/systemd/system")

    @property
    def etc(self) -> Path:
        """Where the configuration is."""
        return self.inside(_user_folder("XDG_CONFIG_HOME", ".config") / "obs-hub", "/etc/obs-hub")

    def inside(self, for_user: Path, for_system: str) -> Path:
        """Return a path of the target as it is reached from here."""
        return for_user if self.per_user else self.root / for_system.lstrip("/")

    def words(self, command: Path, config: Path | None, data_dir: Path | None) -> dict[str, str]:
        """Return what the words in unit files stand for, as the target itself sees its paths."""
        etc = self.etc if self.per_user else Path("/etc/obs-hub")
        state = _user_folder("XDG_STATE_HOME", ".local/state") if self.per_user else Path("/var/lib")
        return {
            "OBS_HUB": str(command),
            "BAO": shutil.which("bao") or "/usr/bin/bao",
            "ETC": str(etc),
            "CONFIG": str(config or etc / "hub.yaml"),
            "DATA_DIR": str(data_dir or state / "obs-hub"),
            "STATE": str(state),
            "TARGET": "default.target" if self.per_user else "multi-user.target",
        }

    def systemctl(self, *arguments: str) -> Run:
        """Return the step that calls systemctl for this target."""
        where = ["--user"] if self.per_user else [] if self.running else [f"--root={self.root}"]
        return Run(("systemctl", *where, *arguments))


@dataclass(frozen=True, slots=True)
class Write:
    """A file is written as a whole, or not at all. ``keep``: one that is there already stays as it is."""

    path: Path
    text: str
    keep: bool = False

    @property
    def needed(self) -> bool:
        """Whether the file is not there, or other than it should be."""
        return not self.path.exists() if self.keep else _text(self.path) != self.text

    def shown(self) -> Iterator[str]:
        """Yield what would be done, for people."""
        before = _text(self.path)
        if before is None:
            yield f"write {self.path}"
            yield from (f"    {line}".rstrip() for line in self.text.splitlines())
        elif not self.needed:
            yield f"keep {self.path}"
        else:
            yield f"replace {self.path}"
            change = difflib.unified_diff(before.splitlines(), self.text.splitlines(), "before", "after", "", "", 2, "")
            yield from (f"    {line}".rstrip() for line in change)

    def do(self) -> None:
        """Write it, unless nothing would change."""
        if not self.needed:
            return
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace_file(self.path, self.text.encode(), mode=0o644)


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """A directory for its owner alone, if it is not there."""

    path: Path

    def shown(self) -> Iterator[str]:
        """Yield what would be done, for people."""
        yield f"{'keep' if self.path.exists() else 'make'} {self.path}/"

    def do(self) -> None:
        """Make it."""
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)


@dataclass(frozen=True, slots=True)
class Remove:
    """A file that was installed is removed."""

    path: Path

    def shown(self) -> Iterator[str]:
        """Yield what would be done, for people."""
        yield f"remove {self.path}"

    def do(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Run:
    """A command is run."""

    command: tuple[str, ...]

    def shown(self) -> Iterator[str]:
        """Yield what would be done, for people."""
        yield f"run {shlex.join(self.command)}"

    def do(self) -> None:
        """Run it. Raises `UnitError` with what it said when it fails."""
        try:
            result = subprocess.run(  # noqa: S603 - no shell
                self.command, capture_output=True, text=True, check=False, env=environment(*USER, *SYSTEMD)
            )
        except FileNotFoundError:
            raise UnitError(f"{self.command[0]} is not there: is this machine run by systemd?") from None
        if result.returncode != 0:
            said = (result.stderr or result.stdout).strip()
            raise UnitError(f"`{shlex.join(self.command)}` failed ({ended_with(result.returncode)}):\n{said}")


Step = Write | MakeDirectory | Remove | Run


def installing(
    units: Sequence[Unit],
    target: Target,
    command: Path,
    *,
    config: Path | None = None,
    data_dir: Path | None = None,
    start: bool = True,
) -> list[Step]:
    """Return the steps that install units. Raises `UnitError` where they would not run, or somebody's file is there."""
    words = target.words(command, config, data_dir)
    if target.running and UNITS["openbao"] in units and not Path(words["BAO"]).exists():
        raise UnitError("the command bao is not on PATH; install OpenBao first: https://openbao.org/docs/install/")
    users = sorted({unit.user for unit in units if unit.user and not target.per_user})
    steps: list[Step] = [Write(_sysusers_file(target, user), sysusers(user)) for user in users]
    if users:
        root = [] if target.running else [f"--root={target.root}"]
        steps.append(Run(("systemd-sysusers", *root, *(f"{user}.conf" for user in users))))
    if not target.per_user:
        steps.append(MakeDirectory(target.etc / "credentials"))
        own = [unit for unit in units if unit.own_credentials]
        steps += [MakeDirectory(target.etc / "unit-credentials" / unit.name) for unit in own]
        if data_dir is not None and data_dir != Path("/var/lib/obs-hub") and target.running and "obs-hub" in users:
            steps.append(Run(("install", "-d", "-m", "0700", "-o", "obs-hub", "-g", "obs-hub", str(data_dir))))
    samples = dict.fromkeys(unit.sample for unit in units if unit.sample)
    steps += [
        Write(target.etc / name, sample(name), keep=True) for name in samples if config is None or name != "hub.yaml"
    ]
    files = [
        Write(target.units / file, rendered(file, words, per_user=target.per_user))
        for unit in units
        for file in unit.files
    ]
    for each in files:
        if each.path.exists() and not is_ours(each.path):
            raise UnitError(
                f"{each.path} was not written by `obs-hub systemd install`; move it away, and put what it changes into "
                f"a drop-in (`systemctl edit {each.path.name}`)"
            )
    steps += files
    enabled = [unit.files[-1] for unit in units]
    if target.running:
        steps.append(target.systemctl("daemon-reload"))
        # What runs by an older file goes on by the new one.
        if start and (changed := [each.path.name for each in files if each.path.exists() and each.needed]):
            steps.append(target.systemctl("try-restart", *changed))
    now = ["--now"] if start and target.running else []
    steps.append(target.systemctl("enable", *now, *enabled))
    return steps


def uninstalling(units: Sequence[Unit], target: Target) -> list[Step]:
    """Return the steps that take units away: their files and what starts them, and nothing that is anybody's data."""
    units = [unit for unit in units if installed(unit, target)]
    if not units:
        return []
    files = [target.units / file for unit in units for file in unit.files if is_ours(target.units / file)]
    now = ["--now"] if target.running else []
    steps: list[Step] = [target.systemctl("disable", *now, *(path.name for path in files))]
    steps += [Remove(path) for path in files]
    staying = {unit.user for unit in UNITS.values() if unit not in units and installed(unit, target)}
    users = {unit.user for unit in units if unit.user and unit.user not in staying and not target.per_user}
    steps += [Remove(path) for path in (_sysusers_file(target, user) for user in sorted(users)) if is_ours(path)]
    if target.running:
        steps.append(target.systemctl("daemon-reload"))
    return steps


def installed(unit: Unit, target: Target) -> bool:
    """Tell whether any file of a unit was installed by us."""
    return any(is_ours(target.units / file) for file in unit.files)


def installed_paths(target: Target) -> tuple[Path | None, Path | None]:
    """Return the configuration file and the data directory that installed units have; None for the default."""
    default = target.words(Path(), None, None)
    for name in ("gateway", "reading-sync", "gitops-sync", "backup"):  # others have a data directory of their own
        path = target.units / UNITS[name].files[0]
        if is_ours(path) and (found := _PATHS.search(path.read_text("utf-8"))):
            config, data_dir = found.groups()
            return (
                None if config == default["CONFIG"] else Path(config),
                None if data_dir == default["DATA_DIR"] else Path(data_dir),
            )
    return None, None


def check_reachable(paths: Sequence[Path]) -> None:
    """Raise `UnitError` for a path of the hub's program that its units could not see or enter."""
    for path in paths:
        for place in dict.fromkeys((path, path.resolve())):
            hidden = _hidden(place)
            closed = next((each for each in reversed(place.parents) if not each.stat().st_mode & 0o001), None)
            if hidden is None and closed is None:
                continue
            why = f"which the units do not see ({_HIDDEN[hidden]})" if hidden else f"and only some may enter {closed}"
            raise UnitError(
                f"the hub's program needs {place}, {why}; install it where every user may read, for example, from "
                "a checkout: python3 -m venv /opt/obs-hub && /opt/obs-hub/bin/pip install -c constraints.txt . (with a "
                "Python that every user may run), and use /opt/obs-hub/bin/obs-hub; or run the units as yourself, with "
                "--user"
            )


def check_visible(path: Path) -> None:
    """Raise `UnitError` for a configuration file or data directory that the units would not see."""
    if hidden := _hidden(path) or _hidden(path.resolve()):
        raise UnitError(
            f"the units do not see {path} ({_HIDDEN[hidden]}); choose a place outside {hidden}, such as below /etc for "
            "the configuration and below /var/lib or /srv for data, or run the units as yourself, with --user"
        )


def _hidden(path: Path) -> str | None:
    return next((each for each in _HIDDEN if path.is_relative_to(each)), None)


def _sysusers_file(target: Target, user: str) -> Path:
    return target.root / "etc/sysusers.d" / f"{user}.conf"


def _user_folder(variable: str, otherwise: str) -> Path:
    named = os.environ.get(variable, "")
    return Path(named) if named.startswith("/") else Path.home() / otherwise


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ""
