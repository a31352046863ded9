"""What sends telemetry: hosts and services, as the resources in the store name them."""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from gateway.query.reading.connection import Reading

_NAMES: LiteralString = "SELECT DISTINCT {column} FROM resource WHERE {column} IS NOT NULL ORDER BY 1 LIMIT {most}"


def names(reading: Reading, column: str, most: int = 1000) -> list[str]:
    """Return the names of all hosts or services: ``column`` is ``host_name`` or ``service_name``."""
    query = sql.SQL(_NAMES).format(column=sql.Identifier(column), most=most)
    return [name.decode() for (name,) in reading.texts(query) if name is not None]
