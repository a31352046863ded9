"""Requests taken apart: every record is in one part, with all that surrounds it, and always in the same one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.component import Batch, Signal
from gateway.otlp import splitting
from gateway.otlp.counting import count_records
from tests.support.telemetry import gauge, spans

NEW_FIELD = b"\xfa\x3e\x03new"
"""A field that no version of the protocol knows, and that stands for those to come."""


def logs(*counts: int) -> bytes:
    """A request of so many log records a resource, each of two scopes, numbered throughout."""
    made, number = ExportLogsServiceRequest(), 0
    for place, count in enumerate(counts):
        resource = made.resource_logs.add(schema_url=f"schema {place}")
        resource.resource.attributes.add(key="place").value.int_value = place
        for name, size in (("first", count // 2), ("second", count - count // 2)):
            scope = resource.scope_logs.add(schema_url=name)
            scope.scope.name = name
            for _ in range(size):
                scope.log_records.add(observed_time_unix_nano=number).body.string_value = str(number)
                number += 1
    return bytes(made.SerializeToString())


def records(payload: bytes) -> Iterator[tuple[Any, ...]]:
    """Each record with all that surrounds it."""
    for resource in ExportLogsServiceRequest.FromString(payload).resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                yield (
                    resource.schema_url,
                    resource.resource.SerializeToString(),
                    scope.schema_url,
                    scope.scope.SerializeToString(),
                    record.SerializeToString(),
                )


@pytest.mark.parametrize("counts", [(2,), (3,), (5, 1, 4), (1, 1), (1, 7, 1), (0, 2, 0), (1, 1, 1, 1, 1)], ids=str)
def test_every_record_is_in_one_half_with_what_surrounds_it(counts: tuple[int, ...]) -> None:
    whole = logs(*counts)
    halves = splitting.halves(Signal.LOGS, whole)
    assert halves is not None
    assert splitting.halves(Signal.LOGS, whole) == halves
    one, two = (list(records(half)) for half in halves)
    assert one + two == list(records(whole))
    assert len(one) == sum(counts) // 2
    for half in halves:
        for resource in ExportLogsServiceRequest.FromString(half).resource_logs:
            assert all(scope.log_records for scope in resource.scope_logs), "nothing empty is left"


@pytest.mark.parametrize("payload", [b"", b"\xff", b"no request", logs(1), logs(2)[:-3], b"\x0b\x0c"])
def test_what_has_not_two_records_or_is_no_request_cannot_be_halved(payload: bytes) -> None:
    assert splitting.halves(Signal.LOGS, payload) is None
    assert splitting.cut(Signal.LOGS, payload, 4) == [payload]


@given(st.lists(st.integers(0, 9), max_size=5), st.integers(20, 400))
def test_parts_are_small_and_make_up_the_whole(counts: list[int], most: int) -> None:
    whole = logs(*counts)
    parts = splitting.cut(Signal.LOGS, whole, most)
    assert [each for part in parts for each in records(part)] == list(records(whole))
    if len(parts) > 1:
        assert all(len(part) <= most or len(list(records(part))) == 1 for part in parts)
    assert splitting.cut(Signal.LOGS, whole, most) == parts


def test_a_metric_is_cut_between_its_points_and_stays_what_it_is() -> None:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    total = scope.metrics.add(name="total", unit="By", description="about it")
    total.metadata.add(key="k").value.string_value = "v"
    total.sum.aggregation_temporality = 2
    total.sum.is_monotonic = True
    for number in range(10):
        total.sum.data_points.add(as_int=number, time_unix_nano=number)
    for kind, points in (("histogram", 3), ("exponential_histogram", 2), ("summary", 2), ("gauge", 1)):
        metric = scope.metrics.add(name=kind)
        for number in range(points):
            getattr(metric, kind).data_points.add(time_unix_nano=number)
    whole = request.SerializeToString()
    parts = splitting.cut(Signal.METRICS, whole, 100)
    assert len(parts) > 3
    found = []
    for part in parts:
        for metric in (
            metric
            for resource in ExportMetricsServiceRequest.FromString(part).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ):
            kind = metric.WhichOneof("data")
            found += [(metric.name, kind, point.time_unix_nano) for point in getattr(metric, kind).data_points]
            if kind == "sum":
                assert (metric.unit, metric.description) == ("By", "about it")
                assert metric.metadata == total.metadata
                assert (metric.sum.aggregation_temporality, metric.sum.is_monotonic) == (2, True)
    expected = [("total", "sum", number) for number in range(10)]
    for kind, points in (("histogram", 3), ("exponential_histogram", 2), ("summary", 2), ("gauge", 1)):
        expected += [(kind, kind, number) for number in range(points)]
    assert found == expected


def test_spans_are_taken_apart_too() -> None:
    whole = spans("a", "b", "c").payload
    halves = splitting.halves(Signal.TRACES, whole)
    assert halves is not None
    assert [count_records(Batch.of(Signal.TRACES, half)) for half in halves] == [1, 2]
    one, two = (ExportTraceServiceRequest.FromString(half) for half in halves)
    one.MergeFrom(two)
    names = [span.name for resource in one.resource_spans for scope in resource.scope_spans for span in scope.spans]
    assert names == ["a", "b", "c"]


def test_fields_that_nobody_knows_go_along_and_records_that_nobody_can_read_do_too() -> None:
    broken = b"\x12\x04\x2a\x02\x0a\xff"  # a record whose body is cut short
    scope = b"\x12" + bytes([2 * len(broken) + len(NEW_FIELD)]) + broken + NEW_FIELD + broken
    resource = b"\x0a" + bytes([len(scope)]) + scope
    halves = splitting.halves(Signal.LOGS, resource + NEW_FIELD)
    assert halves is not None
    for half in halves:
        assert half.count(NEW_FIELD) == 2
        assert half.count(broken) == 1


def test_what_is_small_enough_is_left_alone() -> None:
    payload = gauge().payload
    assert splitting.cut(Signal.METRICS, payload, len(payload)) == [payload]
