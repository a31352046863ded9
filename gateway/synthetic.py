"""What makes a record a synthetic one, and how it is found again in the store."""

from __future__ import annotations

from psycopg import sql

MARK = "obs_hub.synthetic.id"
"""The attribute by which a synthetic record is found again."""

_AROUND = 1_000_000
"""Nanoseconds by which the store's time, in microseconds, may be off."""


def look_up(view: str, mark: str, at: int) -> sql.Composed:
    """Return the query that finds a row where a view of the store has the record with a mark.

    ``at`` is the record's time in nanoseconds since 1970. A full store is asked again and again, so it is to look where
    the record is and nowhere else.
    """
    begin, end = (sql.Literal((at + nanoseconds) / 1e9) for nanoseconds in (-_AROUND, _AROUND))
    return sql.SQL(
        "SELECT 1 FROM {} WHERE time BETWEEN to_timestamp({}) AND to_timestamp({}) AND attributes ->> {} = {} LIMIT 1"
    ).format(sql.Identifier(view), begin, end, sql.Literal(MARK), sql.Literal(mark))
