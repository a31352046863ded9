"""What README and docs tell people to type: the commands and the SQL in them, as they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

PLACEHOLDER = "SOMETHING"
"""Stands where a message has a value of the moment."""

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_HERE = re.compile(r"(?<!<)<<-?\s*'?(\w+)'?")
_ASSIGNMENT = re.compile(r"\w+=.*", re.DOTALL)
_PUNCTUATION = re.compile(r"[();<>|&]+")
_NAMED = re.compile(r"`(obs-hub(?: [^`]*)?)`")
_EXAMPLE = re.compile(r"^ +(obs-hub \S.*?)(?: {2,}.*)?$", re.MULTILINE)
_WRAPPERS = ("sudo", "env", "systemd-run")


@dataclass(frozen=True)
class Place:
    """Where something stands in a document."""

    page: Path
    line: int

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command: its words, the program first, without what is put before it to run it as somebody else."""

    place: Place
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        return self.words[0].rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.place} {shlex.join(self.words)}"


@dataclass(frozen=True)
class Sql:
    """One statement."""

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place} {' '.join(self.text.split())[:60]}"


def blocks(page: Path, *languages: str) -> Iterator[tuple[int, str, str]]:
    """Yield the fenced blocks of a page in some languages: the line of the first, the language, and the text."""
    text = page.read_text("utf-8")
    for found in _FENCE.finditer(text):
        if found["language"] in languages:
            lines = [line.removeprefix(found["indent"]) for line in found["text"].splitlines()]
            yield text.count("\n", 0, found.start("text")) + 1, found["language"], "\n".join(lines)


def code_in_text(page: Path) -> Iterator[tuple[int, str]]:
    """Yield what stands in backquotes outside of blocks, with its line."""
    text = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text("utf-8"))
    for found in _CODE.finditer(text):
        yield text.count("\n", 0, found.start()) + 1, found[1]


def commands() -> list[Command]:
    """Return the commands of all blocks for a shell, in their order."""
    return [
        Command(Place(page, line), words)
        for page in PAGES
        for first, language, text in blocks(page, "sh", "console")
        for line, typed in _typed(first, language, text)
        for words in simple_commands(typed)
    ]


def _typed(first: int, language: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield what is typed at once, with its line: several lines where a quote, a backslash or a document goes on."""
    lines = iter(enumerate(text.splitlines(), first))
    for number, line in lines:
        if language == "console":
            if not line.startswith("$ "):
                continue
            line = line[2:]
        typed = line
        while typed.endswith("\\") or not _is_closed(typed):
            typed = typed.removesuffix("\\") + "\n" + next(lines)[1]
        if here := _HERE.search(typed):
            while (more := next(lines)[1]) != here[1]:
                typed += "".join(f"\n; {inner}" for inner in re.findall(r"\$\(.*\)", more))
            typed = typed.replace(here[0], "")
        if typed.strip():
            yield number, typed


def _is_closed(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return True


def simple_commands(typed: str) -> Iterator[tuple[str, ...]]:
    """Yield the simple commands of a line, those in ``$( )`` among them."""
    lexer = shlex.shlex(typed, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False
    for token in [*lexer, ";"]:
        if _PUNCTUATION.fullmatch(token):
            redirected = token.startswith((">", "<"))
            if not redirected:
                if words := _run(words):
                    yield tuple(words)
                words = []
        elif redirected:
            redirected = False  # the file's name
        else:
            words.append(token)
            for inner in re.findall(r"\$\(([^()]*)\)", token):  # in double quotes
                yield from simple_commands(inner)


def _run(words: list[str]) -> list[str]:
    """Return what is run, without variables, and without what runs it as somebody else."""
    while words and (_ASSIGNMENT.fullmatch(words[0]) or words[0] in ("export", "if", "then", "do")):
        words = words[1:]
    n = 0
    while n < len(words) and words[0] in _WRAPPERS:
        if words[n] in ("-u", "-p", "--unit"):
            n += 2
        elif words[n].startswith("-") or words[n] in _WRAPPERS or _ASSIGNMENT.fullmatch(words[n]):
            n += 1
        else:
            break
    inner = words[n:]
    return inner if inner and inner[0].rpartition("/")[2] == "obs-hub" else words


def named_commands() -> list[Command]:
    """Return the commands that the text of documents, messages and the help of commands speak of, in backquotes or as
    examples. They may lack their arguments."""
    found = []
    sources = [*PAGES]
    for folder, kind in (
        ("gateway", "py"),
        ("exporters", "py"),
        ("receivers", "py"),
        ("page", "html"),
        ("systemd", "*"),
    ):
        sources += sorted(path for path in (ROOT / folder).rglob(f"*.{kind}") if path.is_file())
    for path in sources:
        text = path.read_text("utf-8")
        if path.suffix == ".md":
            text = _FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)
        if path.suffix == ".py":
            text = re.sub(r'"\n +f?"', "", text)  # a message of several lines
        examples = _EXAMPLE.finditer(text) if path.suffix == ".py" else ()
        for each in [*_NAMED.finditer(text), *examples]:
            line = text.count("\n", 0, each.start(1)) + 1
            typed = re.sub(r"\{[^{}]*\}", PLACEHOLDER, " ".join(each[1].split()).replace("\\", ""))
            with suppress(ValueError):  # a quote that a part of a message leaves open
                found += [
                    Command(Place(path, line), words) for words in simple_commands(typed) if words[0] == "obs-hub"
                ]
    return found


def statements() -> list[Sql]:
    """Return the SQL of all blocks, and of what stands in backquotes in the text."""
    found = []
    for page in PAGES:
        for first, _, text in blocks(page, "sql"):
            line = first
            for statement in text.split(";\n"):
                if statement.strip(";\n "):
                    found.append(Sql(Place(page, line), statement.strip().rstrip(";")))
                line += statement.count("\n") + 1
        found += [
            Sql(Place(page, line), code.rstrip(";"))
            for line, code in code_in_text(page)
            if re.match(r"(SELECT|TABLE) \S+ ?.*", code)
        ]
    return found
