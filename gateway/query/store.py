"""The store, asked by statements: rows of it, decoded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, LiteralString, Self, TypeVar, overload

import msgspec
from psycopg import sql

from gateway.query.limits import Usage
from gateway.query.reading.connection import Readers, Reading

Row = dict[str, Any]
_T = TypeVar("_T")

_AS_JSON = sql.SQL("SELECT row_to_json(found)::text FROM ({}) AS found")


class Store:
    """Whoever has one may ask the store, within the bounds of one `Usage`. Raises `QueryError`.

    A row is what JSON has of it: numbers, text, lists and objects; whatever else it is to be, such as a time or a float
    that may not be finite, ``of`` says, a type that `msgspec` knows.
    """

    def __init__(self, lend: Callable[[], contextlib.AbstractContextManager[Reading]]) -> None:
        self._lend = lend

    @classmethod
    def by(cls, readers: Readers, usage: Usage) -> Self:
        """Return a store that is asked by whichever connection is free, and by a new one where one broke."""
        return cls(lambda: readers.reading(usage))

    @classmethod
    def of(cls, reading: Reading) -> Self:
        """Return the store at the end of a connection."""
        return cls(lambda: contextlib.nullcontext(reading))

    @overload
    def rows(self, statement: LiteralString, parameters: Mapping[str, Any] | None = None) -> list[Row]: ...

    @overload
    def rows(self, statement: LiteralString, parameters: Mapping[str, Any] | None, of: type[_T]) -> list[_T]: ...

    def rows(self, statement: LiteralString, parameters: Mapping[str, Any] | None = None, of: Any = Row) -> list[Any]:
        """Return what a statement finds. ``%(name)s`` stands in it for a parameter."""
        return list(self.stream(statement, parameters, of))

    @overload
    def stream(self, statement: LiteralString, parameters: Mapping[str, Any] | None = None) -> Iterator[Row]: ...

    @overload
    def stream(self, statement: LiteralString, parameters: Mapping[str, Any] | None, of: type[_T]) -> Iterator[_T]: ...

    def stream(
        self, statement: LiteralString, parameters: Mapping[str, Any] | None = None, of: Any = Row
    ) -> Iterator[Any]:
        """Yield what a statement finds, as it arrives."""
        decode = _decoder(of).decode
        with self._lend() as reading:
            for (text,) in reading.texts(_AS_JSON.format(reading.composed(statement, parameters))):
                assert text is not None, "a row is not NULL"
                yield decode(text)


@cache
def _decoder(of: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(of, strict=False)  # "NaN" and "Infinity" are floats where a float is wanted
