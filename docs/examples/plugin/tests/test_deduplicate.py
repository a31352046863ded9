"""The processor keeps the first of equal log records that follow each other."""

from __future__ import annotations

import asyncio

import pytest
from hub_example.deduplicate import Deduplicate, DeduplicateConfig
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from obs_hub.component import Batch, MalformedPayloadError, Signal


def batch(*bodies: str) -> Batch:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for body in bodies:
        scope.log_records.add(time_unix_nano=1).body.string_value = body
    return Batch.of(Signal.LOGS, request.SerializeToString())


def test_equal_ones_that_follow_each_other_are_left_out() -> None:
    made = asyncio.run(Deduplicate("deduplicate", DeduplicateConfig()).process(batch("a", "a", "b", "a", "a", "a")))
    assert made.dropped == 3
    assert made.batch is not None
    request = ExportLogsServiceRequest.FromString(made.batch.payload)
    assert [each.body.string_value for each in request.resource_logs[0].scope_logs[0].log_records] == ["a", "b", "a"]


def test_what_is_not_changed_is_the_same_object() -> None:
    sent = batch("a", "b")
    assert asyncio.run(Deduplicate("deduplicate", DeduplicateConfig()).process(sent)).batch is sent


def test_what_cannot_be_read_is_for_the_hub_to_mend() -> None:
    with pytest.raises(MalformedPayloadError):
        asyncio.run(Deduplicate("d", DeduplicateConfig()).process(Batch.of(Signal.LOGS, b"\x0a\xff")))
