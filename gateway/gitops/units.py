"""The step ``systemd_units``: unit files from a repository to where systemd reads them."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from gateway.gitops.config import SystemdUnits
from gateway.gitops.target import StepError, Target, command, inside

_UNIT = re.compile(
    r"[A-Za-z0-9:_.\\][A-Za-z0-9:_.\\-]*(@[A-Za-z0-9:_.\\-]*)?"
    r"\.(service|socket|timer|path|target|mount|automount|slice|swap)"
)
_MOST_BYTES = 2**20


async def install(settings: SystemdUnits, at_most: timedelta, target: Target, write: Callable[[str], object]) -> None:
    """Install the units that differ, reload systemd, and restart those that run. Raises `StepError`.

    Which are to be restarted is written down first: a gateway that is killed between installing and restarting does it
    when it resumes the run.
    """
    source = inside(target.git.path, settings.source)
    if not source.is_dir():
        raise StepError(f"there is no directory {settings.source} in the repository")
    if not settings.target.is_dir():
        raise StepError(f"the directory {settings.target} is missing: set target to where systemd reads units")
    pending = await _pending_file(target)
    changed = {}
    for path in sorted(source.iterdir()):
        if not _UNIT.fullmatch(path.name):
            continue
        content = _content(path)
        installed = settings.target / path.name
        found = installed.read_bytes() if installed.is_file() else None
        if found == content:
            continue
        if installed.is_symlink() or (
            found is not None and not await _is_ours(target, f"{settings.source}/{path.name}", found)
        ):
            raise StepError(
                f"{installed} was changed on this machine: bring the change into the repository, or remove the file; "
                "no unit was installed"
            )
        changed[installed] = content
    waiting = {*_read(pending), *(path.name for path in changed)}
    if not waiting:
        write("no unit differs\n")
        return
    _write(pending, "".join(f"{name}\n" for name in sorted(waiting)).encode())
    for installed, content in changed.items():
        write(f"install {installed}\n")
        try:
            _write(installed, content)
        except OSError as error:
            raise StepError(f"{installed} cannot be written: {error.strerror}") from None
    systemctl = ["systemctl", *(["--user"] if settings.user else [])]

    async def run(*arguments: str) -> None:
        write(f"{' '.join([*systemctl, *arguments])}\n")
        await command([*systemctl, *arguments], target.git.path, at_most, target.variables, write)

    await run("daemon-reload")
    own = waiting & _own_units()
    others = sorted(map(_pattern, waiting - own))
    if settings.restart == "changed" and others:
        await run("try-restart", "--", *others)
    # The gateway's own restart ends this run in the middle. It is resumed, and must not restart the gateway again.
    pending.unlink(missing_ok=True)
    if settings.restart == "changed" and own:
        await run("--no-block", "try-restart", "--", *sorted(own))


def _content(path: Path) -> bytes:
    """Read a unit file that was pushed: a link could lead to any file of this machine."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise StepError(f"{path.name} in the repository cannot be read, or is a link: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise StepError(f"{path.name} in the repository is larger than {_MOST_BYTES} bytes")
    return content


async def _is_ours(target: Target, path: str, found: bytes) -> bool:
    """Tell whether an installed file is one that an earlier revision of the repository had there."""
    earlier = [await target.git.touching(target.revision, other, [f":(literal){path}"]) for other in target.tried]
    for revision in dict.fromkeys([target.revision, *target.tried, *itertools.chain(*earlier)]):
        if await target.git.content(revision, path) == found:
            return True
    return False


async def _pending_file(target: Target) -> Path:
    directory = Path(await target.git.read("rev-parse", "--absolute-git-dir")) / "obs-hub"
    directory.mkdir(exist_ok=True)
    return directory / "units-to-restart"


def _read(file: Path) -> list[str]:
    return [name for name in file.read_text().split("\n") if _UNIT.fullmatch(name)] if file.exists() else []


def _write(file: Path, content: bytes) -> None:
    fresh = file.with_name(f".{file.name}.obs-hub")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as written:
        written.write(content)
        written.flush()
        os.fsync(written.fileno())
    fresh.replace(file)


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
