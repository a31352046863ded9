"""What steps work on, and how they run programs."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from gateway.gitops import process
from gateway.gitops.git import Git


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
) -> None:
    """Run a program of a step. Raises `StepError` when it fails."""
    redactor = process.Redactor(secrets or (), write)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        code = await process.run(
            argv,
            cwd=directory,
            env=process.environment(variables),
            at_most=at_most,
            sink=lambda chunk: redactor.add(decoder.decode(chunk)),
        )
    except process.ProgramError as error:
        raise StepError(str(error)) from None
    finally:
        redactor.add(decoder.decode(b"", final=True))
        redactor.close()
    if code:
        raise StepError(f"{argv[0]} ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}")


def inside(root: Path, path: str) -> Path:
    """Return a path in a clone. Raises `StepError` when a link that was pushed leads out of it."""
    found = (root / path).resolve()
    if not found.is_relative_to(root.resolve()):
        raise StepError(f"{path} is a link that leads out of the repository: it is not followed")
    return found


def all_inside(root: Path, path: str) -> None:
    """Check a path in a clone with all that is below it, as a program would read it that follows links.

    Raises `StepError` when a link that was pushed leads out of it.
    """
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        folder = inside(root, waiting.pop())
        if folder in seen or not folder.is_dir():
            continue
        seen.add(folder)
        entries = (folder / entry.name for entry in os.scandir(folder) if entry.is_symlink() or entry.is_dir())
        waiting += [str(entry.relative_to(root.resolve())) for entry in entries]
