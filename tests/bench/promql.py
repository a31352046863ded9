"""What PromQL takes of CPU, time and memory, beside a Prometheus with the same data where one is named.

    python -m tests.bench.promql [--minutes 360] [--instances 100] [--rounds 5] [--hostile]
    OBSHUB_TEST_PROMETHEUS_URL=http://127.0.0.1:9090 python -m tests.bench.promql

A gateway is started with the embedded PostgreSQL, and is sent by OTLP what 20 hosts report every 15 seconds for six
hours, and 100 instances of a service with a hundred series each for the last two. The Prometheus, which needs its OTLP
receiver (``--web.enable-otlp-receiver``), is sent the same. Then each query runs a few times, by the HTTP API of both
in turn. CPU is that of the gateway's processes and of PostgreSQL's, and what Prometheus says of itself; time is the
median at the client. With ``--hostile`` twenty queries that make as much as they may run at once, at the end.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.bench.capacity import cpu_seconds
from tests.bench.subject import Subject
from tests.integration.cli.processes import free_port
from tests.support.telemetry import set_attributes

VARIABLE = "OBSHUB_TEST_PROMETHEUS_URL"
STEP = 15
"""Seconds between collections."""
HOSTS = 20
ROUTES = 100
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BUCKETS = 20
"""Of a native histogram."""
_CUMULATIVE = 2
_PATIENCE = 300.0
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, and what it is to take at most: milliseconds at the client, or CPU seconds."""

    name: str
    path: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    milliseconds: float | None = None
    cpu: float | None = None


def queries(end: int) -> Iterator[Query]:
    """Yield what is asked of data until a time, in seconds."""

    def over(hours: float, step: int, query: str) -> dict[str, Any]:
        return {"query": query, "start": end - int(hours * 3600), "end": end, "step": step}

    all_rates = "sum by (instance) (rate(bench_requests_total[5m]))"
    yield Query("rates of 10,000 series over 2 h, by minute", "query_range", over(2, 60, all_rates), cpu=1)
    yield Query("rates of 10,000 series over 2 h, by 15 s", "query_range", over(2, 15, all_rates))
    yield Query("sum of 10,000 series over 2 h, by minute", "query_range", over(2, 60, "sum(bench_requests_total)"))
    yield Query("a panel of 20 series over 6 h", "query_range", over(6, 30, "bench_load{job='hosts'}"), milliseconds=30)
    yield Query("a panel of 20 rates over 6 h", "query_range", over(6, 30, "sum by (instance) (rate(bench_cpu_time_"
                "seconds_total{mode!='idle'}[1m]))"))  # fmt: skip
    yield Query("20 series over 6 h, by hour", "query_range", over(6, 3600, "bench_load{job='hosts'}"))
    yield Query("the largest of 20 series by hour", "query_range", over(6, 3600, "max_over_time(bench_load[1h])"))
    yield Query("quantile of classic histograms over 2 h", "query_range", over(2, 30, "histogram_quantile(0.95, sum by "
                "(le) (rate(bench_latency_seconds_bucket[5m])))"))  # fmt: skip
    yield Query("quantile of native histograms over 2 h", "query_range", over(2, 30, "histogram_quantile(0.95, "
                "sum(rate(bench_spread[5m])))"))  # fmt: skip
    yield Query("one series, now", "query", {"query": "bench_load{instance='host-03'}", "time": end})
    yield Query("a rate of 10,000 series, now", "query", {"query": all_rates, "time": end})
    yield Query("the sum of 10,000 series, now", "query", {"query": "sum(bench_requests_total)", "time": end})
    times = {"start": end - 3600, "end": end}
    yield Query("names of metrics", "label/__name__/values", times)
    yield Query("names of labels of a metric", "labels", {**times, "match[]": "bench_load"})
    yield Query(
        "values of a label of 10,000 series", "label/route/values", {**times, "match[]": "bench_requests_total"}
    )
    yield Query("200 series", "series", {**times, "match[]": "bench_requests_total{instance=~'i-00.'}", "limit": 200})


HOSTILE = (
    "max_over_time((sum_over_time(bench_requests_total[5m]))[2h:1m])",
    "bench_requests_total * on (instance, route) bench_requests_total",
    "count_values('value', bench_requests_total)",
    "bench_requests_total * on (job) group_left bench_requests_total",
    "sum(quantile_over_time(0.5, bench_requests_total[1h]))",
)


# -- what is sent ------------------------------------------------------------------------------------------------------


class Points:
    """A request whose points have another time and other values each time."""

    def __init__(self) -> None:
        self.request = ExportMetricsServiceRequest()
        self._points: list[Any] = []
        self._histograms: list[Any] = []
        self._natives: list[Any] = []

    def owner(self, service: str, instance: str) -> Any:
        """Add a resource; return its metrics."""
        added = self.request.resource_metrics.add()
        set_attributes(added.resource.attributes, {"service.name": service, "service.instance.id": instance})
        return added.scope_metrics.add().metrics

    def counter(self, metrics: Any, name: str, unit: str, several: Sequence[Mapping[str, str]]) -> None:
        """Add a cumulative sum with a series for each of some attributes."""
        its = metrics.add(name=name, unit=unit).sum
        its.is_monotonic, its.aggregation_temporality = True, _CUMULATIVE
        for attributes in several:
            self._points.append(its.data_points.add())
            set_attributes(self._points[-1].attributes, attributes)

    def gauge(self, metrics: Any, name: str, several: Sequence[Mapping[str, str]]) -> None:
        """Add a gauge with a series for each of some attributes."""
        its = metrics.add(name=name).gauge
        for attributes in several:
            self._points.append(its.data_points.add())
            set_attributes(self._points[-1].attributes, attributes)

    def histograms(self, metrics: Any) -> None:
        """Add a histogram of each kind."""
        classic = metrics.add(name="bench.latency", unit="s").histogram
        native = metrics.add(name="bench.spread").exponential_histogram
        classic.aggregation_temporality = native.aggregation_temporality = _CUMULATIVE
        self._histograms.append(classic.data_points.add(explicit_bounds=BOUNDS))
        self._natives.append(native.data_points.add(scale=3))
        self._natives[-1].positive.offset = -10

    def at(self, seconds: int, number: int, dice: np.random.Generator) -> bytes:
        """Return the request of a time, the nth."""
        nanoseconds = seconds * 10**9
        values = number * 100 + dice.integers(0, 100, len(self._points))
        for point, value in zip(self._points, values.tolist(), strict=True):
            point.time_unix_nano, point.as_double = nanoseconds, value / 4
        for points, width in ((self._histograms, len(BOUNDS) + 1), (self._natives, _BUCKETS)):
            for point in points:
                counts = (number * np.arange(1, width + 1) + dice.integers(0, 2, width)).tolist()
                buckets = point if points is self._histograms else point.positive
                buckets.bucket_counts[:] = counts
                point.time_unix_nano, point.count, point.sum = nanoseconds, sum(counts), 0.07 * sum(counts)
        return self.request.SerializeToString()


def hosts() -> Points:
    """Return what all hosts report."""
    its = Points()
    for n in range(HOSTS):
        metrics = its.owner("hosts", f"host-{n:02}")
        its.gauge(metrics, "bench.load", [{}])
        its.gauge(metrics, "bench.memory", [{"state": state} for state in ("used", "free", "cached")])
        modes = [{"cpu": str(cpu), "mode": mode} for cpu in range(4) for mode in ("user", "system", "idle")]
        its.counter(metrics, "bench.cpu.time", "s", modes)
        its.histograms(metrics)
    return its


def instances(numbers: range) -> Points:
    """Return what some instances of a service report."""
    its = Points()
    for n in numbers:
        routes = [{"route": f"/r/{route}"} for route in range(ROUTES)]
        its.counter(its.owner("service", f"i-{n:03}"), "bench.requests", "", routes)
    return its


def send(to: Sequence[Callable[[bytes], None]], end: int, minutes: int, count: int) -> int:
    """Send all until a time to each; return how many points that were."""
    every, dice = hosts(), np.random.default_rng(3)
    services = [instances(range(first, min(first + 10, count))) for first in range(0, count, 10)]
    steps = minutes * 60 // STEP
    sent = 0
    with ThreadPoolExecutor(16) as threads:
        for number in range(steps + 1):
            at = end - (steps - number) * STEP
            requests = [every, *(services if end - at <= 7200 + 300 else ())]
            bodies = [request.at(at, number, dice) for request in requests]
            for one in to:
                list(threads.map(one, bodies))
            sent += HOSTS * 18 + (len(bodies) > 1) * count * ROUTES
    return sent


def sender(url: str) -> Callable[[bytes], None]:
    """Return what posts OTLP."""
    client = httpx.Client(timeout=_PATIENCE)

    def post(body: bytes) -> None:
        answer = client.post(url, content=body, headers={"content-type": "application/x-protobuf"})
        if answer.status_code != httpx.codes.OK:
            raise RuntimeError(f"{url} does not take points: {answer.status_code} {answer.text}")

    return post


# -- what is asked -----------------------------------------------------------------------------------------------------


class Hub(Subject):
    """A gateway with the query APIs, on loopback."""

    name = "hub"

    def __init__(self) -> None:
        super().__init__()
        self._front = free_port()
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self._front}/prometheus/", timeout=_PATIENCE)

    def _config(self) -> dict[str, Any]:
        config = super()._config()
        config["extensions"] = {"api": {"endpoint": f"127.0.0.1:{self._front}", "query": {}}}
        config["service"]["extensions"] = ["api"]
        return config

    def cpu(self) -> float:
        """Return the CPU seconds used until now, PostgreSQL's included."""
        return self.usage().cpu_seconds + cpu_seconds(self.postmaster())

    def ask(self, query: Query) -> httpx.Response:
        """Send a query."""
        return _sent(self._client, query)

    def forget_peak(self) -> None:
        """Begin to look anew for the most memory."""
        for process in self._processes():
            with suppress(OSError):
                Path(f"/proc/{process.pid}/clear_refs").write_text("5", "ascii")
        self._peak = 0


class Prometheus:
    """A Prometheus that runs."""

    name = "Prometheus"

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=_PATIENCE)

    def cpu(self) -> float:
        """Return the CPU seconds used until now."""
        for line in self._client.get("/metrics").text.splitlines():
            if line.startswith("process_cpu_seconds_total "):
                return float(line.split()[1])
        raise RuntimeError("Prometheus does not say what CPU it has used")

    def ask(self, query: Query) -> httpx.Response:
        """Send a query."""
        return _sent(self._client, query)


def _sent(client: httpx.Client, query: Query) -> httpx.Response:
    """Send a query as Grafana does: in a form where it may be long."""
    path = f"api/v1/{query.path}"
    if query.path in ("query", "query_range"):
        return client.post(path, data=query.parameters)
    return client.get(path, params=query.parameters)


def measure(subject: Hub | Prometheus, query: Query, rounds: int) -> tuple[float, float, int]:
    """Run a query; return CPU milliseconds of each time, the median of the milliseconds it took, and the bytes sent."""
    took = []
    size = 0
    before = subject.cpu()
    for _ in range(rounds):
        began = time.perf_counter()
        answer = subject.ask(query)
        took.append(1000 * (time.perf_counter() - began))
        size = len(answer.content)
        if answer.status_code != httpx.codes.OK:
            raise RuntimeError(f"{subject.name} does not answer {query.name!r}: {answer.text}")
    return 1000 * (subject.cpu() - before) / rounds, statistics.median(took), size


def hostile(hub: Hub, end: int) -> None:
    """Ask for much twenty times at once, and say what became of it."""
    asked = [
        Query(text, "query_range", {"query": text, "start": end - 7200, "end": end, "step": 15})
        for text in HOSTILE * (20 // len(HOSTILE))
    ]
    hub.forget_peak()

    def outcome(query: Query) -> str:
        try:
            answer = hub.ask(query)
        except httpx.HTTPError as error:
            return f"was broken off ({type(error).__name__})"
        said = "" if answer.status_code == httpx.codes.OK else answer.json()["error"][:100]
        return f"{answer.status_code} {len(answer.content):,} bytes {said}"

    with ThreadPoolExecutor(len(asked)) as threads:
        outcomes = list(threads.map(outcome, asked))
    for query, each in sorted({(query.name, each) for query, each in zip(asked, outcomes, strict=True)}):
        print(f"    {query}: {each}")
    print(f"    at most {hub.peak_memory():.0f} MiB meanwhile, {hub.memory():.0f} MiB after it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=360, help="how long hosts have reported (%(default)s)")
    parser.add_argument("--instances", type=int, default=100, help="of the service, 100 series each (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="times that each query runs (%(default)s)")
    parser.add_argument("--hostile", action="store_true", help="ask for as much as is allowed, at the end")
    arguments = parser.parse_args()
    end = int(time.time()) // 60 * 60
    url = os.environ.get(VARIABLE)
    with Hub() as hub:
        subjects: list[Hub | Prometheus] = [hub, *([Prometheus(url)] if url else [])]
        receivers = [f"http://{hub.endpoint('http')}/v1/metrics", *([f"{url}/api/v1/otlp/v1/metrics"] if url else [])]
        began = time.perf_counter()
        sent = send([sender(each) for each in receivers], end, arguments.minutes, arguments.instances)
        print(f"{sent:,} points sent in {time.perf_counter() - began:.0f} s; the hub has {hub.memory():.0f} MiB")
        for query in queries(end):
            line = f"{query.name:45}"
            for subject in subjects:
                first, _, size = measure(subject, query, 1)
                cpu, took, size = measure(subject, query, arguments.rounds)
                line += f" {subject.name}: {cpu:7.1f} ms CPU ({first:7.1f} at first), {took:7.1f} ms, {size:9,} bytes;"
            if query.cpu is not None:
                line += f" {query.cpu:g} CPU seconds wanted"
            if query.milliseconds is not None:
                line += f" {query.milliseconds:g} ms wanted"
            print(line, flush=True)
        print(f"the hub had at most {hub.peak_memory():.0f} MiB")
        if arguments.hostile:
            hostile(hub, end)


if __name__ == "__main__":
    main()
