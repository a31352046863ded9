"""The OpenTelemetry Collector and Alloy as clients: whatever compression they use, their requests arrive."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import grpc.aio
import pytest
import yaml

from gateway.component import ACCEPTED, Batch, Outcome, Signal
from gateway.component.declaration import Context
from gateway.otlp.services import SERVICES
from receivers.otlp.config import OtlpReceiverConfig
from receivers.otlp.factory import create
from tests.integration.cli.processes import free_port
from tests.support.telemetry import logs
from tests.support.waiting import PATIENCE

OVER_HTTP = ["none", "gzip", "deflate", "zlib", "zstd", "snappy"]
COLLECTORS_OWN = ["x-snappy-framed", "lz4"]
"""What the Collector offers over HTTP besides, and Alloy does not."""
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

    def refuse_connection(self, listener: str, reason: str) -> None:
        raise AssertionError(f"a connection to {listener} refused: {reason}")


def collector_config(port: int, endpoints: dict[str, str]) -> str:
    """What comes in on a port goes to the gateway once by each compression."""
    plain = {"sending_queue": {"enabled": False}, "retry_on_failure": {"enabled": False}}
    exporters = {
        f"otlphttp/{name}": plain | {"endpoint": f"http://{endpoints['http']}", "compression": name}
        for name in OVER_HTTP + COLLECTORS_OWN
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


def alloy_config(port: int, endpoints: dict[str, str]) -> str:
    """The same for Grafana Alloy."""
    quiet = "sending_queue { enabled = false }\n retry_on_failure { enabled = false }"
    exporters = {
        f'otelcol.exporter.otlphttp "{name}"': f'client {{\n endpoint = "http://{endpoints["http"]}"\n '
        f'compression = "{name}"\n }}'
        for name in OVER_HTTP
    } | {
        f'otelcol.exporter.otlp "{name}"': f'client {{\n endpoint = "{endpoints["grpc"]}"\n '
        f'compression = "{name}"\n tls {{ insecure = true }}\n }}'
        for name in OVER_GRPC
    }
    inputs = ", ".join(f"{exporter.replace(' ', '.').replace(chr(34), '')}.input" for exporter in exporters)
    receiver = f'grpc {{ endpoint = "127.0.0.1:{port}" }}\n output {{ logs = [{inputs}] }}'
    blocks = {'otelcol.receiver.otlp "in"': receiver} | {
        exporter: f"{client}\n {quiet}" for exporter, client in exporters.items()
    }
    return "\n".join(f"{name} {{\n {body}\n}}" for name, body in blocks.items())


async def test_every_compression_that_the_collector_offers(tmp_path: Path) -> None:
    ways = len(OVER_HTTP + COLLECTORS_OWN + OVER_GRPC)
    await assert_arrives(tmp_path, ways, "otelcol", ["--config"], collector_config)


async def test_every_compression_that_alloy_offers(tmp_path: Path) -> None:
    options = ["run", f"--server.http.listen-addr=127.0.0.1:{free_port()}", f"--storage.path={tmp_path}/storage"]
    ways = len(OVER_HTTP + OVER_GRPC)
    await assert_arrives(tmp_path, ways, "alloy", [*options, "--disable-reporting"], alloy_config)


async def assert_arrives(
    folder: Path, ways: int, program: str, options: list[str], make_config: Callable[[int, dict[str, str]], str]
) -> None:
    """Give a program one request, and see it arrive once by each of so many ways."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"there is no {program} on PATH")
    consumer, port = Bodies(), free_port()
    free = {"endpoint": "127.0.0.1:0"}
    receiver = create(
        "otlp", OtlpReceiverConfig.model_validate({"protocols": {"grpc": free, "http": free}}), consumer, Context()
    )
    await receiver.start()
    config = folder / "config"
    config.write_text(make_config(port, receiver.endpoints))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(found, *options, config, stdout=log, stderr=log)
    try:
        sent = ["a log record"] * 500
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            export = channel.unary_unary(f"/{SERVICES[Signal.LOGS].grpc_name}/Export")
            await export(logs(*sent).payload, timeout=PATIENCE, wait_for_ready=True)
        async with asyncio.timeout(PATIENCE):
            while len(consumer.seen) < ways:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.05)
        assert consumer.seen == [sent] * ways, (folder / "log").read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), PATIENCE)
        await receiver.stop(1)
