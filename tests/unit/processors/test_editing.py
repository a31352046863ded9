"""A request taken apart and put together keeps what nobody changed, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from gateway.base.slices import at_once
from gateway.component import Batch, MalformedPayloadError, Signal, TooLargeError
from gateway.otlp.wire_format import length_delimited
from gateway.processors.common.editing import Edited, Editor, edit
from gateway.processors.common.processor import edited
from tests.support.otlp_strategies import REQUESTS
from tests.support.processing import batch_of, process, read, records_of
from tests.support.telemetry import logs

any_request = st.sampled_from(sorted(REQUESTS)).flatmap(lambda signal: REQUESTS[signal]())


class Picking(Editor):
    """Keeps the records of which this is true, by their number."""

    def __init__(self, keeps: Callable[[int], bool]) -> None:
        self.seen: list[bytes] = []
        self._keeps = keeps

    def record(self, raw: bytes, message: Any) -> bytes | None:
        self.seen.append(raw)
        return raw if self._keeps(len(self.seen) - 1) else None


def run(batch: Batch, editor: Editor) -> Edited:
    return at_once(edit(batch, editor))


@settings(max_examples=15, deadline=None)
@given(any_request)
def test_what_is_left_alone_is_the_same_object(request: Any) -> None:
    batch = batch_of(request)
    assert run(batch, Editor()).payload is batch.payload


@settings(max_examples=15, deadline=None)
@given(any_request)
def test_records_that_are_kept_keep_their_bytes_and_their_order(request: Any) -> None:
    batch, odd = batch_of(request), Picking(lambda number: number % 2 == 1)
    made = run(batch, odd)
    kept = odd.seen[1::2]
    assert made.dropped == len(odd.seen) - len(kept)
    if made.payload is not None:
        again = Picking(lambda _: True)
        run(Batch.of(batch.signal, made.payload), again)
        assert again.seen == kept
    else:
        assert not kept


@settings(max_examples=15, deadline=None)
@given(any_request)
def test_of_a_request_without_its_records_nothing_is_left(request: Any) -> None:
    assert len(records_of(request)) == run(batch_of(request), Picking(lambda _: False)).dropped


def test_fields_that_no_version_knows_go_along() -> None:
    unknown = length_delimited(999, b"of tomorrow")
    request = ExportLogsServiceRequest.FromString(logs("one", "two").payload)
    raw = request.resource_logs[0].scope_logs[0].log_records[1].SerializeToString() + unknown
    scope = length_delimited(2, request.resource_logs[0].scope_logs[0].log_records[0].SerializeToString())
    scope += length_delimited(2, raw) + unknown
    payload = length_delimited(1, length_delimited(2, scope) + unknown) + unknown
    made = run(Batch.of(Signal.LOGS, payload), Picking(lambda number: number == 1)).payload
    assert made is not None
    assert made.count(unknown) == 4
    assert raw in made


WITHOUT_EFFECT: list[tuple[str, dict[str, Any]]] = [
    ("filter", {"drop": ["name == 'surely not'", "attributes['surely not'] == 1"]}),
    ("attributes", {"actions": [{"action": "delete", "key": "surely not"}]}),
    ("attributes", {"actions": [{"action": "hash", "pattern": "surely not"}]}),
    ("resource", {"attributes": [{"action": "update", "key": "surely not", "value": 1}]}),
    ("redact", {"detect": ["email"], "patterns": {"own": "surely not"}}),
    ("limit", {"records_per_second": 1_000_000}),
]


@settings(max_examples=15, deadline=None)
@given(request=any_request)
def test_no_processor_touches_what_it_does_not_change(request: Any) -> None:
    batch = batch_of(request)
    for name, its_settings in WITHOUT_EFFECT:
        result = asyncio.run(process(name, its_settings, batch))
        assert result.batch is batch, name
        assert not result.dropped


@pytest.mark.parametrize("signal", list(Signal))
def test_what_is_no_request_is_malformed(signal: Signal) -> None:
    with pytest.raises(MalformedPayloadError):
        run(Batch.of(signal, b"\x0a\xff"), Editor())


def test_a_record_that_is_broken_within_is_malformed_for_whoever_looks_into_it() -> None:
    payload = length_delimited(1, length_delimited(2, length_delimited(2, b"\x32\xff")))
    with pytest.raises(MalformedPayloadError):
        asyncio.run(process("filter", {"drop": ["severity < warn"]}, Batch.of(Signal.LOGS, payload)))


def test_what_holds_too_much_for_its_size_is_refused() -> None:
    payload = length_delimited(1, length_delimited(2, b"\x12\x00" * 2_000_000))
    with pytest.raises(TooLargeError):
        run(Batch.of(Signal.LOGS, payload), Editor())


def test_a_record_of_too_many_parts_is_malformed() -> None:
    attribute = length_delimited(6, length_delimited(1, b"@"))
    payload = length_delimited(1, length_delimited(2, length_delimited(2, attribute * 60_000)))
    with pytest.raises(MalformedPayloadError, match="more than"):
        asyncio.run(process("redact", None, Batch.of(Signal.LOGS, payload)))


async def test_the_event_loop_has_its_turn_while_a_large_request_is_worked_on() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    batch = logs(*(f"record {number} of bob@example.com" for number in range(20_000)))
    await edited(batch, Picking(lambda number: number % 3 == 0))
    beside.cancel()
    assert turns > 2


def test_a_metric_without_points_is_left_out_with_them() -> None:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    scope.metrics.add(name="a").gauge.data_points.add(time_unix_nano=1, as_double=1)
    scope.metrics.add(name="b").summary.data_points.add(time_unix_nano=1)
    scope.metrics.add(name="empty").gauge.SetInParent()
    made = run(batch_of(request), Picking(lambda number: number == 1))
    assert made.dropped == 1
    assert made.payload is not None
    left = read(Batch.of(Signal.METRICS, made.payload))
    assert [each.name for each in left.resource_metrics[0].scope_metrics[0].metrics] == ["b", "empty"]
