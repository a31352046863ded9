"""The one place through which a terminal is written to.

Telemetry is hostile input, and so are file names, error texts of servers and what git says: none of it reaches a
terminal as it is. What commands print of it they pass through `safe` and its like; whatever slips by them, in tables,
error messages, tracebacks and log lines alike, meets the streams that `guard_terminals` puts before the terminal. Files
and pipes get every byte as it is.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable
from typing import Any

# Colours that a program put into its own log lines are noise; every other sequence is shown for what it is.
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
# C0 and C1 controls, marks that reorder the text around them or are not seen, separators that some terminals break
# lines at, and halves of surrogate pairs.
_CONTROLS = (
    "\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff"
)
_CONTROL = re.compile(f"[\t\n{_CONTROLS}]")

_SGR = r"0?[0-24]|22|3[1-79]|9[1-7]|41"
# What this program's own colours, and those of tracebacks, consist of: neither black nor concealed, on no background
# but the red of what is fatal.
_OWN_COLOURS = rf"\x1b\[(?:{_SGR})(?:;(?:{_SGR}))*m|\x1b\[m"
_NOT_SHOWN = re.compile(f"({_OWN_COLOURS})|[{_CONTROLS}]")
_RESET = "\x1b[0m"
_ENDS_COLOURED = re.compile(r"\x1b\[(?!0?m)[0-9;]*m(?:(?!\x1b\[)[^\x1b])*\Z", re.DOTALL)


def safe(text: str) -> str:
    """Return text for one line of a terminal: whatever could move the cursor or hide something is spelled out."""
    return _CONTROL.sub(_spelled_out, _COLOURS.sub("", text))


def safe_text(text: str) -> str:
    """Return text of several lines, each of them safe. Tabs become spaces, as a terminal would have it."""
    return "\n".join(safe(line.expandtabs(8)) for line in text.replace("\r\n", "\n").split("\n"))


def safe_lines(text: str) -> list[str]:
    """Return text as the lines it has, each of them safe."""
    return safe_text(text.rstrip("\r\n")).split("\n")


def shown_row(row: Iterable[Any]) -> list[Any]:
    """Return the cells of a row of CSV: exact for a file or a pipe, safe for a terminal."""
    return [safe_text(str(cell)) if cell is not None else cell for cell in row] if _to_terminal() else list(row)


def shown_json(text: str) -> str:
    """Return a line of JSON: exact for a file or a pipe; for a terminal, the same values without a control in it."""
    return _CONTROL.sub(lambda found: _escaped(found[0]), text) if _to_terminal() else text


def guard_terminals() -> None:
    """Put a guard before standard output and standard error, each where it is a terminal."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, TerminalStream) and stream.isatty():
            setattr(sys, name, TerminalStream(stream))


class TerminalStream(io.TextIOWrapper):
    """A terminal to write to: controls are shown, and of colours only those are let through that this program uses."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        stream.flush()
        self._guarded = stream  # which would close the terminal with itself
        super().__init__(stream.buffer, encoding=stream.encoding, errors="backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        """Write text, what could drive the terminal spelled out."""
        shown = _NOT_SHOWN.sub(lambda found: found[1] or _spelled_out(found), text)
        if _ENDS_COLOURED.search(shown):
            shown = shown[:-1] + _RESET + "\n" if shown.endswith("\n") else shown
        super().write(shown)
        return len(text)

    def overwrite_line(self, text: str) -> None:
        """Write text in the place of what stands on the last line: how far something has come."""
        super().write(f"\r\x1b[K{safe(text)}")
        self.flush()


def show_progress(text: str) -> None:
    """Show on standard error how far something has come, where that is a terminal; each text replaces the last."""
    if isinstance(sys.stderr, TerminalStream):
        sys.stderr.overwrite_line(text)


def _to_terminal() -> bool:
    return sys.stdout.isatty()


def _spelled_out(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))
