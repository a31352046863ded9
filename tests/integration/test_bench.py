"""The benchmark itself: it measures what it says, and notices what is missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.component import Signal
from gateway.otlp.services import SERVICES
from tests.bench import loader, measure, report
from tests.bench.database import Store
from tests.bench.loads import Load, Options
from tests.bench.payloads import Payloads
from tests.support.otlp_orders import ORDERS
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
FIRST_TIME = 1_700_000_000_000_000_000


def bench(*arguments: str) -> Any:
    command = [sys.executable, "-m", "tests.bench", "--json", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2.5 * PATIENCE, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def records(signal: Signal, payload: bytes) -> list[Any]:
    """Return the points, spans or log records of a request."""
    request: Any = SERVICES[signal].request.FromString(payload)
    if signal is Signal.TRACES:
        return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
    if signal is Signal.LOGS:
        return [log for resource in request.resource_logs for scope in resource.scope_logs for log in scope.log_records]
    return [
        point
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in (metric.gauge.data_points or metric.sum.data_points)
    ]


def test_every_load_is_measured_and_every_row_is_there() -> None:
    found = bench("--requests=3", "--records-per-request=200", "--series=400", "--rounds=1", "--idle-seconds=1")

    loads = {(load["signal"], load["protocol"]): load for load in found["loads"]}
    assert set(loads) == {(signal.value, protocol) for signal in Signal for protocol in ("grpc", "http")}
    for load in [*found["loads"], found["small"]]:
        assert load["rows"] == load["acknowledged"] > 0
        assert load["refused"] == 0
        for column in report.COLUMNS:
            assert load[column] > 0, column
        assert load["latency_p50_ms"] <= load["latency_p99_ms"]
    assert found["idle"]["memory_mib"] > 0
    assert found["idle"]["cpu_share"] >= 0
    assert len(found["targets"]) == 6
    assert "PostgreSQL" in found["server"]


def test_points_are_written_as_each_client_writes_them_and_one_series_changes() -> None:
    for order in ORDERS:
        payloads = Payloads(Signal.METRICS, 100, 100, FIRST_TIME, order, changing=True)
        requests = [payloads.request(number) for number in range(11)]
        shapes = [
            [point.attributes[-1].value.string_value for point in records(Signal.METRICS, raw)] for raw in requests
        ]
        assert shapes[0] == shapes[9]
        assert sum(a != b for a, b in zip(shapes[9], shapes[10], strict=True)) == 1
        assert len(set(requests)) == 11


@pytest.mark.parametrize(
    ("module", "arguments", "told"),
    [
        ("pipelines", ["--documents=300"], "300 documents in"),
        ("stalls", ["--only=spans: one with 7,000"], "spans: one with 7,000 events, mended"),
    ],
)
def test_what_else_is_measured_can_be(module: str, arguments: list[str], told: str) -> None:
    command = [sys.executable, "-m", f"tests.bench.{module}", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2.5 * PATIENCE, check=False)
    assert result.returncode == 0, result.stderr
    assert told in result.stdout


def test_a_row_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    count = Store.rows
    monkeypatch.setattr(Store, "rows", lambda store, signal: count(store, signal) - 1)
    load = Load(Signal.LOGS, "grpc", records=10, in_flight=1, series=1)

    with pytest.raises(measure.RowsLostError, match="110 records acknowledged, 109 in the store"):
        measure.measure(load, Options([load], None, rounds=1, requests=3), lambda _: None)


def test_a_load_that_is_not_accepted_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    load = Load(Signal.LOGS, "grpc", records=10, in_flight=1, series=1)
    job = loader.job_for(load, "127.0.0.1:1", FIRST_TIME, first=0, warm_up=1, workers=1)
    too_old = FIRST_TIME - 10**18

    with measure.store_of(Options([load], None)) as subject:
        job = loader.job_for(load, subject.endpoint("grpc"), too_old, first=0, warm_up=1, workers=1)
        with pytest.raises(loader.LoadError), loader.Loader(job):
            pass

    assert "10 log records rejected" in capfd.readouterr().err


@pytest.mark.parametrize("signal", list(Signal))
def test_requests_are_valid_and_no_two_are_alike(signal: Signal) -> None:
    payloads = Payloads(signal, 200, 400, FIRST_TIME)
    requests = [payloads.request(number) for number in range(5)]

    assert len(set(requests)) == 5
    assert requests == [Payloads(signal, 200, 400, FIRST_TIME).request(number) for number in range(5)]
    assert all(len(records(signal, request)) == payloads.records == 200 for request in requests)
    assert not any(re.search(rb"~([a-z])\1{6}", request) for request in requests), "a marker was left in place"


def test_points_advance_as_collections_do() -> None:
    payloads = Payloads(Signal.METRICS, 100, 200, FIRST_TIME)

    times = [{point.time_unix_nano for point in records(Signal.METRICS, payloads.request(n))} for n in range(4)]

    assert times == [{FIRST_TIME}, {FIRST_TIME}, {FIRST_TIME + 10 * 10**9}, {FIRST_TIME + 10 * 10**9}]


def test_a_request_larger_than_all_series_holds_several_collections() -> None:
    payloads = Payloads(Signal.METRICS, 1_000, 300, FIRST_TIME)
    points = records(Signal.METRICS, payloads.request(0)) + records(Signal.METRICS, payloads.request(1))

    assert len(points) == 2 * payloads.records == 2_000
    assert len({(str(point.attributes), point.time_unix_nano) for point in points}) == 2_000


def test_spans_are_traces() -> None:
    payloads = Payloads(Signal.TRACES, 160, 1, FIRST_TIME)
    spans = records(Signal.TRACES, payloads.request(7))

    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == 160
    assert len({span.trace_id for span in spans}) == 20
    children = [span for span in spans if span.parent_span_id]
    assert len(children) == 140
    assert all(by_id[span.parent_span_id].trace_id == span.trace_id for span in children)
    assert all(span.start_time_unix_nano < span.end_time_unix_nano for span in spans)
    assert len({attribute.value.string_value for span in spans for attribute in span.attributes[-1:]}) == 160
