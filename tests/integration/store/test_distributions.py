"""Histograms and summaries: what all of their points repeat is stored once, and reads as if it stood in each."""

from __future__ import annotations

import pytest

from gateway.store.collection import collect_dimensions
from tests.support.databases import Database
from tests.support.stores import running_exporter, store
from tests.support.telemetry import BOUNDS, SECOND, exponential_histogram, histogram, now, summary


async def test_bounds_that_come_again_are_stored_once(database: Database) -> None:
    at = now() - 100 * SECOND
    odd = [float("-inf"), -0.0, 5e-324, 0.1, 1.7976931348623157e308]
    async with running_exporter(database) as exporter:
        for step in range(4):
            await store(
                exporter,
                histogram(at + step),
                histogram(at + step, odd, name="odd"),
                histogram(at + step, [], [5], "one"),
            )
            await store(exporter, summary(at + step, [0.5, 0.9, 0.99, 1.0]), summary(at + step, [], "empty"))
    assert database.run("SELECT count(*), count(bounds_id), count(explicit_bounds) FROM histogram_sample") == [
        (12, 9, 3)
    ]
    assert database.run("SELECT count(*), count(quantiles_id), count(quantiles) FROM summary_sample") == [(8, 7, 1)], (
        "an empty list is an empty list"
    )
    assert database.count("bounds") == 4
    for name, bounds, counts in (("latency", BOUNDS, list(range(12))), ("odd", odd, list(range(6))), ("one", [], [5])):
        found = database.run("SELECT explicit_bounds::text, bucket_counts FROM histograms WHERE name = %s", [name])
        assert len(found) == 4
        assert len({text for text, _ in found}) == 1, "those of the row read as those of the dimension"
        assert [float(each) for each in found[0][0].strip("{}").split(",") if each] == bounds
        assert all(read == counts for _, read in found)
    assert database.run("SELECT DISTINCT quantiles, quantile_values FROM summaries WHERE name = 'gc'") == [
        ([0.5, 0.9, 0.99, 1.0], [3.5, 6.3, 6.93, 7.0])
    ]
    for view, table in (("histogram_point", "histograms"), ("summary_point", "summaries")):
        column = "explicit_bounds" if view == "histogram_point" else "quantiles"
        assert database.run(f"SELECT time, time_ns, {column} FROM {view} ORDER BY 1, 2, 3") == database.run(
            f"SELECT time, time_ns, {column} FROM {table} ORDER BY 1, 2, 3"
        )


@pytest.mark.parametrize("largest", [0, 2**31 - 1, 2**31, 2**63 - 1])
async def test_counts_take_four_bytes_where_they_fit(database: Database, largest: int) -> None:
    at = now()
    few, many = [1, largest, 0], [*range(99), largest]
    async with running_exporter(database) as exporter:
        await store(
            exporter, histogram(at, [1.0, 2.0], few), histogram(at, [float(n) for n in range(99)], many, "many")
        )
        await store(exporter, exponential_histogram(at, few))
    assert database.run("SELECT name, bucket_counts FROM histograms WHERE type = 'histogram' ORDER BY 1") == [
        ("latency", few), ("many", many),
    ]  # fmt: skip
    read = "SELECT positive_bucket_counts, negative_bucket_counts FROM"
    assert database.run(f"{read} histograms WHERE type = 'exponential_histogram'") == [(few, [1, *few])]
    assert database.run(f"{read} exp_histogram_point") == [(few, [1, *few])]
    is_small = largest < 2**31
    small = database.run("SELECT small_bucket_counts IS NOT NULL, bucket_counts IS NULL FROM histogram_sample")
    assert small == [(is_small, is_small)] * 2
    assert database.value("SELECT small_positive_bucket_counts IS NOT NULL FROM exp_histogram_sample") is is_small


async def test_points_that_an_earlier_version_stored_are_read_beside(database: Database) -> None:
    at = now()
    async with running_exporter(database) as exporter:
        for step in range(2):
            await store(
                exporter, histogram(at + step), summary(at + step, [0.5]), exponential_histogram(at + step, [1, 2])
            )
    before = {
        view: database.run(f"SELECT * FROM {view} ORDER BY time_unix_nano, name")
        for view in ("histograms", "summaries")
    }
    for statement in (
        "UPDATE histogram_sample SET explicit_bounds = bounds, bounds_id = NULL FROM bounds b WHERE b.id = bounds_id",
        "UPDATE histogram_sample SET bucket_counts = small_bucket_counts, small_bucket_counts = NULL",
        "UPDATE exp_histogram_sample SET positive_bucket_counts = small_positive_bucket_counts,"
        " negative_bucket_counts = small_negative_bucket_counts, small_positive_bucket_counts = NULL,"
        " small_negative_bucket_counts = NULL",
        "UPDATE summary_sample SET quantiles = bounds, quantiles_id = NULL FROM bounds b WHERE b.id = quantiles_id",
        "DELETE FROM bounds",
    ):
        database.run(statement)
    for view, rows in before.items():
        assert database.run(f"SELECT * FROM {view} ORDER BY time_unix_nano, name") == rows


async def test_bounds_that_nothing_refers_to_are_collected_and_declared_again(database: Database) -> None:
    at = now()
    async with running_exporter(database) as exporter:
        for step in range(3):
            await store(exporter, histogram(at + step), summary(at + step, [0.5]))
        database.run("DELETE FROM summary_sample")
        with database.connect() as connection:
            collect_dimensions(connection)
        assert database.run("SELECT bounds FROM bounds") == [(BOUNDS,)], "those of the histogram are in use"
        database.run("DELETE FROM histogram_sample")
        with database.connect() as connection:
            collect_dimensions(connection)
        assert database.count("bounds") == 0
        for step in range(3, 5):
            await store(exporter, histogram(at + step), summary(at + step, [0.5]))
    assert database.run("SELECT DISTINCT explicit_bounds FROM histograms") == [(BOUNDS,)]
    assert database.run("SELECT DISTINCT quantiles FROM summaries") == [([0.5],)]
    assert database.run("SELECT count(*) FROM histogram_sample WHERE bounds_id NOT IN (SELECT id FROM bounds)") == [
        (0,)
    ]


async def test_a_client_whose_bounds_never_repeat_makes_no_dimension_of_them(database: Database) -> None:
    at = now()
    async with running_exporter(database) as exporter:
        exporter._dimensions._MOST_BOUNDS = 5  # type: ignore[misc]
        for step in range(30):
            await store(exporter, histogram(at + step, [float(step), step + 0.5]))
        for step in range(2):
            await store(exporter, histogram(at + step, BOUNDS, name="real"))
    assert database.run("SELECT bounds FROM bounds") == [(BOUNDS,)]
    assert database.value("SELECT count(DISTINCT explicit_bounds) FROM histograms") == 31
