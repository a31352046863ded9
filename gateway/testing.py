"""The contract of exporters as tests, for any exporter to be tested by: ours are, and so can yours be.

.. code-block:: python

    from obs_hub.component import Context, Exporter
    from obs_hub.testing import ExporterContract

    class TestKafka(ExporterContract):
        @pytest.fixture(autouse=True)
        def _broker(self, broker):
            self.broker = broker

        def make(self) -> Exporter:
            return create("kafka", KafkaConfig(brokers=[self.broker.address]), Context())

Each test is a rule that the layers around an exporter rely on: how it is retried, split, spooled and stopped. What
cannot be tried because its method is not overridden is skipped. It needs pytest and no plugin of it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.component import (
    Batch,
    Exporter,
    MalformedPayloadError,
    PartlyRefusedError,
    Prepared,
    RefusedError,
    Signal,
    UnavailableError,
)
from gateway.otlp import splitting

__all__ = ["ExporterContract", "some_records"]

_counter = itertools.count(time.time_ns())


def some_records(signal: Signal, count: int) -> Batch:
    """Make a request of so many records that no other has: of now, and each of its own name."""
    now = time.time_ns()
    numbers = list(itertools.islice(_counter, count))
    request: Any
    match signal:
        case Signal.METRICS:
            request = ExportMetricsServiceRequest()
            scope = request.resource_metrics.add().scope_metrics.add()
            for number in numbers:
                point = scope.metrics.add(name=f"contract.{number}", unit="1").gauge.data_points.add(time_unix_nano=now)
                point.as_double = 1.0
        case Signal.LOGS:
            request = ExportLogsServiceRequest()
            scope = request.resource_logs.add().scope_logs.add()
            for number in numbers:
                scope.log_records.add(time_unix_nano=now, severity_number=9).body.string_value = f"contract {number}"
        case Signal.TRACES:
            request = ExportTraceServiceRequest()
            scope = request.resource_spans.add().scope_spans.add()
            for number in numbers:
                scope.spans.add(
                    trace_id=number.to_bytes(16),
                    span_id=(number % 2**63).to_bytes(8),
                    name=f"contract {number}",
                    start_time_unix_nano=now,
                    end_time_unix_nano=now,
                )
    return Batch.of(signal, request.SerializeToString())


class ExporterContract:
    """What holds for every exporter. Derive a class that pytest finds, ``Test…``, and override at least `make`."""

    signals: ClassVar[frozenset[Signal]] = frozenset(Signal)
    """Those that it takes."""
    recognizes: ClassVar[bool] = False
    """Whether the destination knows the batches that it has, so that one given again is not stored again."""

    def make(self) -> Exporter:
        """Make an exporter, not started, to a destination that is there."""
        raise NotImplementedError("override `make`")

    def stored(self) -> int | None:
        """Return how many records the destination has; None where that cannot be told."""
        return None

    def away(self) -> AbstractContextManager[object] | None:
        """Have the destination away for the length of a block; None where that cannot be done."""
        return None

    def refused(self) -> Batch | None:
        """Make a batch of several records, exactly one of which the destination refuses for good; None for none."""
        return None

    # -- what it says of itself ------------------------------------------------------------------------------------

    def test_it_says_its_name_and_how_it_is_to_be_used(self) -> None:
        """The layers are made by this, before it is started."""
        exporter = self.make()
        assert exporter.name
        assert exporter.concurrency >= 1
        assert exporter.batches_per_commit is None or exporter.batches_per_commit >= 1

    def test_its_gauges_are_the_same_ones_always(self) -> None:
        """They are registered before it is started, and read at any time."""
        before = self.make().gauges()

        async def gauges(exporter: Exporter) -> dict[str, float]:
            await self._stored(exporter, some_records(self._signal, 1))
            return exporter.gauges()

        assert self._with(gauges).keys() == before.keys()
        assert all(isinstance(value, int | float) for value in before.values())

    def test_it_may_be_stopped_without_a_start(self) -> None:
        """As when a hub cannot have an address that it is to listen on."""
        asyncio.run(self.make().stop())

    def test_nothing_of_it_runs_after_its_end(self) -> None:
        """What would, would be broken off at any place."""

        async def life() -> set[str]:
            exporter = self.make()
            await exporter.start()
            await self._stored(exporter, some_records(self._signal, 1))
            await exporter.stop()
            await asyncio.sleep(0)
            return {str(task.get_coro()) for task in asyncio.all_tasks() - {asyncio.current_task()}}

        assert not asyncio.run(life())

    # -- preparing -------------------------------------------------------------------------------------------------

    def test_preparing_counts_the_records(self) -> None:
        """What is counted as accepted, refused and stored is counted here."""

        async def prepare(exporter: Exporter) -> None:
            for signal in self.signals:
                batch = some_records(signal, 5)
                prepared = await exporter.prepare(batch)
                assert (prepared.records, prepared.outcome.rejected) == (5, 0), signal
                assert prepared.batch.digest == batch.digest, "what it may have encoded anew is still the same batch"

        self._with(prepare)

    def test_a_payload_that_is_no_request_is_malformed(self) -> None:
        """So it is mended before it is given to any exporter; raised later, it would be retried."""

        async def prepare(exporter: Exporter) -> None:
            for signal in self.signals:
                with pytest.raises(MalformedPayloadError):
                    await exporter.prepare(Batch.of(signal, b"\xff\xff no protobuf"))

        self._with(prepare)

    def test_a_request_without_records_is_taken(self) -> None:
        """Clients send such to see whether there is anybody."""

        async def commit(exporter: Exporter) -> None:
            for signal in self.signals:
                prepared = await exporter.prepare(Batch.of(signal, b""))
                assert prepared.records == 0, signal
                assert len(await exporter.commit([prepared])) == 1

        self._with(commit)

    # -- committing ------------------------------------------------------------------------------------------------

    def test_what_is_committed_is_new_and_there(self) -> None:
        """True for each batch: an OK to its client stands on it."""

        async def commit(exporter: Exporter) -> None:
            for signal in self.signals:
                before = await asyncio.to_thread(self.stored)
                assert await self._stored(exporter, some_records(signal, 3)) == [True], signal
                if before is not None:
                    assert await asyncio.to_thread(self.stored) == before + 3, signal

        self._with(commit)

    def test_several_batches_are_one_commit(self) -> None:
        """As many as it says, of any signals."""

        async def commit(exporter: Exporter) -> None:
            signals = itertools.islice(itertools.cycle(sorted(self.signals)), min(exporter.batches_per_commit or 6, 6))
            batches = [some_records(signal, 2) for signal in signals]
            assert await self._stored(exporter, *batches) == [True] * len(batches)

        self._with(commit)

    def test_commits_run_side_by_side(self) -> None:
        """As many as it says."""

        async def commit(exporter: Exporter) -> None:
            batches = [some_records(self._signal, 1) for _ in range(exporter.concurrency)]
            assert await asyncio.gather(*(self._stored(exporter, each) for each in batches)) == [[True]] * len(batches)

        self._with(commit)

    def test_a_batch_that_comes_again_is_known(self) -> None:
        """Also to an exporter that was made anew, and within one commit."""
        if not self.recognizes:
            pytest.skip("the destination does not know the batches that it has")
        batch, twice = some_records(self._signal, 2), some_records(self._signal, 2)

        async def first(exporter: Exporter) -> None:
            assert await self._stored(exporter, batch) == [True]
            assert await self._stored(exporter, batch) == [False]

        async def second(exporter: Exporter) -> None:
            before = await asyncio.to_thread(self.stored)
            assert await self._stored(exporter, batch) == [False]
            assert await asyncio.to_thread(self.stored) == before
            if exporter.batches_per_commit is None or exporter.batches_per_commit > 1:
                assert sorted(await self._stored(exporter, twice, twice)) == [False, True]

        self._with(first)
        self._with(second)

    # -- when it cannot --------------------------------------------------------------------------------------------

    def test_a_destination_that_is_away_is_unavailable(self) -> None:
        """Not refused: that would be for good. What could not be committed can be, once it is back."""
        away = self.away()
        if away is None:
            pytest.skip("`away` is not overridden")

        async def commit(exporter: Exporter) -> None:
            prepared = await exporter.prepare(some_records(self._signal, 1))
            with away:
                with pytest.raises(UnavailableError) as caught:
                    await exporter.commit([prepared])
                assert caught.value.retry_after >= 0
            async with asyncio.timeout(60):
                while True:
                    try:
                        assert len(await exporter.commit([prepared])) == 1
                        return
                    except UnavailableError as error:  # it need not be back at once
                        await asyncio.sleep(min(error.retry_after, 0.2))

        self._with(commit)

    def test_what_is_refused_for_good_is_found_in_halves(self) -> None:
        """The bad record alone is lost, and no neighbour of it: neither within its batch nor in another."""

        async def commit(exporter: Exporter) -> None:
            bad = self.refused()
            if bad is None:
                pytest.skip("`refused` is not overridden")
            before = await asyncio.to_thread(self.stored)
            records = (await exporter.prepare(bad)).records
            assert records > 1, "`refused` is to make a batch of several records"
            if exporter.batches_per_commit != 1:
                good = some_records(bad.signal, 1)
                with pytest.raises(RefusedError):
                    await self._stored(exporter, good, bad)
                assert await self._stored(exporter, good) == [True], "of a commit that is refused nothing is kept"
                records += 1
            assert await _refused_records(exporter, bad) == 1
            if before is not None:
                assert await asyncio.to_thread(self.stored) == before + records - 1

        self._with(commit)

    # -- how -------------------------------------------------------------------------------------------------------

    @property
    def _signal(self) -> Signal:
        """One that it takes."""
        return min(self.signals)

    def _with(self, do: Callable[[Exporter], Awaitable[Any]]) -> Any:
        """Do something with an exporter that runs."""

        async def life() -> Any:
            exporter = self.make()
            await exporter.start()
            try:
                return await do(exporter)
            finally:
                await exporter.stop()

        return asyncio.run(life())

    @staticmethod
    async def _stored(exporter: Exporter, *batches: Batch) -> Sequence[bool]:
        prepared: list[Prepared] = [await exporter.prepare(batch) for batch in batches]
        return list(await exporter.commit(prepared))


async def _refused_records(exporter: Exporter, batch: Batch) -> int:
    """Commit a batch in halves as the layers around an exporter do; return how many records are refused in the end."""
    prepared = await exporter.prepare(batch)
    try:
        await exporter.commit([prepared])
    except PartlyRefusedError as error:
        return error.records
    except RefusedError:
        halves = splitting.halves(batch.signal, batch.payload)
        if halves is None:
            return prepared.records
        return sum([await _refused_records(exporter, batch.part(half)) for half in halves])
    return 0
