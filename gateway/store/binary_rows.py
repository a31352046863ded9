"""Binary COPY and the elements of its arrays, with NumPy: apart from `binary`, since loading that is a third of what a
query costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql

from gateway.store.binary import HEADER, TRAILER
from gateway.store.layout import Connection

FLOAT8_ITEM = np.dtype([("length", ">i4"), ("value", ">f8")])
"""An element of a ``double precision[]`` that is not NULL."""
INT8_ITEM = np.dtype([("length", ">i4"), ("value", ">i8")])
"""The same of a ``bigint[]``."""


def array_items(dtype: np.dtype[np.void], count: int) -> npt.NDArray[np.void]:
    """Return so many elements of an array, whose values are to be set."""
    items = np.empty(count, dtype)
    items["length"] = dtype["value"].itemsize
    return items


def read_rows(connection: Connection, query: sql.Composed, row: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return the rows of a ``COPY ... TO STDOUT (FORMAT binary)`` whose rows are all laid out alike.

    Of a million short ones as Python objects there would be several times as many bytes.
    """
    with connection.cursor().copy(query) as stream:
        data = b"".join(stream)
    return np.frombuffer(data[len(HEADER) : -len(TRAILER)], row)
