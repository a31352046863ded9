"""Sampling: a trace is kept or not, whoever sees which part of it, and whoever counts spans can tell how many."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from gateway.component import Signal
from gateway.processors.sample.processor import read_state, threshold_of, with_threshold
from tests.support.processing import batch_of, processed, processor, records_of
from tests.support.telemetry import logs

RANDOM = random.Random(1)
TRACES = [RANDOM.randbytes(16) for _ in range(2000)]


def traces(*ids: bytes, state: str = "", **fields: Any) -> Any:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for each in ids:
        scope.spans.add(trace_id=each, span_id=b"12345678", trace_state=state, **fields)
    return batch_of(request)


def log_records(*ids: bytes, severity: int = 9) -> Any:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for number, each in enumerate(ids):
        scope.log_records.add(trace_id=each, severity_number=severity, time_unix_nano=number + 1)
    return batch_of(request)


def kept(settings: dict[str, Any], batch: Any) -> list[bytes]:
    return [each.trace_id for each in records_of(processed("sample", settings, batch))]


def test_about_the_part_that_is_asked_for_is_kept() -> None:
    assert len(kept({"ratio": 0.25}, traces(*TRACES))) == pytest.approx(500, rel=0.15)
    assert kept({"ratio": 0}, traces(*TRACES)) == []
    batch = traces(*TRACES[:5])
    assert kept({"ratio": 1}, batch) == TRACES[:5]


def test_log_records_are_kept_with_their_traces() -> None:
    assert kept({"ratio": 0.25}, log_records(*TRACES)) == kept({"ratio": 0.25}, traces(*TRACES))


def test_a_smaller_part_is_a_part_of_a_larger_one() -> None:
    assert set(kept({"ratio": 0.1}, traces(*TRACES))) < set(kept({"ratio": 0.5}, traces(*TRACES)))


def test_the_randomness_is_the_last_seven_bytes_of_the_id() -> None:
    low, high = b"\xff" * 9 + bytes(7), bytes(9) + b"\xff" * 7
    assert kept({"ratio": 0.001}, traces(low, high)) == [high]


def test_a_trace_may_bring_its_own_randomness() -> None:
    assert kept({"ratio": 0.001}, traces(TRACES[0], state="ot=rv:ffffffffffffff")) == [TRACES[0]]
    assert kept({"ratio": 0.999}, traces(TRACES[0], state="ot=rv:00000000000000")) == []


def test_what_is_kept_says_for_how_many_it_stands() -> None:
    made = processed("sample", {"ratio": 0.25}, traces(*TRACES[:50], state="other=1"))
    assert {each.trace_state for each in records_of(made)} == {"ot=th:c,other=1"}


def test_what_was_sampled_before_is_sampled_in_proportion_or_made_equal() -> None:
    half = [each for each in TRACES if int.from_bytes(each[-7:], "big") >= 1 << 55]
    batch = traces(*half, state="ot=th:8")
    made = records_of(processed("sample", {"ratio": 0.5}, batch))
    assert {each.trace_state for each in made} == {"ot=th:c"}
    assert len(made) == pytest.approx(len(TRACES) / 4, rel=0.15)
    assert kept({"ratio": 0.5, "mode": "equalizing"}, batch) == half


@given(
    st.integers(1, 2**56 - 1), st.sampled_from(["", "a=1,b=2", "ot=rv:0123456789abcd", "ot=th:8;rv:0123456789abcd,x=1"])
)
def test_a_threshold_is_read_as_it_was_written(threshold: int, state: str) -> None:
    written = with_threshold(state, threshold)
    assert read_state(written, 0)[1] == threshold
    assert read_state(written, 0)[0] == read_state(state, 0)[0]
    assert written.startswith("ot=th:")


def test_thresholds_are_those_of_the_specification() -> None:
    assert [f"{threshold_of(ratio):014x}" for ratio in (0.5, 0.25, 1)] == ["8" + "0" * 13, "c" + "0" * 13, "0" * 14]


def test_logs_are_sampled_by_their_severity() -> None:
    settings = {"ratio": 0, "by_severity": {"info": 0.25, "error": 1}}
    counts = {
        severity: len(kept(settings, log_records(*TRACES, severity=severity))) for severity in (0, 5, 9, 13, 17, 24)
    }
    assert counts[0] == counts[5] == 0
    assert counts[9] == counts[13] == pytest.approx(500, rel=0.15)
    assert counts[17] == counts[24] == 2000


def test_logs_of_no_trace_are_kept_by_their_bytes_and_alike_each_time() -> None:
    batch = logs(*(f"line {number}" for number in range(2000)), at=1)
    first, again = (processed("sample", {"ratio": 0.25}, batch) for _ in range(2))
    assert first == again
    assert len(records_of(first)) == pytest.approx(500, rel=0.2)


def test_some_are_kept_in_any_case() -> None:
    settings = {"ratio": 0, "always": ["status == error"]}
    assert kept(settings, traces(TRACES[0], status={"code": 2})) == [TRACES[0]]
    assert kept(settings, traces(TRACES[0], status={"code": 1})) == []


def test_a_span_that_is_none_is_left_for_others_to_refuse() -> None:
    assert kept({"ratio": 0}, traces(b"short")) == [b"short"]


def test_sampling_by_severity_is_for_logs() -> None:
    made = processor("sample", {"by_severity": {"info": 0.5}}, Signal.LOGS)
    assert made.name == "sample"
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        processor("sample", {"ratio": 10}, Signal.LOGS)
