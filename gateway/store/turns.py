"""Work that one gateway does for all of them, once an interval.

Whoever comes first when it is due has the turn, which is noted in the store by the server's clock: a gateway that ends
in the middle of it keeps nobody from the next. A lock would not do: behind a pooler none outlasts a transaction, and
the work takes many.
"""

from __future__ import annotations

import enum
from datetime import timedelta

from gateway.store.layout import Connection


class Turn(enum.StrEnum):
    """What is taken turns at. The value is the key of the setting in ``store_setting``."""

    MAINTENANCE = "turn_maintenance"
    COLLECTION = "turn_collection"


# One that lies ahead was noted before the clock was set back.
_TAKE = """
INSERT INTO store_setting AS known (key, value) VALUES (%(turn)s, to_jsonb(clock_timestamp()))
ON CONFLICT (key) DO UPDATE SET value = excluded.value
WHERE (known.value #>> '{}')::timestamptz NOT BETWEEN clock_timestamp() - %(every)s AND clock_timestamp()
RETURNING xmax <> 0
"""


def take(connection: Connection, turn: Turn, every: timedelta, *, at_first: bool = True) -> bool:
    """Take the turn, if nobody has had it for that long. Returns whether it was taken.

    Not ``at_first``, nobody has it before the interval has passed since somebody asked for the first time.
    """
    row = connection.execute(_TAKE, {"turn": turn.value, "every": every}).fetchone()
    return row is not None and (at_first or bool(row[0]))
