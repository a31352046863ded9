"""The language of conditions: what they say of a record, and what is said of those that are none."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.component import Signal
from gateway.processors.common.conditions import Condition, ConditionError
from tests.support.processing import batch_of, processed
from tests.support.telemetry import set_attributes


def log() -> Any:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    set_attributes(resource.resource.attributes, {"service.name": "shop", "host.name": "nas"})
    scope = resource.scope_logs.add()
    scope.scope.name, scope.scope.version = "http", "1.2"
    record = scope.log_records.add(
        time_unix_nano=1, severity_number=10, severity_text="INFO", event_name="bought", trace_id=b"\xab" * 16
    )
    record.body.string_value = "GET /healthz 200"
    set_attributes(record.attributes, {"http.route": "/healthz"})
    record.attributes.add(key="status").value.int_value = 200
    record.attributes.add(key="cached").value.bool_value = True
    record.attributes.add(key="ratio").value.double_value = 0.5
    return request


def span() -> Any:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    made = scope.spans.add(
        trace_id=b"\1" * 16,
        span_id=b"\2" * 8,
        name="GET",
        kind=2,
        start_time_unix_nano=10**9,
        end_time_unix_nano=3 * 10**9,
    )
    made.status.code, made.status.message = 2, "timed out"
    return request


def metric() -> Any:
    request = ExportMetricsServiceRequest()
    made = request.resource_metrics.add().scope_metrics.add().metrics.add(name="http.requests", unit="1")
    made.sum.data_points.add(time_unix_nano=1, as_int=5).attributes.add(key="code").value.string_value = "200"
    return request


def holds(condition: str, request: Any) -> bool:
    return processed("filter", {"drop": [condition]}, batch_of(request)) is None


@pytest.mark.parametrize(
    ("condition", "is_true"),
    [
        ("severity == info", True),
        ("severity < warn", True),
        ("severity <= info", True),
        ("severity < info", False),
        ("severity >= debug and severity != error", True),
        ("severity in [debug, 'info']", True),
        ("severity not in [debug, warn]", True),
        ("severity_number > 9", True),
        ("severity_text == 'INFO'", True),
        ('attributes["http.route"] == "/healthz"', True),
        ("attributes['http.route'] in ['/ready', '/healthz']", True),
        ('attributes["status"] >= 200 and attributes["status"] < 300', True),
        ('attributes["status"] == 200.0', True),
        ('attributes["status"] == "200"', False),
        ('attributes["cached"] == true', True),
        ('attributes["cached"] == 1', False),
        ('attributes["ratio"] == 0.5', True),
        ('attributes["nothing"] == null', True),
        ('attributes["nothing"] != null', False),
        ('attributes["nothing"] != "x"', True),
        ('attributes["nothing"] < 5', False),
        ('attributes["nothing"] matches ".*"', False),
        ('resource["service.name"] == "shop"', True),
        ('resource.attributes["host.name"] != "nas"', False),
        ('scope.name == "http" and scope.version matches "^1\\."', True),
        ('name == "bought"', True),
        ('body contains "/healthz"', True),
        ('body matches "GET .* 2\\d\\d$"', True),
        ('body not contains "POST" and not body matches "^POST"', True),
        ('trace_id == "abababababababababababababababab"', True),
        ("span_id == null", True),
        ("not (severity == info or severity == warn)", False),
        ("not not severity == info", True),
        ("severity == info or body == 'x' and body == 'y'", True),
    ],
)
def test_a_condition_says_something_of_a_log_record(condition: str, is_true: bool) -> None:
    assert holds(condition, log()) is is_true


@pytest.mark.parametrize(
    ("condition", "is_true"),
    [
        ("duration > 500ms", True),
        ("duration == 2s", True),
        ("duration < 1us", False),
        ("kind == server and status == error", True),
        ("kind != server", False),
        ("status_message contains 'timed'", True),
        ("parent_span_id == null", True),
        ("name matches '^GET$'", True),
    ],
)
def test_a_condition_says_something_of_a_span(condition: str, is_true: bool) -> None:
    assert holds(condition, span()) is is_true


@pytest.mark.parametrize(
    ("condition", "is_true"),
    [
        ("name == 'http.requests'", True),
        ("name matches '^http' and attributes['code'] == '200'", True),
        ("type == sum and unit == '1'", True),
        ("type in [gauge, histogram]", False),
        ("name == 'other' or attributes['code'] == '500'", False),
    ],
)
def test_a_condition_says_something_of_a_data_point(condition: str, is_true: bool) -> None:
    assert holds(condition, metric()) is is_true


@pytest.mark.parametrize("condition", ["severity < warn", "severity > trace", "severity <= fatal", "severity == info"])
def test_a_severity_that_is_not_set_is_neither_less_nor_more_than_another(condition: str) -> None:
    request = log()
    request.resource_logs[0].scope_logs[0].log_records[0].severity_number = 0
    assert not holds(condition, request)
    assert holds("severity == unset", request)


def test_a_body_that_is_no_text_is_compared_as_json() -> None:
    request = log()
    body = request.resource_logs[0].scope_logs[0].log_records[0].body
    body.kvlist_value.values.add(key="path").value.string_value = "/healthz"
    assert holds('body contains \'"path": "/healthz"\'', request)


def test_a_condition_tells_which_signals_have_what_it_asks_for() -> None:
    assert Condition("severity < warn").signals == {Signal.LOGS}
    assert Condition("trace_id == 'x'").signals == {Signal.LOGS, Signal.TRACES}
    assert Condition("name == 'x' and resource['a'] == 'b'").signals == set(Signal)


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("severity == wran", "severity has no value 'wran'; did you mean 'warn'? (character 13"),
        ("severty < warn", "unknown field 'severty'; did you mean 'severity'? (character 1"),
        ('attributes["a"] = 1', "unexpected '=' (character 17"),
        ("severity <", "expected a value of severity, found the end; known: unset, trace, debug, info, warn,"),
        ('attributes["a"] ==', "expected a value, found the end (character 19"),
        ('attributes["a] == 1', "a text without its closing quote (character 12"),
        ("attributes == 1", """expected '[' behind attributes, as in attributes["key"], found '==' (character 12"""),
        ("name", "expected a comparison"),
        ("name == foo", "expected a value, found 'foo'; put a text in quotes (character 9"),
        ("(name == 'a'", "expected ')'"),
        ("name == 'a' name == 'b'", "expected 'and', 'or' or the end, found 'name' (character 13"),
        ("name matches '(a'", "'(' without its ')' at character 1 of the pattern (character 14"),
        ("severity matches 'a'", "severity is no text"),
        ("duration > 5", "expected a duration such as 500ms behind duration, found '5'"),
        ("kind > server", "kind has no order"),
        ("name < true", "'<' compares numbers or texts"),
        ("kind == server and severity == warn", "no signal has severity and what stands before it (character 20"),
        ("", "expected a field, such as severity, found the end (character 1"),
        ("__import__('os')", "unknown field '__import__'"),
        ("(" * 100, "nested too deeply"),
        ("name == '" + "a" * 5000, "longer than 4096"),
    ],
)
def test_what_is_no_condition_is_told_with_its_place(condition: str, why: str) -> None:
    with pytest.raises(ConditionError, match=re.escape(why)):
        Condition(condition)


WORDS = st.sampled_from(
    [
        "severity",
        "name",
        "attributes",
        "[",
        "]",
        "(",
        ")",
        "'a'",
        "==",
        "<",
        "and",
        "or",
        "not",
        "in",
        "matches",
        "1",
        "warn",
        ",",
    ]
)


@given(st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=30))
def test_nothing_but_an_error_with_a_place_comes_of_any_text(text: str) -> None:
    found: ConditionError | None = None
    try:
        Condition(text)
    except ConditionError as error:
        found = error
    assert found is None or 0 <= found.position <= len(text)
