"""Every exporter of a signal is given the same request, mended where one of them could not read it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.component import Batch, MalformedPayloadError, Outcome, Prepared, Signal, TooLargeError
from gateway.otlp import mending
from gateway.otlp.counting import count_records
from gateway.otlp.wire_format import length_delimited
from gateway.pipeline import Pipeline
from tests.support.telemetry import logs, spans
from tests.unit.pipeline.fakes import FakeExporter, Telemetry


class Forwarding(FakeExporter):
    """Takes what is sound, as the exporters do that hand on bytes; remembers what it committed."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.taken: list[Batch] = []

    async def prepare(self, batch: Batch) -> Prepared:
        await mending.check(batch)
        return Prepared(batch, count_records(batch))

    async def commit(self, prepared: Sequence[Prepared]) -> Sequence[bool]:
        self.taken += [each.batch for each in prepared]
        return [True] * len(prepared)


async def accept(batch: Batch, telemetry: Telemetry, max_batch_size: int = 2**20) -> tuple[Outcome, list[list[Batch]]]:
    exporters = [Forwarding("a"), Forwarding("b")]
    deliveries = [telemetry.delivery(exporter) for exporter in exporters]
    for delivery in deliveries:
        await delivery.start()
    try:
        pipeline = Pipeline({batch.signal: deliveries}, 2**30, telemetry.instruments, max_batch_size)
        outcome = await pipeline.accept(batch)
    finally:
        for delivery in deliveries:
            await delivery.stop()
    return outcome, [exporter.taken for exporter in exporters]


async def test_all_get_the_request_as_it_was_mended_under_the_digest_of_what_was_sent() -> None:
    sent = Batch.of(Signal.LOGS, logs("good", "broken", "fine").payload.replace(b"broken", b"br\xffken"))
    outcome, taken = await accept(sent, Telemetry())
    assert outcome.rejected == 0
    assert "resource_logs[0].scope_logs[0].log_records[1]" in outcome.message
    for (batch,) in taken:
        assert "br\ufffdken".encode() in batch.payload
        assert batch.digest == sent.digest
        assert batch.received_at == sent.received_at
    assert taken[0][0].payload == taken[1][0].payload


async def test_records_left_out_are_counted_and_told_once_for_all() -> None:
    payload = spans("good").payload + spans("bad", span_id=b"").payload
    sent = Batch.of(Signal.TRACES, payload, left_out=Outcome(2, "2 spans rejected: by the receiver"))
    telemetry = Telemetry()
    outcome, taken = await accept(sent, telemetry)
    assert outcome.rejected == 3
    assert outcome.message.startswith("2 spans rejected: by the receiver; 1 spans rejected: resource_spans[1]")
    assert [batch.payload.count(b"good") for (batch,) in taken] == [1, 1]
    assert not any(b"bad" in batch.payload for (batch,) in taken)
    assert telemetry.values("obs_hub.records.accepted") == {("traces",): 1}
    assert telemetry.values("obs_hub.records.refused") == {("malformed", "traces"): 3}


async def test_where_nothing_can_be_kept_what_the_receiver_left_out_may_be_why() -> None:
    sent = Batch.of(
        Signal.TRACES, spans("bad", span_id=b"").payload, left_out=Outcome(0, "passed over: span_id: write spanId")
    )
    telemetry = Telemetry()
    with pytest.raises(MalformedPayloadError, match=r"its span_id is not 8 bytes.*; passed over: span_id") as caught:
        await accept(sent, telemetry)
    assert [place for place, _ in caught.value.violations] == ["resource_spans[0].scope_spans[0].spans[0]"]
    assert telemetry.values("obs_hub.requests.refused") == {("malformed", "traces"): 1}


async def test_a_part_of_a_large_request_of_which_nothing_can_be_kept_costs_the_other_parts_nothing() -> None:
    payload = spans("a" * 800).payload + spans("bad" * 300, span_id=b"").payload + spans("c" * 800).payload
    telemetry = Telemetry()
    outcome, taken = await accept(Batch.of(Signal.TRACES, payload), telemetry, 1000)
    assert outcome.rejected == 1
    assert outcome.message.startswith("part 2 of 3: 1 spans rejected: resource_spans[0].scope_spans[0].spans[0]: its")
    for batches in taken:
        assert [(b"aaa" in each.payload, b"ccc" in each.payload) for each in batches] == [(True, False), (False, True)]
    assert telemetry.values("obs_hub.records.accepted") == {("traces",): 2}
    assert telemetry.values("obs_hub.records.refused") == {("malformed", "traces"): 1}


async def test_a_large_request_of_which_nothing_can_be_kept_is_malformed() -> None:
    bad = spans("bad" * 300, span_id=b"").payload
    with pytest.raises(MalformedPayloadError, match="its span_id is not 8 bytes"):
        await accept(Batch.of(Signal.TRACES, bad * 3), Telemetry(), 1000)


async def test_equal_faults_in_several_parts_are_all_told() -> None:
    broken = Batch.of(Signal.LOGS, logs("broken" * 100).payload.replace(b"broken", b"br\xffken", 1) * 3)
    outcome, _ = await accept(broken, Telemetry(), 1000)
    assert [each.split(":")[0] for each in outcome.message.split("; ")] == [f"part {n} of 3" for n in (1, 2, 3)]


async def test_what_can_only_be_cut_once_it_is_mended_is_cut_then() -> None:
    unreadable = length_delimited(1, length_delimited(2, b"\x12\x7fcut short"))
    batch = Batch.of(Signal.LOGS, b"".join([logs("a" * 600, at=1).payload, unreadable, logs("b" * 600, at=1).payload]))
    outcome, taken = await accept(batch, Telemetry(), 1000)
    assert outcome.rejected == 1
    assert [len(batches) for batches in taken] == [2, 2]
    assert all(len(each.payload) <= 1000 for batches in taken for each in batches)
    again = (await accept(batch, Telemetry(), 1000))[1]
    assert [each.digest for each in again[0]] == [each.digest for each in taken[0]], "known when it is repeated"


async def test_what_nobody_can_read_nobody_gets() -> None:
    for payload, error in (
        (b"\xff\xff", MalformedPayloadError),
        (length_delimited(1, b"\x12\0" * 200_000), TooLargeError),
    ):
        with pytest.raises(error):
            await accept(Batch.of(Signal.LOGS, payload), Telemetry())
