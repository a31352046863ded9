"""The Dockerfile and the compose files, read as Docker reads them, as far as these need it.

https://docs.docker.com/reference/dockerfile/ and https://github.com/compose-spec/compose-spec/blob/main/spec.md
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "docs/examples/compose"


@dataclass
class Stage:
    """One stage of a Dockerfile: the image it begins with, its name, and its instructions in order."""

    image: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        """Return what all instructions of a kind say."""
        return [text for kind, text in self.instructions if kind == instruction]

    def words(self, instruction: str) -> list[str]:
        """Return the words of the one instruction of a kind that is written as an array in JSON."""
        (text,) = self.all(instruction)
        found: list[str] = json.loads(text)
        return found

    @property
    def environment(self) -> dict[str, str]:
        """The variables that ``ENV`` sets."""
        return dict(pair.split("=", 1) for text in self.all("ENV") for pair in shlex.split(text))


def stages(text: str | None = None) -> list[Stage]:
    """Return the stages of a text, by default of the Dockerfile. Raises `ValueError` for what cannot be read."""
    source = DOCKERFILE.read_text("utf-8") if text is None else text
    lines = [line for line in source.splitlines() if not line.lstrip().startswith("#")]
    found: list[Stage] = []
    arguments: dict[str, str] = {}
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        kind, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if not kind:
            continue
        if kind not in _INSTRUCTIONS:
            raise ValueError(f"unknown instruction: {line}")
        if kind == "ARG" and not found:
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif kind == "FROM":
            image, _, name = re.sub(r"\$\{(\w+)\}", lambda m: arguments[m[1]], rest).partition(" AS ")
            found.append(Stage(image, name))
        else:
            found[-1].instructions.append((kind, rest))
    return found


_INSTRUCTIONS = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "SHELL"),
    *("STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)


def in_context(path: str) -> bool:
    """Tell whether ``.dockerignore`` lets a path of the checkout through: the last pattern that matches decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern, keeps = line.removeprefix("!"), line.startswith("!")
            if _matches(path, pattern):
                kept = keeps
    return kept


def _matches(path: str, pattern: str) -> bool:
    parts = path.split("/")
    beginnings = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    if pattern.startswith("**/"):
        return any(fnmatch.fnmatch(part, pattern.removeprefix("**/")) for part in parts)
    return any(fnmatch.fnmatch(each, pattern) for each in beginnings if each.count("/") == pattern.count("/"))


def compose(*names: str) -> dict[str, Any]:
    """Return compose files merged as Docker merges them, as far as these need it: mappings deeply, the rest whole."""
    merged: dict[str, Any] = {}
    for name in names:
        merged = _merge(merged, yaml.safe_load((COMPOSE / name).read_text("utf-8")))
    return merged


def _merge(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {key: _merge(below.get(key), above[key]) if key in above else below[key] for key in {**below, **above}}
    return below if above is None else above


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """Put variables into a value: ``${NAME:-default}``, ``${NAME:?message}``, ``$$``. Raises `KeyError`: a message."""
    if isinstance(value, dict):
        return {key: interpolated(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, variables) for each in value]
    if not isinstance(value, str):
        return value

    def put_in(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        given = variables.get(match["name"], "")
        if given or match["kind"] is None:
            return given
        if match["kind"] == ":?":
            raise KeyError(f"{match['name']}: {match['rest']}")
        return match["rest"]

    return re.sub(r"\$\$|\$\{(?P<name>\w+)(?:(?P<kind>:-|:\?)(?P<rest>[^}]*))?\}", put_in, value)


def example_environment() -> dict[str, str]:
    """Return what ``env.example`` sets, with passwords filled in."""
    pairs = (line.split("=", 1) for line in (COMPOSE / "env.example").read_text("utf-8").splitlines() if "=" in line)
    return {name: value or "Abc123" for name, value in pairs if not name.startswith("#")}


def variables_of(value: Any) -> Iterator[str]:
    """Yield the names of the variables that a value is filled from."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from variables_of(each)
    elif isinstance(value, str):
        yield from re.findall(r"(?<!\$)\$\{(\w+)", value)
