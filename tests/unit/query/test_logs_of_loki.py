"""Reading logs from Loki, against a stand-in that pages as Loki does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.net.loki import LokiAccess
from gateway.query.logs.loki import LokiLogs, label_name, log_query
from gateway.query.logs.records import LogFilter, SourceError, TemporarySourceError
from tests.support.loki_queries import LokiStandIn, loki_stand_in

START = 1_700_000_000 * 10**9
ALL = LogFilter()


@pytest.fixture
def loki() -> Iterator[LokiStandIn]:
    with loki_stand_in() as loki:
        yield loki


@pytest.fixture
def logs(loki: LokiStandIn) -> Iterator[LokiLogs]:
    with LokiLogs(LokiAccess(loki.url)) as logs:
        yield logs


@pytest.mark.parametrize(
    ("wanted", "query"),
    [
        (LogFilter(), '{service_name=~".+"}'),
        (LogFilter(services=("a.b", 'c"d')), r'{service_name=~"a\\.b|c\"d"}'),
        (LogFilter(hosts=("nas",)), '{service_name=~".+"} | host_name=~"nas"'),
        (LogFilter(grep=r'time\d+ "x"', ignore_case=True), r'{service_name=~".+"} |~ "(?i)time\\d+ \"x\""'),
        (LogFilter(trace_id="ab" * 16), f'{{service_name=~".+"}} | trace_id="{"ab" * 16}"'),
        (LogFilter(events_only=True), '{service_name=~".+"} | event_name!=""'),
        (LogFilter(events=("order.placed",)), r'{service_name=~".+"} | event_name=~"order\\.placed"'),
        (LogFilter(attributes=(("http.route", "/🎉\n"),)), r'{service_name=~".+"} | http_route="/🎉\n"'),
    ],
)
def test_what_is_asked_for_is_quoted_in_logql(wanted: LogFilter, query: str) -> None:
    assert log_query(wanted) == query


def test_severity_is_asked_for_by_number_and_else_by_name() -> None:
    query = log_query(LogFilter(severity="error"))
    assert "severity_number >= 17" in query
    assert "error|err|severe|fatal|critical" in query
    assert "warn" not in query


def test_names_of_attributes_are_those_that_loki_gives_them() -> None:
    assert label_name("k8s.pod-name") == "k8s_pod_name"
    assert label_name("2nd") == "key_2nd"


def test_labels_and_structured_metadata_become_what_the_store_has_too(loki: LokiStandIn, logs: LokiLogs) -> None:
    loki.push(
        START, "disk full", service_name="backup", host_name="nas", severity_number="17", severity_text="ERROR",
        detected_level="error", trace_id="ab" * 16, span_id="cd" * 8, scope_name="lib", event_name="disk.full",
        observed_timestamp="1", http_route="/",
    )  # fmt: skip
    loki.push(START + 1, "by its text", detected_level="warn")
    loki.push(START + 2, "unknown", detected_level="unknown")
    full, by_text, unknown = logs.between(ALL, START, None)
    assert (full.time_unix_nano, full.body, full.source) == (START, "disk full", "loki")
    assert (full.service_name, full.host_name, full.scope_name, full.event_name) == (
        "backup",
        "nas",
        "lib",
        "disk.full",
    )
    assert (full.severity, full.severity_number, full.trace_id, full.span_id) == ("ERROR", 17, "ab" * 16, "cd" * 8)
    assert full.attributes == {"http_route": "/"}
    assert (by_text.severity, by_text.service_name) == ("WARN", None)
    assert unknown.severity is None


@pytest.mark.parametrize("step", [0, 1, 7])
def test_all_records_are_read_page_by_page_each_once(loki: LokiStandIn, logs: LokiLogs, step: int) -> None:
    for n in range(2_500 if step else 900):
        loki.push(START + n // 10 * step, f"line {n}", service_name=str(n % 3))
    lines = [line for _, line, _ in loki.entries]
    assert sorted(str(record.body) for record in logs.between(ALL, START, None)) == sorted(lines)
    newest = [str(record.body) for record in logs.latest(ALL, START, START + 10**9, 1_500)]
    assert len(set(newest)) == min(1_500, len(lines))
    if step:
        assert set(newest) == set(lines[-1_500:])


def test_more_records_in_one_instant_than_a_page_holds_do_not_stop_it(loki: LokiStandIn, logs: LokiLogs) -> None:
    for n in range(1_200):
        loki.push(START, f"line {n}")
    loki.push(START + 5, "after")
    read = [str(record.body) for record in logs.between(ALL, START, None)]
    assert len(set(read)) == len(read) == 1_001
    assert read[-1] == "after"
    assert logs.latest(ALL, START, START + 9, 1_100)[-1].body == "after"


def test_the_newest_are_asked_for_no_more_than_needed(loki: LokiStandIn, logs: LokiLogs) -> None:
    for n in range(100):
        loki.push(START + n, f"line {n}")
    assert [record.body for record in logs.latest(ALL, START, START + 100, 3)] == ["line 97", "line 98", "line 99"]
    assert [query["limit"] for query in loki.queries] == ["3"]


def test_times_that_loki_cannot_read_are_not_asked_for(loki: LokiStandIn, logs: LokiLogs) -> None:
    loki.push(START, "line")
    assert [record.body for record in logs.latest(ALL, -5, 2**64, 3)] == ["line"]
    assert [record.body for record in logs.between(ALL, -5, 2**64)] == ["line"]
    assert all(query["start"] == "0" and int(query["end"]) < 2**63 for query in loki.queries)


def test_structured_metadata_that_is_told_apart_is_read_as_well(loki: LokiStandIn, logs: LokiLogs) -> None:
    loki.answer = lambda asked: {  # type: ignore[method-assign]
        "data": {
            "resultType": "streams",
            "result": [
                {"stream": {"service_name": "a"}, "values": [["5", "x", {"structuredMetadata": {"host_name": "nas"}}]]}
            ],
        }
    }
    (record,) = logs.between(ALL, START, None)
    assert (record.service_name, record.host_name) == ("a", "nas")


def test_it_enters_with_tenant_token_or_password(loki: LokiStandIn) -> None:
    for access in (
        LokiAccess(loki.url + "/", tenant="home", token="secret-token", headers={"X-Extra": "1"}),
        LokiAccess(loki.url.replace("//", "//user:secret@")),
        LokiAccess(loki.url, basic=("user", "secret")),
    ):
        with LokiLogs(access) as logs:
            assert logs.latest(ALL, START, START + 1, 1) == []
    first, *others = loki.headers
    assert (first["X-Scope-OrgID"], first["Authorization"], first["X-Extra"]) == ("home", "Bearer secret-token", "1")
    assert {headers["Authorization"] for headers in others} == {"Basic dXNlcjpzZWNyZXQ="}


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (400, "parse error at line 1", SourceError, "answers 400 Bad Request: parse error at line 1"),
        (401, "no org id", SourceError, "--loki-tenant"),
        (429, "too many", TemporarySourceError, "429 Too Many Requests"),
        (503, "starting", TemporarySourceError, "503 Service Unavailable"),
        (200, "<html>", SourceError, "does not answer as Loki does"),
        (200, '{"data": {"resultType": "matrix", "result": []}}', SourceError, "does not answer as Loki does"),
        (
            200,
            '{"data": {"resultType": "streams", "result": [{"stream": {}, "values": [["x"]]}]}}',
            SourceError,
            "Loki",
        ),
        (200, '{"data": 5}', SourceError, "does not answer as Loki does"),
    ],
)
def test_what_loki_says_instead_of_logs_is_told(
    loki: LokiStandIn, status: int, body: str, kind: type[SourceError], said: str
) -> None:
    loki.failure = (status, body)
    with LokiLogs(LokiAccess(loki.url.replace("//", "//user:hidden@"))) as logs, pytest.raises(SourceError) as raised:
        list(logs.between(ALL, START, None))
    assert type(raised.value) is kind
    assert said in str(raised.value)
    assert loki.url in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_a_loki_that_is_away_may_be_back() -> None:
    with LokiLogs(LokiAccess("http://127.0.0.1:1")) as logs, pytest.raises(TemporarySourceError, match="be reached"):
        logs.latest(ALL, START, START + 1, 1)


@pytest.mark.parametrize("url", ["http://[", "127.0.0.1:3100", "http://a b", ""])
def test_an_address_that_is_none_is_an_error_that_says_so(url: str) -> None:
    with pytest.raises(SourceError, match="Loki at "), LokiLogs(LokiAccess(url)) as logs:
        logs.latest(ALL, START, START + 1, 1)


def test_a_ca_file_that_is_none_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(SourceError, match="cannot be asked"):
        LokiLogs(LokiAccess("https://127.0.0.1", ca_file=tmp_path / "ca.pem"))
