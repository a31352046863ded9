"""The OTLP receiver as its clients meet it: the OpenTelemetry SDK, curl, browsers, load balancers, and bad clients."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging  # noqa: TID251 - uvicorn logs by it
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
import zstandard
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from structlog.testing import capture_logs

from gateway.component import (
    ACCEPTED,
    Batch,
    MalformedPayloadError,
    Outcome,
    OverloadedError,
    Receiver,
    RefusedError,
    Signal,
    TooLargeError,
    UnavailableError,
)
from gateway.component.declaration import Context
from gateway.net.destination import OWN_TELEMETRY_HEADER
from receivers.otlp.config import OtlpReceiverConfig
from receivers.otlp.factory import create
from tests.integration.cli.processes import free_port
from tests.support.waiting import PATIENCE, until

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
GRACE = 30.0

LOGS = ExportLogsServiceRequest()
LOGS.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1).body.string_value = "hello"
PAYLOAD = LOGS.SerializeToString()
LOGS_JSON = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","body":{"stringValue":"hello"}}]}]}]}'


class FakePipeline:
    """A consumer that keeps what it gets, and answers as told."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.refused: list[tuple[Signal, str]] = []
        self.refused_connections: list[tuple[str, str]] = []
        self.answer: Outcome | Exception = ACCEPTED
        self.entered = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def accept(self, batch: Batch) -> Outcome:
        self.batches.append(batch)
        self.entered.set()
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def refuse(self, signal: Signal, reason: str) -> None:
        self.refused.append((signal, reason))

    def refuse_connection(self, listener: str, reason: str) -> None:
        self.refused_connections.append((listener, reason))


@pytest.fixture
def pipeline() -> FakePipeline:
    return FakePipeline()


def settings(grpc: dict[str, Any] | None = None, http: dict[str, Any] | None = None) -> OtlpReceiverConfig:
    """Both protocols on free ports, with the given settings besides."""
    free = {"endpoint": "127.0.0.1:0"}
    return OtlpReceiverConfig.model_validate({"protocols": {"grpc": free | (grpc or {}), "http": free | (http or {})}})


@asynccontextmanager
async def running(
    pipeline: FakePipeline, config: OtlpReceiverConfig | None = None, **how: Any
) -> AsyncIterator[Receiver]:
    receiver = create("otlp", config or settings(), pipeline, Context(**how))
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop(0)


@pytest.fixture
async def receiver(pipeline: FakePipeline) -> AsyncIterator[Receiver]:
    async with running(pipeline) as receiver:
        yield receiver


def client_of(receiver: Receiver) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://{receiver.endpoints['http']}", timeout=PATIENCE)


def channel_to(receiver: Receiver) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(receiver.endpoints["grpc"])


@pytest.fixture
async def http(receiver: Receiver) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(receiver) as client:
        yield client


@pytest.fixture
async def channel(receiver: Receiver) -> AsyncIterator[grpc.aio.Channel]:
    async with channel_to(receiver) as channel:
        yield channel


def export(channel: grpc.aio.Channel, service: str = "logs.v1.LogsService") -> Callable[..., Awaitable[bytes]]:
    return channel.unary_unary(f"/opentelemetry.proto.collector.{service}/Export")


async def failure(call: Awaitable[bytes]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def grpc_status(error: grpc.aio.AioRpcError) -> Status:
    return Status.FromString(dict(error.trailing_metadata() or ())["grpc-status-details-bin"])


def retry_seconds(status: Status) -> float:
    info = RetryInfo()
    assert status.details[0].Unpack(info)
    return info.retry_delay.ToTimedelta().total_seconds()


# The OpenTelemetry SDK


def send_spans(exporter: Any) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("a span"):
        pass
    provider.shutdown()


def send_metrics(exporter: Any) -> None:
    provider = MeterProvider(metric_readers=[PeriodicExportingMetricReader(exporter)])
    provider.get_meter("test").create_counter("a.counter").add(7)
    provider.shutdown()


def send_logs(exporter: Any) -> None:
    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    provider.get_logger("test").emit(LogRecord(body="a line"))
    provider.shutdown()


@pytest.mark.parametrize("compression", ["", "gzip"])
@pytest.mark.parametrize(
    ("protocol", "exporters"),
    [
        ("grpc", (GrpcSpanExporter, GrpcMetricExporter, GrpcLogExporter)),
        ("http", (HttpSpanExporter, HttpMetricExporter, HttpLogExporter)),
    ],
)
async def test_the_sdk_sends_all_signals(
    receiver: Receiver,
    pipeline: FakePipeline,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
    exporters: tuple[Any, Any, Any],
    compression: str,
) -> None:
    """With nothing but the standard environment variables."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{receiver.endpoints[protocol]}")
    if compression:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
    for send, exporter in zip((send_spans, send_metrics, send_logs), exporters, strict=True):
        await asyncio.to_thread(lambda send=send, exporter=exporter: send(exporter()))

    by_signal = {batch.signal: batch.payload for batch in pipeline.batches}
    assert by_signal.keys() == set(Signal)
    traces = ExportTraceServiceRequest.FromString(by_signal[Signal.TRACES])
    assert traces.resource_spans[0].scope_spans[0].spans[0].name == "a span"
    metrics = ExportMetricsServiceRequest.FromString(by_signal[Signal.METRICS])
    assert metrics.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0].as_int == 7
    logs = ExportLogsServiceRequest.FromString(by_signal[Signal.LOGS])
    assert logs.resource_logs[0].scope_logs[0].log_records[0].body.string_value == "a line"
    assert not any(batch.own_telemetry for batch in pipeline.batches)


# curl


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_sends_json(receiver: Receiver, pipeline: FakePipeline) -> None:
    command = ["curl", "--silent", "--show-error", "--data-binary", "@-", "--header", "Content-Type: application/json"]
    url = f"http://{receiver.endpoints['http']}/v1/logs"
    done = await asyncio.to_thread(subprocess.run, [*command, url], input=LOGS_JSON, capture_output=True, check=True)
    assert done.stdout == b"{}"
    assert pipeline.batches == [Batch.of(Signal.LOGS, PAYLOAD)]


# What an OK looks like


async def test_protobuf_passes_through_untouched(http: httpx.AsyncClient, pipeline: FakePipeline) -> None:
    """The receiver does not read it: what a payload holds is for the exporters to judge."""
    answer = await http.post("/v1/metrics", content=b"any bytes", headers=PROTOBUF)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert pipeline.batches == [Batch.of(Signal.METRICS, b"any bytes")]


@pytest.mark.parametrize(
    ("path", "signal", "field"),
    [
        ("/v1/traces", Signal.TRACES, "rejectedSpans"),
        ("/v1/metrics", Signal.METRICS, "rejectedDataPoints"),
        ("/v1/logs", Signal.LOGS, "rejectedLogRecords"),
    ],
)
async def test_json_is_answered_in_json(
    http: httpx.AsyncClient, pipeline: FakePipeline, path: str, signal: Signal, field: str
) -> None:
    answer = await http.post(path, content=b"{}", headers=JSON)
    assert (answer.status_code, answer.json()) == (200, {})
    pipeline.answer = Outcome(3, "too old")
    answer = await http.post(path, content=b"{}", headers={"content-type": "Application/JSON; charset=utf-8"})
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json() == {"partialSuccess": {field: "3", "errorMessage": "too old"}}
    assert [batch.signal for batch in pipeline.batches] == [signal, signal]


@pytest.mark.parametrize("body", [b"", b"\xff not protobuf"])
@pytest.mark.parametrize("content_type", ["application/x-protobuf", "application/json", "text/plain"])
async def test_an_answer_does_not_depend_on_how_the_path_is_written(
    http: httpx.AsyncClient, pipeline: FakePipeline, content_type: str, body: bytes
) -> None:
    """An export by its exact path is answered without the framework's routing; any other way it is answered by that."""
    if body:
        pipeline.answer = RefusedError("no")
    answers = [
        await http.post(path, content=body, headers={"content-type": content_type} | more)
        for path, more in (("/v1/logs", {}), ("/v1/logs/", {}), ("/v1/logs", {"origin": "https://a.example"}))
    ]
    said = [(each.status_code, each.content, dict(each.headers) | {"date": ""}) for each in answers]
    assert said[0] == said[1] == said[2]


async def test_partial_success_in_protobuf(
    http: httpx.AsyncClient, channel: grpc.aio.Channel, pipeline: FakePipeline
) -> None:
    pipeline.answer = Outcome(3, "too old")
    over_http = await http.post("/v1/metrics", content=b"", headers=PROTOBUF)
    over_grpc = await export(channel, "metrics.v1.MetricsService")(b"")
    for content in (over_http.content, over_grpc):
        partial_success = ExportMetricsServiceResponse.FromString(content).partial_success
        assert (partial_success.rejected_data_points, partial_success.error_message) == (3, "too old")


async def test_a_warning_without_rejections_is_told(channel: grpc.aio.Channel, pipeline: FakePipeline) -> None:
    pipeline.answer = Outcome(0, "deprecated")
    answer = ExportLogsServiceResponse.FromString(await export(channel)(PAYLOAD))
    assert answer.partial_success.error_message == "deprecated"


@pytest.mark.parametrize("value", ["1", ""])
async def test_own_telemetry_is_marked(
    http: httpx.AsyncClient, channel: grpc.aio.Channel, pipeline: FakePipeline, value: str
) -> None:
    await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF | {OWN_TELEMETRY_HEADER: value})
    await export(channel)(PAYLOAD, metadata=((OWN_TELEMETRY_HEADER, value),))
    assert [batch.own_telemetry for batch in pipeline.batches] == [True, True]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(PAYLOAD[:5]) + gzip.compress(PAYLOAD[5:])),
        ("GZIP", gzip.compress(PAYLOAD)),
        ("deflate", zlib.compress(PAYLOAD)),
        ("zstd", zstandard.compress(PAYLOAD)),
        ("identity", PAYLOAD),
    ],
)
async def test_bodies_may_be_compressed(
    http: httpx.AsyncClient, pipeline: FakePipeline, encoding: str, body: bytes
) -> None:
    answer = await http.post("/v1/logs", content=body, headers=PROTOBUF | {"content-encoding": encoding})
    assert answer.status_code == 200
    assert pipeline.batches == [Batch.of(Signal.LOGS, PAYLOAD)]


async def test_a_large_compressed_json_body(http: httpx.AsyncClient, pipeline: FakePipeline) -> None:
    records = [{"timeUnixNano": str(number), "body": {"stringValue": "x" * 50}} for number in range(20_000)]
    document = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()
    answer = await http.post(
        "/v1/logs", content=gzip.compress(document, 0), headers=JSON | {"content-encoding": "gzip"}
    )
    assert answer.status_code == 200
    logs = ExportLogsServiceRequest.FromString(pipeline.batches[0].payload)
    assert [record.time_unix_nano for record in logs.resource_logs[0].scope_logs[0].log_records] == [*range(20_000)]


# What a refusal looks like


@pytest.mark.parametrize("error", [MalformedPayloadError("no such field"), RefusedError("violates a constraint")])
async def test_a_batch_refused_for_good_must_not_be_sent_again(
    http: httpx.AsyncClient, channel: grpc.aio.Channel, pipeline: FakePipeline, error: Exception
) -> None:
    pipeline.answer = error
    answer = await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF)
    assert answer.status_code == 400
    assert "retry-after" not in answer.headers
    assert answer.headers["content-type"] == "application/x-protobuf"
    expected = Status(code=3, message=str(error))
    expected.details.add().Pack(BadRequest(field_violations=[{"description": str(error)}]))
    assert Status.FromString(answer.content) == expected

    answer = await http.post("/v1/logs", content=LOGS_JSON, headers=JSON)
    detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"description": str(error)}]}
    assert (answer.status_code, answer.json()) == (400, {"code": 3, "message": str(error), "details": [detail]})

    status = await failure(export(channel)(PAYLOAD))
    assert (status.code(), status.details()) == (grpc.StatusCode.INVALID_ARGUMENT, str(error))
    assert grpc_status(status) == expected
    assert pipeline.refused == []  # the pipeline counts what it refuses itself


@pytest.mark.parametrize(
    ("error", "http_status", "grpc_code"),
    [
        (UnavailableError("the store is down", 2.5), 503, grpc.StatusCode.UNAVAILABLE),
        (OverloadedError("the spool is full", 2.5), 429, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_a_batch_refused_for_now_says_when_to_retry(
    http: httpx.AsyncClient,
    channel: grpc.aio.Channel,
    pipeline: FakePipeline,
    error: Exception,
    http_status: int,
    grpc_code: grpc.StatusCode,
) -> None:
    pipeline.answer = error
    answer = await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF)
    assert (answer.status_code, answer.headers["retry-after"]) == (http_status, "3")
    assert Status.FromString(answer.content).message == str(error)

    answer = await http.post("/v1/logs", content=LOGS_JSON, headers=JSON)
    assert answer.json()["details"][0]["retryDelay"] == "2.500s"

    status = await failure(export(channel)(PAYLOAD))
    assert (status.code(), status.details()) == (grpc_code, str(error))
    assert retry_seconds(grpc_status(status)) == 2.5


async def test_retry_after_is_at_least_a_second(http: httpx.AsyncClient, pipeline: FakePipeline) -> None:
    pipeline.answer = UnavailableError("soon", 0)
    answer = await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF)
    assert answer.headers["retry-after"] == "1"


async def test_a_bug_makes_clients_retry_and_leaks_nothing(
    http: httpx.AsyncClient, channel: grpc.aio.Channel, pipeline: FakePipeline
) -> None:
    pipeline.answer = KeyError("secret")
    with capture_logs() as logs:
        answer = await http.post("/v1/logs", content=LOGS_JSON, headers=JSON)
        status = await failure(export(channel)(PAYLOAD))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert status.code() == grpc.StatusCode.UNAVAILABLE
    assert retry_seconds(grpc_status(status)) == 1
    assert "secret" not in answer.text + str(status.details())
    assert [entry["exc_info"] for entry in logs] == [pipeline.answer, pipeline.answer]


async def test_a_request_that_holds_too_much_is_not_to_be_sent_again(
    http: httpx.AsyncClient, channel: grpc.aio.Channel, pipeline: FakePipeline
) -> None:
    pipeline.answer = TooLargeError("send smaller batches")
    answer = await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF)
    assert (answer.status_code, answer.headers.get("retry-after")) == (413, None)
    assert Status.FromString(answer.content) == Status(code=8, message="send smaller batches")
    status = await failure(export(channel)(PAYLOAD))
    assert (status.code(), status.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "send smaller batches")
    assert not grpc_status(status).details, "no RetryInfo"


async def test_a_small_body_of_json_that_is_a_large_one_is_bounded(
    http: httpx.AsyncClient, pipeline: FakePipeline
) -> None:
    body = b'{"resourceLogs":[' + b"{}," * 3_000_000 + b"{}]}"
    answer = await http.post("/v1/logs", content=gzip.compress(body), headers=JSON | {"content-encoding": "gzip"})
    assert answer.status_code == 413
    assert "more than 1572864 objects and arrays" in answer.json()["message"]
    assert pipeline.refused == [(Signal.LOGS, "too_large")]


async def test_records_of_json_that_cannot_be_read_are_left_out(
    http: httpx.AsyncClient, pipeline: FakePipeline
) -> None:
    records = b'{"body":{"stringValue":"a"}},{"body":7},{"body":{"stringValue":"c\xff"}}'
    answer = await http.post(
        "/v1/logs", content=b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + records + b"]}]}]}", headers=JSON
    )
    assert answer.status_code == 200
    (batch,) = pipeline.batches
    assert batch.left_out.rejected == 1
    assert "resourceLogs[0].scopeLogs[0].logRecords[1].body: expected an object, found 7" in batch.left_out.message
    assert "c\ufffd".encode() in batch.payload


async def test_a_very_long_message_still_arrives(channel: grpc.aio.Channel, pipeline: FakePipeline) -> None:
    pipeline.answer = RefusedError("ü" * 100_000)
    status = await failure(export(channel)(PAYLOAD))
    assert status.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert str(status.details()).startswith("üüü")
    found = BadRequest()
    assert grpc_status(status).details[0].Unpack(found)
    assert found.field_violations[0].description.startswith("üüü")


async def test_every_place_that_is_wrong_is_a_violation_of_its_own(
    http: httpx.AsyncClient, channel: grpc.aio.Channel, pipeline: FakePipeline
) -> None:
    records = [{"timeUnixNano": "noon"}, {"severityNumber": "loud"}]
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]})
    answer = await http.post("/v1/logs", content=body, headers=JSON)
    assert answer.status_code == 400
    (detail,) = answer.json()["details"]
    assert [each["field"] for each in detail["fieldViolations"]] == [
        "resourceLogs[0].scopeLogs[0].logRecords[0].timeUnixNano",
        "resourceLogs[0].scopeLogs[0].logRecords[1].severityNumber",
    ]
    assert 'found "noon"' in detail["fieldViolations"][0]["description"]

    pipeline.answer = MalformedPayloadError("two are wrong", [("spans[0]", "no id"), ("spans[1]", "x" * 100_000)])
    found = BadRequest()
    assert grpc_status(await failure(export(channel)(PAYLOAD))).details[0].Unpack(found)
    assert [each.field for each in found.field_violations] == ["spans[0]", "spans[1]"]


async def test_json_that_is_taken_and_not_stored_is_a_partial_success(
    http: httpx.AsyncClient, pipeline: FakePipeline
) -> None:
    body = {"resource_logs": [{"scope_logs": [{"log_records": [{}, {}]}]}]}
    answer = await http.post("/v1/logs", json=body)
    assert answer.status_code == 200
    (batch,) = pipeline.batches
    assert (batch.payload, batch.left_out.rejected) == (b"", 2)
    assert "write resourceLogs" in batch.left_out.message


async def test_json_may_be_held_to_the_letter(pipeline: FakePipeline) -> None:
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": "SPAN_KIND_SERVER"}]}]}]})
    for strict, status in ((False, 200), (True, 400)):
        async with running(pipeline, settings(http={"strict_json": strict})) as receiver, client_of(receiver) as http:
            assert (await http.post("/v1/traces", content=body, headers=JSON)).status_code == status


async def test_a_signal_without_a_pipeline_is_not_served(pipeline: FakePipeline) -> None:
    async with (
        running(pipeline, signals=frozenset({Signal.METRICS, Signal.TRACES})) as receiver,
        client_of(receiver) as http,
        channel_to(receiver) as channel,
    ):
        answer = await http.post("/v1/logs", content=b"no request at all", headers=PROTOBUF)
        assert answer.status_code == 404
        message = "no pipeline takes logs (setting service.pipelines.logs)"
        assert Status.FromString(answer.content) == Status(code=12, message=message)
        status = await failure(export(channel)(PAYLOAD))
        assert (status.code(), status.details()) == (grpc.StatusCode.UNIMPLEMENTED, message)
        assert (await http.post("/v1/metrics", content=b"", headers=PROTOBUF)).status_code == 200
        service = "opentelemetry.proto.collector.logs.v1.LogsService"
        status = await failure(HealthStub(channel).Check(HealthCheckRequest(service=service)))
        assert status.code() == grpc.StatusCode.NOT_FOUND
        assert service not in (await HealthStub(channel).List(HealthListRequest())).statuses
    assert pipeline.refused == [(Signal.LOGS, "no_pipeline")] * 2


async def test_malformed_json_is_told_where(http: httpx.AsyncClient, pipeline: FakePipeline) -> None:
    answer = await http.post("/v1/logs", content=b'{"resourceLogs":[5]}', headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["message"] == "resourceLogs[0]: expected an object, found 5"
    (detail,) = answer.json()["details"]
    assert detail["fieldViolations"] == [{"field": "resourceLogs[0]", "description": "expected an object, found 5"}]
    assert pipeline.refused == [(Signal.LOGS, "malformed")]
    assert pipeline.batches == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
async def test_a_body_that_cannot_be_decompressed(
    http: httpx.AsyncClient, pipeline: FakePipeline, encoding: str
) -> None:
    answer = await http.post("/v1/logs", content=b"garbage!", headers=PROTOBUF | {"content-encoding": encoding})
    assert answer.status_code == 400
    assert Status.FromString(answer.content).message.startswith(f"the body is not valid {encoding}: ")
    assert pipeline.refused == [(Signal.LOGS, "malformed")]


async def test_an_unknown_encoding(http: httpx.AsyncClient, pipeline: FakePipeline) -> None:
    answer = await http.post("/v1/logs", content=b"x", headers=PROTOBUF | {"content-encoding": "br"})
    assert (answer.status_code, answer.headers["accept-encoding"]) == (
        415,
        "gzip, deflate, zlib, zstd, snappy, x-snappy-framed, lz4",
    )
    assert "found 'br'" in Status.FromString(answer.content).message
    assert pipeline.refused == [(Signal.LOGS, "unsupported_encoding")]


@pytest.mark.parametrize("headers", [{"content-type": "text/plain"}, {}])
async def test_an_unknown_content_type_is_answered_in_json(
    http: httpx.AsyncClient, pipeline: FakePipeline, headers: dict[str, str]
) -> None:
    answer = await http.post("/v1/traces", content=b"x", headers=headers)
    assert answer.status_code == 415
    assert "expected the Content-Type application/x-protobuf or application/json" in answer.json()["message"]
    assert pipeline.refused == [(Signal.TRACES, "unsupported_media_type")]


async def test_an_unknown_path(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/spans", content=b"", headers=PROTOBUF)
    assert answer.status_code == 404
    assert "OTLP has /v1/traces, /v1/metrics, /v1/logs" in Status.FromString(answer.content).message
    answer = await http.get("/")
    assert (answer.status_code, answer.json()["code"]) == (404, 12)


async def test_a_wrong_method(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/traces")
    assert answer.status_code == 405
    assert "POST" in answer.headers["allow"]
    assert answer.json()["message"] == "GET is not allowed; OTLP uses POST"


async def test_there_is_no_api_documentation_here(http: httpx.AsyncClient) -> None:
    assert (await http.get("/schema")).status_code == 404


# Bounds


def bytes_in_chunks(count: int) -> AsyncIterator[bytes]:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(1000)

    return chunks()


async def test_http_bodies_are_bounded(pipeline: FakePipeline) -> None:
    """By their announced size, by what arrives when none is announced, and by what they decompress to."""
    async with (
        running(pipeline, settings(http={"max_request_body_size": 10_000})) as receiver,
        client_of(receiver) as http,
    ):
        bomb = gzip.compress(bytes(10_001))
        answers = [
            await http.post("/v1/logs", content=bytes(10_001), headers=PROTOBUF),
            await http.post("/v1/logs", content=bytes_in_chunks(11), headers=PROTOBUF),
            await http.post("/v1/logs", content=bomb, headers=PROTOBUF | {"content-encoding": "gzip"}),
        ]
        for answer in answers:
            assert answer.status_code == 413
            message = Status.FromString(answer.content).message
            assert "larger than 10000 bytes" in message
            assert "set receivers.otlp.protocols.http.max_request_body_size" in message
        assert "decompressed" in Status.FromString(answers[2].content).message
        assert pipeline.refused == [(Signal.LOGS, "too_large")] * 3
        answer = await http.post("/v1/logs", content=bytes_in_chunks(10), headers=PROTOBUF)
        assert answer.status_code == 200


async def test_an_endless_body_is_refused_while_it_arrives(pipeline: FakePipeline) -> None:
    async with running(pipeline, settings(http={"max_request_body_size": 1000})) as receiver:
        reader, writer = await connect(receiver)
        writer.write(b"POST /v1/logs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n" + (b"100\r\n" + bytes(256) + b"\r\n") * 8)
        assert (await reader.readline()).split()[1] == b"413"
        writer.close()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_grpc_messages_are_bounded(pipeline: FakePipeline, compression: grpc.Compression) -> None:
    async with (
        running(pipeline, settings(grpc={"max_recv_msg_size": 10_000})) as receiver,
        channel_to(receiver) as channel,
    ):
        await export(channel)(bytes(10_000), compression=compression)
        status = await failure(export(channel)(bytes(10_001), compression=compression))
    assert status.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc-status-details-bin" not in dict(status.trailing_metadata() or ())  # so it is not sent again
    assert len(pipeline.batches) == 1


async def test_a_client_that_goes_away_within_its_body_is_counted(receiver: Receiver, pipeline: FakePipeline) -> None:
    _, writer = await half_a_request(receiver)
    writer.transport.abort()
    await until(lambda: pipeline.refused == [(Signal.LOGS, "disconnected")])


# Browsers


async def preflight(http: httpx.AsyncClient, origin: str, header: str) -> httpx.Response:
    headers = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": header}
    return await http.options("/v1/traces", headers=headers)


async def test_web_pages_of_allowed_origins_may_send(pipeline: FakePipeline) -> None:
    cors = {"allowed_origins": ["https://*.example.com"], "allowed_headers": ["X-Custom"], "max_age": 7200}
    async with running(pipeline, settings(http={"cors": cors})) as receiver, client_of(receiver) as http:
        answer = await preflight(http, "https://app.example.com", "content-type, x-custom")
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        assert answer.headers["access-control-max-age"] == "7200"
        assert (await preflight(http, "https://app.example.com", "x-other")).status_code == 400
        assert (await preflight(http, "https://example.org", "content-type")).status_code == 400

        for content, status in ((b"{}", 200), (b"{", 400)):
            headers = JSON | {"origin": "https://app.example.com"}
            answer = await http.post("/v1/traces", content=content, headers=headers)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == "https://app.example.com"


@pytest.mark.parametrize(
    ("allowed", "credentials"),
    [
        (["https://app.example.com"], "true"),
        (["http://localhost:3000", "https://*.example.com"], "true"),
        (["*"], None),
        (["https://app.example.com", "*"], None),
        (["https://*"], None),
        (["https://*:*"], None),
    ],
)
async def test_only_pages_that_are_named_may_send_with_credentials(
    pipeline: FakePipeline, allowed: list[str], credentials: str | None
) -> None:
    """As ``navigator.sendBeacon`` does. An origin is never allowed by ``*`` and trusted with them at once."""
    origin = "https://app.example.com"
    cors = {"allowed_origins": allowed}
    async with running(pipeline, settings(http={"cors": cors})) as receiver, client_of(receiver) as http:
        asked = await preflight(http, origin, "content-type")
        sent = await http.post("/v1/traces", content=b"{}", headers=JSON | {"origin": origin})
        for answer in (asked, sent):
            assert answer.headers.get("access-control-allow-credentials") == credentials
            if credentials:
                assert answer.headers["access-control-allow-origin"] == origin
                assert answer.headers["vary"].lower() == "origin"
        if credentials:
            stranger = await http.post("/v1/traces", content=b"{}", headers=JSON | {"origin": "https://evil.example"})
            assert "access-control-allow-origin" not in stranger.headers


async def test_without_cors_settings_no_web_page_may_send(http: httpx.AsyncClient) -> None:
    answer = await preflight(http, "https://app.example.com", "content-type")
    assert "access-control-allow-origin" not in answer.headers


# Health


@pytest.mark.parametrize("service", ["", "opentelemetry.proto.collector.logs.v1.LogsService"])
async def test_grpc_health_is_serving(channel: grpc.aio.Channel, service: str) -> None:
    answer = await HealthStub(channel).Check(HealthCheckRequest(service=service))
    assert answer.status == HealthCheckResponse.SERVING


async def test_grpc_health_lists_all_services(channel: grpc.aio.Channel) -> None:
    answer = await HealthStub(channel).List(HealthListRequest())
    assert {name: each.status for name, each in answer.statuses.items()} == dict.fromkeys(
        (
            "",
            "grpc.health.v1.Health",
            "opentelemetry.proto.collector.logs.v1.LogsService",
            "opentelemetry.proto.collector.metrics.v1.MetricsService",
            "opentelemetry.proto.collector.trace.v1.TraceService",
        ),
        HealthCheckResponse.SERVING,
    )


async def test_grpc_health_of_an_unknown_service(channel: grpc.aio.Channel) -> None:
    status = await failure(HealthStub(channel).Check(HealthCheckRequest(service="nope")))
    assert status.code() == grpc.StatusCode.NOT_FOUND


async def test_grpc_health_watchers_see_the_end_and_do_not_delay_it(
    receiver: Receiver, channel: grpc.aio.Channel
) -> None:
    watches = [HealthStub(channel).Watch(HealthCheckRequest(service=service)) for service in ("", "nope")]
    assert (await watches[0].read()).status == HealthCheckResponse.SERVING
    assert (await watches[1].read()).status == HealthCheckResponse.SERVICE_UNKNOWN
    stopping = asyncio.create_task(receiver.stop(grace=3600))
    assert (await watches[0].read()).status == HealthCheckResponse.NOT_SERVING
    await stopping


async def test_grpc_health_watchers_are_bounded(receiver: Receiver, channel: grpc.aio.Channel) -> None:
    """Nobody is asked who they are; a connection needs one watch and may have a few."""
    watches = [HealthStub(channel).Watch(HealthCheckRequest()) for _ in range(8)]
    for watch in watches:
        await watch.read()
    with pytest.raises(grpc.aio.AioRpcError, match="too many watchers") as caught:
        await HealthStub(channel).Watch(HealthCheckRequest()).read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    watches[0].cancel()
    assert (await HealthStub(channel).Check(HealthCheckRequest())).status == HealthCheckResponse.SERVING
    watch = HealthStub(channel).Watch(HealthCheckRequest())
    assert (await watch.read()).status == HealthCheckResponse.SERVING
    async with channel_to(receiver) as other:  # grpcio lets channels share a connection
        assert (await HealthStub(other).Check(HealthCheckRequest())).status == HealthCheckResponse.SERVING


# Addresses


async def test_endpoints_are_the_real_ones(receiver: Receiver) -> None:
    assert receiver.name == "otlp"
    assert receiver.endpoints.keys() == {"grpc", "http"}
    for endpoint in receiver.endpoints.values():
        host, port = endpoint.split(":")
        assert (host, int(port) > 0) == ("127.0.0.1", True)


async def test_one_protocol_alone(pipeline: FakePipeline) -> None:
    for protocol in ("grpc", "http"):
        config = OtlpReceiverConfig.model_validate({"protocols": {protocol: {"endpoint": "127.0.0.1:0"}}})
        async with running(pipeline, config) as receiver:
            assert receiver.endpoints.keys() == {protocol}


async def test_localhost_is_every_loopback_address_on_one_port(pipeline: FakePipeline) -> None:
    async with running(pipeline, settings(http={"endpoint": "localhost:0"})) as receiver, client_of(receiver) as http:
        answer = await http.post("/v1/logs", content=b"", headers=PROTOBUF)
    assert answer.status_code == 200


# A listener of another process, that shares its port with whoever asks for it.
TAKE_A_PORT = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0), reuse_port=True)
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def taken() -> Any:
    other = subprocess.Popen(
        [sys.executable, "-c", TAKE_A_PORT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    yield f"127.0.0.1:{other.stdout.readline().strip()}"
    other.communicate("")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_a_taken_address_is_named_and_so_is_its_setting(
    pipeline: FakePipeline, taken: str, protocol: str
) -> None:
    receiver = create("otlp", settings(**{protocol: {"endpoint": taken}}), pipeline, Context())
    with pytest.raises(OSError, match="Address already in use") as caught:
        await receiver.start()
    assert f"cannot listen on {taken}" in str(caught.value)
    assert f"set receivers.otlp.protocols.{protocol}.endpoint" in str(caught.value)
    # The other protocol, whose address was free, has given it back.
    for endpoint in set(receiver.endpoints.values()) - {taken, "127.0.0.1:0"}:
        host, port = endpoint.split(":")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_processes_may_share_a_port_when_all_ask_for_it(
    pipeline: FakePipeline, taken: str, protocol: str
) -> None:
    async with running(pipeline, settings(**{protocol: {"endpoint": taken}}), reuse_port=True) as receiver:
        assert receiver.endpoints[protocol] == taken


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_a_connection_too_many_is_closed_at_once(pipeline: FakePipeline, protocol: str) -> None:
    config = settings(**{protocol: {"max_connections": 1}})
    lasting = httpx.AsyncClient(limits=httpx.Limits(keepalive_expiry=None))
    async with running(pipeline, config) as receiver, lasting as http, channel_to(receiver) as channel:

        async def send() -> None:
            if protocol == "grpc":
                await export(channel)(PAYLOAD)
            else:
                url = f"http://{receiver.endpoints['http']}/v1/logs"
                assert (await http.post(url, content=PAYLOAD, headers=PROTOBUF)).is_success

        await send()
        host, _, port = receiver.endpoints[protocol].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        assert await reader.read() == b""
        writer.close()
        await send()
    assert pipeline.refused_connections == [(f"receivers.otlp.protocols.{protocol}", "too_many_connections")]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_a_host_that_does_not_exist_is_named(pipeline: FakePipeline, protocol: str) -> None:
    receiver = create(
        "otlp", settings(**{protocol: {"endpoint": "no-such-host.invalid:4317", "insecure": True}}), pipeline, Context()
    )
    with pytest.raises(OSError, match=r"cannot listen on no-such-host\.invalid:4317 \(.+\); free that address or set"):
        await receiver.start()


async def test_uvicorn_leaves_the_signal_handlers_alone(pipeline: FakePipeline) -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with running(pipeline):
        assert signal.getsignal(signal.SIGTERM) is before


# Shutdown


async def connect(receiver: Receiver) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = receiver.endpoints["http"].split(":")
    return await asyncio.open_connection(host, int(port))


async def half_a_request(receiver: Receiver) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send the head of a request and half of its body; return once the server waits for the rest."""
    reader, writer = await connect(receiver)
    head = b"POST /v1/logs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n"
    writer.write(head + b"expect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(bytes(500))
    await writer.drain()
    return reader, writer


async def is_refused(endpoint: str) -> bool:
    host, port = endpoint.split(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except (ConnectionRefusedError, ConnectionResetError):  # reset: it was waiting to be taken when the listener closed
        return True
    writer.close()
    return False


async def test_requests_in_flight_are_answered_while_nothing_new_is_taken(
    receiver: Receiver, http: httpx.AsyncClient, channel: grpc.aio.Channel, pipeline: FakePipeline
) -> None:
    pipeline.may_answer.clear()
    over_http = asyncio.create_task(http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF))
    over_grpc = asyncio.ensure_future(export(channel)(PAYLOAD))
    await until(lambda: len(pipeline.batches) == 2)
    endpoints = receiver.endpoints

    stopping = asyncio.create_task(receiver.stop(GRACE))
    for endpoint in endpoints.values():
        while not await is_refused(endpoint):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not stopping.done()
    pipeline.may_answer.set()

    assert (await over_http).status_code == 200
    assert await over_grpc == b""
    await stopping


async def test_requests_that_outlive_the_grace_period_are_to_be_retried(
    receiver: Receiver, http: httpx.AsyncClient, channel: grpc.aio.Channel, pipeline: FakePipeline
) -> None:
    pipeline.may_answer.clear()
    over_http = asyncio.create_task(http.post("/v1/logs", content=LOGS_JSON, headers=JSON))
    over_grpc = asyncio.ensure_future(export(channel)(PAYLOAD))
    await until(lambda: len(pipeline.batches) == 2)

    await receiver.stop(grace=0)
    answer = await over_http
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "shutting down" in answer.json()["message"]
    # OTLP specification, "Failures": clients retry either.
    assert (await failure(over_grpc)).code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


async def test_half_a_body_does_not_hold_up_the_shutdown(receiver: Receiver, pipeline: FakePipeline) -> None:
    reader, writer = await half_a_request(receiver)
    await receiver.stop(grace=0.1)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in answer
    assert pipeline.batches == []
    writer.close()


async def test_connections_that_are_idle_or_never_said_anything_do_not_hold_up_the_shutdown(
    receiver: Receiver, http: httpx.AsyncClient, channel: grpc.aio.Channel
) -> None:
    await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF)
    await export(channel)(PAYLOAD)
    reader, writer = await connect(receiver)
    writer.write(b"POST /v1/lo")
    await receiver.stop(grace=3600)
    assert await reader.read() == b""
    writer.close()


async def test_the_address_is_free_after_stop(pipeline: FakePipeline) -> None:
    endpoints = {protocol: f"127.0.0.1:{free_port()}" for protocol in ("grpc", "http")}
    fixed = settings(**{protocol: {"endpoint": endpoint} for protocol, endpoint in endpoints.items()})
    for _ in range(2):
        async with running(pipeline, fixed) as receiver:
            assert receiver.endpoints == endpoints


async def test_stopping_twice_or_before_the_start_is_harmless(pipeline: FakePipeline) -> None:
    receiver = create("otlp", settings(), pipeline, Context())
    await receiver.stop(GRACE)
    async with running(pipeline) as receiver:
        await receiver.stop(GRACE)


async def test_there_is_no_access_log(pipeline: FakePipeline) -> None:
    """At thousands of requests a second it would be telemetry about telemetry."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    access = logging.getLogger("uvicorn.access")
    access.propagate = True
    access.setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    try:
        async with running(pipeline) as receiver, client_of(receiver) as http:
            await http.post("/v1/logs", content=PAYLOAD, headers=PROTOBUF)
    finally:
        access.setLevel(logging.NOTSET)
        logging.getLogger().removeHandler(handler)
    assert not [record for record in records if record.name == "uvicorn.access"]
