"""The words of PromQL: tokens with their places, numbers, durations and strings."""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.query.errors import BadQueryError
from gateway.query.promql.nodes import AGGREGATIONS


class Token(NamedTuple):
    """A word of a query. ``kind``: identifier, number, duration, string, eof, or the text of an operator or keyword."""

    kind: str
    text: str
    start: int
    end: int


_OPERATOR_WORDS = {"and", "or", "unless", "atan2"}
_MODIFIERS = {"bool", "by", "group_left", "group_right", "ignoring", "offset", "on", "without"}
_FILLS = {"fill", "fill_left", "fill_right"}
_TIMES = {"end", "max_of", "min_of", "range", "start", "step"}
_KEYWORDS = AGGREGATIONS | _OPERATOR_WORDS | _MODIFIERS | _FILLS | _TIMES
NOT_METRICS = frozenset({"bool", "group_left", "group_right", "ignoring", "on", "atan2"})
"""Keywords that cannot be the name of a metric."""

_SPACE = re.compile(r"(?:[ \t\r\n]+|\#[^\r\n]*)+")
_DURATION = re.compile(r"(?:[0-9]+(?:ms|[smhdwy]))+(?![0-9A-Za-z_])")
_NUMBER = re.compile(
    r"(?:0[xX]_?[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*"
    r"|(?:[0-9]+(?:_[0-9]+)*(?:\.(?:[0-9]+(?:_[0-9]+)*)?)?|\.[0-9]+(?:_[0-9]+)*)(?:[eE][+-]?[0-9]+(?:_[0-9]+)*)?)"
    r"(?![0-9A-Za-z_.])"
)
_BAD_NUMBER = re.compile(r"[0-9A-Za-z_.]+")
_WORD = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r"</|>/|==|!=|=~|!~|<=|>=|[-+*/%^<>=@(){}\[\],:]")
_STRING = re.compile(r"\"(?:[^\"\\\n]|\\[^\n])*\"|'(?:[^'\\\n]|\\[^\n])*'|`[^`]*`")
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|.)", re.DOTALL
)
_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34}
_UNITS = (("y", 31_536_000_000), ("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))
_DURATION_PARTS = re.compile("".join(f"(?:([0-9]+){unit}(?![a-z]))?" for unit, _ in _UNITS) + "(?:([0-9]+)ms)?")


def tokens(query: str) -> list[Token]:
    """Return the words of `query`, and one at its end. Raises `BadQueryError` with the place of what is none."""
    found: list[Token] = []
    at = 0
    braces = brackets = False
    while True:
        if space := _SPACE.match(query, at):
            at = space.end()
        if at >= len(query):
            break
        char = query[at]
        if braces and (match := _LABEL.match(query, at)):
            kind = "identifier"
        elif (char in "0123456789" or (char == "." and query[at + 1 : at + 2].isdigit())) and not braces:
            match = _DURATION.match(query, at)
            kind = "duration" if match else "number"
            match = match or _NUMBER.match(query, at)
            if match is None:
                bad = _BAD_NUMBER.match(query, at)
                raise failure(query, at, f'bad number or duration syntax: "{bad.group() if bad else char}"')
        elif char in "\"'`":
            kind = "string"
            match = _STRING.match(query, at)
            if match is None:
                raise failure(query, at, f"unterminated {'raw ' if char == '`' else 'quoted '}string")
        elif (char != ":" or not brackets) and (match := _WORD.match(query, at)):
            kind = _kind(query, match)
        elif match := _OPERATOR.match(query, at):
            kind = match.group()
            if kind in ("==", "<", ">", "<=", ">=", "</", ">/") and braces:
                match = _OPERATOR.match(query, at, at + 1)
                kind = char
            braces = kind == "{" or (braces and kind != "}")
            brackets = kind == "[" or (brackets and kind != "]")
        else:
            raise failure(query, at, f"unexpected character: {char!r}")
        assert match is not None
        found.append(Token(kind, match.group(), at, match.end()))
        at = match.end()
    found.append(Token("eof", "", len(query), len(query)))
    return found


def _kind(query: str, match: re.Match[str]) -> str:
    word = match.group().lower()
    if word in ("inf", "nan"):
        return "number"
    if word not in _KEYWORDS:
        return "identifier"
    if word in _FILLS:  # a keyword only before a parenthesis, so that metrics may have the name
        space = _SPACE.match(query, match.end())
        return word if query.startswith("(", space.end() if space else match.end()) else "identifier"
    return word


def failure(query: str, at: int, message: str) -> BadQueryError:
    """Return the error of a query that cannot be parsed, with line and column as Prometheus writes them."""
    return BadQueryError(f"{place(query, at)}: parse error: {message}", at)


def place(query: str, at: int) -> str:
    """Return line and column (from 1) of a place in a query."""
    line = query.count("\n", 0, at)
    return f"{line + 1}:{at - (query.rfind(chr(10), 0, at) + 1) + 1}"


def number(text: str) -> float:
    """Return the value of a number: decimal, hexadecimal (``0x``), octal (``0``), Inf or NaN."""
    plain = text.replace("_", "").lower()
    if plain.startswith("0x"):
        return float(int(plain, 16))
    if len(plain) > 1 and plain.startswith("0") and plain.isdigit() and not set(plain) & {"8", "9"}:
        return float(int(plain, 8))
    return float(plain)


def duration(text: str) -> int | None:
    """Return the milliseconds of a duration such as ``1h30m``: units from large to small, each once. None: none."""
    match = _DURATION_PARTS.fullmatch(text)
    if match is None or not text:
        return None
    *large, small = match.groups()
    return sum(int(part) * size for part, (_, size) in zip(large, _UNITS, strict=True) if part) + int(small or 0)


def unquoted(query: str, token: Token) -> str:
    """Return the text of a string: escapes as in Go, none between backticks. Raises `BadQueryError`."""
    body = token.text[1:-1]
    if token.text[0] == "`" or "\\" not in body:
        return body
    parts: list[bytes] = []
    at = 0
    for match in _ESCAPE.finditer(body):
        parts.append(body[at : match.start()].encode("utf-8", "surrogatepass"))
        at = match.end()
        simple, octal, byte, short, long = match.groups()
        if simple and (simple not in "'\"" or simple == token.text[0]):
            parts.append(bytes([_SIMPLE[simple]]))
        elif octal and int(octal, 8) < 256:
            parts.append(bytes([int(octal, 8)]))
        elif byte:
            parts.append(bytes([int(byte, 16)]))
        elif (short or long) and (point := int(short or long, 16)) < 0x110000 and not 0xD800 <= point < 0xE000:
            parts.append(chr(point).encode())
        else:
            raise failure(query, token.start, f"error unquoting string {token.text}: invalid syntax")
    parts.append(body[at:].encode("utf-8", "surrogatepass"))
    return b"".join(parts).decode("utf-8", "surrogateescape")


def is_label_name(name: str) -> bool:
    """Return whether labels may have this name: any text that is valid UTF-8, but none."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False
