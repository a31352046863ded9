"""What is wrong with a file that is no YAML, in words for whoever wrote it rather than for whoever wrote a parser.

Of the file itself nothing is repeated but single characters: it may be none of a configuration.
"""

from __future__ import annotations

import re

import yaml
from yaml.error import Mark

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_LONGEST_QUOTED = len("'\\\\t'")
"""Of what the parser quotes: one character, be it spelled out."""


def explained(error: yaml.MarkedYAMLError, text: str) -> tuple[str, int | None]:
    """Return what is wrong with a text, and on which line, counted from 1."""
    said = error.problem or error.context or ""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return _quoted(said), None
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    began = error.context_mark
    match said:
        case "mapping values are not allowed here":
            message = _misplaced_colon(lines, mark)
        case _ if "\\t" in said and "cannot start" in said:
            message = "a tab; YAML is indented by spaces alone"
        case _ if "cannot start any token" in said:
            message = f"a value cannot begin with {said.split()[2]}; put it in quotes"
        case "could not find expected ':'" if began is not None:
            message, mark = "neither 'key: value' nor '- entry'; a colon with a space behind it is missing", began
        case _ if said.startswith("expected <block end>") and began is not None:
            message = _misplaced_line(line, mark, began)
        case _ if said.startswith("expected ',' or") and began is not None:
            close = said[len("expected ',' or ") :][:3]
            open_ = {"']'": "'['", "'}'": "'{'"}.get(close, "bracket")
            message = f"the {open_} of line {began.line + 1} is not closed by {close} before this"
        case "found unexpected end of stream" if began is not None:
            message, mark = "a quote that begins here is never closed", began
        case _ if said.startswith("but found another document"):
            message = "a second document begins here with '---'; a file holds one"
        case _:
            message = _quoted(said)
    return message, mark.line + 1


def _misplaced_line(line: str, mark: Mark, began: Mark) -> str:
    """Say how a line does not fit the block around it."""
    if line[mark.column :].startswith("-") and began.column == mark.column:
        return (
            f"a list entry ('- ') among the keys of the mapping that begins on line {began.line + 1}; indent it below "
            "the key it is of, or leave out the dash"
        )
    if mark.column == began.column:
        return f"this does not belong to the list that begins on line {began.line + 1}; its entries begin with '- '"
    return (
        f"the indentation fits nothing above: {_spaces(mark.column)} here, and {_spaces(began.column)} on line "
        f"{began.line + 1}, where the block begins that this should be in"
    )


def _misplaced_colon(lines: list[str], mark: Mark) -> str:
    """Say why a colon cannot be where it is: in a value, or in a line that is indented below one that has a value."""
    line = lines[mark.line] if mark.line < len(lines) else ""
    before = line[: mark.column]
    if ": " in before.lstrip("- "):
        return "a second ': ' in one line; put the value in quotes, or begin a line"
    indent = len(before) - len(before.lstrip(" "))
    above = next(
        (n for n in range(mark.line - 1, -1, -1) if lines[n].strip() and not lines[n].lstrip().startswith("#")), 0
    )
    other = len(lines[above]) - len(lines[above].lstrip(" ")) if lines else 0
    if indent <= other:
        return f"line {above + 1} lacks its colon, or the space behind it"
    return (
        f"this is indented deeper than line {above + 1}, which has a value already or lacks its colon: "
        f"{_spaces(indent)} here, {_spaces(other)} there"
    )


def _spaces(count: int) -> str:
    return "no space" if count == 0 else f"{count} space{'' if count == 1 else 's'}"


def _quoted(said: str) -> str:
    """Return what the parser said, without what it repeats of the file but for single characters."""
    return _QUOTED.sub(lambda found: found[0] if len(found[0]) <= _LONGEST_QUOTED else "'…'", said)
