"""What steps work on, and how they run programs."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from gateway.base.child_environment import environment
from gateway.base.exit_status import ended_with
from gateway.extensions.gitops import process
from gateway.extensions.gitops.git import Git

_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_GUARDED = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.bareRepository", "GIT_CONFIG_VALUE_0": "explicit"}
"""A git that a step runs takes no folder that was pushed for a repository, with a config that runs programs."""


class StepError(Exception):
    """A step failed. The message says which and how."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is rolled out: a revision, the last good one, and what marks the processes of the run.

    ``good`` is None where all steps are wanted. ``tried`` are the revisions that may be rolled out now, be it in part:
    the last good one, and those whose steps failed since.
    """

    git: Git
    revision: str
    good: str | None
    tried: tuple[str, ...]
    variables: dict[str, str]


async def command(
    argv: list[str],
    directory: Path,
    at_most: timedelta,
    variables: dict[str, str],
    write: Callable[[str], object],
    secrets: list[str] | None = None,
    inherited: Sequence[str] = (),
) -> None:
    """Run a program of a step. ``inherited`` are the variables of this process that it gets besides those given.

    Raises `StepError` when it fails.
    """
    redactor = process.Redactor(secrets or (), write)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        code = await process.run(
            argv,
            cwd=directory,
            env=environment(*inherited, given={**_GUARDED, **variables}),
            at_most=at_most,
            sink=lambda chunk: redactor.add(decoder.decode(chunk)),
        )
    except process.ProgramError as error:
        raise StepError(str(error)) from None
    finally:
        redactor.add(decoder.decode(b"", final=True))
        redactor.close()
    if code:
        raise StepError(f"{argv[0]} ended with {ended_with(code)}")


def inside(root: Path, path: str) -> Path:
    """Return a path in a clone. Raises `StepError` when a link that was pushed leads out of it, or into ``.git``."""
    root = root.resolve()
    found = _resolved(root / path)
    if not found.is_relative_to(root):
        raise StepError(f"{path} is a link that leads out of the repository: it is not followed")
    if any(is_git(part) for part in found.relative_to(root).parts):
        raise StepError(f"{path} leads into .git: it is not followed")
    return found


def is_git(name: str) -> bool:
    """Tell whether a name is ``.git``, to this file system or to one that ignores case, some letters and some ends."""
    return _IGNORED.sub("", name).casefold().rstrip(". ") in (".git", "git~1")


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        raise StepError(f"{path.name} is a link that leads to itself: it is not followed") from None


def no_links_into_git(root: Path, git_folders: Sequence[Path]) -> None:
    """Check all links of a clone, whoever reads them: nobody needs one into ``.git``. Blocks. Raises `StepError`."""
    root = root.resolve()
    folders = [folder.resolve() for folder in git_folders]
    for parent, names, files in os.walk(root):
        links = [path for path in (Path(parent, name) for name in (*names, *files)) if path.is_symlink()]
        names[:] = [name for name in names if not is_git(name)]
        for link in links:
            found = _resolved(link)
            parts = found.relative_to(root).parts if found.is_relative_to(root) else ()
            if any(map(is_git, parts)) or any(found.is_relative_to(folder) for folder in folders):
                raise StepError(f"{link.relative_to(root)} is a link that leads into .git: nothing is run")


def all_inside(root: Path, path: str, *, reads_all: bool = True) -> None:
    """Check a path in a clone with all that is below it, as a program would read it that follows links.

    Raises `StepError` when a link that was pushed leads out of it, or into ``.git``, and when ``.git`` itself lies
    there, unless the program passes such files over (``reads_all``).
    """
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        folder = inside(root, waiting.pop())
        if folder in seen or not folder.is_dir():
            continue
        seen.add(folder)
        for entry in os.scandir(folder):
            if is_git(entry.name) and not entry.is_symlink():
                if reads_all and entry.is_dir():  # a submodule's is a file, and says only where its own is
                    raise StepError(f"{path} holds .git, which would be read with it: use a directory below")
            elif entry.is_symlink() or entry.is_dir():
                waiting.append(str((folder / entry.name).relative_to(root.resolve())))
            elif entry.stat(follow_symlinks=False).st_nlink > 1:
                raise StepError(f"{entry.name} in {path} is a file of several names (a hard link): it is not read")
