"""Points that are observed together are stored as frames: as few rows as can be, and nothing of them is lost."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from gateway.component import Batch, Signal
from gateway.store.collection import collect_dimensions
from tests.support.databases import Database
from tests.support.stores import maintain, running_exporter, store
from tests.support.telemetry import SECOND, Value, collection, now

_MINUTE = 60 * SECOND
_HOUR = 60 * _MINUTE
_START = 1_700_000_000_123_456_789


def points(database: Database, where: str = "true") -> list[tuple[Any, ...]]:
    return database.run(
        "SELECT (attributes ->> 'n')::int, time_unix_nano::bigint, start_time_unix_nano::bigint, value, int_value"
        f" FROM metrics WHERE {where} ORDER BY 2, 1"
    )


def bits(value: float) -> bytes:
    return struct.pack(">d", value)


@pytest.mark.parametrize(
    "start",
    [lambda index: 0, lambda index: _START, lambda index: _START + 1001 * index, lambda index: index % 2 * _START],
    ids=["no start", "one start", "a start each", "a start for some"],
)
async def test_a_collection_that_comes_again_is_a_few_rows_and_reads_as_it_was(
    database: Database, start: Callable[[int], int]
) -> None:
    values: list[Value] = [0.1, -0.0, float("inf"), float("-inf"), 5e-324, 1.7e308, 2**53 + 1, -(2**63), 2**63 - 1, 7]
    values += [index if index % 3 else index / 7 for index in range(200)]
    first = now() - 1_000 * SECOND
    async with running_exporter(database) as exporter:
        for index in range(3):
            assert await store(exporter, collection(first + 7 + index * 15 * SECOND, values, start=start)) == [True]
    assert database.count("sample") == len(values)  # of the first time
    assert database.value("SELECT count(*) FROM frame WHERE time_ns IS NOT NULL") <= 2 * (len(values) // 40 + 1)
    found = points(database)
    expected = [
        (n, first + 7 + index * 15 * SECOND, start(n) or None, float(value), value if isinstance(value, int) else None)
        for index in range(3)
        for n, value in enumerate(values)
    ]
    assert [row[:3] + row[4:] for row in found] == [row[:3] + row[4:] for row in expected]
    assert [bits(row[3]) for row in found] == [bits(row[3]) for row in expected]


async def test_nan_is_kept_in_a_frame(database: Database) -> None:
    at = now()
    async with running_exporter(database) as exporter:
        for index in range(2):
            await store(exporter, collection(at + index, [1.0, float("nan"), 3.0]))
    assert database.count("frame") == 1
    assert database.value("SELECT count(*) FROM metrics WHERE value = 'NaN'") == 2


async def test_a_series_that_comes_or_goes_changes_few_sets(database: Database) -> None:
    names = list(range(600))
    at = now() - 100 * SECOND
    async with running_exporter(database) as exporter:

        async def sets_after(names: list[int]) -> int:
            nonlocal at
            for _ in range(2):
                at += SECOND
                await store(exporter, collection(at, [1.0] * len(names), names=names, metrics=40))
            return int(database.value("SELECT count(*) FROM series_set"))

        known = await sets_after(names)
        assert known >= 600 // 112
        for change in (names[:300] + names[301:], [*names, 5_000], names[1:], [*names[:17], 7_000, *names[17:]]):
            before = known
            known = await sets_after(change)
            assert known - before <= 2
        shuffled = names.copy()
        random.Random(1).shuffle(shuffled)
        assert await sets_after(shuffled) == known


async def test_a_gateway_that_starts_again_knows_the_sets_of_the_store(database: Database) -> None:
    at = now() - 100 * SECOND
    for life in range(3):
        async with running_exporter(database) as exporter:
            for index in range(2):
                await store(exporter, collection(at + 10 * life + index, [1.0] * 50))
    assert database.count("sample") == 50  # of the first time of all
    assert len(points(database)) == 300


async def test_moments_of_few_points_each_are_stored(database: Database) -> None:
    """Some clients read the clock anew for each metric."""
    at = now() - 100 * SECOND
    request = ExportMetricsServiceRequest()
    for n in range(60):
        part = ExportMetricsServiceRequest.FromString(collection(at + n // 3, [float(n)], names=[n]).payload)
        request.resource_metrics.extend(part.resource_metrics)
    async with running_exporter(database) as exporter:
        for attempt in range(3):
            request.resource_metrics[0].schema_url = str(attempt)
            await store(exporter, Batch.of(Signal.METRICS, request.SerializeToString()))
    assert sorted(row[3] for row in points(database)) == sorted(float(n) for n in range(60) for _ in range(3))
    assert database.count("frame") > 0


async def test_points_of_one_series_alone_are_rows(database: Database) -> None:
    at = now()
    async with running_exporter(database) as exporter:
        for index in range(4):
            await store(exporter, collection(at + index, [1.0]))
    assert database.count("frame") == 0
    assert len(points(database)) == 4


async def test_a_series_that_is_twice_in_a_collection_is_stored_twice(database: Database) -> None:
    at = now()
    async with running_exporter(database) as exporter:
        for index in range(3):
            await store(exporter, collection(at + index, [1.0, 2.0, 3.0, 4.0], names=[1, 2, 1, 3]))
    found = points(database)
    assert sorted(row[3] for row in found) == sorted(3 * [1.0, 2.0, 3.0, 4.0])


async def test_another_gateway_declares_the_same_sets(database: Database) -> None:
    at = now()
    async with running_exporter(database) as one, running_exporter(database) as other:
        for index in range(3):
            for exporter in (one, other):
                at += 1
                await store(exporter, collection(at, [float(index)] * 50))
    assert database.value("SELECT count(*) FROM member") == 50
    assert len(points(database)) == 300


async def test_a_client_of_which_no_collection_is_like_another_makes_few_sets(database: Database) -> None:
    at, dice = now(), random.Random(1)
    async with running_exporter(database, series_limit_total=1_000) as exporter:
        exporter._sets._limit = 20
        for _ in range(60):
            names = dice.sample(range(200), 40)
            for _ in range(2):
                at += 1
                await store(exporter, collection(at, [1.0] * 40, names=names))
    assert database.count("series_set") <= 30  # those on the way are not counted when it looks at the store
    assert len(points(database)) == 60 * 2 * 40


async def test_sets_that_no_frame_refers_to_are_collected_and_declared_again(database: Database) -> None:
    at = now() - 100 * SECOND
    async with running_exporter(database) as exporter:
        for index in range(3):
            await store(exporter, collection(at + index, [1.0] * 30))
        for table in ("frame", "sample"):
            database.run(f"DELETE FROM {table}")
        maintain(database)
        for table in ("frame_1m", "sample_1m", "frame_1h", "sample_1h"):
            database.run(f"DELETE FROM {table}")
        with database.connect() as connection:
            collect_dimensions(connection)
        assert database.count("series_set") == database.count("member") == database.count("series") == 0
        for index in range(3, 5):
            await store(exporter, collection(at + index, [2.0] * 30))
    assert len(points(database)) == 60
    assert database.count("frame") > 0


@pytest.mark.parametrize("change", ["none", "restart", "composition", "late", "nan"])
async def test_rollups_of_frames_are_what_sql_computes_from_the_points(database: Database, change: str) -> None:
    dice = random.Random(3)
    first = now() // _HOUR * _HOUR - 3 * _HOUR
    for life in range(2 if change == "restart" else 1):
        async with running_exporter(database) as exporter:
            for step in range(life * 120, (life + 1) * 120 if change == "restart" else 240):
                names = list(range(130))
                if change == "composition" and step > 97:
                    names.remove(64)
                # Some that are never alike, counters, and some that stand still.
                values: list[Value] = [(dice.uniform(-1, 1), step * n, float(n))[n % 3] for n in names]
                if change == "nan" and step % 50 == 7:
                    values[11] = float("nan")
                await store(exporter, collection(first + step * 15 * SECOND + 5, values, names=names))
                if change == "late" and step == 150:
                    maintain(database)
                    late = collection(first + 3 * 15 * SECOND + 9, [99.0] * 130)
                    await store(exporter, late)
    maintain(database)
    for view, length in (("rollup_1m", "1 minute"), ("rollup_1h", "1 hour")):
        expected = database.run(
            "SELECT date_bin(%s, time, 'epoch'), series_id, count(*), min(value), max(value),"
            " (array_agg(value ORDER BY time DESC, time_ns DESC))[1], max(time), sum(value)"
            " FROM number_point WHERE value <> 'NaN' GROUP BY 1, 2 ORDER BY 1, 2",
            [length],
        )
        actual = database.run(
            f"SELECT time, series_id, count, min, max, last, last_time, sum FROM {view} WHERE count > 0 ORDER BY 1, 2"
        )
        assert [row[:-1] for row in actual] == [row[:-1] for row in expected]
        assert [row[-1] for row in actual] == pytest.approx([row[-1] for row in expected], rel=1e-12)
    of_frames = database.value("SELECT count(*) FROM frame_1m")
    assert of_frames > 0
    assert database.count("sample_1m") < {"none": 1, "late": 1}.get(change, 400)


async def test_of_an_interval_under_way_no_rollup_is_shown(database: Database) -> None:
    at = now()
    async with running_exporter(database) as exporter:
        for index in range(3):
            await store(exporter, collection(at - index, [1.0] * 30))
    maintain(database)
    assert database.count("rollup_1h") == 0
    assert database.value("SELECT count(*) FROM rollup_1m WHERE time > now() - interval '1 minute'") == 0
