"""What is wrong with a configuration, said so that a person can put it right."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_NAME = re.compile(r"[A-Za-z_][\w.-]{0,62}(?:/[\w.-]{0,63})?")
_SECRET = re.compile(r"[\w-]{33,}")
_HIDDEN = "(a name that is not shown)"

Place = tuple[str | int, ...]
"""Where a value stands in the file: the keys and list positions that lead to it."""


def shown_name(name: object) -> str:
    """Return a name from a file as it may be shown.

    The file may be none of a configuration, but one of passwords or keys that was named by mistake, or by somebody who
    may not read it and has this program read it for them. So what cannot be meant for a name is not repeated.
    """
    text = str(name)
    return text if _NAME.fullmatch(text) and not _SECRET.search(text) else _HIDDEN


def dotted(place: Place) -> str:
    """Write a place for people: ``service.pipelines.logs.receivers[0]``."""
    text = ""
    for step in place:
        name = shown_name(step)
        text += f"[{step}]" if isinstance(step, int) else f".{name}" if text else name
    return text


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or worth a warning. ``line`` counts from 1; both it and ``place`` may be unknown.

    ``passing``: it is not the file's fault, and may be over when the file is read again.
    """

    file: str
    line: int | None
    place: Place
    message: str
    passing: bool = False

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {dotted(self.place)}: {self.message}" if self.place else f"{where}: {self.message}"


class ConfigError(Exception):
    """The configuration cannot be used. Its text is one line per problem, in the order of the file.

    No value of a secret setting, and none that came from substitution, is ever part of it.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__("\n".join(map(str, self.problems)))

    @property
    def passing(self) -> bool:
        """Whether nothing is wrong but what may be over when the file is read again: a source of secrets is away."""
        return bool(self.problems) and all(problem.passing for problem in self.problems)
