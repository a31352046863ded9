"""An OTLP sink, and an environment without the variables that would send elsewhere."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from receivers.hostmetrics.scrapers import container

_METHOD = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


class Sink(grpc.GenericRpcHandler):
    """Keeps what is exported to it. ``refusing`` makes it answer that it cannot take anything."""

    def __init__(self) -> None:
        self.requests: list[ExportMetricsServiceRequest] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.refusing = False
        self._arrived = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(2))
        self._server.add_generic_rpc_handlers((self,))
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return grpc.unary_unary_rpc_method_handler(self._export) if details.method == _METHOD else None

    def _export(self, payload: bytes, context: grpc.ServicerContext) -> bytes:
        if self.refusing:
            # Not one of the codes that clients retry, so that they give up at once.
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "nothing is taken here")
        with self._arrived:
            self.requests.append(ExportMetricsServiceRequest.FromString(payload))
            self.metadata.append(dict(context.invocation_metadata()))
            self._arrived.notify_all()
        return ExportMetricsServiceResponse().SerializeToString()

    def wait_for(self, count: int) -> None:
        """Return once that many requests have come."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.requests) >= count, 60), f"{len(self.requests)} came"

    def metrics(self, index: int = -1) -> dict[str, Metric]:
        """The metrics of one request, by name."""
        (resource_metrics,) = self.requests[index].resource_metrics
        (scope_metrics,) = resource_metrics.scope_metrics
        return {metric.name: metric for metric in scope_metrics.metrics}

    def resource(self, index: int = -1) -> dict[str, str]:
        """The resource attributes of one request."""
        (resource_metrics,) = self.requests[index].resource_metrics
        return {each.key: each.value.string_value for each in resource_metrics.resource.attributes}

    def stop(self) -> None:
        self._server.stop(0).wait()


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.stop()


@pytest.fixture(autouse=True)
def _no_containers_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "find_socket", lambda: None)


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
