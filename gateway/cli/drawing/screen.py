"""Standard output for people: its width and its colours. What may be written there at all: see `gateway.terminal`."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import click
from rich.cells import cell_len, set_cell_size

from gateway.terminal import safe as safe
from gateway.terminal import safe_lines as safe_lines
from gateway.terminal import safe_text as safe_text

_PIPE_WIDTH = 120
# What is drawn with, and with what instead where it cannot be shown; each takes one cell, too.
_DRAWN = dict(zip("─│┌┐└┘├┤┬┴┼→…✗✓⚠»•·", "-|+++++++++>~x+!>*.", strict=True))
_BLOCKS = dict(zip("▁▂▃▄▅▆▇█", ".:-=+*%#", strict=True))
_BRAILLE = {chr(0x2800): " "} | {chr(code): "*" for code in range(0x2801, 0x2900)}


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
        self._instead = _instead(sys.stdout.encoding or "ascii", os.environ.get("TERM", ""))
        self.width = max(40, shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns)
        if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that cannot show a letter is no reason to fail
            sys.stdout.reconfigure(errors="backslashreplace")

    def paint(self, text: str, **style: Any) -> str:
        """Return text in a style of `click.style`, where colours are wanted."""
        return click.style(text, **style) if self._colored and text else text

    def line(self, text: str = "") -> None:
        """Write a line. What it is drawn with and this stream cannot show becomes ASCII."""
        sys.stdout.write(text.translate(self._instead) + "\n")

    def flush(self) -> None:
        """Show what was written."""
        sys.stdout.flush()


def _instead(encoding: str, terminal: str) -> dict[int, str]:
    """Return what to write in the place of characters that a stream of an encoding cannot show.

    The console of Linux shows what its font of 512 characters has: lines, and neither braille nor blocks.
    """
    instead = {}
    for character, plain in {**_DRAWN, **_BLOCKS, **_BRAILLE}.items():
        try:
            character.encode(encoding)
        except (UnicodeEncodeError, LookupError):
            instead[ord(character)] = plain
    if terminal == "linux" or any(ord(character) in instead for character in _BLOCKS | _BRAILLE):
        instead |= {ord(character): plain for character, plain in (_BLOCKS | _BRAILLE).items()}
    return instead


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
