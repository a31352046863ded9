"""SQL as text: how many statements it is, and what they begin with. Only the server knows what they mean."""

from __future__ import annotations

import re

# Comments, the strings and names that may hold a semicolon, and what stands between them (PostgreSQL's manual, 4.1).
_TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]* | /\* )
    | (?P<quoted> (?<!\w)[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z) | '(?:[^']|'')*(?:'|\Z) | "(?:[^"]|"")*(?:"|\Z)
        | (?<!\w)\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z) )
    | (?P<end> ; )
    | (?P<word> \w+ )
    | .
    """,
    re.DOTALL | re.VERBOSE,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")

_CHANGES = frozenset({"insert", "update", "delete", "merge"})
_WRITING = _CHANGES | {
    *("alter", "call", "cluster", "comment", "copy", "create", "do", "drop", "grant", "lock", "refresh", "reindex"),
    *("revoke", "truncate", "vacuum"),
}


def statements(sql: str) -> list[list[str]]:
    """Return the statements of a text, each as its words in lower case, without what is quoted and in comments.

    A quoted part counts as the word ``''``: it may be all of a statement, though of none that is valid.
    """
    found: list[list[str]] = [[]]
    place = 0
    while (token := _TOKEN.match(sql, place)) is not None:
        place = token.end()
        match token.lastgroup:
            case "comment" if token[0] == "/*":
                place = _end_of_comment(sql, place)
            case "end":
                found.append([])
            case "word":
                found[-1].append(token[0].lower())
            case "quoted" | "tag":
                found[-1].append("''")
            case _ if not token[0].isspace() and token["comment"] is None:
                found[-1].append(token[0])
    return [words for words in found if words]


def writes(sql: str) -> bool:
    """Tell whether a text seems to be meant to change something."""
    return any(
        words[0] in _WRITING or (words[0] in ("with", "explain") and not _CHANGES.isdisjoint(words))
        for words in statements(sql)
    )


def _end_of_comment(sql: str, place: int) -> int:
    """Return where a comment ends that begins before a place; such comments may be nested."""
    depth = 1
    while depth and (edge := _COMMENT_EDGE.search(sql, place)) is not None:
        depth += 1 if edge[0] == "/*" else -1
        place = edge.end()
    return place if depth == 0 else len(sql)
