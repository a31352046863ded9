"""The Loki exporter: what it sends, and what becomes of a batch at each answer."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from pydantic import ValidationError

from exporters.loki.config import LokiConfig
from exporters.loki.distinct_timestamps import with_distinct_timestamps
from exporters.loki.exporter import LokiExporter
from gateway.base.retry import Circuit
from gateway.base.settings import ExporterSettings, RetrySettings
from gateway.component import (
    Batch,
    DeliveryError,
    MalformedPayloadError,
    OverloadedError,
    PartlyRefusedError,
    RefusedError,
    Signal,
    UnavailableError,
)
from gateway.pipeline.attempts import Attempts
from tests.support.loki import StandInLoki, stand_in_loki
from tests.unit.pipeline.fakes import Telemetry
from tests.unit.pipeline.test_pipeline_client import http_server, reply

DAY = 86_400 * 10**9


@pytest.fixture
def loki() -> Iterator[StandInLoki]:
    with stand_in_loki() as loki:
        yield loki


@asynccontextmanager
async def exporter(loki: StandInLoki, **settings: Any) -> AsyncIterator[LokiExporter]:
    made = LokiExporter("loki", LokiConfig.model_validate({"endpoint": loki.url, **settings}))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def logs(*lines: str, service: str = "test", step: int = 1, at: int | None = None) -> Batch:
    """A batch of a record a line, ``step`` nanoseconds apart. Lines that begin with ``old`` are a month old."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add(schema_url="https://opentelemetry.io/schemas/1.37.0")
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scope = resource.scope_logs.add(schema_url="https://example.com/schema")
    scope.scope.name = "scope"
    now = time.time_ns() if at is None else at
    for number, line in enumerate(lines):
        then = now + number * step - (30 * DAY if line.startswith("old") else 0)
        scope.log_records.add(time_unix_nano=then).body.string_value = line
    return Batch.of(Signal.LOGS, request.SerializeToString())


def lines_of(payload: bytes) -> list[str]:
    request = ExportLogsServiceRequest.FromString(payload)
    return [
        record.body.string_value
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


_ATTEMPTS: WeakKeyDictionary[LokiExporter, Attempts] = WeakKeyDictionary()


async def commit(made: LokiExporter, batch: Batch) -> list[bool]:
    """Send a batch as the layer does that halves what is refused. Raises what the exporter does."""
    telemetry, results = Telemetry(), []
    circuit, settings = Circuit(RetrySettings()), ExporterSettings()
    attempts = _ATTEMPTS.setdefault(
        made, Attempts(made, circuit, telemetry.instruments, telemetry.tracer, settings, "are refused")
    )
    await attempts.attempt([await made.prepare(batch)], lambda _, result: results.append(result))
    (result,) = results
    if isinstance(result, DeliveryError):
        raise result
    return [result]


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_the_payload_arrives_as_it_came(loki: StandInLoki, compression: str) -> None:
    # With a field that no version of the protocol knows, and enough to be compressed in a thread.
    batch = logs(*(f"line {number}" for number in range(5_000)))
    batch = Batch.of(Signal.LOGS, batch.payload + b"\xfa\x3e\x03new")
    async with exporter(loki, compression=compression) as made:
        assert (await made.prepare(batch)).records == 5_000
        assert await commit(made, batch) == [True]
    assert loki.payloads == [batch.payload]
    assert loki.requests[0]["content-type"] == "application/x-protobuf"
    assert loki.requests[0].get("content-encoding", "none") == compression


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({"tenant_id": "home"}, {"x-scope-orgid": "home"}),
        ({"bearer_token": "made-up"}, {"authorization": "Bearer made-up"}),
        (
            {"basic_auth": {"username": "123", "password": "made-up"}},
            {"authorization": "Basic " + base64.b64encode(b"123:made-up").decode()},
        ),
        ({"headers": {"X-Extra": "more"}}, {"x-extra": "more"}),
    ],
)
async def test_tenant_and_credentials_go_along(
    loki: StandInLoki, settings: dict[str, Any], headers: dict[str, str]
) -> None:
    async with exporter(loki, **settings) as made:
        await commit(made, logs("a"))
    assert headers.items() <= loki.requests[0].items()


@pytest.mark.parametrize("path", ["", "/", "/otlp", "/otlp/v1/logs"])
async def test_the_endpoint_may_be_given_with_the_path_or_without(loki: StandInLoki, path: str) -> None:
    async with exporter(loki, endpoint=loki.url + path) as made:
        await commit(made, logs("a"))
    assert loki.lines == ["a"]


def test_there_is_one_way_to_say_who_one_is() -> None:
    both = {"bearer_token": "made-up", "basic_auth": {"username": "a", "password": "made-up"}}
    with pytest.raises(ValidationError, match="basic_auth or bearer_token, not both"):
        LokiConfig.model_validate({"endpoint": "http://loki:3100", **both})


@pytest.mark.parametrize(
    ("status", "error", "pause"),
    [
        (429, OverloadedError, 7),
        (500, UnavailableError, 7),
        (502, UnavailableError, 7),
        (503, UnavailableError, 7),
        (408, UnavailableError, 7),
        (260, UnavailableError, 7),  # ingestion is blocked, which is no success though it looks like one
        (401, UnavailableError, 30),
        (403, UnavailableError, 30),
        (404, UnavailableError, 30),
        (302, UnavailableError, 30),
    ],
)
async def test_what_may_be_mended_is_tried_again(
    loki: StandInLoki, status: int, error: type[UnavailableError], pause: float
) -> None:
    loki.answer, loki.retry_after = status, "7"
    batch = logs("a", "b")
    async with exporter(loki) as made:
        with pytest.raises(error, match=f"Loki answers {status} .*told to answer so") as raised:
            await commit(made, batch)
        assert raised.value.retry_after == pause
        loki.answer = None
        assert await commit(made, batch) == [True]
    assert loki.lines == ["a", "b"]


async def test_a_loki_that_is_away_is_tried_again(loki: StandInLoki) -> None:
    loki.stop()
    async with exporter(loki) as made:
        with pytest.raises(UnavailableError, match="/otlp/v1/logs: "):
            await commit(made, logs("a"))


@pytest.mark.parametrize("bad", [{0}, {6}, {3}, {0, 1}, {2, 5}, {1, 3, 5}, set(range(6))])
async def test_bad_records_are_told_from_their_neighbours(loki: StandInLoki, bad: set[int]) -> None:
    lines = [f"old {number}" if number in bad else f"good {number}" for number in range(7)]
    batch = logs(*lines)
    async with exporter(loki) as made:
        with pytest.raises(PartlyRefusedError, match=f"{len(bad)} of 7 records: Loki answers 400 .*too old") as raised:
            await commit(made, batch)
    assert raised.value.records == len(bad)
    assert lines_of(raised.value.payload) == [line for line in lines if line.startswith("old")]
    assert sorted(loki.lines) == [line for line in lines if line.startswith("good")]
    refused, whole = (ExportLogsServiceRequest.FromString(each) for each in (raised.value.payload, batch.payload))
    assert refused.resource_logs[0].resource == whole.resource_logs[0].resource
    assert refused.resource_logs[0].schema_url == whole.resource_logs[0].schema_url
    assert refused.resource_logs[0].scope_logs[0].scope == whole.resource_logs[0].scope_logs[0].scope
    assert refused.resource_logs[0].scope_logs[0].schema_url == whole.resource_logs[0].scope_logs[0].schema_url


async def test_a_batch_of_which_nothing_is_taken_is_refused_as_a_whole(loki: StandInLoki) -> None:
    async with exporter(loki) as made:
        for batch in (logs("old"), logs("old 1", "old 2", "x" * 2_000)):
            with pytest.raises(RefusedError) as raised:
                await commit(made, batch)
            assert not isinstance(raised.value, PartlyRefusedError)
    assert str(raised.value).startswith("3 of 3 records: ")
    assert str(raised.value).count("too old") == 2
    assert "max entry size '1000' bytes exceeded" in str(raised.value)


async def test_the_search_for_bad_records_ends(loki: StandInLoki) -> None:
    lines = [f"old {number}" if number % 2 else f"good {number}" for number in range(1_000)]
    async with exporter(loki) as made:
        with pytest.raises(PartlyRefusedError) as raised:
            await commit(made, logs(*lines))
    assert loki.statuses.total() < 250
    # What was not told apart goes with the bad; Loki has the good ones of it all the same.
    assert {line for line in lines if line.startswith("old")} <= set(lines_of(raised.value.payload))
    assert set(loki.lines) == {line for line in lines if line.startswith("good")}


async def test_a_request_that_is_too_large_goes_in_parts(loki: StandInLoki) -> None:
    loki.max_request_size = 2_000
    lines = [f"{number:0100}" for number in range(100)]
    async with exporter(loki, compression="none") as made:
        assert await commit(made, logs(*lines)) == [True]
    assert sorted(loki.lines) == lines
    assert not loki.repeated


async def test_after_an_outage_the_search_goes_on_where_it_was(loki: StandInLoki, monkeypatch: Any) -> None:
    judge, seen = loki._judge, 0

    def fail_at_the_fifth(*request: Any) -> tuple[int, str]:
        nonlocal seen
        seen += 1
        return (503, "ingester gone") if seen == 5 else judge(*request)

    monkeypatch.setattr(loki, "_judge", fail_at_the_fifth)
    batch = logs(*(f"line {number}" for number in range(6)), "old", "last")
    async with exporter(loki) as made:
        with pytest.raises(UnavailableError, match="ingester gone"):
            await commit(made, batch)
        first = loki.statuses.total()
        with pytest.raises(PartlyRefusedError) as raised:
            await commit(made, batch)
    assert lines_of(raised.value.payload) == ["old"]
    assert loki.statuses.total() - first < first, "it did not begin anew"
    assert len(loki.lines) == 7


async def test_a_batch_that_loki_is_always_too_busy_for_is_tried_in_parts(loki: StandInLoki, monkeypatch: Any) -> None:
    judge: Callable[..., tuple[int, str]] = loki._judge

    def busy_with_much(path: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        return (429, "ingestion rate limit exceeded") if len(body) > 150_000 else judge(path, headers, body)

    monkeypatch.setattr(loki, "_judge", busy_with_much)
    lines = [f"{number:0500}" for number in range(1_000)]
    batch = logs(*lines)
    attempts = 0
    async with exporter(loki, compression="none") as made:
        while True:
            attempts += 1
            assert attempts < 50
            try:
                await commit(made, batch)
            except OverloadedError:
                continue
            break
    assert sorted(loki.lines) == lines
    assert not loki.repeated


async def test_a_loki_that_is_too_busy_now_and_then_gets_a_batch_as_it_is(loki: StandInLoki) -> None:
    batch = logs(*(f"{number:0500}" for number in range(1_000)))
    async with exporter(loki) as made:
        loki.answer = 429
        for _ in range(2):
            with pytest.raises(OverloadedError):
                await commit(made, batch)
        loki.answer = None
        assert await commit(made, batch) == [True]
    assert loki.payloads == [batch.payload]


async def test_equal_records_are_dropped_by_loki_unless_they_are_kept_apart(loki: StandInLoki) -> None:
    now = time.time_ns()
    batch = logs("a", "a", "b", "a", step=0, at=now)
    async with exporter(loki) as made:
        await commit(made, batch)
    assert sorted(loki.lines) == ["a", "b"]
    async with exporter(loki, duplicates="keep") as made:
        for _ in range(2):  # sent again, it is the same again
            await commit(made, logs("a", "a", "b", "a", step=0, at=now, service="kept"))
        kept = [(at - now, line) for stream, at, line in loki.entries if stream == "kept"]
        assert kept == [(0, "a"), (1, "a"), (0, "b"), (2, "a")]
        unlike = logs("a", "b", "c", step=0)
        await commit(made, unlike)
    assert loki.payloads[-1] == unlike.payload


def test_very_many_records_that_are_equal_are_set_apart_in_a_moment() -> None:
    """As long as each looks through all before it, half an hour goes by here."""
    payload = logs(*["same"] * 100_000, step=0, at=1).payload
    request = ExportLogsServiceRequest.FromString(with_distinct_timestamps(payload))
    times = [record.time_unix_nano for record in request.resource_logs[0].scope_logs[0].log_records]
    assert times == list(range(1, 100_001))


@given(st.lists(st.tuples(st.integers(1, 12), st.sampled_from("ab")), max_size=40))
def test_records_are_moved_to_the_next_nanosecond_that_is_free(records: list[tuple[int, str]]) -> None:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    taken, expected = set(), []
    for at, body in records:
        scope.log_records.add(time_unix_nano=at).body.string_value = body
        while (at, body) in taken:
            at += 1
        taken.add((at, body))
        expected.append((at, body))
    apart = ExportLogsServiceRequest.FromString(with_distinct_timestamps(request.SerializeToString()))
    found = apart.resource_logs[0].scope_logs[0].log_records
    assert [(record.time_unix_nano, record.body.string_value) for record in found] == expected


def test_records_with_the_time_of_their_observation_alone_are_set_apart_by_it_and_those_without_any_are_not() -> None:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for observed in (7, 7, 0, 0):
        scope.log_records.add(observed_time_unix_nano=observed).body.string_value = "same"
    apart = ExportLogsServiceRequest.FromString(with_distinct_timestamps(request.SerializeToString()))
    found = apart.resource_logs[0].scope_logs[0].log_records
    assert [(each.time_unix_nano, each.observed_time_unix_nano) for each in found] == [(0, 7), (0, 8), (0, 0), (0, 0)]


@pytest.mark.parametrize("record", [b"\xff", LogRecord(time_unix_nano=2**64 - 1).SerializeToString()])
async def test_what_cannot_be_set_apart_is_sent_as_it_came(loki: StandInLoki, record: bytes) -> None:
    """An error of ours would have the batch tried again for ever, and all behind it in the spool wait."""
    scope = b"".join(b"\x12" + bytes([len(each)]) + each for each in (record, record))
    resource = b"\x12" + bytes([len(scope)]) + scope
    batch = Batch.of(Signal.LOGS, b"\x0a" + bytes([len(resource)]) + resource)
    loki.answer = 400
    async with exporter(loki, duplicates="keep") as made:
        with pytest.raises((RefusedError, MalformedPayloadError), match=r"2 of 2 records|not a valid request"):
            await commit(made, batch)
    assert with_distinct_timestamps(batch.payload) == batch.payload


async def test_what_is_no_request_is_not_sent() -> None:
    made = LokiExporter("loki", LokiConfig(endpoint="http://127.0.0.1:1"))
    with pytest.raises(MalformedPayloadError, match="not a valid request of logs"):
        await made.prepare(Batch.of(Signal.LOGS, b"\xff\xff"))
    assert (await made.prepare(Batch.of(Signal.LOGS, b""))).records == 0


@pytest.mark.parametrize("status", [413, 500, 503, 429])
async def test_a_refusal_by_size_is_no_outage_and_is_halved_at_once(
    loki: StandInLoki, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Loki's distributor answers with the words of its ingesters' gRPC server, under whatever status."""
    judge: Callable[..., tuple[int, str]] = loki._judge

    def small_only(path: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        if len(body) > 20_000:
            return status, "rpc error: code = ResourceExhausted desc = grpc: received message larger than max"
        return judge(path, headers, body)

    monkeypatch.setattr(loki, "_judge", small_only)
    lines = [f"{number:0500}" for number in range(200)]
    async with exporter(loki, compression="none") as made:
        assert await commit(made, logs(*lines)) == [True], "in one attempt"
    assert sorted(loki.lines) == lines
    assert not loki.repeated


async def test_one_record_that_is_too_large_is_refused_alone(loki: StandInLoki) -> None:
    loki.max_request_size = 2_000
    batch = logs("a", "x" * 3_000, "b")
    async with exporter(loki, compression="none") as made:
        with pytest.raises(PartlyRefusedError, match="1 of 3 records: Loki answers 413") as raised:
            await commit(made, batch)
    assert lines_of(raised.value.payload) == ["x" * 3_000]
    assert sorted(loki.lines) == ["a", "b"]


@pytest.mark.parametrize("status", [200, 202])
async def test_a_page_with_a_good_status_is_no_delivery(loki: StandInLoki, status: int) -> None:
    with http_server(
        lambda handler, _: reply(handler, status, b"<html>log in</html>", content_type="text/html")
    ) as url:
        async with exporter(loki, endpoint=url) as made:
            with pytest.raises(UnavailableError, match="does not count as delivered"):
                await commit(made, logs("a"))
    with http_server(lambda handler, _: reply(handler, status)) as url:
        async with exporter(loki, endpoint=url) as made:
            assert await commit(made, logs("a")) == [True]
