"""What can go wrong with a query, by the kinds that Prometheus's HTTP API tells apart (``errorType``)."""

from __future__ import annotations

from typing import ClassVar


class QueryError(Exception):
    """A query that has no result. The text is for whoever wrote the query."""

    kind: ClassVar[str] = "internal"


class BadQueryError(QueryError):
    """The query or a parameter cannot be understood (``bad_data``).

    ``position`` is the place in the text of the query, as the offset of a character from 0, where there is one.
    """

    kind = "bad_data"

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class ExecutionError(QueryError):
    """The query was understood, but what it asks for cannot be done with the data that there is (``execution``)."""

    kind = "execution"


class PatternError(BadQueryError):
    """A regular expression that PostgreSQL cannot read."""


class StoreAwayError(ExecutionError):
    """The store does not answer now, and may later."""


class LimitExceededError(ExecutionError):
    """The query would touch or make more than is allowed. ``limit`` names the bound, ``allowed`` is its value."""

    def __init__(self, message: str, limit: str, allowed: int) -> None:
        super().__init__(message)
        self.limit = limit
        self.allowed = allowed


class QueryTimeoutError(QueryError):
    """The query took longer than it may (``timeout``)."""

    kind = "timeout"


class QueryCanceledError(QueryError):
    """Whoever asked has gone, or the hub stops (``canceled``)."""

    kind = "canceled"
