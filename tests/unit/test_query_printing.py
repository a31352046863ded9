"""What ``obs-hub query`` prints on a terminal: a table where it fits, and else a line for each column."""

from __future__ import annotations

import io
import sys

import pytest

from gateway.cli.query import _print_table


class Terminal(io.TextIOWrapper):
    """Standard output that is a terminal, and what arrived there."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._written = io.BytesIO()
        super().__init__(self._written, encoding=encoding)

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        self.flush()
        return self._written.getvalue().decode(self.encoding).splitlines()


def terminal_of(monkeypatch: pytest.MonkeyPatch, encoding: str = "utf-8") -> Terminal:
    """Let standard output be a terminal, of 80 columns."""
    terminal = Terminal(encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    for name, value in {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    return terminal


def test_rows_that_fit_are_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    _print_table(["n", "text"], iter([(1, "x" * 20)]))
    assert terminal.lines[1].split() == ["┃", "n", "┃", "text", "┃"]
    assert terminal.lines[-1] == "(1 row)"


def test_rows_that_do_not_fit_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    _print_table(["n", "text"], iter([(1, "x" * 90), (2, None)]))
    assert terminal.lines == [
        "─ row 1 ┬─", "n    │ 1", f"text │ {'x' * 90}",
        "─ row 2 ┬─", "n    │ 2", "text │",
        "(2 rows)",
    ]  # fmt: skip


def test_columns_without_rows_stay_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    _print_table(["a" * 60, "b" * 60], iter([]))
    assert terminal.lines[-1] == "(0 rows)"
    assert "row 1" not in "\n".join(terminal.lines)


def test_where_lines_cannot_be_drawn_they_are_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch, "ascii")
    _print_table(["n"], iter([(1,)]))
    _print_table(["n"], iter([("é" * 90,)]))
    assert "| 1 |" in terminal.lines
    assert terminal.lines[-3:] == ["- row 1 +-", "n | " + r"\xe9" * 90, "(1 row)"]
