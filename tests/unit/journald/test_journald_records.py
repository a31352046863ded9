"""What a journal entry becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from receivers.journald.config import JournaldConfig
from receivers.journald.records import Converter, Entry, Request, service_name

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ENTRY: Entry = {
    "__CURSOR": "s=1;i=1",
    "__REALTIME_TIMESTAMP": "1700000000000123",
    "__MONOTONIC_TIMESTAMP": "5000000",
    "_BOOT_ID": "b" * 32,
    "_HOSTNAME": "nas",
    "_MACHINE_ID": "a" * 32,
    "_TRANSPORT": "journal",
    "_SYSTEMD_UNIT": "nginx.service",
    "_SYSTEMD_INVOCATION_ID": "c" * 32,
    "_PID": "42",
    "_UID": "33",
    "_COMM": "nginx",
    "_EXE": "/usr/sbin/nginx",
    "_CMDLINE": "nginx -g daemon off;",
    "SYSLOG_IDENTIFIER": "nginx",
    "SYSLOG_FACILITY": "3",
    "PRIORITY": "6",
    "CODE_FILE": "main.c",
    "CODE_LINE": "7",
    "CODE_FUNC": "serve",
    "MESSAGE": "started",
}


def record(settings: dict[str, Any] | None = None, **fields: Any) -> LogRecord:
    result = LogRecord()
    Converter(JournaldConfig.model_validate(settings or {}), {}).fill(result, ENTRY | fields)
    return result


def plain(attributes: Any) -> dict[str, Any]:
    def value(pair: KeyValue) -> Any:
        kind = pair.value.WhichOneof("value")
        if kind in ("kvlist_value", "array_value"):
            return MessageToDict(pair.value)
        return None if kind is None else getattr(pair.value, kind)

    names = [pair.key for pair in attributes]
    assert len(names) == len(set(names)), "an attribute twice"
    return {pair.key: value(pair) for pair in attributes}


def test_the_whole_of_an_entry() -> None:
    found = record(_SOURCE_REALTIME_TIMESTAMP="1700000000000100")
    assert found.time_unix_nano == 1_700_000_000_000_100_000
    assert found.observed_time_unix_nano == 1_700_000_000_000_123_000
    assert (found.severity_number, found.severity_text) == (9, "info")
    assert found.body.string_value == "started"
    assert plain(found.attributes) == {
        "systemd.unit": "nginx.service",
        "systemd.invocation_id": "c" * 32,
        "systemd.boot_id": "b" * 32,
        "syslog.identifier": "nginx",
        "syslog.facility.code": 3,
        "process.pid": 42,
        "process.user.id": 33,
        "process.executable.name": "nginx",
        "process.executable.path": "/usr/sbin/nginx",
        "process.command_line": "nginx -g daemon off;",
        "code.file.path": "main.c",
        "code.line.number": 7,
        "code.function.name": "serve",
        "journald.transport": "journal",
    }


def test_the_names_are_those_of_the_conventions() -> None:
    from opentelemetry.semconv._incubating.attributes import (
        code_attributes,
        container_attributes,
        host_attributes,
        process_attributes,
        thread_attributes,
    )

    from receivers.journald.conventions import ATTRIBUTES, RESOURCE

    modules = (code_attributes, container_attributes, host_attributes, process_attributes, thread_attributes)
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    ours = {*ATTRIBUTES.values(), *RESOURCE.values()}
    without = {name for name in ours if name.split(".")[0] in ("systemd", "syslog", "journald")}
    assert ours - without - known == {"code.file.path", "code.line.number", "code.function.name"} - known


@pytest.mark.parametrize(
    ("priority", "number", "text"),
    [
        ("0", 21, "emerg"),
        ("1", 19, "alert"),
        ("2", 18, "crit"),
        ("3", 17, "err"),
        ("4", 13, "warning"),
        ("5", 10, "notice"),
        ("6", 9, "info"),
        ("7", 5, "debug"),
        ("8", 0, ""),
        ("-1", 0, ""),
        (None, 0, ""),
        ([51, 1], 0, ""),
    ],
)
def test_priorities_are_severities(priority: Any, number: int, text: str) -> None:
    """Logs data model, Appendix B."""
    found = record(PRIORITY=priority)
    assert (found.severity_number, found.severity_text) == (number, text)


def test_a_kernel_message_happened_when_the_kernel_says() -> None:
    found = record(_TRANSPORT="kernel", _SOURCE_MONOTONIC_TIMESTAMP="1000000", SYSLOG_IDENTIFIER="kernel")
    assert found.time_unix_nano == (1_700_000_000_000_123 - 4_000_000) * 1000
    later_than_received = record(_SOURCE_MONOTONIC_TIMESTAMP="6000000")
    assert later_than_received.time_unix_nano == later_than_received.observed_time_unix_nano


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"_SYSTEMD_UNIT": "nginx.service"}, "nginx"),
        ({"_SYSTEMD_UNIT": "postgresql@15-main.service"}, "postgresql"),
        ({"_SYSTEMD_UNIT": "session-3.scope", "SYSLOG_IDENTIFIER": "sshd"}, "sshd"),
        ({"_SYSTEMD_UNIT": "user@1000.service", "_SYSTEMD_USER_UNIT": "syncthing.service"}, "syncthing"),
        ({"_SYSTEMD_UNIT": "user@1000.service", "SYSLOG_IDENTIFIER": "systemd"}, "systemd"),
        ({"_SYSTEMD_UNIT": "docker.service", "CONTAINER_NAME": "web"}, "web"),
        ({"SYSLOG_IDENTIFIER": "cron", "_COMM": "crond"}, "cron"),
        ({"_COMM": "crond"}, "crond"),
        ({"_TRANSPORT": "kernel"}, "kernel"),
        ({}, "unknown_service"),
    ],
    ids=str,
)
def test_the_service_is_what_logged(fields: Entry, name: str) -> None:
    assert service_name(fields) == name


def test_what_systemd_says_about_a_unit_belongs_to_it() -> None:
    found = record(_PID="1", _SYSTEMD_UNIT="init.scope", UNIT="nginx.service", SYSLOG_IDENTIFIER="systemd")
    assert plain(found.attributes)["systemd.unit"] == "nginx.service"
    liar = record(_PID="42", _SYSTEMD_UNIT="liar.service", UNIT="nginx.service")
    assert plain(liar.attributes)["systemd.unit"] == "liar.service"
    dump = record(_PID="9", _UID="0", _SYSTEMD_UNIT="systemd-coredump@1.service", COREDUMP_UNIT="nginx.service")
    assert plain(dump.attributes)["systemd.unit"] == "nginx.service"


def test_a_json_message_becomes_body_severity_trace_and_attributes() -> None:
    message = {
        "msg": "GET /",
        "level": "Warning",
        "trace_id": TRACE,
        "span_id": SPAN,
        "trace_flags": "01",
        "status": 200,
        "share": 0.5,
        "cached": True,
        "user": None,
        "tags": ["a", 1],
        "http": {"method": "GET"},
    }
    found = record(MESSAGE=json.dumps(message))
    assert found.body.string_value == "GET /"
    assert (found.severity_number, found.severity_text) == (13, "Warning")
    assert (found.trace_id.hex(), found.span_id.hex(), found.flags) == (TRACE, SPAN, 1)
    attributes = plain(found.attributes)
    assert {name: attributes[name] for name in ("status", "share", "cached", "user", "tags", "http")} == {
        "status": 200,
        "share": 0.5,
        "cached": True,
        "user": None,
        "tags": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "1"}]}},
        "http": {"kvlistValue": {"values": [{"key": "method", "value": {"stringValue": "GET"}}]}},
    }
    assert not attributes.keys() & {"msg", "level", "trace_id", "span_id", "trace_flags"}
    assert attributes["systemd.unit"] == "nginx.service"


@pytest.mark.parametrize(
    ("level", "severity", "text"),
    [
        ({"level": "info"}, 9, "info"),
        ({"severity": "CRITICAL"}, 18, "CRITICAL"),
        ({"levelname": "ERROR"}, 17, "ERROR"),
        ({"log.level": "trace"}, 1, "trace"),
        ({"lvl": "fatal"}, 21, "fatal"),
        ({"level": 40}, 13, "40"),
        ({"level": 3, "severity": "notice"}, 10, "notice"),
        ({"level": "verbose"}, 5, "debug"),
        ({"level": True}, 5, "debug"),
        ({}, 5, "debug"),
    ],
    ids=str,
)
def test_a_level_that_is_known_wins_over_the_priority(level: dict[str, Any], severity: int, text: str) -> None:
    found = record(MESSAGE=json.dumps({"event": "x"} | level), PRIORITY="7")
    assert (found.severity_number, found.severity_text) == (severity, text)


@pytest.mark.parametrize(
    ("keys", "ids"),
    [
        ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, (TRACE, SPAN, 1)),
        ({"traceId": TRACE, "spanId": SPAN}, (TRACE, SPAN, 0)),
        ({"trace.id": TRACE.upper(), "span.id": SPAN}, (TRACE, SPAN, 0)),
        ({"trace_id": TRACE}, (TRACE, "", 0)),
        ({"trace_id": TRACE, "trace_flags": 1}, (TRACE, "", 1)),
        ({"trace_id": "0" * 32, "span_id": SPAN}, ("", "", 0)),
        ({"trace_id": TRACE[:-1]}, ("", "", 0)),
        ({"trace_id": 7, "span_id": None}, ("", "", 0)),
        ({"traceparent": f"00-{'0' * 32}-{SPAN}-01"}, ("", "", 0)),
        ({"span_id": SPAN}, ("", "", 0)),
    ],
    ids=str,
)
def test_trace_ids_are_lifted_where_they_are_valid(keys: dict[str, Any], ids: tuple[str, str, int]) -> None:
    found = record(MESSAGE=json.dumps({"msg": "x"} | keys))
    assert (found.trace_id.hex(), found.span_id.hex(), found.flags) == ids
    assert bool(plain(found.attributes).keys() & keys.keys()) == (not ids[0])


@pytest.mark.parametrize(
    ("number", "kept"), [(2**63 - 1, 2**63 - 1), (-(2**63), -(2**63)), (2**63, 2.0**63), (-(2**63) - 1, -(2.0**63))]
)
def test_numbers_that_are_too_large_for_an_integer_are_kept_as_near_as_can_be(number: int, kept: float) -> None:
    found = plain(record(MESSAGE=json.dumps({"msg": "x", "n": number})).attributes)["n"]
    assert (found, type(found)) == (kept, type(kept))


def test_trace_ids_in_fields_of_the_journal_count_too() -> None:
    found = record(TRACE_ID=TRACE, SPAN_ID=SPAN, TRACE_FLAGS="01")
    assert (found.trace_id.hex(), found.span_id.hex(), found.flags) == (TRACE, SPAN, 1)


def test_a_json_object_without_a_message_is_the_body() -> None:
    found = record(MESSAGE=json.dumps({"level": "error", "code": 7}))
    assert MessageToDict(found.body) == {"kvlistValue": {"values": [{"key": "code", "value": {"intValue": "7"}}]}}
    assert found.severity_number == 17


@pytest.mark.parametrize(
    "message",
    [
        "{not json}",
        '{"msg": "cut',
        '{"msg": "x"} {"msg": "y"}',
        '["msg"]',
        '{"msg": "\\ud800"}',
        '{"msg": "x", "n": 1e999}',
        '{"msg": "huge", "n": ' + "9" * 400 + "}",
        json.dumps({"msg": "many", **{str(n): n for n in range(200)}}),
        '{"msg": "deep", "a": ' + "[" * 40 + "]" * 40 + "}",
        '{"msg": "deeper", "a": ' + "[" * 5000 + "]" * 5000 + "}",
        "",
        "{}x",
    ],
    ids=lambda message: message[:30],
)
def test_what_is_not_a_reasonable_json_object_stays_text(message: str) -> None:
    found = record(MESSAGE=message)
    assert found.body.string_value == message
    assert found.body.WhichOneof("value") == "string_value"
    LogRecord.FromString(found.SerializeToString())


def test_json_can_stay_as_it_is() -> None:
    message = '{"msg": "x", "level": "error"}'
    found = record({"parse_json": False}, MESSAGE=message)
    assert (found.body.string_value, found.severity_text) == (message, "info")


def test_a_message_cannot_pass_for_another_service() -> None:
    found = record(MESSAGE=json.dumps({"msg": "x", "systemd.unit": "sshd.service", "process.pid": 1}))
    attributes = plain(found.attributes)
    assert (attributes["systemd.unit"], attributes["process.pid"]) == ("nginx.service", 42)


def test_fields_that_are_bytes_many_or_missing() -> None:
    found = record({"fields": ["REQUEST_ID", "_KERNEL_DEVICE", "TAG"]}, REQUEST_ID="r1", TAG=["a", [98, 255], None])
    attributes = plain(found.attributes)
    assert attributes["journald.request_id"] == "r1"
    assert "journald.kernel_device" not in attributes
    assert attributes["journald.tag"] == {"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b\\xff"}]}}
    assert record(MESSAGE=[104, 105]).body.string_value == "hi"
    assert record(MESSAGE=["one", [116, 119, 111]]).body.string_value == "one\ntwo"
    assert not record(MESSAGE=None).HasField("body")
    assert "process.command_line" not in plain(record(_CMDLINE=None).attributes)
    assert plain(record(_PID=["42", "43"]).attributes)["process.pid"] == 42
    assert "process.pid" not in plain(record(_PID="9" * 30).attributes)


@pytest.mark.parametrize("time", ["", "soon", "0", None, "9" * 5000, "-5"], ids=lambda time: str(time)[:5])
def test_an_entry_without_a_time_is_no_log_record(time: Any) -> None:
    request = Request(Converter(JournaldConfig(), {}))
    with pytest.raises(ValueError, match="__REALTIME_TIMESTAMP"):
        request.add(ENTRY | {"__REALTIME_TIMESTAMP": time})
    assert (request.records, request.payload()) == (0, b"")


def test_a_long_message_is_cut_between_characters_and_says_so() -> None:
    found = record({"max_message_size": "1KiB"}, MESSAGE="x" + "é" * 1000)
    assert found.body.string_value == "x" + "é" * 511
    assert plain(found.attributes)["journald.message_size"] == 2001
    exact = record({"max_message_size": "1KiB"}, MESSAGE="x" * 1024)
    assert exact.body.string_value == "x" * 1024
    assert "journald.message_size" not in plain(exact.attributes)


def test_entries_are_grouped_by_resource_and_their_bytes_depend_on_nothing_else() -> None:
    def request(converter: Converter) -> bytes:
        made = Request(converter)
        for number, unit in enumerate(["a.service", "b.service", "a.service"]):
            made.add(ENTRY | {"MESSAGE": str(number), "_SYSTEMD_UNIT": unit})
        return made.payload()

    converter = Converter(JournaldConfig(), {})
    payload = request(converter)
    assert payload == request(converter) == request(Converter(JournaldConfig(), {}))
    resources = ExportLogsServiceRequest.FromString(payload).resource_logs
    assert [plain(each.resource.attributes) for each in resources] == [
        {"service.name": name, "host.name": "nas", "host.id": "a" * 32} for name in ("a", "b")
    ]
    assert [[one.body.string_value for one in each.scope_logs[0].log_records] for each in resources] == [
        ["0", "2"],
        ["1"],
    ]


def test_the_environment_adds_to_the_resource() -> None:
    variables = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=cellar,host.name=box,service.name=hub"}
    found = dict(Converter(JournaldConfig(), variables).resource(ENTRY))
    assert found["deployment.environment.name"] == "cellar"
    assert (found["host.name"], found["service.name"]) == ("box", "nginx")


def test_what_is_kept_of_processes_is_bounded() -> None:
    converter = Converter(JournaldConfig(), {})
    for number in range(3000):
        converter.fill(LogRecord(), ENTRY | {"_PID": str(number)})
    converter.fill(LogRecord(), ENTRY | {"_CMDLINE": "x" * 100_000})
    assert len(converter._cache) <= 1024
    assert max(map(len, converter._cache.values())) < 10_000
