"""Numbers drawn with characters. None stands for a place without a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_STEPS = "▁▂▃▄▅▆▇█"
# The dots of a braille character by column and row, as bits above U+2800.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BRAILLE = 0x2800
_FLAT_HEIGHT = 3

Values = Sequence[float | None]


def sparkline(values: Values, *, flat: bool = False) -> str:
    """Return one character for each value, scaled from the smallest to the largest. ``flat``: they are as good as the
    same, which is to be seen."""
    positions = _scaled(values, len(_STEPS) - 1, flat)
    return "".join(" " if position is None else _STEPS[position] for position in positions)


def line_chart(values: Values, height: int, label: Callable[[float], str]) -> list[str]:
    """Return a chart of `height` lines, two values a character, with labels for the largest, middle and smallest.

    Values that the labels do not tell apart are a flat line, with one label, and of three lines at most.
    """
    known = [value for value in values if value is not None]
    if not known:
        return []
    low, high = min(known), max(known)
    flat = label(low) == label(high)
    height = min(height, _FLAT_HEIGHT) if flat else height
    rows = height * 4
    positions = [None if value is None else rows // 2 for value in values] if flat else _scaled(values, rows - 1)
    cells = [[0] * (-(-len(values) // 2)) for _ in range(height)]
    before: int | None = None
    for column, position in enumerate(positions):
        if position is not None:
            # A line from the value before, so that a steep one has no holes.
            near = position if before is None else before + (position > before) - (position < before)
            for dot in range(min(position, near), max(position, near) + 1):
                row = rows - 1 - dot
                cells[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
        before = position
    labels = {height // 2: label(high)} if flat else {0: label(high), height - 1: label(low)}
    if not flat and height > 4 and high > low:
        labels[height // 2] = label(low + (high - low) * (1 - (height // 2 + 0.5) / height))
    width = max(map(len, labels.values()))
    return [
        f"{labels.get(n, ''):>{width}} {'┤' if n in labels else '│'}{''.join(chr(_BRAILLE + cell) for cell in row)}"
        for n, row in enumerate(cells)
    ]


def _scaled(values: Values, top: int, flat: bool = False) -> list[int | None]:
    """Return each value as a whole number from 0 to `top`; all in the middle where they are all the same."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if flat or not high / 2 - low / 2 > 0:  # halves: the difference of two doubles may be none
        return [None if value is None else (top // 2 if value else 0) for value in values]
    return [None if value is None else round((value / 2 - low / 2) / (high / 2 - low / 2) * top) for value in values]
