"""Every exporter of a signal is given the same request, mended where one of them could not read it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.pipeline import Batch, MalformedPayloadError, Outcome, Pipeline, Prepared, Signal, TooLargeError, mending
from gateway.pipeline.counting import count_records
from gateway.pipeline.wire_format import length_delimited
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


async def accept(batch: Batch, telemetry: Telemetry) -> tuple[Outcome, list[list[Batch]]]:
    exporters = [Forwarding("a"), Forwarding("b")]
    deliveries = [telemetry.delivery(exporter) for exporter in exporters]
    for delivery in deliveries:
        await delivery.start()
    try:
        outcome = await Pipeline({batch.signal: deliveries}, 2**30, telemetry.instruments).accept(batch)
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


async def test_what_nobody_can_read_nobody_gets() -> None:
    for payload, error in (
        (b"\xff\xff", MalformedPayloadError),
        (length_delimited(1, b"\x12\0" * 200_000), TooLargeError),
    ):
        with pytest.raises(error):
            await accept(Batch.of(Signal.LOGS, payload), Telemetry())
