"""A YAML file read into plain values, remembering on which line each one stood and which were substituted.

The nodes that `yaml` composes are walked here rather than by its constructor, because only nodes know their lines,
tell a key that is written twice, and can be counted while aliases are followed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.config._yaml_errors import explained
from gateway.config.errors import ConfigError, Place, Problem
from gateway.config.substitution import Scheme, Substituted, substitute

MAX_BYTES = 1 << 20
MAX_NODES = 50_000
MAX_DEPTH = 64
"""Bounds on one file: far above any real configuration, and low enough that an alias bomb costs nothing."""

_SECTIONS = ("receivers", "exporters", "service")
_PLAIN = re.compile(r"[a-z/]{1,20}(?::[\w.]{1,30})?")
_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_TYPED = {_TAG + name for name in ("null", "bool", "int", "float")}
_TEXT = {_TAG + name for name in ("str", "timestamp", "value")}


@dataclass(slots=True)
class Document:
    """The values of one file, and what is known about them.

    ``substituted`` holds the values that came from substitution by their place; ``unresolved`` the places where
    substitution failed, which is a problem already; ``problems`` what was found wrong so far; ``options`` the options
    of the command that values were given by, by their place.
    """

    name: str
    root: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    substituted: dict[Place, Substituted] = field(default_factory=dict)
    unresolved: set[Place] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    options: dict[Place, str] = field(default_factory=dict)

    def line(self, place: Place) -> int | None:
        """Return the line of a place, or of the nearest one around it."""
        for length in range(len(place), -1, -1):
            if (line := self.lines.get(place[:length])) is not None:
                return line
        return None

    def problem(self, place: Place, message: str) -> Problem:
        """Make a problem of this file, or of the option that the value was given by. It is the caller's to keep."""
        for given, option in self.options.items():
            if place in (given, given[:-1]):  # what is wrong with a value, or together with its neighbours
                return Problem(option, None, place, message)
        return Problem(self.name, self.line(place), place, message)

    def complain(self, place: Place, message: str) -> None:
        """Note that something is wrong at a place."""
        self.problems.append(self.problem(place, message))

    def replaced(self, place: Place, option: str) -> None:
        """Note that an option has put another value at a place: what was found wrong with the former does not count."""
        self.options[place] = option
        self.substituted.pop(place, None)
        self.unresolved.discard(place)
        self.problems = [problem for problem in self.problems if problem.place != place]

    def source_of(self, place: Place) -> Place | None:
        """Return the substituted value that a place is, or lies in."""
        return next((place[:n] for n in range(len(place) + 1) if place[:n] in self.substituted), None)


def read(
    path: Path, schemes: Mapping[str, Scheme] | None, name: str | None = None, sections: Sequence[str] = _SECTIONS
) -> Document:
    """Read a file whose root is a mapping. Raises `ConfigError` when it is not one that can be looked into.

    Without ``schemes`` nothing is substituted: ``$`` is a letter like others. ``sections`` are those that a message
    names about a file that has none.
    """
    name = name or str(path)
    return parse(_text(path, name), schemes, name, sections)


def parse(text: str, schemes: Mapping[str, Scheme] | None, name: str, sections: Sequence[str] = _SECTIONS) -> Document:
    """Read the text of a file, like `read`."""
    document = Document(name)
    expected = " and ".join(filter(None, (", ".join(sections[:-1]), sections[-1])))
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            document.root = _Builder(loader, document, schemes).build(node, ())
    except yaml.MarkedYAMLError as error:
        message, line = explained(error, text)
        raise _fatal(name, f"not valid YAML: {message}", line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _fatal(name, f"not valid YAML: the character #x{error.character:04x} is not allowed", line) from None
    except RecursionError:
        raise _fatal(name, "nested too deeply") from None
    except _BoundsError as error:
        raise _fatal(name, error.message, error.line) from None
    if document.root is None:
        raise _fatal(
            name, f"empty; expected the sections {expected}" if sections[1:] else f"empty; expected {expected}"
        )
    if not isinstance(document.root, dict):
        raise _fatal(name, f"expected a mapping with {expected}, found {kind(document.root)}", 1)
    return document


def kind(value: object) -> str:
    """Say what kind of YAML value this is, without the value."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _text(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _fatal(name, "no such file") from None
    except OSError as error:
        raise _fatal(name, f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise _fatal(name, f"larger than {MAX_BYTES >> 20} MiB; is this a configuration file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _fatal(name, "not UTF-8 text", data.count(b"\n", 0, error.start) + 1) from None


def _fatal(name: str, message: str, line: int | None = None) -> ConfigError:
    return ConfigError([Problem(name, line, (), message)])


class _BoundsError(Exception):
    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class _Builder:
    """Makes plain values of nodes. ``literal`` nodes are those of a substituted value: no lines, no substitution."""

    def __init__(self, loader: yaml.SafeLoader, document: Document, schemes: Mapping[str, Scheme] | None) -> None:
        self._loader = loader
        self._document = document
        self._schemes = schemes
        self._literal = False
        self._seen = 0
        self._open: set[int] = set()

    def build(self, node: Node, place: Place) -> Any:
        if not self._literal:
            self._document.lines.setdefault(place, node.start_mark.line + 1)
        self._seen += 1
        if self._seen > MAX_NODES:
            raise _BoundsError(
                f"more than {MAX_NODES:,} values once its aliases are followed", node.start_mark.line + 1
            )
        if len(place) > MAX_DEPTH:
            raise _BoundsError("nested too deeply", node.start_mark.line + 1)
        if isinstance(node, ScalarNode):
            return self._scalar(node, place)
        if id(node) in self._open:
            raise _BoundsError("an alias that contains itself", node.start_mark.line + 1)
        self._open.add(id(node))
        try:
            if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
                return [self.build(item, (*place, index)) for index, item in enumerate(node.value)]
            if isinstance(node, MappingNode) and node.tag == _TAG + "map":
                return self._mapping(node, place)
        finally:
            self._open.discard(id(node))
        return self._unknown_tag(node, place)

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[tuple[ScalarNode, Node]] = []
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged += self._merged(value_node, place)
            elif (key := self._key(key_node, place)) is not None:
                self._enter(result, key, key_node, value_node, place)
        for key_node, value_node in merged:
            if (key := self._key(key_node, place)) is not None and key not in result:
                self._enter(result, key, key_node, value_node, place)
        return result

    def _enter(self, result: dict[str, Any], key: str, key_node: Node, value_node: Node, place: Place) -> None:
        inner = (*place, key)
        line = key_node.start_mark.line + 1
        if key in result:
            first = self._document.lines.get(inner)
            self._document.problems.append(
                Problem(self._document.name, line, inner, f"written twice; the first is on line {first}")
            )
            return
        if not self._literal:
            self._document.lines[inner] = line
        result[key] = self.build(value_node, inner)

    def _key(self, node: Node, place: Place) -> str | None:
        if isinstance(node, ScalarNode):
            return str(node.value)
        self._document.problems.append(
            Problem(self._document.name, node.start_mark.line + 1, place, "expected a name as key, found a collection")
        )
        return None

    def _merged(self, node: Node, place: Place) -> list[tuple[ScalarNode, Node]]:
        """Return the entries that ``<<`` brings in: of one mapping, or of a list of them."""
        sources = node.value if isinstance(node, SequenceNode) else [node]
        entries: list[tuple[ScalarNode, Node]] = []
        for source in sources:
            if not isinstance(source, MappingNode):
                self._document.complain(place, "'<<' expects a mapping or a list of mappings")
                continue
            entries += [pair for pair in source.value if pair[0].tag != _MERGE]
        return entries

    def _scalar(self, node: ScalarNode, place: Place) -> Any:
        # A time (12:30:45) and a date are text here: no setting is one, and a password may well look like one.
        if node.tag in _TEXT or (node.tag in _TYPED and ":" in node.value):
            return self._substituted(node.value, place)
        if node.tag not in _TYPED:
            return self._unknown_tag(node, place)
        try:
            return self._loader.construct_object(node)
        except (ValueError, KeyError):
            self._document.complain(place, f"the value does not fit its tag '{_short(node.tag)}'")
            return None

    def _unknown_tag(self, node: Node, place: Place) -> None:
        self._document.complain(place, f"unknown tag '{_short(node.tag)}'")

    def _substituted(self, text: str, place: Place) -> Any:
        if self._literal or self._schemes is None or "$" not in text:
            return text
        result = substitute(text, self._schemes)
        for problem, passing in result.problems:
            self._document.problems.append(replace(self._document.problem(place, problem), passing=passing))
        if result.problems:
            self._document.unresolved.add(place)
            return text
        if result.found:
            self._document.substituted[place] = result
        return self._typed(result.text, place) if result.alone else result.text

    def _typed(self, text: str, place: Place) -> Any:
        """Read a substituted value as YAML would; what is text to YAML, or no YAML at all, stays as it is."""
        outside, seen, problems = self._loader, self._seen, len(self._document.problems)
        self._literal = True
        try:
            self._loader = yaml.SafeLoader(text)
            node = self._loader.get_single_node()
            value = None if node is None else self.build(node, place)
        except (yaml.YAMLError, RecursionError, _BoundsError):
            return text
        finally:
            self._loader, self._seen, self._literal = outside, seen, False
        if len(self._document.problems) > problems:
            del self._document.problems[problems:]
            return text
        return text if isinstance(value, str) else value


def _short(tag: str) -> str:
    """Return a tag as it may be shown: one of YAML's own or of Python's, and not a text that begins with ``!``."""
    name = tag.removeprefix(_TAG)
    return f"!!{name}" if name != tag and _PLAIN.fullmatch(name) else "!…"
