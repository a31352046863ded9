"""What makes a record a synthetic one, and how it is found again in the store."""

from __future__ import annotations

from psycopg import sql

MARK = "obs_hub.synthetic.id"
"""The attribute by which a synthetic record is found again."""


def look_up(view: str, mark: str) -> sql.Composed:
    """Return the query that finds a row where a view of the store has the record with a mark."""
    return sql.SQL("SELECT 1 FROM {} WHERE time > now() - interval '1 hour' AND attributes ->> {} = {} LIMIT 1").format(
        sql.Identifier(view), sql.Literal(MARK), sql.Literal(mark)
    )
