"""A store that has what a homelab has sent, made quickly: a month of ten hosts in about a minute."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.types.json import Jsonb

from gateway.component import Batch
from gateway.store import COPY_HEADER, COPY_TRAILER, Partitions
from gateway.store.rollups import PART
from gateway.store.settings import StoreSettings
from tests.support import homelab
from tests.support.databases import Database
from tests.support.frames import FRAME_COLUMNS, encoded_frames
from tests.support.stores import maintain, running_exporter, store
from tests.support.telemetry import DAY, SECOND

_Times = npt.NDArray[np.int64]

_STEP = 60 * SECOND
_TRACES_KEPT = 14 * DAY


def fill(database: Database, hosts: int, over: timedelta, end: datetime | None = None) -> None:
    """Store what so many hosts have sent in a time that ends now, or at ``end``.

    A collection of each host and a log line a minute, a trace in five, an event in thirty, and some runs. The gateway's
    exporter stores all of it but most collections: those are copied, as the frames and rollups that it would make.
    """
    last = round((end or datetime.now(UTC)).timestamp()) // 60 * _STEP
    times = np.arange(last - over // timedelta(seconds=1) * SECOND, last, _STEP, np.int64)
    series = {host: list(homelab.host_series(host, times)) for host in homelab.HOSTS[:hosts]}
    # Points of a first collection are rows; those of the second a frame, of a set that is known from then on. The last
    # two, for the first may be older than what is accepted.
    known = [homelab.collection(host, its, times, number) for number in (-2, -1) for host, its in series.items()]
    asyncio.run(_store(database, [*known, *_records(hosts, int(times[0]), last)]))
    with database.connect() as connection:
        _copy_frames(connection, series, times[:-2], native=database.native)
        _add_runs(connection, last)
    maintain(database)


async def _store(database: Database, batches: Iterable[Batch]) -> None:
    async with running_exporter(database) as exporter:
        for batch in batches:
            await store(exporter, batch)


def _records(hosts: int, first: int, last: int) -> Iterator[Batch]:
    """Everything but the metrics, day by day."""
    for begins in range(first, last, DAY):
        ends = min(begins + DAY, last)
        for host in homelab.HOSTS[:hosts]:
            yield homelab.log_lines(host, begins, ends, timedelta(minutes=1))
        if begins > last - _TRACES_KEPT:
            yield from homelab.traces(begins, ends, timedelta(minutes=5))
        yield homelab.events(begins, ends, timedelta(minutes=30))


def _copy_frames(
    connection: psycopg.Connection[Any], series: dict[str, list[homelab.Series]], times: _Times, *, native: bool
) -> None:
    if native:
        settings = StoreSettings()
        interval = settings.chunk_interval // timedelta(microseconds=1) * 1_000
        for table in ("frame", "frame_1m", "frame_1h"):
            Partitions(settings.chunk_interval).ensure(connection, table, set((times // interval).tolist()))
    matrices = [(set_id, _in_order(order, series[host])) for host, set_id, order in _sets(connection)]
    with connection.cursor().copy(f"COPY frame ({FRAME_COLUMNS}) FROM STDIN (FORMAT binary)") as stream:
        stream.write(COPY_HEADER)
        for first in range(0, len(times), 60):  # in the order in which they came, an hour at a time
            some = slice(first, first + 60)
            rows = [
                encoded_frames(set_id, times[some], matrix[some], homelab.STARTED * SECOND)
                for set_id, matrix in matrices
            ]
            for number in range(len(times[some])):
                stream.write(b"".join([its[number].tobytes() for its in rows]))
        stream.write(COPY_TRAILER)
    # A minute with one collection is that one. Maintenance makes the hours of the minutes.
    connection.execute(
        "INSERT INTO frame_1m (time, set_id, last_time, count, part, maxs)"
        " SELECT date_trunc('minute', time), set_id, time, 1, part, vals[part * %(size)s + 1 : (part + 1) * %(size)s]"
        " FROM frame, generate_series(0, (cardinality(vals) - 1) / %(size)s) AS part ORDER BY time",
        {"size": PART},
    )
    connection.execute(
        "INSERT INTO rollup_pending_1h SELECT DISTINCT date_trunc('hour', time) FROM frame"
        " WHERE time < date_trunc('hour', now())"
    )
    connection.execute("DELETE FROM rollup_pending")
    first = datetime.fromtimestamp(int(times[0]) / SECOND, UTC)
    connection.execute("UPDATE metric_seen SET first_seen = least(first_seen, %s)", (first,))
    connection.execute("VACUUM (ANALYZE)")


def _sets(connection: psycopg.Connection[Any]) -> list[tuple[str, int, list[tuple[str, tuple[tuple[str, str], ...]]]]]:
    """Each host, its set, and the metric and attributes of each member in the order of their values."""
    rows = connection.execute(
        "SELECT s.host_name, m.set_id, array_agg(jsonb_build_array(s.name, s.attributes) ORDER BY m.ord)"
        " FROM member m JOIN metric_series s USING (series_id) GROUP BY 1, 2"
    )
    return [(host, set_id, [(name, _key(attributes)) for name, attributes in its]) for host, set_id, its in rows]


def _key(attributes: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(attributes.items()))


def _in_order(
    order: Sequence[tuple[str, tuple[tuple[str, str], ...]]], its_series: Sequence[homelab.Series]
) -> npt.NDArray[np.float64]:
    """The values of a set's members, a column each, but for the two collections that are stored already."""
    values = {(each.instrument.name, _key(dict(each.attributes))): each.values for each in its_series}
    return np.column_stack([values[member] for member in order])[:-2]


_RUNS = (
    ("gitops", "homelab", "succeeded", {"changed": 3}, {"before": "4f1c2aa", "after": "9d03be7"}, None),
    ("pipeline", "shop-orders", "succeeded", {"read": 1_204, "sent": 1_204}, {}, None),
    ("gitops", "homelab", "failed", {}, {"before": "9d03be7"}, "step deploy ended with 1: image not found"),
    ("pipeline", "shop-orders", "succeeded", {"read": 317, "sent": 317}, {}, None),
)


def _add_runs(connection: psycopg.Connection[Any], last: int) -> None:
    """Runs as gateways write them down, one an hour."""
    for number, (kind, name, state, counts, result, error) in enumerate(_RUNS * 3):
        began = datetime.fromtimestamp(last / SECOND, UTC) - timedelta(hours=number, minutes=7)
        connection.execute(
            "INSERT INTO run (id, kind, name, state, trigger, requested_at, started_at, finished_at, attempt, holder,"
            " counts, result, output, error) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 1, 'nas', %s, %s, %s, %s)",
            (
                uuid.UUID(int=number + 1), kind, name, state, Jsonb({"by": "schedule"}), began,
                began + timedelta(seconds=1), began + timedelta(seconds=9 + number), Jsonb(counts), Jsonb(result),
                "fetched origin\n", error,
            ),
        )  # fmt: skip
