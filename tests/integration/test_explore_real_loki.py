"""Reading logs from a real Loki, where one is named: what OTLP brought there is found again, by every filter."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from gateway.net.loki import LokiAccess
from gateway.query.logs.loki import LokiLogs
from gateway.query.logs.merging import Follower
from gateway.query.logs.records import LogFilter, SourceError
from tests.support.waiting import PATIENCE

LOKI_VARIABLE = "OBSHUB_TEST_LOKI_URL"
SECOND = 10**9
TRACE = uuid.uuid4().hex
START = time.time_ns() - 60 * SECOND
END = START + 3600 * SECOND
SERVICE = f'shop "{TRACE[:8]}"'
"""A service of this run alone, with a name that must be quoted."""


@pytest.fixture(scope="module")
def loki_url() -> str:
    url = os.environ.get(LOKI_VARIABLE)
    if not url:
        pytest.skip(f"{LOKI_VARIABLE} names no Loki")
    return url.rstrip("/")


def push(url: str, *bodies: str, service: str = SERVICE, at: int = START, **fields: object) -> None:
    request = ExportLogsServiceRequest()
    owner = request.resource_logs.add()
    for key, value in (("service.name", service), ("host.name", "nas")):
        owner.resource.attributes.add(key=key).value.string_value = value
    scope = owner.scope_logs.add()
    scope.scope.name = "tests"
    for n, body in enumerate(bodies):
        record = scope.log_records.add(time_unix_nano=at + n, **fields)
        record.body.string_value = body
        record.attributes.add(key="http.route").value.string_value = f"/{body}"
    headers = {"Content-Type": "application/x-protobuf"}
    httpx.post(
        f"{url}/otlp/v1/logs", content=request.SerializeToString(), headers=headers, timeout=PATIENCE
    ).raise_for_status()


@pytest.fixture(scope="module")
def logs(loki_url: str) -> Iterator[LokiLogs]:
    push(loki_url, "plain")
    push(loki_url, "payment (timed) out", at=START + 10, severity_number=17, severity_text="ERR")
    push(loki_url, "of a trace", at=START + 20, severity_number=9, trace_id=bytes.fromhex(TRACE), span_id=b"12345678")
    push(loki_url, 'an "event"\n🎉', at=START + 30, event_name="order.placed")
    push(loki_url, "CRITICAL disk failure", at=START + 40, severity_text="Critical")
    with LokiLogs(LokiAccess(loki_url)) as logs:
        wait_for(logs, LogFilter(services=(SERVICE,)), 5)
        yield logs


def wait_for(logs: LokiLogs, wanted: LogFilter, number: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(list(logs.between(wanted, START, None))) < number:
        assert time.monotonic() < deadline, "Loki does not show what it took"
        time.sleep(0.1)


def bodies(logs: LokiLogs, **wanted: object) -> list[str]:
    found = logs.latest(LogFilter(**{"services": (SERVICE,), **wanted}), START, END, 100)  # type: ignore[arg-type]
    return [str(record.body) for record in found]


def test_a_record_is_read_as_it_was_sent(logs: LokiLogs) -> None:
    (record,) = logs.latest(LogFilter(trace_id=TRACE), START, END, 10)
    assert (record.time_unix_nano, record.body, record.source) == (START + 20, "of a trace", "loki")
    assert (record.service_name, record.host_name, record.scope_name) == (SERVICE, "nas", "tests")
    assert (record.severity, record.severity_number) == ("INFO", 9)
    assert (record.trace_id, record.span_id) == (TRACE, b"12345678".hex())
    assert record.attributes == {"http_route": "/of a trace"}


def test_every_filter_is_understood(logs: LokiLogs) -> None:
    event = 'an "event"\n🎉'
    everything = ["plain", "payment (timed) out", "of a trace", event, "CRITICAL disk failure"]
    assert bodies(logs) == everything
    assert bodies(logs, services=("nobody", SERVICE), hosts=("nas", "pi")) == everything
    assert bodies(logs, hosts=("pi",)) == []
    assert bodies(logs, severity="warn") == ["payment (timed) out", "CRITICAL disk failure"]
    assert bodies(logs, severity="info") == ["payment (timed) out", "of a trace", "CRITICAL disk failure"]
    assert bodies(logs, grep=r"\(TIMED\)") == []
    assert bodies(logs, grep=r"\(TIMED\)", ignore_case=True) == ["payment (timed) out"]
    assert bodies(logs, grep='"event"\n') == [event]
    assert bodies(logs, attributes=(("http.route", "/plain"), ("host.name", "nas"))) == ["plain"]
    assert bodies(logs, attributes=(("http.route", '"} or 1=1'),)) == []
    assert bodies(logs, events=("nothing",)) == []


def test_what_it_refuses_is_told(logs: LokiLogs) -> None:
    with pytest.raises(SourceError, match=r"400 Bad Request.*parse"):
        bodies(logs, grep="(")


def test_many_records_are_read_page_by_page(loki_url: str, logs: LokiLogs) -> None:
    service = f"many {TRACE}"
    lines = [str(n) for n in range(2_500)]
    for first in range(0, 2_500, 500):
        push(loki_url, *lines[first : first + 500], service=service, at=START + first)
    wanted = LogFilter(services=(service,))
    wait_for(logs, wanted, 2_500)
    assert [record.body for record in logs.between(wanted, START, None)] == lines
    assert [record.body for record in logs.latest(wanted, START, END, 1_700)] == lines[-1_700:]


def test_what_comes_in_is_followed_each_once(loki_url: str, logs: LokiLogs) -> None:
    service = f"follow {TRACE}"
    follower = Follower([logs], LogFilter(services=(service,)), 60 * SECOND)
    sent, shown = [], []

    def look() -> None:
        shown.extend(str(record.body) for record in follower.poll(lambda error: pytest.fail(str(error))))

    for n in range(30):
        late = 30 * SECOND if n % 4 == 0 else 0
        push(loki_url, str(n), service=service, at=time.time_ns() - late)
        sent.append(str(n))
        look()
    deadline = time.monotonic() + PATIENCE
    while len(shown) < len(sent) and time.monotonic() < deadline:
        look()
    assert sorted(shown) == sorted(sent)
