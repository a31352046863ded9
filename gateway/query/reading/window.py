"""Time ranges, as queries of the store have them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from psycopg import sql


class Window(NamedTuple):
    """A time range, (start, end] in milliseconds since the epoch, as conditions on a column of PostgreSQL's."""

    start: int
    end: int

    def on(self, column: str) -> sql.Composed:
        """Return the condition on a column of times, which have microseconds."""
        return sql.SQL("{0} >= {1}::timestamptz AND {0} < {2}::timestamptz").format(
            sql.SQL(column),  # pyright: ignore[reportArgumentType] - of this package's own
            self.literal(self.start + 1),
            self.literal(self.end + 1),
        )

    @staticmethod
    def literal(milliseconds: int) -> sql.Literal:
        """Return a time as a text for PostgreSQL."""
        return sql.Literal(_text(milliseconds))


_EARLIEST, _LATEST = -62_000_000_000_000, 9_200_000_000_000_000 // 1000
"""Milliseconds: about the years 5 and 2261, beyond which the store has nothing."""


def _text(milliseconds: int) -> str:
    bounded = min(max(milliseconds, _EARLIEST), _LATEST)
    return str(np.datetime64(bounded, "ms")) + "+00"
