"""A running hub, for tests that are clients of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from exporters.timescale.config import TimescaleConfig
from gateway.assembly import Hub, running
from gateway.config import Config, PipelineSettings, ServiceSettings, TelemetrySettings
from gateway.pipeline import Signal
from receivers.otlp.config import OtlpReceiverConfig

_METHODS: dict[str, tuple[str, Any]] = {
    "metrics": (
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        ExportMetricsServiceResponse,
    ),
    "logs": ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", ExportLogsServiceResponse),
    "traces": ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", ExportTraceServiceResponse),
}


class Client:
    """Sends OTLP over gRPC, with nothing between the message and the wire."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def send(self, signal: str, payload: bytes) -> Any:
        """Send a serialized request; return what the hub rejected of it. Raises `grpc.RpcError`."""
        path, response = _METHODS[signal]
        call: Any = self._channel.unary_unary(path, response_deserializer=response.FromString)
        return call(payload, timeout=60).partial_success


def store_config(timescale: TimescaleConfig) -> Config:
    """OTLP over gRPC on a free port, everything into one store, and nothing that the hub says of itself."""
    pipeline = PipelineSettings(receivers=["otlp"], exporters=["timescale"])
    silent = TelemetrySettings.model_validate({"metrics": {"enabled": False}, "traces": {"enabled": False}})
    return Config(
        receivers={"otlp": OtlpReceiverConfig.model_validate({"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}})},
        exporters={"timescale": timescale},
        service=ServiceSettings(pipelines=dict.fromkeys(Signal, pipeline), telemetry=silent),
    )


@contextmanager
def running_hub(config: Config) -> Iterator[Client]:
    """Run a hub in a thread of its own for the length of a block; yield a client of its gRPC receiver."""
    started: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        stop = asyncio.Event()
        async with running(Hub(config)) as hub:
            started.set_result((hub.endpoints["otlp grpc"], asyncio.get_running_loop(), stop))
            await stop.wait()

    def run_thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run_thread, name="hub", daemon=True)
    thread.start()
    endpoint, loop, stop = started.result(60)
    try:
        with grpc.insecure_channel(endpoint) as channel:
            yield Client(channel)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        assert not thread.is_alive(), "the hub did not stop"
