"""PostgreSQL's binary COPY: what begins and ends one, where its time begins, and how arrays begin.

Source: PostgreSQL documentation, COPY, "Binary Format"; ``array_send`` of its source for arrays.
"""

from __future__ import annotations

import struct

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = b"\xff\xff"

POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 in microseconds since the Unix epoch: PostgreSQL counts from there."""

OID_INT8, OID_FLOAT8 = 20, 701

array_begin = struct.Struct(">iiiiii").pack
"""What is before the elements of an array of one dimension: the length of all behind this, the number of dimensions,
whether there are NULLs, the OID of the elements, how many there are, and the index of the first."""
