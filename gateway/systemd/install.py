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
from gateway.systemd.units import RENAMED, UNITS, Unit, UnitError, is_ours, rendered, sample, sysusers

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
class Move:
    """A file or folder of somebody's gets another name, if it is there and nothing has that name."""

    source: Path
    target: Path

    @property
    def needed(self) -> bool:
        """Whether there is something to move, and room for it."""
        return self.source.exists() and not self.target.exists()

    def shown(self) -> Iterator[str]:
        """Yield what would be done, for people."""
        yield f"move {self.source} to {self.target}"

    def do(self) -> None:
        """Move it."""
        if self.needed:
            self.source.rename(self.target)


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


Step = Write | MakeDirectory | Remove | Move | Run


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
    renamed = [unit for unit in units if _has_earlier(unit, target)]
    steps += [step for unit in renamed for step in _moving(unit, target) if step.needed]
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
        for file in dict.fromkeys(file for unit in units for file in unit.files)
    ]
    for each in files:
        if each.path.exists() and not is_ours(each.path):
            raise UnitError(
                f"{each.path} was not written by `obs-hub systemd install`; move it away, and put what it changes into "
                f"a drop-in (`systemctl edit {each.path.name}`)"
            )
    steps += files
    enabled = [unit.started[-1] for unit in units]
    if target.running:
        steps.append(target.systemctl("daemon-reload"))
        # What runs by an older file goes on by the new one.
        replaced = {each.path.name for each in files if each.path.exists() and each.needed}
        changed = [started for unit in units for file, started in unit.pairs if file in replaced]
        if start and changed:
            steps.append(target.systemctl("try-restart", *changed))
    now = ["--now"] if start and target.running else []
    steps.append(target.systemctl("enable", *now, *enabled))
    # Last, so that what is cut off before is known to be unfinished.
    for unit in renamed:
        steps += _removing(unit.earlier_files, target)
    if renamed and target.running:
        steps.append(target.systemctl("daemon-reload"))
    return steps


def uninstalling(units: Sequence[Unit], target: Target) -> list[Step]:
    """Return the steps that take units away: their files and what starts them, and nothing that is anybody's data."""
    units = [unit for unit in units if installed(unit, target)]
    if not units:
        return []
    staying = [unit for unit in installed_units(target) if unit not in units]
    shared = {file for unit in staying for file in unit.files}
    stopped = [
        started
        for unit in units
        for file, started in unit.pairs
        if is_ours(target.units / file) and not unit.is_template
    ]
    files = [file for unit in units for file in unit.files if file not in shared and is_ours(target.units / file)]
    now = ["--now"] if target.running else []
    steps: list[Step] = [target.systemctl("disable", *now, *stopped)] if stopped else []
    steps += [Remove(target.units / file) for file in dict.fromkeys(files)]
    for unit in units:
        steps += _removing(unit.earlier_files, target)
    needed = {unit.user for unit in staying}
    users = {unit.user for unit in units if unit.user and unit.user not in needed and not target.per_user}
    steps += [Remove(path) for path in (_sysusers_file(target, user) for user in sorted(users)) if is_ours(path)]
    if target.running:
        steps.append(target.systemctl("daemon-reload"))
    return steps


def installed(unit: Unit, target: Target) -> bool:
    """Tell whether any file of a unit was installed by us; an instance is when it is enabled, too."""
    ours = any(is_ours(target.units / file) for file in unit.files)
    return (ours and (unit.instance is None or _wanted(unit, target).is_symlink())) or _has_earlier(unit, target)


def installed_units(target: Target) -> list[Unit]:
    """Return every unit that is installed, instances among them. A template is one only as long as it has none."""
    found: list[Unit] = []
    for unit in UNITS.values():
        if not unit.is_template:
            found += [unit] if installed(unit, target) else []
            continue
        links = (target.units / "timers.target.wants").glob(f"{unit.service}?*.timer")
        names = {link.name.removeprefix(unit.service).removesuffix(".timer") for link in links}
        names |= {name.partition("@")[2] for name in RENAMED if name.startswith(unit.name)}
        instances = [each for each in map(unit.of, sorted(names)) if installed(each, target)]
        found += instances or ([unit] if installed(unit, target) else [])
    return found


def _wanted(unit: Unit, target: Target) -> Path:
    return target.units / "timers.target.wants" / unit.started[-1]


def _has_earlier(unit: Unit, target: Target) -> bool:
    return any(is_ours(target.units / file) for file in unit.earlier_files)


def _moving(unit: Unit, target: Target) -> Iterator[Move]:
    """Yield what makes a unit keep what somebody gave it under its earlier name."""
    assert unit.earlier is not None
    before = unit.earlier.removeprefix("obs-hub-")
    yield Move(target.etc / f"{before}.env", target.etc / f"{unit.name}.env")
    yield Move(target.etc / "unit-credentials" / before, target.etc / "unit-credentials" / unit.name)
    for earlier, started in zip(unit.earlier_files, unit.started, strict=True):
        yield Move(target.units / f"{earlier}.d", target.units / f"{started}.d")


def _removing(names: Sequence[str], target: Target) -> list[Step]:
    """Return the steps that stop, disable and remove unit files, those of them that are ours."""
    files = [name for name in names if is_ours(target.units / name)]
    if not files:
        return []
    now = ["--now"] if target.running else []
    return [target.systemctl("disable", *now, *files), *(Remove(target.units / name) for name in files)]


def installed_paths(target: Target) -> tuple[Path | None, Path | None]:
    """Return the configuration file and the data directory that installed units have; None for the default."""
    default = target.words(Path(), None, None)
    units = [UNITS[name] for name in ("gateway", "pipeline@", "gitops-sync", "backup")]  # others have data of their own
    services = [unit.files[0] for unit in units] + [f"{earlier}.service" for earlier in RENAMED.values()]
    for service in services:
        path = target.units / service
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
