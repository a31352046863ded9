"""How rows look in binary COPY, for numpy to look into, and statements and keys as they stand in SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt
from psycopg import sql

Rows = npt.NDArray[Any]
"""Rows of fixed columns, as `row_of` has them."""


def row_of(*columns: tuple[str, str]) -> np.dtype[Any]:
    """Return how a row of fixed columns looks in binary COPY, of names and types such as ``("time", ">i8")``."""
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in columns:
        fields += [(f"{name}_length", ">i4"), (name, kind)]
    return np.dtype(fields)


def array_of(kind: str, count: int) -> np.dtype[Any]:
    """Return how an array of one dimension looks in binary COPY: ``items["value"]`` has its elements."""
    if count == 0:
        return np.dtype([("length", ">i4"), ("dimensions", ">i4", 3), ("items", [("size", ">i4"), ("value", kind)], 0)])
    return np.dtype([("length", ">i4"), ("dimensions", ">i4", 5), ("items", [("size", ">i4"), ("value", kind)], count)])


def statement(text: LiteralString, **parts: str | int) -> sql.SQL:
    """Return a statement with its parts, which are this package's own words, numbers and times, in their places.

    `psycopg.sql` takes ten times as long for that. Whatever somebody else may have written belongs into its `Literal`.
    """
    return sql.SQL(text.format(**parts))  # pyright: ignore[reportArgumentType] - of literals


def as_array(values: Iterable[int]) -> str:
    """Return numbers as an array in a statement, without its type."""
    return "'{" + ",".join(map(str, values)) + "}'"


def ids(values: npt.NDArray[np.int64]) -> sql.SQL:
    """Return keys as an array in SQL."""
    return statement("{keys}", keys=as_array(values.tolist()))
