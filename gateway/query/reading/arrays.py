"""How rows look in binary COPY, for numpy to look into, and keys as they stand in SQL."""

from __future__ import annotations

from typing import Any

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


def ids(values: npt.NDArray[np.int64]) -> sql.Literal:
    """Return keys as an array in SQL."""
    return sql.Literal("{" + ",".join(map(str, values.tolist())) + "}")
