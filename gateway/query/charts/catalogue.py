"""Which metrics there are."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from gateway.query.reading.connection import Reading

_BIGINT, _DOUBLE = struct.Struct(">q"), struct.Struct(">d")

_ALL: LiteralString = """
SELECT name, (array_agg(type ORDER BY series DESC))[1], (array_agg(unit ORDER BY series DESC))[1],
    sum(series)::bigint, max(extract(epoch FROM last_seen))::float8, max(description)
FROM metric_catalogue
WHERE series > 0 AND {where}
GROUP BY name
ORDER BY name
LIMIT {most}
"""
_OF_HOST: LiteralString = """
SELECT m.name, (array_agg(m.type))[1], (array_agg(m.unit))[1], count(*)::bigint,
    max(extract(epoch FROM s.last_seen))::float8, max(m.description)
FROM series e
JOIN metric m ON m.id = e.metric_id
JOIN resource r ON r.id = e.resource_id
LEFT JOIN metric_seen s ON s.metric_id = m.id
WHERE {where}
GROUP BY m.name
ORDER BY m.name
LIMIT {most}
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A metric: how many series it has, and when it was last seen, in seconds since 1970; None: that is not known."""

    name: str
    type: str
    unit: str
    series: int
    last_seen: float | None
    description: str


def entries(
    reading: Reading, text: str = "", *, host: str | None = None, service: str | None = None, most: int = 1000
) -> list[Entry]:
    """Return metrics by name: those with a text in it, of a host or service. More than ``most`` are left out."""
    own = host is not None or service is not None
    column = sql.SQL("m.name") if own else sql.SQL("name")
    where: list[sql.Composable] = [
        sql.SQL("{} ILIKE {}").format(column, sql.Literal(f"%{_escaped(word)}%")) for word in text.split()
    ]
    for its_column, value in (("host_name", host), ("service_name", service)):
        if value is not None:
            where.append(sql.SQL("r.{} = {}").format(sql.Identifier(its_column), sql.Literal(value)))
    query = sql.SQL(_OF_HOST if own else _ALL).format(
        where=sql.SQL(" AND ").join(where) if where else sql.SQL("true"), most=most
    )
    found = []
    for name, kind, unit, series, seen, description in reading.texts(query):
        assert name is not None
        assert series is not None
        found.append(
            Entry(
                name.decode(),
                (kind or b"").decode(),
                (unit or b"").decode(),
                _BIGINT.unpack(series)[0],
                None if seen is None else _DOUBLE.unpack(seen)[0],
                (description or b"").decode(),
            )
        )
    return found


def _escaped(word: str) -> str:
    for sign in ("\\", "%", "_"):
        word = word.replace(sign, f"\\{sign}")
    return word
