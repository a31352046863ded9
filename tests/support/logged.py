"""What is logged within a test, as structlog has it before it is rendered."""

from __future__ import annotations

import logging  # noqa: TID251 - what a command sets for its process is taken back
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.testing import capture_logs

from gateway import logs

_QUIET = ("debug", "info")


class Logged:
    """Lines with their fields, of every level, in the order in which they were logged."""

    def __init__(self, entries: list[Any]) -> None:
        self.entries: list[dict[str, Any]] = entries

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """The warnings, and what is worse."""
        return [entry for entry in self.entries if entry["log_level"] not in _QUIET]

    @property
    def events(self) -> list[str]:
        """What happened, without the fields."""
        return [entry["event"] for entry in self.entries]

    @property
    def text(self) -> str:
        """All of it, a line each: the event, and ``name=value`` of each field."""
        return "\n".join(
            " ".join([entry["event"], *(f"{name}={value}" for name, value in entry.items() if name != "event")])
            for entry in self.entries
        )

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the entries whose event has this in it."""
        return [entry for entry in self.entries if event in entry["event"]]


@contextmanager
def caught() -> Iterator[Logged]:
    """Catch what is logged in the meantime; exceptions with their traceback, as the hub writes them."""
    with capture_logs() as entries:
        structlog.get_config()["processors"].insert(0, structlog.processors.format_exc_info)
        yield Logged(entries)


@contextmanager
def logging_taken_back() -> Iterator[None]:
    """Let a command set up the logs of its process, which is this one, and have them afterwards as they were."""
    root, structured = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    levels = {name: logging.getLogger(name).level for name in logs._QUIETER}
    try:
        yield
    finally:
        structlog.configure(**structured)
        root.handlers = handlers
        root.setLevel(level)
        for name, its in levels.items():
            logging.getLogger(name).setLevel(its)
