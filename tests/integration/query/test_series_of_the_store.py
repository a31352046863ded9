"""What is in the store, as series of Prometheus's: names, labels, samples."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from typing import Any

import numpy as np
import pytest
from psycopg import sql

from gateway.component import Batch
from gateway.query.errors import ExecutionError, LimitExceededError, QueryCanceledError, QueryTimeoutError
from gateway.query.reading.arrays import row_of
from gateway.query.series import Matcher, is_stale
from tests.support.databases import Database
from tests.support.prometheus import DELTA, NO_VALUE, Collection, matchers, querier, querying, select
from tests.support.stores import running_exporter, store
from tests.support.waiting import until

STEP = 15_000
NOW = time.time_ns() // 10**6 // STEP * STEP
COUNT = 8
FIRST = NOW - COUNT * STEP
START = FIRST - 1
TIMES = [FIRST + n * STEP for n in range(COUNT)]


def fill(database: Database, batches: list[Batch]) -> None:
    async def run() -> None:
        async with running_exporter(database) as exporter:
            for batch in batches:  # each in a commit of its own: sets are declared when they come again
                await store(exporter, batch)

    asyncio.run(run())


@pytest.fixture
def stored(database: Database) -> Database:
    """A service's counters and gauges, histograms and summaries; most are in frames, the first ones are rows."""
    batches = []
    for n, at in enumerate(TIMES):
        its = Collection(at)
        for route in ("/a", "/b", "/c"):
            its.counter("http.requests", n * ord(route[1]), attributes={"http.route": route})
        its.counter("jobs", 2, "{job}", DELTA)
        its.gauge("temperature", 20 + n / 10, "Cel", flags=NO_VALUE if n == COUNT - 1 else 0)
        its.histogram("latency", [0.1, 1], [n, 2 * n, 3 * n], 1.5 * n, unit="s")
        its.histogram("sizes", [10], [1, 2], 30, unit="By", temporality=DELTA)
        its.exponential("spread", 0, 2, [n, 0, 2 * n], zero_count=n, total=7.0 * n)
        its.summary("rpc", n, 2.0 * n, {0.5: n, 0.99: 2 * n})
        batches.append(its.batch)
    fill(database, batches)
    return database


def values(series: Any) -> list[float]:
    found: list[float] = series.values.tolist()
    return found


def test_counters_and_gauges(stored: Database) -> None:
    with querier(stored) as its:
        found = select(its, START, NOW, name="http_requests_total")
        assert [series.labels["http_route"] for series in found] == ["/a", "/b", "/c"]
        assert found[0].labels == {
            "__name__": "http_requests_total",
            "http_route": "/a",
            "job": "shop",
            "instance": "1",
        }
        for series, factor in zip(found, (97, 98, 99), strict=True):
            assert series.times.tolist() == TIMES
            assert values(series) == [n * factor for n in range(COUNT)]
        assert found[0].times is found[1].times, "what came together shares its times"
        (gauge,) = select(its, START, NOW, name="temperature_celsius")
        assert values(gauge)[:-1] == [20 + n / 10 for n in range(COUNT - 1)]
        assert is_stale(gauge.values).tolist() == [False] * (COUNT - 1) + [True]


def test_the_time_range_is_open_at_its_start(stored: Database) -> None:
    with querier(stored) as its:
        (found,) = select(its, TIMES[2], TIMES[4], Matcher("http_route", "=", "/a"), name="http_requests_total")
        assert found.times.tolist() == TIMES[3:5]
        assert select(its, NOW + STEP, NOW + 2 * STEP, name="http_requests_total") == []


@pytest.mark.parametrize(
    ("matcher", "routes"),
    [
        (Matcher("http_route", "=", "/a"), ["/a"]),
        (Matcher("http_route", "!=", "/a"), ["/b", "/c"]),
        (Matcher("http_route", "=~", "/[ab]"), ["/a", "/b"]),
        (Matcher("http_route", "=~", "/"), []),
        (Matcher("http_route", "!~", "/a|/b"), ["/c"]),
        (Matcher("job", "=", "shop"), ["/a", "/b", "/c"]),
        (Matcher("job", "=~", "sh"), []),
        (Matcher("instance", "!=", "1"), []),
        (Matcher("missing", "=", ""), ["/a", "/b", "/c"]),
        (Matcher("missing", "!=", ""), []),
    ],
)
def test_matchers(stored: Database, matcher: Matcher, routes: list[str]) -> None:
    with querier(stored) as its:
        found = select(its, START, NOW, matcher, name="http_requests_total")
        assert [series.labels["http_route"] for series in found] == routes


def test_deltas_are_summed_up(stored: Database) -> None:
    with querier(stored) as its:
        (jobs,) = select(its, START, NOW, name="jobs_total")
        assert values(jobs) == [2.0 * (n + 1) for n in range(COUNT)]
        (upto_ten,) = select(its, START, NOW, name="sizes_bytes_bucket", le="10")
        assert values(upto_ten) == [n + 1 for n in range(COUNT)]


def test_histograms_become_buckets(stored: Database) -> None:
    with querier(stored) as its:
        buckets = select(its, START, NOW, name="latency_seconds_bucket")
        assert {series.labels["le"]: values(series)[-1] for series in buckets} == {"0.1": 7, "1": 21, "+Inf": 42}
        (some,) = select(its, START, NOW, Matcher("le", "=~", "1"), name="latency_seconds_bucket")
        assert values(some) == [3 * n for n in range(COUNT)]
        (total,), (count,) = (select(its, START, NOW, name=f"latency_seconds_{part}") for part in ("sum", "count"))
        assert (values(total)[-1], values(count)[-1]) == (10.5, 42)
        assert buckets[0].times is buckets[1].times


def test_summaries_have_quantiles(stored: Database) -> None:
    with querier(stored) as its:
        quantiles = select(its, START, NOW, name="rpc")
        assert {series.labels["quantile"]: values(series)[-1] for series in quantiles} == {"0.5": 7, "0.99": 14}
        (count,) = select(its, START, NOW, name="rpc_count")
        assert values(count) == list(range(COUNT))


def test_exponential_histograms_are_native(stored: Database) -> None:
    with querier(stored) as its:
        (spread,) = select(its, START, NOW, name="spread")
    found = spread.histograms
    assert found is not None
    assert len(spread.times) == 0
    assert found.times.tolist() == TIMES
    assert set(found.schemas.tolist()) == {0}
    assert found.counts.tolist() == [4 * n for n in range(COUNT)]
    assert found.sums.tolist() == [7 * n for n in range(COUNT)]
    assert found.zero_counts.tolist() == list(range(COUNT))
    assert set(found.positive.offsets.tolist()) == {3}, "Prometheus counts from 1"
    assert found.positive.counts[found.positive.starts[-2] :].tolist() == [7, 0, 14]


def test_a_finer_scale_than_prometheus_has_is_made_coarser(database: Database) -> None:
    fill(database, [Collection(at).exponential("x", 10, 3, [1, 2, 3, 4, 5, 6]).batch for at in TIMES[:2]])
    with querier(database) as its:
        (found,) = select(its, START, NOW, name="x")
    assert found.histograms is not None
    assert found.histograms.schemas.tolist() == [8, 8]
    # OTLP's 3 | 4 5 6 7 | 8 are 0 | 1 | 2 of four times the width, which Prometheus counts from 1.
    assert found.histograms.positive.offsets.tolist() == [1, 1]
    assert found.histograms.positive.counts.tolist() == [1, 14, 6] * 2


def test_buckets_beyond_all_numbers_are_the_last_ones(database: Database) -> None:
    """Dense sums of what is billions of buckets apart would take all memory."""
    fill(
        database,
        [
            Collection(at).exponential("x", 0, offset, [1, 2]).batch
            for at, offset in ((TIMES[0], -(2**31)), (TIMES[1], 2**31 - 2))
        ],
    )
    with querier(database) as its:
        (found,) = select(its, START, NOW, name="x")
    assert found.histograms is not None
    assert found.histograms.positive.offsets.tolist() == [-1080, 1080]
    assert found.histograms.positive.counts.tolist() == [3, 3]


def test_exponential_deltas_are_summed_up_in_the_widest_buckets(database: Database) -> None:
    fill(
        database,
        [
            Collection(TIMES[0]).exponential("x", 1, 0, [1, 2, 3], DELTA, total=1.0).batch,
            Collection(TIMES[1]).exponential("x", 0, 1, [4], DELTA, total=2.0).batch,
        ],
    )
    with querier(database) as its:
        (found,) = select(its, START, NOW, name="x")
    assert found.histograms is not None
    assert found.histograms.schemas.tolist() == [0, 0]
    assert found.histograms.counts.tolist() == [6, 10]
    assert found.histograms.sums.tolist() == [1, 3]
    assert found.histograms.positive.offsets.tolist() == [1, 1]
    assert found.histograms.positive.counts.tolist() == [3, 3, 3, 7]


def test_an_ended_histogram_is_stale(database: Database) -> None:
    fill(
        database,
        [
            Collection(at).histogram("h", [1], [1, 1], 2.0, flags=flags).exponential("e", 0, 0, [1], flags=flags).batch
            for at, flags in ((TIMES[0], 0), (TIMES[1], NO_VALUE))
        ],
    )
    with querier(database) as its:
        for series in select(its, START, NOW, Matcher("__name__", "=~", "h_.*")):
            assert is_stale(series.values).tolist() == [False, True], series.labels
        (native,) = select(its, START, NOW, name="e")
    assert native.histograms is not None
    assert is_stale(native.histograms.sums).tolist() == [False, True]


def test_a_histogram_without_a_sum_has_none(database: Database) -> None:
    fill(database, [Collection(TIMES[0]).histogram("h", [1], [1, 1]).batch])
    with querier(database) as its:
        assert {series.labels["__name__"] for series in select(its, START, NOW, Matcher("__name__", "=~", "h_.+"))} == {
            "h_bucket",
            "h_count",
        }


def test_series_that_are_one_in_prometheus_are_put_together(database: Database) -> None:
    """A process that was started anew: what told its resources apart is no label."""
    resources = [{"service.name": "shop", "process.runtime.version": version} for version in ("1", "2")]
    fill(
        database,
        [Collection(at, resources[n >= 4]).counter("x", n).gauge("y", n).batch for n, at in enumerate(TIMES)],
    )
    with querier(database) as its:
        (found,) = select(its, START, NOW, name="x_total")
        assert found.times.tolist() == TIMES
        assert values(found) == list(range(COUNT))
        assert its.series([matchers(name="x_total")], START, NOW) == [{"__name__": "x_total", "job": "shop"}]
        told = select(its, START, NOW, name="target_info")
        assert [(series.labels["process_runtime_version"], len(series.times)) for series in told] == [
            ("1", 4),
            ("2", 4),
        ]
        assert values(told[0]) == [1, 1, 1, 1]


def test_two_samples_of_one_millisecond_are_one(database: Database) -> None:
    first, again = Collection(TIMES[0]).gauge("x", 1), Collection(TIMES[0]).gauge("x", 2)
    again.request.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points[0].time_unix_nano += 500_000
    fill(database, [first.batch, again.batch])
    with querier(database) as its:
        (found,) = select(its, START, NOW, name="x")
        assert (found.times.tolist(), values(found)) == ([TIMES[0]], [1])


def test_kinds_of_numbers_that_are_none(database: Database) -> None:
    odd = [math.nan, math.inf, -math.inf, -0.0, 5e-324]
    fill(
        database, [Collection(at).gauge("x", value).gauge("y", 1).batch for at, value in zip(TIMES, odd, strict=False)]
    )
    with querier(database) as its:
        (found,) = select(its, START, NOW, name="x")
        assert np.array_equal(found.values, odd, equal_nan=True)
        assert not is_stale(found.values).any()


def test_labels_and_their_values(stored: Database) -> None:
    with querier(stored) as its:
        assert its.label_names([], START, NOW) == ["__name__", "http_route", "instance", "job", "le", "quantile"]
        assert its.label_names([matchers(name="temperature_celsius")], START, NOW) == ["__name__", "instance", "job"]
        assert its.label_values("le", [], START, NOW) == ["+Inf", "0.1", "1", "10"]
        assert its.label_values("http_route", [matchers(job="shop")], START, NOW) == ["/a", "/b", "/c"]
        assert its.label_values("http_route", [matchers(job="other")], START, NOW) == []
        assert its.label_values("http_route", [], START, NOW, 2) == ["/a", "/b"]
        assert its.label_values("__name__", [matchers(le="10")], START, NOW) == ["sizes_bytes_bucket"]
        every = its.label_values("__name__", [], START, NOW)
        assert every == [
            *("http_requests_total", "jobs_total", "latency_seconds_bucket", "latency_seconds_count"),
            *("latency_seconds_sum", "rpc", "rpc_count", "rpc_sum", "sizes_bytes_bucket", "sizes_bytes_count"),
            *("sizes_bytes_sum", "spread", "temperature_celsius"),
        ]


def test_labels_of_a_store_with_more_series_than_a_query_may_read(stored: Database) -> None:
    with querier(stored, max_series=5) as its:
        assert its.label_names([], START, NOW) == ["__name__", "http_route", "instance", "job", "le", "quantile"]
        assert its.label_values("http_route", [], START, NOW) == ["/a", "/b", "/c"]
        assert its.label_values("job", [], START, NOW) == ["shop"]
        assert its.label_values("le", [], START, NOW) == ["+Inf", "0.1", "1", "10"]
        assert its.label_values("quantile", [], START, NOW) == ["0.5", "0.99"]
        assert its.label_values("none", [], START, NOW) == []


def test_series_of_another_time_are_left_out(stored: Database) -> None:
    names = [matchers(name=name) for name in ("temperature_celsius", "rpc", "latency_seconds_bucket", "spread")]
    with querier(stored) as its:
        assert len(its.series(names, START, NOW)) == 7
        assert its.series(names, NOW + STEP, NOW + 2 * STEP) == []


def test_a_series_is_found_as_soon_as_it_is_stored(stored: Database) -> None:
    with querying(stored) as service:
        for count in (3, 4):
            with service.querier(service.usage()) as its:
                assert len(select(its, START, NOW, name="http_requests_total")) == count
            fill(stored, [Collection(TIMES[0]).counter("http.requests", 1, attributes={"http.route": "/new"}).batch])


def test_other_strategies_have_other_names(stored: Database) -> None:
    with querier(stored, translation_strategy="NoTranslation") as its:
        (found,) = select(its, START, NOW, Matcher("http.route", "=", "/a"), name="http.requests")
        assert found.labels["http.route"] == "/a"


@pytest.mark.parametrize(
    ("settings", "setting"), [({"max_series": 2}, "max_series"), ({"max_samples": 5}, "max_samples")]
)
def test_a_query_that_touches_too_much_says_which_bound(stored: Database, settings: Any, setting: str) -> None:
    with querier(stored, **settings) as its, pytest.raises(LimitExceededError, match=rf"query\.{setting}"):
        select(its, START, NOW, name="http_requests_total")


def test_too_many_bytes_are_refused(database: Database) -> None:
    query = sql.Composed([sql.SQL("SELECT n::bigint FROM generate_series(1, 1000000) n")])
    with (
        querying(database, max_bytes="1MiB") as service,
        pytest.raises(LimitExceededError, match=r"1,048,576 bytes.*query\.max_bytes"),
        service.reading(service.usage()) as reading,
    ):
        reading.rows(query, row_of(("n", ">i8")))


def test_a_query_ends_when_its_time_is_over_and_when_nobody_wants_it(database: Database) -> None:
    sleep = sql.Composed([sql.SQL("SELECT pg_sleep(600)::text")])
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT pg_sleep%%' AND state = 'active'"
    with querying(database) as service:
        with (
            pytest.raises(QueryTimeoutError, match=r"longer than 0\.05 s"),
            service.reading(service.usage(0.05)) as reading,
        ):
            list(reading.texts(sleep))
        usage = service.usage()
        canceling = threading.Timer(0.05, usage.cancel)
        canceling.start()
        with pytest.raises(QueryCanceledError), service.reading(usage) as reading:
            list(reading.texts(sleep))
        canceling.join()
        asyncio.run(until(lambda: database.value(sleeping) == 0))


def test_who_reads_may_not_write(database: Database) -> None:
    who = sql.Composed([sql.SQL("SELECT current_user::text, current_setting('transaction_read_only')")])
    receipts = sql.Composed([sql.SQL("SELECT digest::text FROM receipt")])
    with querying(database) as service:
        with service.reading(service.usage()) as reading:
            assert list(reading.texts(who)) == [(b"obs_hub_reader", b"on")]
        with pytest.raises(ExecutionError), service.reading(service.usage()) as reading:
            list(reading.texts(receipts))
