"""An exporter: appends each batch to a file, as a line of OTLP/JSON."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from obs_hub.component import (
    Batch,
    Context,
    Exporter,
    ExporterComponent,
    MalformedPayloadError,
    Prepared,
    Signal,
    UnavailableError,
)
from obs_hub.settings import ExporterSettings

REQUESTS: dict[Signal, Any] = {
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
    Signal.TRACES: ExportTraceServiceRequest,
}


class JsonLinesConfig(ExporterSettings):
    """Appends all signals to a file, a batch a line, as OTLP/JSON."""

    path: Path
    """The file. It is made where it is missing."""


@dataclass(slots=True)
class Line(Prepared):
    """A batch as it is written. What `prepare` works out, `commit` need not."""

    text: bytes = b""


class JsonLinesExporter:
    """Implements `obs_hub.component.Exporter`: it knows nothing of queues, retries or spools, which are around it."""

    concurrency = 1
    batches_per_commit = None  # as many as there are: the file takes all of them or none

    def __init__(self, name: str, config: JsonLinesConfig) -> None:
        self.name = name
        self._path = config.path
        self._written = 0
        self._lock = threading.Lock()

    async def start(self) -> None:
        """Nothing to do: a file that cannot be opened now may be by the first commit."""

    async def stop(self) -> None:
        """Nothing to release."""

    async def prepare(self, batch: Batch) -> Line:
        """Encode a batch, and count its records. Whatever is wrong with its bytes is found here."""
        try:
            request = REQUESTS[batch.signal].FromString(batch.payload)
        except DecodeError as error:
            raise MalformedPayloadError(f"not a valid request: {error}") from error
        text = MessageToJson(request, indent=None, preserving_proto_field_name=False)
        return Line(batch, count(batch.signal, request), text=text.encode() + b"\n")

    async def commit(self, prepared: Sequence[Line]) -> list[bool]:
        """Append all of them or none. Files block, so a thread does it."""
        await asyncio.to_thread(self._append, b"".join(line.text for line in prepared))
        return [True] * len(prepared)

    def gauges(self) -> dict[str, float]:
        """What the hub's own telemetry has of this exporter, besides what it has of all."""
        return {"jsonlines.written": self._written}

    def _append(self, text: bytes) -> None:
        with self._lock:
            try:
                with self._path.open("ab", buffering=0) as file:
                    before = file.seek(0, os.SEEK_END)
                    try:
                        file.write(text)
                        os.fsync(file.fileno())  # an OK is a promise
                    except OSError:
                        file.truncate(before)
                        raise
            except OSError as error:
                # It may be tried again: the hub does, and keeps the batches in its spool meanwhile.
                raise UnavailableError(f"{self._path} cannot be written: {error}") from error
            self._written += len(text)


def count(signal: Signal, request: Any) -> int:
    """Return how many records a request has."""
    match signal:
        case Signal.METRICS:
            scopes = [scope for owner in request.resource_metrics for scope in owner.scope_metrics]
            kinds = [(metric, metric.WhichOneof("data")) for scope in scopes for metric in scope.metrics]
            return sum(len(getattr(metric, kind).data_points) for metric, kind in kinds if kind)
        case Signal.LOGS:
            return sum(len(scope.log_records) for owner in request.resource_logs for scope in owner.scope_logs)
        case Signal.TRACES:
            return sum(len(scope.spans) for owner in request.resource_spans for scope in owner.scope_spans)


def create(name: str, config: JsonLinesConfig, context: Context) -> Exporter:
    """Make the exporter of that name."""
    return JsonLinesExporter(name, config)


COMPONENT = ExporterComponent(settings=JsonLinesConfig, create=create)
