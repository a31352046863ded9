"""The ``options`` of a connection string, which libpq sends to the server as if they were its command line.

PgBouncer refuses them, or is told to ignore them, so settings among them are taken out and made by SQL instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PART = re.compile(r"(?:\\.|[^\s\\])+", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE, _WITH_BACKSLASH = re.compile(r"([\\\s])"), r"\\\1"

_AT_START_ONLY = frozenset(
    {
        "ignore_system_indexes",
        "jit_debugging_support",
        "jit_profiling_support",
        "log_connections",
        "log_disconnections",
        "post_auth_delay",
    }
)
"""Settings that PostgreSQL takes when a session starts and never after (contexts backend and superuser-backend)."""


def split(options: str) -> tuple[dict[str, str], str]:
    """Return the settings in options by their names in lower case, and the options that remain.

    Settings are ``-c name=value``, ``-cname=value`` and ``--name=value``; parts are separated by spaces, and a
    backslash takes the character after it literally. Source: PostgreSQL's documentation, "Parameter Key Words" of
    libpq, and ``postgres(1)``. What cannot be read is among what remains, for the server to complain of.
    """
    settings: dict[str, str] = {}
    remaining = []
    parts = _PART.findall(options)
    while parts:
        part = parts.pop(0)
        if part == "-c" and parts:
            part += parts.pop(0)
        name, equals, value = _ESCAPED.sub(r"\1", part[2:]).partition("=")
        name = name.replace("-", "_").lower()
        if part.startswith(("-c", "--")) and name and equals and name not in _AT_START_ONLY:
            settings[name] = value
        else:
            remaining.append(part)
    return settings, " ".join(remaining)


def join(settings: Mapping[str, str], remaining: str = "") -> str:
    """Write options that `split` reads as these."""
    parts = (f"-c {name}={_TO_ESCAPE.sub(_WITH_BACKSLASH, value)}" for name, value in settings.items())
    return " ".join(filter(None, (remaining, *parts)))
