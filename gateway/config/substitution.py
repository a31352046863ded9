"""Substitution inside the values of a configuration: ``${env:NAME}``, ``${env:NAME:-default}``,
``${bao:path#key}``, ``${cred:NAME}``, ``${file:/path}``, ``$$``.

`SCHEMES` is open: a further source of values is one line there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Scheme(NamedTuple):
    """A source of values.

    ``resolve`` is given what stands behind the colon and returns the value, or ``None`` when there is none; it raises
    `LookupError` with a message for people when it cannot tell. Values of a ``secret`` scheme are masked wherever the
    configuration is shown.
    """

    resolve: Callable[[str], str | None]
    secret: bool = False


def _from_openbao(reference: str) -> str:
    # Loaded only for configurations that ask for it.
    from gateway.secrets.openbao import resolve

    return resolve(reference)


def _from_credential(name: str) -> str | None:
    from gateway.secrets.files import read_credential

    return read_credential(name)


def _from_file(path: str) -> str | None:
    from gateway.secrets.files import read_file

    return read_file(path)


SCHEMES: dict[str, Scheme] = {
    "env": Scheme(os.environ.get),
    "bao": Scheme(_from_openbao, secret=True),
    "cred": Scheme(_from_credential, secret=True),
    "file": Scheme(_from_file, secret=True),
}
"""Where values may come from, by the word before the colon."""

_TOKEN = re.compile(r"\$\$|\$\{(?P<body>[^{}]*)\}|\$\{")
_BODY = re.compile(r"(?:(?P<scheme>[A-Za-z][\w+.-]*):(?!-))?(?P<key>.*?)(?::-(?P<default>.*))?", re.DOTALL)
_DEFAULT_SCHEME = "env"


class NotNowError(LookupError):
    """A source of values cannot tell at the moment: it is away, or wants to be left alone for a while."""


@dataclass(frozen=True, slots=True)
class Substituted:
    """A scalar after substitution.

    ``found`` tells whether anything but ``$$`` was replaced, ``alone`` whether the scalar was one substitution and
    nothing else, ``problems`` what could not be replaced, each with whether that may be over at another time.
    """

    text: str
    found: bool
    alone: bool
    secret: bool
    problems: tuple[tuple[str, bool], ...]


def substitute(text: str, schemes: Mapping[str, Scheme]) -> Substituted:
    """Replace every substitution in one scalar. A value that was put in is not looked into again.

    As in the shell, a default takes the place of an unset and of an empty variable.
    """
    problems: list[tuple[str, bool]] = []
    tokens = list(_TOKEN.finditer(text))
    secret = False

    def complain(problem: str, *, passing: bool = False) -> None:
        problems.append((problem, passing))

    def replacement(token: re.Match[str]) -> str:
        nonlocal secret
        if token[0] == "$$":
            return "$"
        body = token["body"]
        if body is None:
            complain("'${' without a plain ending: substitutions cannot be nested; write '$${' for the text '${'")
            return token[0]
        parts = _BODY.fullmatch(body)
        assert parts is not None  # the pattern has a place for any text
        scheme = schemes.get(parts["scheme"] or _DEFAULT_SCHEME)
        if scheme is None:
            complain(f"{token[0]}: unknown source '{parts['scheme']}'; known: {', '.join(sorted(schemes))}")
            return token[0]
        secret = secret or scheme.secret
        try:
            value = scheme.resolve(parts["key"]) if parts["key"] else None
        except LookupError as error:
            reason = error.args[0] if error.args else "could not be looked up"
            complain(f"${{{body.split(':-')[0]}}}: {reason}", passing=isinstance(error, NotNowError))
            return token[0]
        value = value or (value if parts["default"] is None else parts["default"])
        if value is None:
            complain(_unset(parts))
            return token[0]
        return value

    result = _TOKEN.sub(replacement, text)
    return Substituted(
        result,
        found=any(token[0] != "$$" for token in tokens),
        alone=len(tokens) == 1 and tokens[0][0] == text and text != "$$",
        secret=secret,
        problems=tuple(problems),
    )


def _unset(parts: re.Match[str]) -> str:
    scheme, key = parts["scheme"] or _DEFAULT_SCHEME, parts["key"]
    if not key:
        return f"'${{{scheme}:}}' names nothing; expected a name, as in '${{{scheme}:NAME}}'"
    what = {
        "env": f"the environment variable {key} is not set; set it",
        "cred": f"systemd handed over no credential {key}; add LoadCredential={key}:/path/to/file to the unit",
        "file": f"the file {key} does not exist; make it",
    }.get(scheme, f"'{scheme}:{key}' is not set; set it")
    return f"{what}, or give a default: '${{{scheme}:{key}:-default}}'"
