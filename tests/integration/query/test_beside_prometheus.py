"""The same telemetry in the store and in a real Prometheus, and the same queries: the answers are equal.

Runs where ``OBSHUB_TEST_PROMETHEUS_URL`` names a Prometheus 3 that takes OTLP (``--web.enable-otlp-receiver``) with the
settings that it has by default, and the experimental functions of PromQL.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import random
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.query.test_prometheus_api import Api, serving
from tests.support.databases import Database, Server, fresh_store
from tests.support.prometheus import Collection
from tests.support.stores import running_exporter, store
from tests.support.waiting import PATIENCE

VARIABLE = "OBSHUB_TEST_PROMETHEUS_URL"
STEP = 15_000
COUNT = 60
LAST = time.time_ns() // 10**6 // STEP * STEP
FIRST = LAST - (COUNT - 1) * STEP
RUN = uuid.uuid4().hex[:8]
"""Part of every name, and a version, so that what other runs left in that Prometheus is not met."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Both:
    """The hub's API and Prometheus's."""

    database: Database
    hub: Api
    prometheus: httpx.Client

    def send(self, collections: Iterable[Collection]) -> None:
        """Send the same telemetry to both."""
        several = list(collections)

        async def fill() -> None:
            async with running_exporter(self.database) as exporter:
                for each in several:
                    await store(exporter, each.batch)

        asyncio.run(fill())
        for each in several:
            sent = self.prometheus.post(
                "/api/v1/otlp/v1/metrics",
                content=each.request.SerializeToString(),
                headers={"content-type": "application/x-protobuf"},
            )
            assert sent.status_code == 200, sent.text

    def ask(self, path: str, **parameters: Any) -> tuple[Json, Json]:
        """Ask both; return both answers."""
        theirs = self.prometheus.get(f"/api/v1/{path}", params=parameters)
        return self.hub.call(path, **parameters).json(), theirs.json()


def collections() -> Iterator[Collection]:
    """Counters that begin anew, gauges that end, histograms of both kinds, in two services, now and then late."""
    made = random.Random(7)
    totals: dict[tuple[str, str], float] = {}
    for n in range(COUNT):
        for service in ("shop", "till"):
            if made.random() < 0.1:
                continue  # a collection that did not come
            at = FIRST + n * STEP + (137 if service == "till" else 0)
            its = Collection(at, {"service.name": service, "service.instance.id": "i-1", "service.version": RUN})
            for route in ("/a", "/b", "/c"):
                key = service, route
                totals[key] = 0 if made.random() < 0.04 else totals.get(key, 0) + made.randrange(100)
                its.counter(f"t{RUN}.requests", totals[key], "{request}", attributes={"http.route": route})
            its.gauge(f"t{RUN}.load", made.choice([made.gauss(0, 1), math.inf, math.nan, 1e-9, 1e22, 0.0]), "1")
            if n < COUNT // 2:
                its.gauge(f"t{RUN}.ended", n, "By", flags=int(n == COUNT // 2 - 1))
            counts = [n * weight for weight in (1, 3, 5, 2)]
            its.histogram(f"t{RUN}.latency", [0.1, 0.5, 2.5], counts, 0.7 * sum(counts), unit="s")
            its.exponential(
                f"t{RUN}.spread", 2 if n < 30 else 1, -3, [n, 2 * n, 0, 0, 0, n], total=1.5 * n, zero_count=n
            )
            its.summary(f"t{RUN}.rpc", n, 2.5 * n, {0.5: made.random(), 0.99: 3.0})
            yield its


@pytest.fixture(scope="module")
def both(embedded_server: Server) -> Iterator[Both]:
    if not (url := os.environ.get(VARIABLE)):
        pytest.skip(f"{VARIABLE} names no Prometheus with its OTLP receiver on")

    with (
        fresh_store(embedded_server) as database,
        httpx.Client(base_url=url, timeout=PATIENCE) as prometheus,
        serving(database, promote_resource_attributes=[], timeout=f"{PATIENCE:g}s") as hub,
    ):
        both = Both(database, hub, prometheus)
        both.send(collections())
        yield both


def canonical(answer: Json) -> Any:
    """Return an answer as it can be compared: series in the order of their labels, numbers as numbers."""
    if answer["status"] != "success":
        return answer["status"], answer["errorType"]
    data = answer["data"]
    if not isinstance(data, dict) or data.get("resultType") not in ("vector", "matrix"):
        return data
    return data["resultType"], sorted(
        ((sorted(each["metric"].items()), {k: v for k, v in each.items() if k != "metric"}) for each in data["result"]),
        key=repr,
    )


def close(one: Any, other: Any) -> bool:
    """Tell whether two answers are equal, but for the order in which numbers were added up."""
    if isinstance(one, str) and isinstance(other, str) and one != other:
        try:
            return math.isclose(float(one), float(other), rel_tol=1e-12, abs_tol=1e-300)
        except ValueError:
            return False
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    return bool(one == other)


def same(both: Both, path: str, **parameters: Any) -> None:
    mine, theirs = both.ask(path, **parameters)
    assert close(canonical(mine), canonical(theirs)), (parameters, mine, theirs)


METRICS = [
    *("requests_total", "load_ratio", "ended_bytes", "latency_seconds_bucket", "latency_seconds_count"),
    *("latency_seconds_sum", "spread", "rpc", "rpc_sum", "rpc_count"),
]
NAMES = [f"t{RUN}_{name}" for name in METRICS]


@pytest.mark.parametrize("metric", [*METRICS, "target_info"])
def test_series_have_the_same_labels_and_samples(both: Both, metric: str) -> None:
    selector = f"t{RUN}_{metric}" if metric != "target_info" else f'target_info{{service_version="{RUN}"}}'
    same(both, "query", query=f"{selector}[{COUNT * STEP // 1000}s]", time=LAST / 1000 + 1)


def test_there_are_the_same_names_and_values(both: Both) -> None:
    match = {"match[]": f'{{__name__=~"t{RUN}_.*"}}', "start": FIRST / 1000, "end": LAST / 1000}
    for path in ("labels", "label/__name__/values", "label/le/values", "label/quantile/values", "label/job/values"):
        same(both, path, **match)
    mine, theirs = both.ask("series", **match)
    assert sorted(mine["data"], key=repr) == sorted(theirs["data"], key=lambda each: repr(dict(sorted(each.items()))))


names = st.sampled_from(NAMES)
ranges = st.sampled_from(["30s", "1m", "2m30s", "5m"])
matchers = st.sampled_from(["", '{job="shop"}', '{job!="shop"}', '{http_route=~"/[ab]"}', '{le!="+Inf"}', "{x=''}"])
selectors = st.builds("{}{}{}".format, names, matchers, st.sampled_from(["", " offset 1m", " offset -30s"]))
over_time = st.sampled_from(
    [
        *("rate", "increase", "irate", "delta", "idelta", "changes", "resets", "avg_over_time", "min_over_time"),
        *("max_over_time", "sum_over_time", "count_over_time", "last_over_time", "present_over_time"),
        *("stddev_over_time", "deriv"),
    ]
)
vectors = st.one_of(
    selectors,
    st.builds("{}({}{}[{}])".format, over_time, names, matchers, ranges),
    st.builds(lambda name, length: f"quantile_over_time(0.7, {name}[{length}])", names, ranges),
    st.builds(lambda q, length: f"histogram_quantile({q}, rate(t{RUN}_latency_seconds_bucket[{length}]))",
              st.sampled_from([0, 0.5, 0.99, 1]), ranges),
    st.builds(lambda q, length: f"histogram_quantile({q}, sum(rate(t{RUN}_spread[{length}])))",
              st.sampled_from([0.1, 0.5, 0.99]), ranges),
)  # fmt: skip
aggregated = st.builds(
    "{} {} ({})".format,
    st.sampled_from(["sum", "avg", "min", "max", "count", "group", "stddev"]),
    st.sampled_from(["", "by (job)", "without (job)", "by (http_route, le)"]),
    vectors,
)
combined = st.builds(
    "({}) {} ({})".format,
    vectors,
    st.sampled_from(["+", "/", "> bool", "<", "and", "or", "unless", "* on (job, http_route)", "- ignoring (le)"]),
    vectors,
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(query=st.one_of(vectors, aggregated, combined), at=st.integers(0, COUNT * STEP + 400_000))
def test_instant_queries(both: Both, query: str, at: int) -> None:
    same(both, "query", query=query, time=(FIRST + at) / 1000)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(query=st.one_of(vectors, aggregated, combined), step=st.sampled_from([7, 15, 60]))
def test_range_queries(both: Both, query: str, step: int) -> None:
    same(both, "query_range", query=query, start=FIRST / 1000, end=LAST / 1000, step=step)


# Telemetry of any kind: for each example metrics of names of their own.

fresh_names = (f"t{RUN}d{number}" for number in itertools.count())
values = st.one_of(
    st.none(),
    st.integers(0, 60).map(float),
    st.floats(-1e9, 1e9),
    st.sampled_from([math.inf, -math.inf, math.nan, -0.0, 1e-300, 1e300]),
)
distributions = st.one_of(
    st.none(),
    st.tuples(st.integers(-1, 2), st.integers(-3, 3), st.lists(st.integers(0, 9), max_size=5), st.integers(0, 3)),
)
buckets = st.one_of(st.none(), st.lists(st.integers(0, 9), min_size=4, max_size=4))


def at_once(of_series: Sequence[Sequence[Any]], name: str, kind: str) -> Iterator[Collection]:
    """Yield the collections of series of one metric; where a series has None, there is no point of it."""
    for n in range(max(map(len, of_series))):
        its = Collection(FIRST + n * STEP, {"service.name": "any", "service.instance.id": "i-1"})
        for number, series in enumerate(of_series):
            if n >= len(series) or (value := series[n]) is None:
                continue
            attributes = {"series": str(number)}
            match kind:
                case "counter":
                    its.counter(name, value, attributes=attributes)
                case "gauge":
                    its.gauge(name, value, attributes=attributes)
                case "histogram":
                    its.histogram(name, [0.5, 1, 10], value, 1.5 * sum(value), attributes=attributes)
                case "exponential":
                    scale, offset, counts, zeros = value
                    more = {"total": 2.5 * sum(counts), "zero_count": zeros, "attributes": attributes}
                    its.exponential(name, scale, offset, counts, **more)
        if its.has_points:
            yield its


def several(points: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(st.lists(points, min_size=1, max_size=12), min_size=1, max_size=3)


over_any = st.sampled_from(
    [
        *("rate", "increase", "irate", "delta", "idelta", "changes", "resets", "avg_over_time", "min_over_time"),
        *("max_over_time", "sum_over_time", "count_over_time", "last_over_time", "present_over_time"),
        *("stddev_over_time", "stdvar_over_time", "deriv", "absent_over_time"),
    ]
)
around = st.sampled_from(
    [
        *("{}", "sum({})", "avg({})", "max by (series) ({})", "count_values('v', {})", "stddev({})"),
        *("{0} + on (series, le) {0}", "-({})", "sort_desc({})", "histogram_quantile(0.9, {})", "quantile(0.3, {})"),
        *("histogram_count({})", "histogram_stddev({})", "histogram_fraction(0, 2, {})", "{} > 2", "abs({}) % 3"),
    ]
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    telemetry=st.one_of(
        st.tuples(st.sampled_from([("counter", "_total"), ("gauge", "")]), several(values)),
        st.tuples(st.just(("histogram", "_bucket")), several(buckets)),
        st.tuples(st.just(("exponential", "")), several(distributions)),
    ),
    asked=st.lists(st.tuples(around, over_any, ranges), min_size=1, max_size=6),
    step=st.sampled_from([7, 15, 40]),
)
def test_any_telemetry(both: Both, telemetry: Any, asked: list[tuple[str, str, str]], step: int) -> None:
    (kind, suffix), of_series = telemetry
    name = next(fresh_names)
    both.send(at_once(of_series, name, kind))
    end = FIRST / 1000 + 20 * 15
    same(both, "query", query=f"{name}{suffix}[20m]", time=end)
    for outer, function, length in asked:
        for inner in (f"{name}{suffix}", f"{function}({name}{suffix}[{length}])"):
            same(both, "query_range", query=outer.format(inner), start=FIRST / 1000, end=end, step=step)
