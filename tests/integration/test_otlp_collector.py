"""The OpenTelemetry Collector as a client: whatever compression it is told to use, its requests arrive."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import grpc.aio
import pytest
import yaml

from gateway.pipeline import ACCEPTED, Batch, Outcome, Signal
from gateway.pipeline.services import SERVICES
from receivers.otlp.config import OtlpReceiverConfig
from receivers.otlp.factory import create
from tests.integration.cli.processes import free_port
from tests.support.telemetry import logs

OVER_HTTP = ["none", "gzip", "deflate", "zlib", "zstd", "snappy", "x-snappy-framed", "lz4"]
OVER_GRPC = ["none", "gzip", "snappy", "zstd"]


class Bodies:
    """A consumer that remembers the bodies of log records, by batch."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    async def accept(self, batch: Batch) -> Outcome:
        request = SERVICES[Signal.LOGS].request.FromString(batch.payload)
        scopes = [scope for resource in request.resource_logs for scope in resource.scope_logs]  # type: ignore[attr-defined]
        self.seen.append([record.body.string_value for scope in scopes for record in scope.log_records])
        return ACCEPTED

    def refuse(self, signal: Signal, reason: str) -> None:
        raise AssertionError(f"{signal} refused: {reason}")


def collector_config(port: int, endpoints: dict[str, str]) -> str:
    """What comes in on a port goes to the gateway once by each compression."""
    plain = {"sending_queue": {"enabled": False}, "retry_on_failure": {"enabled": False}}
    exporters = {
        f"otlphttp/{name}": plain | {"endpoint": f"http://{endpoints['http']}", "compression": name}
        for name in OVER_HTTP
    } | {
        f"otlp/{name}": plain | {"endpoint": endpoints["grpc"], "compression": name, "tls": {"insecure": True}}
        for name in OVER_GRPC
    }
    return yaml.safe_dump(
        {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{port}"}}}},
            "exporters": exporters,
            "service": {
                "pipelines": {"logs": {"receivers": ["otlp"], "exporters": list(exporters)}},
                "telemetry": {"metrics": {"level": "none"}},
            },
        }
    )


async def test_every_compression_that_the_collector_offers(tmp_path: Path) -> None:
    otelcol = shutil.which("otelcol")
    if otelcol is None:
        pytest.skip("otelcol, the OpenTelemetry Collector, is not on PATH")
    consumer, port = Bodies(), free_port()
    free = {"endpoint": "127.0.0.1:0"}
    receiver = create("otlp", OtlpReceiverConfig.model_validate({"protocols": {"grpc": free, "http": free}}), consumer)
    await receiver.start()
    config = tmp_path / "collector.yaml"
    config.write_text(collector_config(port, receiver.endpoints))
    with (tmp_path / "log").open("wb") as log:
        collector = await asyncio.create_subprocess_exec(otelcol, "--config", config, stdout=log, stderr=log)
    try:
        sent = ["a log record"] * 500
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            export = channel.unary_unary(f"/{SERVICES[Signal.LOGS].grpc_name}/Export")
            await export(logs(*sent).payload, timeout=60, wait_for_ready=True)
        async with asyncio.timeout(60):
            while len(consumer.seen) < len(OVER_HTTP) + len(OVER_GRPC):  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.05)
        assert consumer.seen == [sent] * (len(OVER_HTTP) + len(OVER_GRPC)), (tmp_path / "log").read_text()
    finally:
        collector.terminate()
        await asyncio.wait_for(collector.wait(), 30)
        await receiver.stop(1)
