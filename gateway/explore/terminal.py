"""What may be written to a terminal, and in which colours.

Telemetry is hostile input: it never reaches a terminal as it is.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import click
from rich.cells import cell_len, set_cell_size

_PIPE_WIDTH = 120

# Colours that a program put into its own log lines are noise; every other sequence is shown for what it is.
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
# C0 and C1 controls, marks that reorder the text around them, separators that some terminals break lines at, and
# halves of surrogate pairs.
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def safe(text: str) -> str:
    """Return text for one line of a terminal: whatever could move the cursor or hide something is spelled out."""
    return _CONTROL.sub(_spelled_out, _COLOURS.sub("", text))


def safe_text(text: str) -> str:
    """Return text of several lines, each of them safe. Tabs become spaces, as a terminal would have it."""
    return "\n".join(safe(line.expandtabs(8)) for line in text.replace("\r\n", "\n").split("\n"))


def safe_lines(text: str) -> list[str]:
    """Return text as the lines it has, each of them safe."""
    return safe_text(text.rstrip("\r\n")).split("\n")


def _spelled_out(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def fitted(text: str, width: int) -> str:
    """Return text cut or filled with spaces to a width in terminal cells; a cut shows as an ellipsis."""
    return text + " " * (width - cell_len(text)) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def width_of(text: str) -> int:
    """Return how many terminal cells a text takes."""
    return cell_len(text)


class Screen:
    """Standard output: its width, and whether it takes colours."""

    def __init__(self, color: str = "auto") -> None:
        """`color` is ``auto``, ``always`` or ``never``; automatic heeds the ``NO_COLOR`` convention."""
        self.is_terminal = sys.stdout.isatty()
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        self._colored = color == "always" or (color == "auto" and self.is_terminal and not plain)
        self.width = max(40, shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns)
        if hasattr(sys.stdout, "reconfigure"):  # a terminal that cannot show a letter is no reason to fail
            sys.stdout.reconfigure(errors="backslashreplace")

    def paint(self, text: str, **style: Any) -> str:
        """Return text in a style of `click.style`, where colours are wanted."""
        return click.style(text, **style) if self._colored and text else text

    def line(self, text: str = "") -> None:
        """Write a line."""
        sys.stdout.write(text + "\n")

    def flush(self) -> None:
        """Show what was written."""
        sys.stdout.flush()


@contextlib.contextmanager
def ended_by_its_reader() -> Iterator[None]:
    """Let Ctrl-C and a reader that has seen enough (``| head``) end the command without a word."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would fail again when Python closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
        raise SystemExit(130) from None
