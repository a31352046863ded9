"""Prometheus's HTTP API: shapes of answers, parameters, errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from litestar import Litestar

from gateway.extensions.api.prometheus import prometheus_route
from gateway.extensions.api.queries import Queries
from gateway.query.config import QuerySettings
from gateway.query.service import QueryService
from tests.support.databases import Database, Server, fresh_store
from tests.support.prometheus import Collection
from tests.support.stores import running_exporter, store

STEP = 15_000
NOW = time.time_ns() // 10**6 // STEP * STEP
COUNT = 5
FIRST = NOW - (COUNT - 1) * STEP
Json = dict[str, Any]


class Api:
    """Calls an application in the process."""

    def __init__(self, database: Database, **settings: Any) -> None:
        self.queries = Queries(QueryService(QuerySettings.model_validate(settings), lambda: database.dsn))
        self._app: Any = Litestar([prometheus_route(self.queries)], logging_config=None)

    def call(
        self, path: str, method: str = "GET", data: Mapping[str, Any] | None = None, **parameters: Any
    ) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://hub/prometheus/api/v1") as client:
                return await client.request(method, path, params=parameters or None, data=data)

        return asyncio.run(run())

    def data(self, path: str, **parameters: Any) -> Any:
        response = self.call(path, **parameters)
        assert response.status_code == 200, response.text
        assert response.json()["status"] == "success"
        return response.json()["data"]

    def error(self, path: str, **parameters: Any) -> tuple[int, str, str]:
        response = self.call(path, **parameters)
        assert response.headers["content-type"] == "application/json"
        assert response.json()["status"] == "error"
        return response.status_code, response.json()["errorType"], response.json()["error"]


@contextmanager
def serving(database: Database, **settings: Any) -> Iterator[Api]:
    api = Api(database, **settings)
    try:
        yield api
    finally:
        api.queries.close()


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[Api]:
    async def fill(database: Database) -> None:
        async with running_exporter(database) as exporter:
            for n in range(COUNT):
                its = Collection(FIRST + n * STEP, {"service.name": "shop", "service.version": "1"})
                its.counter("hits", 15 * n, attributes={"page": "/a"}).counter(
                    "hits", 30 * n, attributes={"page": "/b"}
                )
                its.gauge("tiny", 1e-7 if n else 0.5).exponential("spread", 0, 0, [1, 2], zero_count=1, total=4.5)
                its.histogram("took", [1], [n, n], 1.0 * n, unit="s")
                point = its.request.resource_metrics[0].scope_metrics[0].metrics[-1].histogram.data_points[0]
                point.exemplars.add(as_double=0.5, time_unix_nano=its.at * 10**6, trace_id=b"t" * 16, span_id=b"s" * 8)
                point.exemplars.add(as_double=3, time_unix_nano=its.at * 10**6)
                await store(exporter, its.batch)

    with fresh_store(server) as database:
        asyncio.run(fill(database))
        with serving(database) as api:
            yield api


def test_the_health_check_of_grafana(api: Api) -> None:
    assert api.data("query", query="1+1", time=4) == {"resultType": "scalar", "result": [4, "2"]}
    assert api.data("query", query="vector(1)", time="4.5") == {
        "resultType": "vector",
        "result": [{"metric": {}, "value": [4.5, "1"]}],
    }
    assert api.data("query", query='"text"', time=4) == {"resultType": "string", "result": [4, "text"]}


def test_an_instant_query(api: Api) -> None:
    (one,) = api.data("query", query='hits_total{page="/a"}', time=NOW / 1000)["result"]
    assert one["metric"] == {"__name__": "hits_total", "job": "shop", "page": "/a"}
    assert list(one["metric"]) == sorted(one["metric"])
    assert one["value"] == [NOW / 1000, "60"]
    matrix = api.data("query", query="tiny[45s]", time=NOW / 1000)
    assert matrix["resultType"] == "matrix"
    assert [value for _, value in matrix["result"][0]["values"]] == ["1e-07"] * 3


def test_a_range_query_in_a_form(api: Api) -> None:
    form = {"query": "sum(rate(hits_total[30s]))", "start": FIRST / 1000, "end": NOW / 1000, "step": "15"}
    response = api.call("query_range", "POST", data=form)
    assert response.status_code == 200
    (line,) = response.json()["data"]["result"]
    assert line["metric"] == {}
    assert line["values"][-1] == [NOW // 1000, "3"]
    assert response.json()["data"]["resultType"] == "matrix"


def test_parameters_of_the_url_and_the_body_go_together(api: Api) -> None:
    assert api.call("query", "POST", data={"query": "1"}, time=7).json()["data"]["result"] == [7, "1"]


def test_a_query_says_how_long_a_sample_counts(api: Api) -> None:
    late = (NOW + 20_000) / 1000
    found = {
        text: len(api.data("query", query="tiny", time=late, lookback_delta=text)["result"])
        for text in ("15", "15s", "25", "0", "-1")  # without a length above zero it is that of the settings
    }
    assert found == {"15": 0, "15s": 0, "25": 1, "0": 1, "-1": 1}
    over = {"query": "tiny", "start": NOW / 1000, "end": late, "step": 10}
    (line,) = api.data("query_range", lookback_delta="15s", **over)["result"]
    assert len(line["values"]) == 2
    (line,) = api.data("query_range", **over)["result"]
    assert len(line["values"]) == 3


def test_native_histograms(api: Api) -> None:
    (one,) = api.data("query", query="spread", time=NOW / 1000)["result"]
    at, histogram = one["histogram"]
    assert at == NOW // 1000
    assert histogram == {
        "count": "4",
        "sum": "4.5",
        "buckets": [[3, "-1e-128", "1e-128", "1"], [0, "1", "2", "1"], [0, "2", "4", "2"]],
    }
    (line,) = api.data("query_range", query="spread", start=NOW / 1000, end=NOW / 1000, step=1)["result"]
    assert line["histograms"] == [[NOW // 1000, histogram]]
    assert "values" not in line


def test_infos_and_warnings(api: Api) -> None:
    body = api.call("query", query="rate(tiny[1m])", time=NOW / 1000).json()
    assert body["infos"] == [
        'PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "tiny" (1:6)'
    ]
    body = api.call("query", query="histogram_quantile(7, took_seconds_bucket)", time=NOW / 1000).json()
    assert "quantile value should be between 0 and 1" in body["warnings"][0]


@pytest.mark.parametrize(
    ("path", "parameters", "status", "kind", "why"),
    [
        ("query", {"query": "rate("}, 400, "bad_data", 'invalid parameter "query": 1:'),
        ("query", {}, 400, "bad_data", 'invalid parameter "query"'),
        ("query", {"query": "1", "time": "x"}, 400, "bad_data", 'invalid parameter "time": invalid time value'),
        ("query", {"query": "1", "limit": "-1"}, 400, "bad_data", 'invalid parameter "limit"'),
        ("query", {"query": "1", "timeout": "x"}, 400, "bad_data", 'invalid parameter "timeout"'),
        ("query", {"query": "1", "lookback_delta": "x"}, 400, "bad_data", 'invalid parameter "lookback_delta"'),
        ("query_range", {"query": "1", "start": "0", "end": "1", "step": "0"}, 400, "bad_data", "zero or negative"),
        ("query_range", {"query": "x[5m]", "start": "0", "end": "1", "step": "1"}, 400, "bad_data", "range vector"),
        ("query", {"query": 'x{a=~"("}'}, 400, "bad_data", "error parsing regexp"),
        ("query", {"query": "hits_total * on(job) tiny", "time": NOW / 1000}, 422, "execution", "many-to-one"),
        ("series", {}, 400, "bad_data", "no match[] parameter provided"),
        ("series", {"match[]": "rate(x[5m])"}, 400, "bad_data", 'invalid parameter "match[]"'),
        ("query_exemplars", {"query": "x", "start": "2", "end": "1"}, 400, "bad_data", "end timestamp"),
        ("format_query", {"query": "("}, 400, "bad_data", 'invalid parameter "query"'),
        ("targets", {}, 404, "not_found", "/prometheus/api/v1/targets"),
    ],
)
def test_errors(api: Api, path: str, parameters: Json, status: int, kind: str, why: str) -> None:
    found = api.error(path, **parameters)
    assert found[:2] == (status, kind)
    assert why in found[2]


def test_other_methods_are_refused(api: Api) -> None:
    response = api.call("query", "DELETE")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")


def test_what_there_is(api: Api) -> None:
    window = {"start": FIRST // 1000, "end": NOW // 1000}
    assert api.data("labels", **window) == ["__name__", "job", "le", "page", "service_version"]
    assert api.data("label/page/values", **window) == ["/a", "/b"]
    assert api.data("label/page/values", **{"match[]": ['{page="/a"}', '{page="/b"}']}) == ["/a", "/b"]
    assert api.data("label/__name__/values", **{"match[]": '{page!=""}'}) == ["hits_total"]
    assert "target_info" in api.data("label/__name__/values")
    assert api.data("series", **{"match[]": "hits_total", **window}) == [
        {"__name__": "hits_total", "job": "shop", "page": page} for page in ("/a", "/b")
    ]
    assert api.data("series", **{"match[]": "hits_total", "start": 1, "end": 2}) == []
    metadata = api.data("metadata")
    assert metadata["hits_total"] == [{"type": "counter", "unit": "", "help": ""}]
    assert metadata["took_seconds"] == [{"type": "histogram", "unit": "seconds", "help": ""}]
    assert api.data("metadata", metric="tiny") == {"tiny": [{"type": "gauge", "unit": "", "help": ""}]}
    assert len(api.data("metadata", limit=2)) == 2


def test_limits_are_told(api: Api) -> None:
    asked: list[tuple[str, Json]] = [
        ("labels", {"limit": 1}),
        ("label/page/values", {"limit": 1}),
        ("series", {"match[]": "hits_total", "limit": 1}),
        ("query", {"query": "hits_total", "time": NOW / 1000, "limit": 1}),
    ]
    for path, parameters in asked:
        body = api.call(path, **parameters).json()
        assert body["warnings"] == ["results truncated due to limit"], path
        found = body["data"]["result"] if path == "query" else body["data"]
        assert len(found) == 1
    assert "warnings" not in api.call("label/page/values", limit=2).json()
    assert len(api.data("label/page/values", limit=0)) == 2


def test_what_is_empty_is_an_answer(api: Api) -> None:
    assert api.data("rules") == {"groups": []}
    assert api.data("alerts") == {"alerts": []}
    assert api.data("query_exemplars", query="test", start=NOW, end=NOW) == []
    assert api.data("query", query="no_such_metric") == {"resultType": "vector", "result": []}
    assert api.data("status/buildinfo")["version"] >= "2.24"


def test_exemplars_belong_to_the_bucket_they_were_counted_in(api: Api) -> None:
    query = "histogram_quantile(0.9, rate(took_seconds_bucket[5m]))"
    small, large = sorted(api.data("query_exemplars", query=query, start=FIRST / 1000, end=NOW / 1000),
                          key=lambda each: each["seriesLabels"]["le"], reverse=True)  # fmt: skip
    assert small["seriesLabels"] == {"__name__": "took_seconds_bucket", "job": "shop", "le": "1"}
    assert len(small["exemplars"]) == COUNT
    assert small["exemplars"][0] == {
        "labels": {"span_id": (b"s" * 8).hex(), "trace_id": (b"t" * 16).hex()},
        "value": "0.5",
        "timestamp": FIRST / 1000,
    }
    assert large["seriesLabels"]["le"] == "+Inf"
    assert large["exemplars"][-1] == {"labels": {}, "value": "3", "timestamp": NOW / 1000}


def test_queries_are_formatted_and_parsed(api: Api) -> None:
    assert api.data("format_query", query="sum by(a)(rate(x{b='c'}[5m] offset 90m))/2") == (
        'sum by (a) (rate(x{b="c"}[5m] offset 1h30m)) / 2'
    )
    tree = api.data("parse_query", query="foo{a!~'b'}[5m] @ end()")
    assert tree["type"] == "matrixSelector"
    assert (tree["name"], tree["range"], tree["startOrEnd"]) == ("foo", 300_000, "end")
    assert {"name": "a", "value": "b", "type": "!~"} in tree["matchers"]


def test_a_large_answer_is_compressed_and_whole(api: Api) -> None:
    response = api.call("query_range", query="vector(time())", start=0, end=10_000, step=1)
    assert response.headers["content-encoding"] == "gzip"
    (line,) = response.json()["data"]["result"]
    assert line["values"] == [[second, str(second)] for second in range(10_001)]


def test_who_waits_for_too_long_is_told(embedded_server: Server) -> None:
    with fresh_store(embedded_server) as database, serving(database, max_concurrent=1) as api:

        async def busy() -> None:
            await api.queries._slots.acquire()

        asyncio.run(busy())
        status, kind, why = api.error("query", query="1", timeout="0.05")
        assert (status, kind) == (503, "timeout")
        assert "query.max_concurrent" in why


def test_the_number_of_steps_is_bounded(api: Api) -> None:
    status, kind, why = api.error("query_range", query="hits_total", start=0, end=10**7, step=1)
    assert (status, kind) == (400, "bad_data")
    assert "11,000 points" in why


def test_a_store_that_is_away_is_an_error_of_its_own(embedded_server: Server) -> None:
    nowhere = Database(embedded_server, "no_such_database")
    with serving(nowhere) as api:
        status, kind, why = api.error("query", query="up")
        assert (status, kind) == (422, "execution")
        assert "the store cannot be reached" in why
        assert "password" not in why
