"""PostgreSQL's binary COPY: what begins and ends one, where its time begins, how arrays begin, and reading one whole.

Source: PostgreSQL documentation, COPY, "Binary Format"; ``array_send`` of its source for arrays.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql

from gateway.store.layout import Connection

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = b"\xff\xff"

POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 in microseconds since the Unix epoch: PostgreSQL counts from there."""

OID_INT8, OID_FLOAT8 = 20, 701

array_begin = struct.Struct(">iiiiii").pack
"""What is before the elements of an array of one dimension: the length of all behind this, the number of dimensions,
whether there are NULLs, the OID of the elements, how many there are, and the index of the first."""

FLOAT8_ITEM = np.dtype([("length", ">i4"), ("value", ">f8")])
"""An element of a ``double precision[]`` that is not NULL."""


def read_rows(connection: Connection, query: sql.Composed, row: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return the rows of a ``COPY ... TO STDOUT (FORMAT binary)`` whose rows are all laid out alike.

    Of a million short ones as Python objects there would be several times as many bytes.
    """
    with connection.cursor().copy(query) as stream:
        data = b"".join(stream)
    return np.frombuffer(data[len(HEADER) : -len(TRAILER)], row)
