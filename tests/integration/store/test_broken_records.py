"""One record that is broken costs none of its neighbours, and ids of all zeros are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.component import Batch, Outcome, Signal
from receivers.otlp.otlp_json import to_protobuf
from tests.support.databases import Database
from tests.support.stores import running_pipeline
from tests.support.telemetry import logs, now, spans

GOOD, BROKEN = b"sound text", b"\xff\xfend text\x80"
"""Of the same length, so that one can take the place of the other in a serialized request."""

MENDED = "\ufffd\ufffdnd text\ufffd"


async def accepted(database: Database, *batches: Batch) -> list[Outcome]:
    async with running_pipeline(database) as pipeline:
        return [await pipeline.accept(batch) for batch in batches]


def with_broken_text(batch: Batch) -> Batch:
    assert batch.payload.count(GOOD) == 1
    return Batch.of(batch.signal, batch.payload.replace(GOOD, BROKEN))


async def test_text_of_a_log_record_that_is_not_utf8_is_mended(native_database: Database) -> None:
    bodies = [f"line {n}" for n in range(10)]
    batch = with_broken_text(logs(*bodies[:3], GOOD.decode(), *bodies[4:]))
    (outcome,) = await accepted(native_database, batch)
    assert outcome.rejected == 0
    assert "resource_logs[0].scope_logs[0].log_records[3]: text that is not UTF-8" in outcome.message
    stored = {body for (body,) in native_database.run("SELECT body FROM logs")}
    assert stored == {*bodies[:3], MENDED, *bodies[4:]}


async def test_a_mended_batch_that_is_repeated_is_recognized(native_database: Database) -> None:
    batch = with_broken_text(logs("a", GOOD.decode()))
    await accepted(native_database, batch, batch)
    await accepted(native_database, batch)
    assert native_database.count("logs") == 2


async def test_a_log_record_with_ids_of_another_form_is_kept_without(native_database: Database) -> None:
    request = ExportLogsServiceRequest.FromString(logs(*map(str, range(10))).payload)
    for n, record in enumerate(request.resource_logs[0].scope_logs[0].log_records):
        record.trace_id, record.span_id = b"\1" * 16, b"\2" * 8
        if n == 4:
            record.trace_id, record.span_id = (b"\1" * 16).hex().encode(), (b"\2" * 8).hex().encode()
        if n == 5:
            record.trace_id, record.span_id = bytes(16), bytes(8)
    (outcome,) = await accepted(native_database, Batch.of(Signal.LOGS, request.SerializeToString()))
    assert outcome.rejected == 0
    stored = native_database.run("SELECT body FROM logs WHERE trace_id IS NULL AND span_id IS NULL ORDER BY 1")
    assert stored == [("4",), ("5",)]
    assert native_database.value("SELECT count(*) FROM logs WHERE trace_id = repeat('01', 16)") == 8


async def test_a_parent_of_all_zeros_is_none(native_database: Database) -> None:
    await accepted(native_database, spans("root", parent_span_id=bytes(8)), spans("child", parent_span_id=b"\1" * 8))
    assert native_database.run("SELECT name FROM spans WHERE parent_span_id IS NULL") == [("root",)]


async def test_links_and_exemplars_of_all_zeros_lead_nowhere(native_database: Database) -> None:
    request = ExportTraceServiceRequest.FromString(spans("linked").payload)
    link = request.resource_spans[0].scope_spans[0].spans[0].links.add(trace_id=bytes(16), span_id=bytes(8))
    link.attributes.add(key="why").value.string_value = "not known"
    points = ExportMetricsServiceRequest()
    metric = points.resource_metrics.add().scope_metrics.add().metrics.add(name="a")
    point = metric.gauge.data_points.add(time_unix_nano=now(), as_double=1)
    point.exemplars.add(trace_id=bytes(16), span_id=bytes(8), as_double=1)
    point.exemplars.add(trace_id=b"short", span_id=b"\2" * 8, as_double=2)
    await accepted(
        native_database,
        Batch.of(Signal.TRACES, request.SerializeToString()),
        Batch.of(Signal.METRICS, points.SerializeToString()),
    )
    (links,) = native_database.run("SELECT links FROM spans")[0]
    assert (links[0]["trace_id"], links[0]["span_id"]) == ("", "")
    stored = native_database.run("SELECT value, trace_id, span_id FROM exemplar ORDER BY value")
    assert stored == [(1, None, None), (2, None, "02" * 8)]


async def test_a_span_without_an_id_is_rejected_with_its_place(native_database: Database) -> None:
    request = ExportTraceServiceRequest.FromString(spans("a", "b", "c").payload)
    request.resource_spans[0].scope_spans[0].spans[1].span_id = bytes(8)
    (outcome,) = await accepted(native_database, Batch.of(Signal.TRACES, request.SerializeToString()))
    assert outcome.rejected == 1
    assert (
        "span_id that is not 8 bytes, or all zero, first resource_spans[0].scope_spans[0].spans[1]" in outcome.message
    )
    assert native_database.run("SELECT name FROM spans ORDER BY 1") == [("a",), ("c",)]


def _json_logs(edit: Callable[[list[dict[str, Any]]], None]) -> bytes:
    records = [{"timeUnixNano": str(now()), "body": {"stringValue": f"line {n}"}} for n in range(10)]
    edit(records)
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()


@pytest.mark.parametrize(
    ("edit", "rejected"),
    [
        (lambda records: records[3].update(traceId="abc", spanId="q83vEjRWeJo="), 0),
        (lambda records: records[3].update(severityNumber="SEVERITY_NUMBER_INFO"), 0),
        (lambda records: records[3].update(timeUnixNano="noon"), 1),
        (lambda records: records[3].update(flags=2**32), 1),
        (lambda records: records[3].update(droppedAttributesCount=1.5), 1),
        (lambda records: records[3].update(attributes=[{"key": 1}]), 1),
        (lambda records: records[3].update(body={"intValue": 1, "stringValue": "line 3"}), 0),  # the last counts
        (lambda records: records[3].update(body={"stringValue": 1}), 1),
        (lambda records: records.__setitem__(3, "no record"), 1),
    ],
)
async def test_a_record_of_json_that_is_wrong_is_left_out_alone(
    native_database: Database, edit: Callable[[list[dict[str, Any]]], None], rejected: int
) -> None:
    payload, left_out = to_protobuf(Signal.LOGS, _json_logs(edit))
    (outcome,) = await accepted(native_database, Batch.of(Signal.LOGS, payload, left_out=left_out))
    assert outcome.rejected == rejected
    assert ("resourceLogs[0].scopeLogs[0].logRecords[3]" in outcome.message) == bool(rejected)
    expected = {f"line {n}" for n in range(10) if n != 3 or not rejected}
    assert {body for (body,) in native_database.run("SELECT body FROM logs")} == expected


async def test_a_record_of_json_with_too_many_values_costs_no_other(native_database: Database) -> None:
    body = _json_logs(lambda records: records[3].update(body={"arrayValue": {"values": [{}] * 100_001}}))
    payload, left_out = to_protobuf(Signal.LOGS, body)
    (outcome,) = await accepted(native_database, Batch.of(Signal.LOGS, payload, left_out=left_out))
    assert outcome.message.endswith("logRecords[3]: it has more than 100000 objects and arrays")
    expected = {f"line {n}" for n in range(10) if n != 3}
    assert {body for (body,) in native_database.run("SELECT body FROM logs")} == expected


@pytest.mark.parametrize("broken", [b"\xff\x80", b"\\ud800"])
async def test_text_of_json_that_is_not_utf8_is_mended(native_database: Database, broken: bytes) -> None:
    body = _json_logs(lambda records: records[3].update(body={"stringValue": "caf-"})).replace(b"caf-", b"caf" + broken)
    payload, left_out = to_protobuf(Signal.LOGS, body)
    (outcome,) = await accepted(native_database, Batch.of(Signal.LOGS, payload, left_out=left_out))
    assert (outcome.rejected, native_database.count("logs")) == (0, 10)
    assert native_database.value("SELECT count(*) FROM logs WHERE body LIKE 'caf\ufffd%%'") == 1


async def test_a_truncated_record_is_rejected_with_its_place(native_database: Database) -> None:
    payload = logs(*(f"line {n}" for n in range(10))).payload
    at = payload.index(b"line 3")
    payload = payload[: at - 1] + b"\x60" + payload[at:]  # the length of its text leads out of the record
    (outcome,) = await accepted(native_database, Batch.of(Signal.LOGS, payload))
    assert outcome.rejected == 1
    assert outcome.message.startswith("1 log records rejected: resource_logs[0].scope_logs[0].log_records[3]: ")
    assert native_database.count("logs") == 9
