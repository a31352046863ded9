"""A second destination beside the store that is dead, full, refuses, or is none: the store must not notice."""

from __future__ import annotations

import gzip
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import psycopg
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from gateway.component import Signal
from gateway.data_paths import spool_directory
from gateway.pipeline.spool import status
from tests.faults.harness import METHODS, Gateway, load, log_request, prove, request, stored, until
from tests.integration.cli.processes import Hubs, free_port, obs_hub
from tests.support.databases import Database
from tests.support.waiting import PATIENCE

SIDE = "otlp/side"


class Side:
    """An OTLP endpoint for logs that counts each record, refuses any request with a bad one, and fails when told to.

    ``answer`` is a status that each request gets, with a page, instead of being looked at.
    """

    def __init__(self) -> None:
        self.found: Counter[int] = Counter()
        self.requests = 0
        self.answer: int | None = None
        self._lock = threading.Lock()
        side = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, kind = side.take(gzip.decompress(body))
                self.send_response(status)
                page = b"<html>please log in</html>" if kind == "text/html" else b""
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, payload: bytes) -> tuple[int, str]:
        with self._lock:
            self.requests += 1
            if self.answer is not None:
                return self.answer, "text/html"
            numbers = [
                int(record.body.string_value)
                for resource in ExportLogsServiceRequest.FromString(payload).resource_logs
                for scope in resource.scope_logs
                for record in scope.log_records
            ]
            if any(map(is_bad, numbers)):
                return 400, "application/x-protobuf"
            self.found.update(numbers)
            return 200, "application/x-protobuf"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def side() -> Iterator[Side]:
    side = Side()
    try:
        yield side
    finally:
        side.close()


def is_bad(number: int) -> bool:
    return number % 10 == 7


def beside(hubs: Hubs, dsn: str, url: str, **settings: object) -> Gateway:
    """A gateway whose signals go to the store and, over HTTP, to a second destination."""
    exporters: dict[str, dict[str, object]] = {SIDE: {"endpoint": url, "protocol": "http/protobuf", **settings}}
    routes = {signal.value: ["timescale", SIDE] for signal in Signal}
    return Gateway(hubs, dsn, exporters=exporters, routes=routes).start()


def receipts(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM receipt").fetchone()
    assert row is not None
    return int(row[0])


def test_a_dead_and_full_destination_does_not_stop_the_store(hubs_to_start: Hubs, native_database: Database) -> None:
    gateway = beside(hubs_to_start, native_database.dsn, f"http://127.0.0.1:{free_port()}", spool={"max_size": "1MiB"})
    directory = spool_directory(gateway.hub.data_dir, SIDE) / "0"
    with load(gateway, size=20_000, pause=0) as clients:
        until(lambda: status(directory).dropped.batches, "the spool being full")
        clients.until_acknowledged(100)
        clients.finish()
    assert set(clients.answers) == {"OK"}, "no client was told to come back"
    prove("a second destination dead and full, which drops the oldest", clients, gateway, spool="timescale")
    assert receipts(gateway.dsn) == clients.requests
    there = status(directory)
    assert there.size <= 2**20
    assert there.dropped.records == 20 * there.dropped.batches
    assert "drops the oldest" in gateway.log()
    told = obs_hub("spool", "status", "--data-dir", gateway.hub.data_dir).stdout
    assert f"{there.dropped.records:,} records in {there.dropped.batches:,} batches were dropped" in told


def test_a_destination_that_refuses_when_it_is_full_gets_no_batch_twice_and_neither_does_the_store(
    hubs_to_start: Hubs, native_database: Database, side: Side
) -> None:
    gateway = beside(hubs_to_start, native_database.dsn, side.url, spool={"max_size": "1MiB", "when_full": "refuse"})
    side.answer = 503
    with load(gateway, signals=(Signal.LOGS,), size=20_000, pause=0, of=lambda number: not is_bad(number)) as clients:
        until(lambda: clients.answers["RESOURCE_EXHAUSTED"] > 20, "the spool being full")
        # One that was refused reached nobody; those under way at this moment may be answered a little later.
        assert receipts(gateway.dsn) <= clients.requests + 4
        side.answer = None
        clients.until_acknowledged(20)
        clients.finish()
    prove("a second destination full, which refuses: the store", clients, gateway)
    prove("a second destination full, which refuses: the other", clients, gateway, read=lambda: side.found)
    assert receipts(gateway.dsn) == clients.requests


def test_a_destination_that_refuses_some_records_gets_the_others_once(
    hubs_to_start: Hubs, native_database: Database, side: Side
) -> None:
    gateway = beside(hubs_to_start, native_database.dsn, side.url)
    with load(gateway, signals=(Signal.LOGS,)) as clients:
        clients.until_acknowledged(30)
        clients.finish()
    prove("a second destination refuses records: the store", clients, gateway)
    prove(
        "a second destination refuses records: the other",
        clients,
        gateway,
        read=lambda: side.found,
        of=lambda number: not is_bad(number),
    )
    assert receipts(gateway.dsn) == clients.requests


@pytest.mark.parametrize("step", ["after receive", "after commit"])
def test_a_kill_between_the_exporters_loses_nothing_of_either(
    hubs_to_start: Hubs, native_database: Database, side: Side, step: str
) -> None:
    gateway = beside(hubs_to_start, native_database.dsn, side.url)
    gateway.kill()
    gateway.start(OBSHUB_TEST_CRASH_AT=f"{step}:9")
    with load(gateway, signals=(Signal.LOGS,), of=lambda number: not is_bad(number)) as clients:
        gateway.until_dead()
        gateway.start()
        clients.until_acknowledged(5)
        clients.finish()
    prove(f"gateway with two destinations killed {step}", clients, gateway)
    # The other destination has no receipts: what a killed gateway had no answer for is sent to it again.
    assert set(clients.acknowledged) <= set(side.found)
    twice = sum(count > 1 for count in side.found.values())
    assert twice <= 20 * 8, "no more than was under way"


def test_a_mended_request_is_one_batch_wherever_it_waits_and_however_often_it_comes(
    hubs_to_start: Hubs, native_database: Database, side: Side
) -> None:
    gateway = beside(hubs_to_start, native_database.dsn, side.url)
    broken = log_request([2, 4]).replace(b"test", b"te\xffs")
    side.answer = 503
    native_database.allow_connections(False)
    for _ in range(2):
        send(gateway, broken)
    gateway.kill()
    native_database.allow_connections(True)
    side.answer = None
    gateway.start()
    send(gateway, broken)
    until(lambda: not gateway.spooled, "the spools being empty")
    send(gateway, broken)
    assert side.found == {2: 1, 4: 1}
    assert stored(gateway.dsn) == {2: 1, 4: 1}
    assert receipts(gateway.dsn) == 1


def send(gateway: Gateway, logs: bytes) -> None:
    with grpc.insecure_channel(gateway.endpoint) as channel:
        channel.unary_unary(METHODS[Signal.LOGS])(logs, timeout=PATIENCE)


def test_a_page_is_not_taken_for_a_delivery(hubs_to_start: Hubs, native_database: Database, side: Side) -> None:
    gateway = beside(hubs_to_start, native_database.dsn, side.url)
    side.answer = 200
    with load(gateway, signals=(Signal.LOGS,), of=lambda number: not is_bad(number)) as clients:
        clients.until_acknowledged(20)
        assert gateway.spooled_for(SIDE)
        until(lambda: "does not count as delivered" in gateway.log(), "the reason in the log")
        gateway.kill()
        side.answer = None
        gateway.start()
        clients.until_acknowledged(5)
        clients.finish()
    prove("a captive portal before the second destination", clients, gateway, read=lambda: side.found)


def test_a_malformed_request_reaches_no_destination(hubs_to_start: Hubs, native_database: Database, side: Side) -> None:
    gateway = beside(hubs_to_start, native_database.dsn, side.url)
    with grpc.insecure_channel(gateway.endpoint) as channel:
        call = channel.unary_unary(METHODS[Signal.LOGS])
        with pytest.raises(grpc.RpcError) as refused:
            call(log_request([2, 4]) + b"\x0a\xff", timeout=PATIENCE)
        call(log_request([6, 8]), timeout=PATIENCE)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    until(lambda: side.found, "what is well-formed")
    assert set(side.found) == {6, 8}
    until(lambda: "requests are refused" in gateway.log(), "the refusal in the log")


def test_a_batch_that_is_too_much_for_the_timeout_does_not_stop_those_behind_it(
    hubs_to_start: Hubs, native_database: Database
) -> None:
    """Many new series at once: each has a row of its own to be inserted."""
    gateway = Gateway(hubs_to_start, native_database.dsn, timeout="300ms", slow_after="100ms").start()
    with load(gateway) as clients, grpc.insecure_channel(gateway.endpoint) as channel:
        clients.until_acknowledged(5)
        call = channel.unary_unary(METHODS[Signal.METRICS])
        call(many_series(20_000), timeout=PATIENCE)
        clients.until_acknowledged(50)
        clients.finish()
    prove("a batch that is too much for the timeout", clients, gateway)
    with psycopg.connect(gateway.dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM series JOIN metric ON metric.id = metric_id WHERE name = 'heavy'"
        ).fetchone()
    assert row == (20_000,)


def many_series(count: int) -> bytes:
    """One data point for each of so many series."""
    message = ExportMetricsServiceRequest.FromString(request([]))
    metric = message.resource_metrics[0].scope_metrics[0].metrics.add(name="heavy")
    now = time.time_ns()
    for number in range(count):
        point = metric.gauge.data_points.add(time_unix_nano=now, as_double=number)
        point.attributes.add(key="n").value.int_value = number
    return bytes(message.SerializeToString())
