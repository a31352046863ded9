"""Counting the records of a request without decoding them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.component import Batch, MalformedPayloadError, Signal
from gateway.otlp.counting import count_records

_counts = st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=4)


@given(_counts)
def test_every_record_of_every_scope_counts(shape: list[list[int]]) -> None:
    logs, traces, metrics = ExportLogsServiceRequest(), ExportTraceServiceRequest(), ExportMetricsServiceRequest()
    kinds = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
    for scopes in shape:
        of_logs, of_spans, of_metrics = (
            logs.resource_logs.add(),
            traces.resource_spans.add(),
            metrics.resource_metrics.add(),
        )
        of_logs.resource.attributes.add(key="a")
        for number, records in enumerate(scopes):
            log_scope, span_scope = of_logs.scope_logs.add(), of_spans.scope_spans.add()
            log_scope.scope.name = "scope"
            metric = of_metrics.scope_metrics.add().metrics.add(name="a")
            for _ in range(records):
                log_scope.log_records.add(time_unix_nano=1)
                span_scope.spans.add(name="span")
                getattr(metric, kinds[number]).data_points.add(time_unix_nano=1)
    expected = sum(map(sum, shape))
    assert count_records(Batch.of(Signal.LOGS, logs.SerializeToString())) == expected
    assert count_records(Batch.of(Signal.TRACES, traces.SerializeToString())) == expected
    assert count_records(Batch.of(Signal.METRICS, metrics.SerializeToString())) == expected


@pytest.mark.parametrize("signal", Signal)
def test_what_is_no_request_is_malformed(signal: Signal) -> None:
    with pytest.raises(MalformedPayloadError, match=f"not a valid request of {signal.value}"):
        count_records(Batch.of(signal, b"\x0a\xff"))
