"""The synthetic check: a metric, an event and a span, handed to the pipelines and read back from the store."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from typing import Any

import msgspec
import psycopg
from opentelemetry import trace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from psycopg import sql

from gateway import __version__
from gateway.component import Batch, Consumer, Signal, UnavailableError
from gateway.store import connect_async
from gateway.synthetic import MARK, look_up

_PATIENCE = 10.0
_LAST_LOOK = 1.0
"""Seconds that there are to look at the store after a sending that took all of the patience."""
_PAUSE = 0.02
_VIEWS = {Signal.METRICS: "metrics", Signal.LOGS: "events", Signal.TRACES: "spans"}


class Hop(msgspec.Struct):
    """How long a record took, in milliseconds from when it was sent: to its OK, and until the store showed it."""

    acknowledged_ms: float
    visible_ms: float | None


class SyntheticReport(msgspec.Struct):
    """What became of the three records. ``visible_ms`` is null for one that the store did not show in time."""

    id: str
    trace_id: str
    metric: Hop
    event: Hop
    span: Hop

    @property
    def complete(self) -> bool:
        """Whether all of them were read back."""
        return all(hop.visible_ms is not None for hop in (self.metric, self.event, self.span))


async def run(consumer: Consumer, dsn: str, tracer: trace.Tracer) -> SyntheticReport:
    """Send the records and read them back. Takes ten seconds at most beyond the sending.

    Raises `gateway.component.DeliveryError` when the hub does not take them, or the store cannot be asked.
    """
    mark, now = uuid.uuid4().hex, time.time_ns()
    with tracer.start_as_current_span("synthetic") as span:
        context = span.get_span_context()
        trace_id = context.trace_id.to_bytes(16) if context.is_valid else os.urandom(16)
        parent = context.span_id.to_bytes(8) if context.is_valid and context.trace_flags.sampled else b""
        sent = [
            asyncio.create_task(_one(consumer, signal, payload, dsn, look_up(_VIEWS[signal], mark, now)))
            for signal, payload in _requests(mark, now, trace_id, parent).items()
        ]
        try:
            hops = await asyncio.gather(*sent)
        finally:
            for each in sent:  # where one fails, nobody waits for the others
                each.cancel()
            await asyncio.wait(sent)
    return SyntheticReport(mark, trace_id.hex(), *hops)


async def _one(consumer: Consumer, signal: Signal, payload: bytes, dsn: str, look: sql.Composed) -> Hop:
    began = time.perf_counter()
    outcome = await consumer.accept(Batch.of(signal, payload))
    acknowledged = time.perf_counter()
    if outcome.rejected:
        raise UnavailableError(f"the synthetic {signal.value} are rejected: {outcome.message}")
    visible = await _visible(dsn, look, began + _PATIENCE)
    return Hop(round((acknowledged - began) * 1e3, 2), None if visible is None else round((visible - began) * 1e3, 2))


async def _visible(dsn: str, look: sql.Composed, deadline: float) -> float | None:
    """Return when the store showed a record, or None when it did not in time."""
    try:
        async with asyncio.timeout(max(deadline - time.perf_counter(), _LAST_LOOK)):
            connection = await connect_async(dsn, autocommit=True, reading=True)
            async with connection:
                while True:
                    if await (await connection.execute(look)).fetchone():
                        return time.perf_counter()
                    await asyncio.sleep(_PAUSE)
    except TimeoutError:
        return None
    except psycopg.Error as error:
        raise UnavailableError(f"the store cannot be read ({type(error).__name__})") from error


def _requests(mark: str, now: int, trace_id: bytes, parent: bytes) -> dict[Signal, bytes]:
    """Make the three requests. The event and the span belong to one trace."""
    span_id = os.urandom(8)
    metrics, logs, traces = ExportMetricsServiceRequest(), ExportLogsServiceRequest(), ExportTraceServiceRequest()

    scope_metrics = _described(metrics.resource_metrics.add()).scope_metrics.add(scope=_SCOPE)
    point = scope_metrics.metrics.add(name="obs_hub.synthetic", unit="1").gauge.data_points.add()
    point.time_unix_nano, point.as_int = now, 1
    scope_logs = _described(logs.resource_logs.add()).scope_logs.add(scope=_SCOPE)
    record = scope_logs.log_records.add(
        time_unix_nano=now, severity_number=9, event_name="obs_hub.synthetic", trace_id=trace_id, span_id=span_id
    )
    scope_spans = _described(traces.resource_spans.add()).scope_spans.add(scope=_SCOPE)
    span = scope_spans.spans.add(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent,
        name="obs_hub.synthetic",
        kind=1,
        start_time_unix_nano=now,
        end_time_unix_nano=now + 1_000_000,
    )
    for each in (point, record, span):
        each.attributes.add(key=MARK).value.string_value = mark
    return {
        Signal.METRICS: metrics.SerializeToString(),
        Signal.LOGS: logs.SerializeToString(),
        Signal.TRACES: traces.SerializeToString(),
    }


_SCOPE = {"name": "obs_hub.synthetic", "version": __version__}


def _described(of_resource: Any) -> Any:
    """Say who sends."""
    for key, value in (("service.name", "obs-hub-synthetic"), ("host.name", socket.gethostname())):
        of_resource.resource.attributes.add(key=key).value.string_value = value
    return of_resource
