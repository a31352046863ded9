"""Every exporter of ours keeps to the contract that plugins are tested by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from exporters.loki import factory as loki
from exporters.loki.config import LokiConfig
from exporters.otlp import factory as otlp
from exporters.otlp.config import OtlpExporterConfig
from exporters.timescale import factory as timescale
from exporters.timescale.config import TimescaleConfig
from gateway.component import (
    ACCEPTED,
    Batch,
    Consumer,
    Exporter,
    Outcome,
    Prepared,
    RefusedError,
    Signal,
    UnavailableError,
)
from gateway.component.declaration import Context
from gateway.otlp.splitting import halves
from gateway.testing import ExporterContract, some_records
from receivers.otlp import factory as receiver_factory
from receivers.otlp.config import OtlpReceiverConfig
from tests.support.consumers import Collecting
from tests.support.databases import Database
from tests.support.loki import StandInLoki
from tests.support.threads import in_thread


def logs_with_one(change: Any) -> Batch:
    """Log records, one of which is changed; each of a resource of its own."""
    request = ExportLogsServiceRequest()
    for _ in range(5):
        request.MergeFrom(ExportLogsServiceRequest.FromString(some_records(Signal.LOGS, 1).payload))
    change(request.resource_logs[3])
    return Batch.of(Signal.LOGS, request.SerializeToString())


class TestTimescale(ExporterContract):
    recognizes = True

    @pytest.fixture(autouse=True)
    def _database(self, database: Database) -> None:
        self.database = database

    def make(self) -> Exporter:
        config = TimescaleConfig.model_validate({"dsn": self.database.dsn, "connections": 2})
        return timescale.create("timescale", config, Context())

    def stored(self) -> int:
        return sum(self.database.count(view) for view in ("metrics", "logs", "spans"))

    @contextmanager
    def away(self) -> Iterator[None]:
        self.database.allow_connections(False)
        try:
            yield
        finally:
            self.database.allow_connections(True)

    def refused(self) -> Batch:
        self.database.run("ALTER TABLE resource ADD CONSTRAINT no_poison CHECK (service_name <> 'poison')")

        def poison(owner: Any) -> None:
            owner.resource.attributes.add(key="service.name").value.string_value = "poison"

        return logs_with_one(poison)


class TestLoki(ExporterContract):
    signals = frozenset({Signal.LOGS})

    @pytest.fixture(autouse=True)
    def _loki(self) -> Iterator[None]:
        self.loki = StandInLoki()
        yield
        self.loki.stop()

    def make(self) -> Exporter:
        return loki.create("loki", LokiConfig(endpoint=self.loki.url), Context())

    def stored(self) -> int:
        return len(self.loki.lines)

    @contextmanager
    def away(self) -> Iterator[None]:
        self.loki.answer = 503
        try:
            yield
        finally:
            self.loki.answer = None

    def refused(self) -> Batch:
        def lengthen(owner: Any) -> None:
            owner.scope_logs[0].log_records[0].body.string_value = "x" * (self.loki.max_line_size + 1)

        return logs_with_one(lengthen)


class TestOtlp(ExporterContract):
    """To another hub, as far as it can be seen from outside."""

    @pytest.fixture(autouse=True, params=["grpc", "http"])
    def _far_end(self, request: pytest.FixtureRequest) -> Iterator[None]:
        self.protocol, self.is_away = request.param, False
        self.far_end = Collecting(self.answer)
        with in_thread(listening(self.protocol, self.far_end), "far end") as self.endpoint:
            yield

    def answer(self, batch: Batch) -> Outcome:
        if self.is_away:
            raise UnavailableError("away", 0)
        if b"poison" in batch.payload:
            raise RefusedError("no poison")
        return ACCEPTED

    def make(self) -> Exporter:
        protocol = "http/protobuf" if self.protocol == "http" else self.protocol
        config = {"endpoint": f"http://{self.endpoint}", "protocol": protocol}
        return otlp.create("otlp", OtlpExporterConfig.model_validate(config), Context())

    def stored(self) -> int:
        return sum(_records(batch.signal, batch.payload) for batch in self.far_end.batches)

    @contextmanager
    def away(self) -> Iterator[None]:
        self.is_away = True
        try:
            yield
        finally:
            self.is_away = False

    def refused(self) -> Batch:
        def poison(owner: Any) -> None:
            owner.scope_logs[0].log_records[0].body.string_value = "poison"

        return logs_with_one(poison)


@asynccontextmanager
async def listening(protocol: str, consumer: Consumer) -> AsyncIterator[str]:
    config = OtlpReceiverConfig.model_validate({"protocols": {protocol: {"endpoint": "127.0.0.1:0"}}})
    receiver = receiver_factory.create("otlp", config, consumer, Context())
    await receiver.start()
    yield receiver.endpoints[protocol]
    await receiver.stop(0)


def _records(signal: Signal, payload: bytes) -> int:
    if not payload:
        return 0
    parts = halves(signal, payload)
    return 1 if parts is None else sum(_records(signal, part) for part in parts)


def test_a_contract_without_an_exporter_says_what_to_do() -> None:
    with pytest.raises(NotImplementedError, match="override `make`"):
        ExporterContract().test_it_says_its_name_and_how_it_is_to_be_used()


class Forgetful:
    """Raises what it must not, forgets what it was given, and leaves a task behind."""

    name, concurrency, batches_per_commit = "forgetful", 1, None

    async def start(self) -> None:
        self.task = asyncio.create_task(asyncio.Event().wait())

    async def stop(self) -> None:
        pass

    async def prepare(self, batch: Batch) -> Prepared:
        return Prepared(batch, 1)

    async def commit(self, prepared: Sequence[Prepared]) -> list[bool]:
        return [True]

    def gauges(self) -> dict[str, float]:
        return {}


@pytest.mark.parametrize(
    "rule",
    [
        "nothing_of_it_runs_after_its_end",
        "it_may_be_stopped_without_a_start",
        "preparing_counts_the_records",
        "a_payload_that_is_no_request_is_malformed",
        "what_is_committed_is_new_and_there",
        "several_batches_are_one_commit",
        "a_batch_that_comes_again_is_known",
        "a_destination_that_is_away_is_unavailable",
        "what_is_refused_for_good_is_found_in_halves",
    ],
)
def test_an_exporter_that_breaks_a_rule_is_found(rule: str) -> None:
    class Stops(Forgetful):
        async def stop(self) -> None:
            self.task.cancel()

    class Contract(ExporterContract):
        recognizes = True

        def make(self) -> Exporter:
            return Stops() if "without_a_start" in rule else Forgetful()

        def stored(self) -> int:
            return 0

        def away(self) -> AbstractContextManager[object]:
            return nullcontext()

        def refused(self) -> Batch:
            return some_records(Signal.LOGS, 2)

    with pytest.raises((AssertionError, AttributeError, pytest.fail.Exception)):
        getattr(Contract(), f"test_{rule}")()
