"""Mending: what is wrong inside one record costs no other, whatever it is and wherever it stands."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.component import Batch, MalformedPayloadError, Signal
from gateway.otlp import mending
from gateway.otlp.counting import count_records
from gateway.otlp.services import SERVICES
from gateway.otlp.wire_format import length_delimited
from tests.support.telemetry import logs, spans

MARK = "mark"


def full_request(signal: Signal) -> Any:
    """A request of one of everything, with ids that are valid, and `MARK` in every text."""
    request: Any = SERVICES[signal].request()
    _fill(request, 0)
    for owner in _with_ids(request):
        for name, size in (("trace_id", 16), ("span_id", 8), ("parent_span_id", 8)):
            if name in owner.DESCRIPTOR.fields_by_name:
                setattr(owner, name, b"\1" * size)
    return request


def _fill(message: Any, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None:
            # Of a value that holds values, one inside the other is enough; of the kinds of a metric, the last is set.
            if depth < 12 and not (field.message_type.name in ("ArrayValue", "KeyValueList") and depth > 8):
                _fill(
                    getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name), depth + 1
                )
        elif field.type == FieldDescriptor.TYPE_STRING:
            if field.is_repeated:
                getattr(message, field.name).append(MARK)
            else:
                setattr(message, field.name, MARK)


def _with_ids(message: Any) -> list[Any]:
    found = [message] if "span_id" in message.DESCRIPTOR.fields_by_name else []
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                found += _with_ids(each)
    return found


def places(payload: bytes) -> list[int]:
    found, at = [], -1
    while (at := payload.find(MARK.encode(), at + 1)) >= 0:
        found.append(at)
    return found


@pytest.mark.parametrize("signal", list(Signal))
async def test_text_that_is_not_utf8_is_mended_wherever_it_stands(signal: Signal) -> None:
    payload = full_request(signal).SerializeToString()
    assert len(places(payload)) > 8
    for at in places(payload):
        broken = payload[:at] + b"\xff\xc3rk" + payload[at + 4 :]
        with pytest.raises(MalformedPayloadError):
            await mending.check(Batch.of(signal, broken))
        mended = await mending.mend(signal, broken)
        assert mended.rejected == 0
        assert mended.message.startswith("1 mended: ")
        assert "\ufffd\ufffdrk".encode() in mended.payload
        await mending.check(Batch.of(signal, mended.payload))
        text = str(SERVICES[signal].request.FromString(mended.payload))
        assert text.count("rk") == len(places(payload)), "nothing else is lost"


@pytest.mark.parametrize("signal", list(Signal))
async def test_what_is_sound_stays_as_it_is(signal: Signal) -> None:
    payload = full_request(signal).SerializeToString()
    await mending.check(Batch.of(signal, payload))
    assert await mending.mend(signal, payload) == mending.Mended(payload, 0, "")


@pytest.fixture(params=["in one go", "record by record", "in threads"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "in one go":
        monkeypatch.setattr(mending, "_WHOLE", -1)
    if request.param == "in threads":
        monkeypatch.setattr(mending, "LARGE", -1)


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("signal", list(Signal))
async def test_what_is_handed_on_is_counted_and_checked(signal: Signal) -> None:
    request = ten_records(signal)
    batch = Batch.of(signal, request.SerializeToString())
    assert await mending.check(batch) == 10 == count_records(batch)
    if signal is Signal.METRICS:
        _records(signal, request)[3].exemplars.add(span_id=b"short")
    else:
        _records(signal, request)[3].span_id = b"short"
    with pytest.raises(MalformedPayloadError, match="ids that are none"):
        await mending.check(Batch.of(signal, request.SerializeToString()))


@pytest.mark.usefixtures("_way")
async def test_a_record_is_nested_as_deep_wherever_it_is_checked() -> None:
    request = ExportLogsServiceRequest()
    value = request.resource_logs.add().scope_logs.add().log_records.add().body
    for _ in range(49):  # of two messages each, in a record: 99
        value = value.array_value.values.add()
    assert await mending.check(Batch.of(Signal.LOGS, request.SerializeToString())) == 1


@pytest.mark.parametrize("signal", list(Signal))
async def test_a_large_record_is_mended_off_the_loop(signal: Signal, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = full_request(signal).SerializeToString().replace(MARK.encode(), b"m\xffrk")
    on_the_loop = await mending.mend(signal, payload)
    threads, mended = set(), mending._mended

    def noting(raw: bytes, descriptor: Any) -> bytes:
        threads.add(threading.get_ident())
        return mended(raw, descriptor)

    monkeypatch.setattr(mending, "_mended", noting)
    monkeypatch.setattr(mending, "LARGE", -1)
    assert await mending.mend(signal, payload) == on_the_loop
    assert threads
    assert threading.get_ident() not in threads


def _records(signal: Signal, request: Any) -> Any:
    if signal is Signal.LOGS:
        return request.resource_logs[0].scope_logs[0].log_records
    if signal is Signal.TRACES:
        return request.resource_spans[0].scope_spans[0].spans
    return request.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points


def ten_records(signal: Signal) -> Any:
    request: Any = SERVICES[signal].request()
    scope: Any = {
        Signal.LOGS: lambda: request.resource_logs.add().scope_logs.add(),
        Signal.TRACES: lambda: request.resource_spans.add().scope_spans.add(),
        Signal.METRICS: lambda: request.resource_metrics.add().scope_metrics.add().metrics.add(name="a"),
    }[signal]()
    for n in range(10):
        if signal is Signal.LOGS:
            scope.log_records.add(time_unix_nano=n + 1).body.string_value = f"log {n}"
        elif signal is Signal.TRACES:
            span = scope.spans.add(name=f"span {n}", trace_id=b"\1" * 16, span_id=b"\2" * 8)
            span.attributes.add(key="n").value.int_value = n
        else:
            scope.sum.data_points.add(as_int=n, time_unix_nano=n + 1).attributes.add(key="n").value.int_value = n
    return request


@given(signal=st.sampled_from(Signal), which=st.integers(0, 9), data=st.data())
async def test_whatever_one_record_is_its_neighbours_stay(signal: Signal, which: int, data: st.DataObject) -> None:
    request = ten_records(signal)
    records = _records(signal, request)
    whole = records[which].SerializeToString()
    at = data.draw(st.integers(0, len(whole)))
    damaged = whole[:at] + data.draw(st.binary(max_size=6)) + whole[at + data.draw(st.integers(0, 6)) :]
    payload = _with_record(signal, request, which, damaged)
    mended = await mending.mend(signal, payload)
    found = list(_records(signal, SERVICES[signal].request.FromString(mended.payload)))
    expected = list(records)
    assert mended.rejected == 10 - len(found)
    assert found[:which] == expected[:which]
    assert found[len(found) - 9 + which :] == expected[which + 1 :]
    await mending.check(Batch.of(signal, mended.payload))
    assert await mending.mend(signal, payload) == mended, "what it becomes depends on nothing else"


def _with_record(signal: Signal, request: Any, which: int, raw: bytes) -> bytes:
    """Serialize a request of which one record is something else."""
    whole = [each.SerializeToString() for each in _records(signal, request)]
    whole[which] = raw
    number = 1 if signal is Signal.METRICS else 2
    inner = b"".join(length_delimited(number, each) for each in whole)
    if signal is Signal.METRICS:
        inner = length_delimited(2, length_delimited(1, b"a") + length_delimited(7, inner))
    return length_delimited(1, length_delimited(2, inner))


async def test_a_resource_that_cannot_be_read_takes_only_its_own_records() -> None:
    good, bad = logs("a", "b").payload, logs("c", "d", "e").payload
    bad = bad.replace(b"host.name", b"host.nam\x07", 1)
    at = bad.index(b"host.nam") - 1
    bad = bad[:at] + b"\x7f" + bad[at + 1 :]  # the length of the key leads out of its attribute
    mended = await mending.mend(Signal.LOGS, good + bad + good)
    assert mended.payload == good + good
    assert mended.rejected == 3
    assert mended.message.startswith("3 log records rejected: resource_logs[1]: its resource: it is truncated")


async def test_ids_that_are_none_are_left_out_of_log_records_links_and_exemplars() -> None:
    records = ExportLogsServiceRequest.FromString(logs("a").payload)
    record = records.resource_logs[0].scope_logs[0].log_records[0]
    record.trace_id, record.span_id = b"short", b"\2" * 8
    mended = await mending.mend(Signal.LOGS, records.SerializeToString())
    record.ClearField("trace_id")
    assert mended.payload == records.SerializeToString()

    traces = ExportTraceServiceRequest.FromString(spans("a").payload)
    link = traces.resource_spans[0].scope_spans[0].spans[0].links.add(trace_id=b"\1" * 32, span_id=b"\2" * 16)
    mended = await mending.mend(Signal.TRACES, traces.SerializeToString())
    link.Clear()
    assert mended.payload == traces.SerializeToString()

    metrics = ExportMetricsServiceRequest()
    point = metrics.resource_metrics.add().scope_metrics.add().metrics.add().histogram.data_points.add(count=1)
    exemplar = point.exemplars.add(span_id=b"\2" * 7, as_double=1)
    mended = await mending.mend(Signal.METRICS, metrics.SerializeToString())
    exemplar.ClearField("span_id")
    assert mended.payload == metrics.SerializeToString()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"trace_id": b"\1" * 32}, "its trace_id is not 16 bytes, or all zero"),
        ({"trace_id": bytes(16)}, "its trace_id is not 16 bytes, or all zero"),
        ({"span_id": b""}, "its span_id is not 8 bytes, or all zero"),
        ({"parent_span_id": b"short"}, "its parent_span_id is not 8 bytes"),
    ],
)
async def test_a_span_needs_valid_ids(fields: dict[str, bytes], reason: str) -> None:
    good, bad = spans("good").payload, spans("bad", **fields).payload
    mended = await mending.mend(Signal.TRACES, good + bad)
    assert (mended.payload.count(b"good"), mended.payload.count(b"bad"), mended.rejected) == (1, 0, 1)
    assert mended.message == f"1 spans rejected: resource_spans[1].scope_spans[0].spans[0]: {reason}"


@pytest.mark.parametrize("payload", [b"\xff", b"\x0a\x7f", b"\x0b", b"\x0a\x02\x12\x7f"])
async def test_what_cannot_be_read_at_its_outside_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedPayloadError):
        await mending.mend(Signal.LOGS, payload)


async def test_a_record_of_too_many_parts_is_rejected_alone() -> None:
    request = ExportLogsServiceRequest.FromString(logs("good", "bad").payload)
    values = request.resource_logs[0].scope_logs[0].log_records[1].body.array_value.values
    for _ in range(60_000):
        values.add()
    mended = await mending.mend(Signal.LOGS, request.SerializeToString())
    assert (mended.rejected, b"good" in mended.payload) == (1, True)
    assert "log_records[1]: it has more than 50000 parts" in mended.message


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("signal", list(Signal))
async def test_what_several_exporters_get_is_checked_once(signal: Signal, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch.of(signal, ten_records(signal).SerializeToString())
    await mending.check(batch)

    def again(*_: object) -> NoReturn:
        raise AssertionError("it was checked")

    monkeypatch.setattr(mending, "_check_whole", again)
    monkeypatch.setattr(mending, "_check_in_slices", again)
    assert await mending.check(batch) == mending.check_at_once(batch) == 10
    # What is made of it is another payload, of which nothing is known.
    assert replace(batch, payload=batch.payload + b"\x0a\x02\x1a\xff").soundness.records is None
    assert batch.part(b"").soundness.records is None


async def test_what_is_wrong_is_found_by_each_exporter_that_looks() -> None:
    broken = Batch.of(Signal.LOGS, b"\x0a\x04\x1a\x02\xff\xfe")
    for _ in range(2):
        assert mending.check_at_once(broken) is None
        with pytest.raises(MalformedPayloadError):
            await mending.check(broken)
