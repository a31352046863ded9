"""Time ranges, as queries of the store have them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from psycopg import sql

from gateway.query.reading.arrays import statement


class Window(NamedTuple):
    """A time range, (start, end] in milliseconds since the epoch, as conditions on a column of PostgreSQL's."""

    start: int
    end: int

    def on(self, column: str) -> sql.SQL:
        """Return the condition on a column of times, which have microseconds."""
        return statement("{condition}", condition=self.text_on(column))

    def text_on(self, column: str) -> str:
        """Return that condition as the text that it is."""
        return f"{column} >= {self.text(self.start + 1)} AND {column} < {self.text(self.end + 1)}"

    @staticmethod
    def text(milliseconds: int) -> str:
        """Return a time as it stands in a statement."""
        return f"'{_text(milliseconds)}'::timestamptz"


_EARLIEST, _LATEST = -62_000_000_000_000, 9_200_000_000_000_000 // 1000
"""Milliseconds: about the years 5 and 2261, beyond which the store has nothing."""


def _text(milliseconds: int) -> str:
    bounded = min(max(milliseconds, _EARLIEST), _LATEST)
    return str(np.datetime64(bounded, "ms")) + "+00"
