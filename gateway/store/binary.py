"""What begins and ends a binary COPY of PostgreSQL's, and where its time begins.

Source: PostgreSQL documentation, COPY, "Binary Format".
"""

from __future__ import annotations

import struct

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = b"\xff\xff"

POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 in microseconds since the Unix epoch: PostgreSQL counts from there."""
