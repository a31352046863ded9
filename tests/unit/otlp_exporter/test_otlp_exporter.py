"""The OTLP exporter: what it sends, and what it makes of the far end's answers."""

from __future__ import annotations

import gzip
from http.server import BaseHTTPRequestHandler
from typing import Any

import grpc
import pytest
import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from pydantic import ValidationError

from exporters.otlp.config import OtlpExporterConfig
from exporters.otlp.exporter import OtlpExporter
from gateway.component import RefusedError, UnavailableError
from tests.support.logged import Logged
from tests.support.telemetry import gauge, logs, spans
from tests.unit.pipeline.test_pipeline_client import grpc_server, http_server, reply

PARTIAL = ExportLogsServiceResponse(partial_success={"rejected_log_records": 3, "error_message": "too old"})


async def test_all_signals_go_to_their_paths_under_the_base_url_as_they_came() -> None:
    seen: dict[str, bytes] = {}

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        assert handler.headers["content-encoding"] == "zstd"
        assert handler.headers["x-key"] == "made-up"
        seen[handler.path] = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        reply(handler, 200)

    batches = [gauge(), logs("a"), spans("a")]
    with http_server(answer) as url:
        settings = {"protocol": "http/protobuf", "compression": "zstd", "headers": {"X-Key": "made-up"}}
        exporter = OtlpExporter("otlp", OtlpExporterConfig.model_validate({"endpoint": f"{url}/base/", **settings}))
        await exporter.start()
        for batch in batches:
            prepared = await exporter.prepare(batch)
            assert prepared.records == 1
            assert await exporter.commit([prepared]) == [True]
        await exporter.stop()
    assert seen == {f"/base/v1/{batch.signal.value}": batch.payload for batch in batches}


async def test_the_own_telemetry_mark_stays_at_home() -> None:
    seen: list[Any] = []

    def answer(request: bytes, context: Any) -> bytes:
        seen.append(dict(context.invocation_metadata()))
        return b""

    with grpc_server(answer) as endpoint:
        exporter = OtlpExporter("otlp", OtlpExporterConfig(endpoint=f"http://{endpoint}"))
        await exporter.start()
        batch = logs("a")
        own = type(batch).of(batch.signal, batch.payload, own_telemetry=True)
        await exporter.commit([await exporter.prepare(own)])
        await exporter.stop()
    assert not any(name.startswith("x-obs-hub") for name in seen[0])


async def test_what_the_far_end_rejects_is_counted_and_logged_now_and_then(logged: Logged) -> None:
    with grpc_server(lambda request, context: PARTIAL.SerializeToString()) as endpoint:
        exporter = OtlpExporter("otlp", OtlpExporterConfig(endpoint=f"http://{endpoint}"))
        await exporter.start()
        for _ in range(5):
            assert await exporter.commit([await exporter.prepare(logs("a"))]) == [True], "it must not be sent again"
        await exporter.stop()
    assert exporter.gauges() == {"obs_hub.records.rejected_by_destination": 15}
    (line,) = logged.entries
    assert (line["event"], line["exporter"]) == ("a destination rejected records", "otlp")
    assert (line["signal"], line["rejected"], line["reason"]) == ("logs", 3, "too old")


async def test_what_the_far_end_warns_of_is_logged_now_and_then(logged: Logged) -> None:
    warning = ExportLogsServiceResponse(partial_success={"error_message": "kept as a dead letter"})
    with grpc_server(lambda request, context: warning.SerializeToString()) as endpoint:
        exporter = OtlpExporter("otlp", OtlpExporterConfig(endpoint=f"http://{endpoint}"))
        await exporter.start()
        for _ in range(3):
            assert await exporter.commit([await exporter.prepare(logs("a"))]) == [True]
        await exporter.stop()
    assert exporter.gauges() == {"obs_hub.records.rejected_by_destination": 0}
    (line,) = logged.entries
    assert (line["event"], line["warning"]) == ("a destination took everything and warns", "kept as a dead letter")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.UNAUTHENTICATED, UnavailableError),
        (grpc.StatusCode.INVALID_ARGUMENT, RefusedError),
    ],
)
async def test_errors_say_whether_to_try_again(code: grpc.StatusCode, error: type[Exception]) -> None:
    def answer(request: bytes, context: Any) -> bytes:
        context.abort(code, "told to")
        raise AssertionError

    with grpc_server(answer) as endpoint:
        exporter = OtlpExporter("otlp", OtlpExporterConfig(endpoint=f"http://{endpoint}"))
        await exporter.start()
        with pytest.raises(error, match="told to"):
            await exporter.commit([await exporter.prepare(logs("a"))])
        await exporter.stop()


async def test_requests_are_compressed_unless_told_not_to() -> None:
    encodings: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        encodings.append(handler.headers.get("content-encoding"))
        payloads.append(gzip.decompress(body) if encodings[-1] == "gzip" else body)
        reply(handler, 200)

    payloads: list[bytes] = []
    batch = logs("a")
    with http_server(answer) as url:
        for more in ({}, {"compression": "none"}):
            config = OtlpExporterConfig.model_validate({"endpoint": url, "protocol": "http/protobuf", **more})
            exporter = OtlpExporter("otlp", config)
            await exporter.start()
            await exporter.commit([await exporter.prepare(batch)])
            await exporter.stop()
    assert encodings == ["gzip", None]
    assert payloads == [batch.payload] * 2


def test_settings_that_do_not_fit_are_said_so() -> None:
    with pytest.raises(ValidationError, match="zstd is for http/protobuf"):
        OtlpExporterConfig.model_validate({"endpoint": "http://a:4317", "compression": "zstd"})
    with pytest.raises(ValidationError, match="cert_file and key_file together"):
        OtlpExporterConfig.model_validate({"endpoint": "https://a:4317", "tls": {"cert_file": "/a"}})
    for endpoint in ("tempo:4317", "http://tempo:431700", "http://tempo:port", "http://tempo:0", "http://tem po"):
        with pytest.raises(ValidationError, match=r"a URL such as http://127\.0\.0\.1:4317"):
            OtlpExporterConfig.model_validate({"endpoint": endpoint})
