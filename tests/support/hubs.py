"""A running hub, for tests that are clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from exporters.timescale.config import TimescaleConfig
from gateway.assembly import Hub
from gateway.component import Signal
from gateway.config import Config, PipelineSettings, ServiceSettings, TelemetrySettings
from receivers.otlp.config import OtlpReceiverConfig
from tests.support.threads import in_thread
from tests.support.waiting import PATIENCE

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
        return call(payload, timeout=PATIENCE).partial_success


def store_config(timescale: TimescaleConfig) -> Config:
    """OTLP over gRPC on a free port, everything into one store, and nothing that the hub says of itself."""
    pipeline = PipelineSettings(receivers=["otlp"], exporters=["timescale"])
    silent = TelemetrySettings.model_validate({"metrics": {"enabled": False}, "traces": {"enabled": False}})
    return Config(
        receivers={"otlp": OtlpReceiverConfig.model_validate({"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}})},
        exporters={"timescale": timescale},
        service=ServiceSettings(pipelines=dict.fromkeys(Signal, pipeline), telemetry=silent),
    )


@asynccontextmanager
async def running(hub: Hub) -> AsyncIterator[Hub]:
    """Run a hub for the length of a block."""
    await hub.start()
    try:
        yield hub
    finally:
        await hub.stop()


@contextmanager
def running_hub(config: Config) -> Iterator[Client]:
    """Run a hub in a thread of its own for the length of a block; yield a client of its gRPC receiver."""
    with in_thread(running(Hub(config)), "hub") as hub, grpc.insecure_channel(hub.endpoints["otlp grpc"]) as channel:
        yield Client(channel)
