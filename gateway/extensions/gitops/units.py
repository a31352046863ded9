"""The step ``systemd_units``: unit files from a repository to where systemd reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path

import msgspec

from gateway.base.child_environment import SYSTEMD, USER
from gateway.extensions.gitops.config import SystemdUnits
from gateway.extensions.gitops.target import StepError, Target, command, inside
from gateway.files.durability import replace_file

_UNIT = re.compile(
    r"[A-Za-z0-9:_.\\][A-Za-z0-9:_.\\-]*(@[A-Za-z0-9:_.\\-]*)?"
    r"\.(service|socket|timer|path|target|mount|automount|slice|swap)"
)
_MOST_BYTES = 2**20


async def install(settings: SystemdUnits, at_most: timedelta, target: Target, write: Callable[[str], object]) -> None:
    """Install the units that differ, remove those that are gone, reload systemd, restart what runs. Raises `StepError`.

    What was installed, and what is to be restarted, is written down first: a gateway that is killed half-way does the
    rest when it resumes the run, and one that returns to an earlier revision finds what the failed one added.
    """
    installed = _Installed(await target.git.notes() / "units-installed", settings)
    units = _units_in(settings, inside(target.git.path, settings.source), may_be_missing=bool(installed.names))
    if not settings.target.is_dir():
        raise StepError(f"the directory {settings.target} is missing: set target to where systemd reads units")
    changed = await _changed(settings, units, target)
    gone = await _gone(settings, installed.names - units.keys(), target, write)
    pending = await target.git.notes() / "units-to-restart"
    waiting = {*_read(pending), *changed} - gone
    if not waiting and not gone:
        installed.write(set(units))
        write("no unit differs\n")
        return
    _write(pending, "".join(f"{name}\n" for name in sorted(waiting)).encode())
    installed.write({*units, *gone})
    systemctl = ["systemctl", *(["--user"] if settings.user else [])]

    async def run(*arguments: str) -> None:
        write(f"{' '.join([*systemctl, *arguments])}\n")
        argv, inherited = [*systemctl, *arguments], (*USER, *SYSTEMD)
        await command(argv, target.git.path, at_most, target.variables, write, inherited=inherited)

    if gone and settings.restart == "changed":
        await run("stop", "--", *sorted(map(_pattern, gone)))
        await run("disable", "--", *sorted(gone))
    for name in sorted(gone):
        write(f"remove {settings.target / name}\n")
        _change(settings.target / name, None)
    for name, content in changed.items():
        write(f"install {settings.target / name}\n")
        _change(settings.target / name, content)
    await run("daemon-reload")
    installed.write(set(units))
    own = waiting & _own_units()
    others = sorted(map(_pattern, waiting - own))
    if settings.restart == "changed" and others:
        await run("try-restart", "--", *others)
    # The gateway's own restart ends this run in the middle. It is resumed, and must not restart the gateway again.
    pending.unlink(missing_ok=True)
    if settings.restart == "changed" and own:
        await run("--no-block", "try-restart", "--", *sorted(own))


class _Installed:
    """Which units a directory of the repository has brought to where systemd reads them, as a note in the clone."""

    def __init__(self, file: Path, settings: SystemdUnits) -> None:
        self._file = file
        self._of = f"{settings.source} {settings.target}"
        try:
            self._all: dict[str, list[str]] = msgspec.json.decode(file.read_bytes(), type=dict[str, list[str]])
        except (FileNotFoundError, msgspec.MsgspecError):
            self._all = {}
        self.names = {name for name in self._all.get(self._of, []) if _UNIT.fullmatch(name)}

    def write(self, names: set[str]) -> None:
        if names != self.names:
            self._all[self._of] = sorted(names)
            _write(self._file, msgspec.json.encode(self._all))
            self.names = names


def _units_in(settings: SystemdUnits, source: Path, *, may_be_missing: bool) -> dict[str, bytes]:
    """Return the unit files of the repository. Raises `StepError` for one that may not be installed."""
    if not source.is_dir():
        if may_be_missing:  # in this revision; what another had brought goes
            return {}
        raise StepError(f"there is no directory {settings.source} in the repository")
    names = [path.name for path in sorted(source.iterdir()) if _UNIT.fullmatch(path.name)]
    for name in names:
        if not any(_allows(pattern, name) for pattern in settings.units):
            raise StepError(
                f"{name} in {settings.source} is none of the units that may be installed "
                f"({', '.join(settings.units)}): take it away, or add it to units in the configuration; "
                "no unit was installed"
            )
    return {name: _content(source / name) for name in names}


def _allows(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


async def _changed(settings: SystemdUnits, units: Mapping[str, bytes], target: Target) -> dict[str, bytes]:
    """Return the units that differ from what is installed. Raises `StepError` where that is somebody else's."""
    changed = {}
    for name, content in units.items():
        path = settings.target / name
        found = path.read_bytes() if path.is_file() else None
        if found == content and not path.is_symlink():
            continue
        if path.is_symlink() or (found is not None and not await _is_ours(target, f"{settings.source}/{name}", found)):
            raise StepError(
                f"{path} was changed on this machine: bring the change into the repository, or remove the file; "
                "no unit was installed"
            )
        changed[name] = content
    return changed


async def _gone(
    settings: SystemdUnits, names: Iterable[str], target: Target, write: Callable[[str], object]
) -> set[str]:
    """Return those of the units that were installed, are in the revision no more, and may be removed."""
    gone = set()
    for name in sorted(names):
        path = settings.target / name
        if not path.is_symlink() and not path.exists():
            continue
        if name in _own_units() or not any(_allows(pattern, name) for pattern in settings.units):
            write(f"{path} is left: this gateway runs in it, or units in the configuration does not name it\n")
        elif path.is_symlink() or not await _is_ours(target, f"{settings.source}/{name}", path.read_bytes()):
            write(f"{path} is left: it was changed on this machine\n")
        else:
            gone.add(name)
    return gone


def _change(path: Path, content: bytes | None) -> None:
    try:
        if content is None:
            path.unlink(missing_ok=True)
        else:
            _write(path, content)
    except OSError as error:
        raise StepError(f"{path} cannot be written: {error.strerror}") from None


def _content(path: Path) -> bytes:
    """Read a unit file that was pushed: a link could lead to any file of this machine."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise StepError(f"{path.name} in the repository cannot be read, or is a link: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(file.fileno()).st_nlink > 1:
            raise StepError(f"{path.name} in the repository is a file of several names (a hard link): it is not read")
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise StepError(f"{path.name} in the repository is larger than {_MOST_BYTES} bytes")
    return content


async def _is_ours(target: Target, path: str, found: bytes) -> bool:
    """Tell whether an installed file is one that an earlier revision of the repository had there."""
    if await target.git.is_content_of(found, path, [target.revision, *target.tried]):
        return True
    for other in dict.fromkeys(target.tried):
        earlier = await target.git.touching(target.revision, other, [f":(literal){path}"])
        if await target.git.is_content_of(found, path, earlier):
            return True
    return False


def _read(file: Path) -> list[str]:
    return [name for name in file.read_text().split("\n") if _UNIT.fullmatch(name)] if file.exists() else []


def _write(file: Path, content: bytes) -> None:
    replace_file(file, content, mode=0o644)


def _pattern(unit: str) -> str:
    """Return what stands for a unit on systemctl's command line: for a template, its instances."""
    return unit.replace("@.", "@*.") if "@." in unit else unit


def _own_units() -> set[str]:
    """The units that this process runs in, as its control group names them."""
    try:
        parts = Path("/proc/self/cgroup").read_text().split("/")
    except OSError:
        return set()
    units = {part.strip() for part in parts if part.strip().endswith(".service")}
    return units | {f"{unit.partition('@')[0]}@.service" for unit in units if "@" in unit}
