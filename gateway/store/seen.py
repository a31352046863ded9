"""When metrics of an earlier version were first and last observed: looked for in the background, once.

From then on writers note it themselves (`metric_seen`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

from psycopg import sql

from gateway.store.layout import Connection

_SECONDS = 5.0
"""How long a round of maintenance looks, at most about: one metric may take longer."""

_EXACT, _MINUTE, _HOUR = timedelta(0), timedelta(minutes=1), timedelta(hours=1)
_OF_NUMBERS = (
    ("sample", "series", _EXACT),
    ("frame", "set", _EXACT),
    ("sample_1m", "series", _MINUTE),
    ("frame_1m", "set", _MINUTE),
    ("sample_1h", "series", _HOUR),
    ("frame_1h", "set", _HOUR),
)
_TABLES = {
    "histogram": (("histogram_sample", "series", _EXACT),),
    "exponential_histogram": (("exp_histogram_sample", "series", _EXACT),),
    "summary": (("summary_sample", "series", _EXACT),),
}
"""Where points are by type, which dimension they refer to, and to within what their times are known."""

_KEYS = {
    "series": sql.SQL("SELECT id AS key FROM series WHERE metric_id = %(metric)s"),
    "set": sql.SQL(
        "SELECT DISTINCT b.set_id AS key FROM member b JOIN series e ON e.id = b.series_id"
        " WHERE e.metric_id = %(metric)s"
    ),
}
# Both ends are found by the index, for each series or set; what is between is not read. Were a plain 1 the limit, the
# index on the time might be searched instead, all of it for a set that has none there.
_ENDS = sql.SQL(
    "SELECT min((SELECT time FROM {table} f WHERE f.{column} = k.key ORDER BY time LIMIT (SELECT 1))),"
    " max((SELECT time FROM {table} f WHERE f.{column} = k.key ORDER BY time DESC LIMIT (SELECT 1))) FROM ({keys}) k"
)


def look_back(connection: Connection) -> None:
    """Look for when some of those metrics were observed of which that is not known. Commits each by itself."""
    began = time.monotonic()
    rows = connection.execute(
        "SELECT m.id, m.type FROM metric_seen s JOIN metric m ON m.id = s.metric_id WHERE NOT s.is_whole"
    ).fetchall()
    for metric, kind in rows:
        if time.monotonic() - began > _SECONDS:
            return
        first = last = None
        for earliest, latest, within in _ends(connection, metric, kind):
            # Of an interval that was rolled up, only its start is known: the points, where they are there, say better.
            first = earliest if first is None or earliest + within <= first else first
            last = latest if last is None else max(last, latest)
        connection.execute(
            "UPDATE metric_seen SET first_seen = least(first_seen, %s), last_seen = greatest(last_seen, %s),"
            " is_whole = true WHERE metric_id = %s",
            (first, last, metric),
        )


def _ends(connection: Connection, metric: int, kind: str) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """Yield the ends of what tables have of a metric, and to within what they are known, points before rollups."""
    for table, by, within in _TABLES.get(kind, _OF_NUMBERS):
        query = _ENDS.format(table=sql.Identifier(table), column=sql.Identifier(f"{by}_id"), keys=_KEYS[by])
        for first, last in connection.execute(query, {"metric": metric}):
            if first is not None:
                yield first, last, within
